"""A server of the standard library, as its documentation has it, and stopped as well as it can be.

python -m tests.faults.stdlib NAME SCHEME PORT READY_FD [CERT KEY]

SIGTERM and SIGINT are shutdown(), from a thread since it would wait for itself, and then
server_close(), which waits for handlers. Over TLS the listener is wrapped.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading

from .answers import Datagrams, Lines

# By the name of the one for connections: the one for datagrams too.
SERVERS: dict[str, tuple[type[socketserver.TCPServer], type[socketserver.UDPServer]]] = {
    "TCPServer": (socketserver.TCPServer, socketserver.UDPServer),
    "ThreadingTCPServer": (socketserver.ThreadingTCPServer, socketserver.ThreadingUDPServer),
    "ForkingTCPServer": (socketserver.ForkingTCPServer, socketserver.ForkingUDPServer),
}


def main(name: str, scheme: str, port: str, ready: str, *certificate: str) -> None:
    streams, datagrams = SERVERS[name]
    place = ("127.0.0.1", int(port))
    server = datagrams(place, Datagrams) if scheme == "udp" else streams(place, Lines)
    if certificate:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    os.write(int(ready), f"{scheme}://127.0.0.1:{server.server_address[1]}\n".encode())
    os.close(int(ready))
    with server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
