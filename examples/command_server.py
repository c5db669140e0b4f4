"""The tutorial's command server: each message is `accepted`, and `close` ends it.

    python3 -m examples.command_server
    python3 -m examples.command_client

It listens at 127.0.0.1:8000, or at the address behind the command, and prints what
happens; that is the server's log, sent to standard output. Ctrl-C ends it.
"""

import logging
import sys

import echoframe

if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:8000"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        with echoframe.ThreadServer(address, "command", log_messages=True) as server:
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
