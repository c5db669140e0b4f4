"""The tutorial's command client: type messages; `close` ends it, and so does Ctrl-D.

    python3 -m examples.command_server
    python3 -m examples.command_client

It connects to 127.0.0.1:8000, or to the address behind the command. Its framing is
`raw`, since the tutorial's own server, which it can talk to as well, knows no lines.
"""

import sys

import echoframe

if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:8000"
    try:
        with echoframe.Client(address, "command", framing="raw") as client:
            reply = ""
            while reply.lower() != "closed":
                if reply:
                    print(f"Received: {reply}")
                # Nobody answers an empty message; more than 1,024 bytes would be two.
                message = input("Enter message: ").encode()[:1024]
                reply = client.ask(message).decode() if message else ""
    except (EOFError, KeyboardInterrupt):
        print()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
    print("Connection to server closed")
