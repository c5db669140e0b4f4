"""The tutorial's echo client: say hello, print what comes back.

    python3 -m examples.echo_server
    python3 -m examples.echo_client

It connects to 127.0.0.1:65432, or to the address behind the command.
"""

import sys

import echoframe

if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:65432"
    try:
        with echoframe.Client(address, "echo") as client:
            reply = client.ask(b"Hello, world")
        print(f"Received {reply!r}")
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
