"""The tutorial's echo server: whatever a client sends comes back.

    python3 -m examples.echo_server
    python3 -m examples.echo_client

It listens at 127.0.0.1:65432, or at the address behind the command. Ctrl-C ends it.
"""

import sys
from typing import Any

import echoframe


class EchoServer(echoframe.ThreadServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        print("Connected by", client_address, flush=True)
        super().process_request(request, client_address)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:65432"
    try:
        with EchoServer(address, "echo") as server:
            print("Listening on", server.address, flush=True)
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
