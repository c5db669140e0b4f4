"""The standard library's socketserver with a process for each connection.

    python3 examples/peers/socketserver_forking.py 7100
    echoframe compare --against forking='python3 examples/peers/socketserver_forking.py {port}'

The stock server leaves its children behind when it is told to end; this one ends them.
"""

import os
import signal
import socketserver
import sys

from _common import BACKLOG, listening, prepare
from socketserver_threading import Echo


class EchoServer(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = BACKLOG
    # With the stock 40, whoever comes after the fortieth waits for one of them to leave.
    max_children = 4096
    told_to_end = False

    def end(self, *_: object) -> None:
        self.told_to_end = True

    def service_actions(self) -> None:
        # Not in end() itself: a signal may come between a fork and the note of its child.
        super().service_actions()
        if self.told_to_end:
            for pid in self.active_children or ():
                os.kill(pid, signal.SIGKILL)
            sys.exit()


if __name__ == "__main__":
    port = prepare()
    with listening(port):
        server = EchoServer(("127.0.0.1", port), Echo)
    with server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.end)
        server.serve_forever(poll_interval=0.05)
