"""A handler class from the documentation of socketserver, unchanged, on our servers.

    python3 -m examples.socketserver_handler
    python3 -m echoframe send 127.0.0.1:9999 hello

It reads and writes its connection itself; stop, drain and limits are ours. It listens
at localhost:9999, or at the address behind the command. Ctrl-C ends it.
"""

import socketserver
import sys

import echoframe


class MyTCPHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.data = self.rfile.readline(10000).rstrip()
        print(f"{self.client_address[0]} wrote:")
        print(self.data.decode("utf-8"), flush=True)
        self.wfile.write(self.data.upper())


if __name__ == "__main__":
    # A (host, port) pair is an address too, as socketserver has it.
    address = sys.argv[1] if len(sys.argv) > 1 else ("localhost", 9999)
    try:
        with echoframe.ThreadServer(address, MyTCPHandler) as server:
            print("Listening on", server.address, flush=True)
            server.run()
    except echoframe.EchoframeError as error:
        sys.exit(str(error))
