"""gevent: blocking code in a greenlet for each connection, on one thread.

    python3 examples/peers/gevent_server.py 7100
    echoframe compare --against gevent='python3 examples/peers/gevent_server.py {port}'

The code looks as with threads; gevent waits for all of its greenlets at once.
"""

import socket

from _common import BACKLOG, cannot, listening, prepare

try:
    from gevent.server import StreamServer
    from gevent.socket import socket as Socket
except ImportError:
    cannot("gevent is not installed: pip install gevent")


def echo(sock: Socket, address: tuple[str, int]) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := sock.recv(65536):
            sock.sendall(data)
    except ConnectionError:
        # Whoever leaves in the middle costs nobody a traceback.
        pass


if __name__ == "__main__":
    port = prepare()
    server = StreamServer(("127.0.0.1", port), echo, backlog=BACKLOG)
    with listening(port):
        server.start()
    server.serve_forever()
