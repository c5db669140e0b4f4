"""Datagrams: each is a message, and a conversation is one message long.

    python3 -m examples.udp
    python3 -m echoframe send udp://127.0.0.1:7003 one two three

A handler is made for each datagram, so what shall last stands on something they
share: here, on the class. Another address may be given; Ctrl-C ends the server.
"""

import itertools
import sys

import echoframe


class Numbering(echoframe.Handler):
    numbers = itertools.count(1)

    def on_message(self, message: bytes) -> bytes:
        return b"%d: %s" % (next(self.numbers), message)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "udp://127.0.0.1:7003"
    try:
        with echoframe.ThreadServer(address, Numbering) as server:
            print("Listening on", server.address, flush=True)
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
