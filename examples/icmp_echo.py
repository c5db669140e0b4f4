"""The echo that every kernel serves itself: ICMP, as `ping` uses it, on a raw socket.

    sudo python3 -m examples.icmp_echo
    python3 -m examples.icmp_echo

A raw socket needs the capability CAP_NET_RAW. Who lacks it (the second command, for
most users) is told so, with exit code 3. Another host may be given.
"""

import os
import socket
import struct
import sys

HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
ECHO_REQUEST, ECHO_REPLY = 8, 0

if __name__ == "__main__":
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    text, me = b"Hello, kernel!", os.getpid() & 0xFFFF
    total = sum(struct.unpack("!7H", text)) + (ECHO_REQUEST << 8) + me + 1
    request = HEADER.pack(ECHO_REQUEST, 0, 0xFFFF - total % 0xFFFF, me, 1) + text
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        print("a raw socket needs CAP_NET_RAW: try it as root, or with sudo", file=sys.stderr)
        sys.exit(3)
    with raw:
        raw.settimeout(5)
        raw.sendto(request, (host, 0))
        found = (ECHO_REQUEST, me)
        # On loopback the request comes by as well, and so does what others were sent.
        while found != (ECHO_REPLY, me):
            answer = raw.recv(1024)[20:]
            found = HEADER.unpack_from(answer)[0], HEADER.unpack_from(answer)[3]
    print(f"the kernel at {host} says {answer[8:].decode()!r}")
