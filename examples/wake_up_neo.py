"""A client that says one thing, and copes with nobody being there.

    python3 -m echoframe serve --port 9090
    python3 -m examples.wake_up_neo

It connects to 127.0.0.1:9090, or to the address behind the command. Instead of the
server, try `nc -l 127.0.0.1 9090` and answer it yourself, within ten seconds.
"""

import sys

import echoframe

if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9090"
    try:
        with echoframe.Client(address) as client:
            print(client.ask("Wake up, Neo").decode())
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
