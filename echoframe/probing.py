"""probe: which ports of a host would take a connection; connect_ex() used well."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import deque
from collections.abc import Iterable

from .address import Address
from .deadlines import checked_seconds, milliseconds
from .errors import AddressError
from .transports.base import look_up
from .transports.tcp import is_its_own_peer

__all__ = ["probe"]

# Sockets that a probe has open at once: a quarter of the usual 1,024 descriptors.
PROBES_AT_ONCE = 256


def probe(host: str, ports: int | str | Iterable[int], timeout: float = 1.0) -> dict[int, str]:
    """Tell which TCP ports of a host would take a connection.

    `ports` is a number, numbers, or text such as "20-25,80,443". Gives for each, in
    that order, "open", "refused" (the host says that nobody listens) or "filtered"
    (no answer within `timeout` seconds, or no way there). Of a name with several
    addresses, the best answer counts.

    As many as 256 are tried at once, so that it takes no longer than the timeout
    for every 256 ports and addresses.

    Errors: AddressError for ports that are none and a host that nobody knows.
    """
    timeout = checked_seconds(timeout)
    wanted = _parse_ports(ports)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    place = Address.parse((host or "localhost", wanted[0]))
    found = look_up(place, socket.SOCK_STREAM, passive=False)
    waiting = deque(
        (port, family, (where[0], port, *where[2:]))
        for port in wanted
        for family, _, _, _, where in found
    )
    answers = dict.fromkeys(wanted, "filtered")
    rank = ("filtered", "refused", "open")
    poller = select.poll()
    # In the order in which they were begun, and so in that of their deadlines.
    begun: dict[int, tuple[socket.socket, int, float]] = {}

    def note(port: int, sock: socket.socket, error: int) -> None:
        if error == 0 and not is_its_own_peer(sock):
            answer = "open"
        else:
            answer = "refused" if error in (0, errno.ECONNREFUSED) else "filtered"
        answers[port] = max(answers[port], answer, key=rank.index)
        sock.close()

    try:
        while waiting or begun:
            while waiting and len(begun) < PROBES_AT_ONCE:
                port, family, where = waiting[0]
                try:
                    sock = socket.socket(family, socket.SOCK_STREAM)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        if begun:
                            # No more descriptors: some come free with the answers.
                            break
                        raise
                    # A family that this machine does not have: no way there.
                    waiting.popleft()
                    continue
                waiting.popleft()
                sock.setblocking(False)
                result = sock.connect_ex(where)
                if result == errno.EINPROGRESS:
                    begun[sock.fileno()] = (sock, port, time.monotonic() + timeout)
                    poller.register(sock, select.POLLOUT)
                else:
                    note(port, sock, result)
            if not begun:
                continue
            first = next(iter(begun.values()))
            for number, _ in poller.poll(milliseconds(first[2])):
                sock, port, _ = begun.pop(number)
                poller.unregister(number)
                note(port, sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            now = time.monotonic()
            while begun and (first := next(iter(begun.values())))[2] <= now:
                del begun[first[0].fileno()]
                poller.unregister(first[0])
                note(first[1], first[0], errno.ETIMEDOUT)
    finally:
        for sock, _, _ in begun.values():
            sock.close()
    return answers


def _parse_ports(ports: int | str | Iterable[int]) -> list[int]:
    numbers: list[int] = []
    if isinstance(ports, int):
        numbers.append(ports)
    elif isinstance(ports, str):
        for part in ports.split(","):
            low, dash, high = (text.strip() for text in part.partition("-"))
            ends = [low, high] if dash else [low]
            if not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
                raise AddressError(f"ports {ports!r}: write numbers and ranges, as in 20-25,80,443")
            if int(ends[0]) > int(ends[-1]):
                raise AddressError(f"ports {ports!r}: the range {part.strip()} runs backwards")
            numbers += range(int(ends[0]), int(ends[-1]) + 1)
    else:
        numbers += ports
    for number in numbers:
        if not isinstance(number, int) or not 1 <= number <= 65535:
            raise AddressError(f"port {number!r} is not a number between 1 and 65535")
    if not numbers:
        raise AddressError("no ports to probe; give some, as in 20-25,80,443")
    return list(dict.fromkeys(numbers))
