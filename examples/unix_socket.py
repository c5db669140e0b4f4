"""A server at a path of this machine, which no other machine can reach.

    python3 -m examples.unix_socket
    python3 -m echoframe send unix:///tmp/echoframe.sock hello

Only the address differs from other servers. The socket file is for its owner alone,
and gone when the server ends, which Ctrl-C does. Another address may be given.
"""

import sys

import echoframe


def whisper(message: bytes) -> bytes:
    return message.lower()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "unix:///tmp/echoframe.sock"
    try:
        with echoframe.ThreadServer(address, whisper, unix_mode=0o600) as server:
            print("Listening on", server.address, flush=True)
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
