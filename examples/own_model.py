"""A model of one's own: serve a single connection, then stop.

    python3 -m examples.own_model
    python3 -m echoframe send 127.0.0.1:7002 hello

Another address may be given. (For `single` this is there already, as once=True.)
"""

import sys
from typing import Any

import echoframe


class OneShotServer(echoframe.SingleServer):
    model = "oneshot"

    def process_request(self, request: Any, client_address: Any) -> None:
        super().process_request(request, client_address)
        self.stop()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7002"
    try:
        with OneShotServer(address, "echo") as server:
            print("Listening on", server.address, flush=True)
            report = server.run()
        print(f"served {report.served} conversation")
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
