"""Handlers of one's own: one that remembers its conversation, one with a new command.

    python3 -m examples.own_handler
    python3 -m echoframe send 127.0.0.1:7001 one two three four

That was Counting. The command line serves any handler that stands in a file:

    python3 -m echoframe serve examples.own_handler:Clock
    python3 -m echoframe send 127.0.0.1:7007 hello time close
"""

import sys
import time

import echoframe


class Counting(echoframe.Handler):
    def __init__(self) -> None:
        self.seen = 0

    def on_message(self, message: bytes) -> echoframe.Reply:
        self.seen += 1
        return echoframe.Reply(b"%d: %s" % (self.seen, message), close=self.seen == 3)


class Clock(echoframe.CommandHandler):
    @echoframe.command("time")
    def tell_time(self) -> str:
        return time.strftime("%H:%M")


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7001"
    try:
        with echoframe.ThreadServer(address, Counting) as server:
            print("Listening on", server.address, flush=True)
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
