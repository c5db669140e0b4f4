"""The standard library's socketserver with a thread for each connection.

    python3 examples/peers/socketserver_threading.py 7100
    echoframe compare --against threading='python3 examples/peers/socketserver_threading.py {port}'

The stock class, but for TCP_NODELAY and a backlog that is not 5.
"""

import socket
import socketserver

from _common import BACKLOG, listening, prepare


class Echo(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            # Whoever leaves in the middle costs nobody a traceback.
            pass


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # The stock 5 would compare backlogs.
    request_queue_size = BACKLOG


if __name__ == "__main__":
    port = prepare()
    with listening(port):
        server = EchoServer(("127.0.0.1", port), Echo)
    with server:
        server.serve_forever()
