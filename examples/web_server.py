"""A web server of the standard library's, on a pool: one base class has changed.

    python3 -m examples.web_server
    curl http://127.0.0.1:8000/

It was socketserver.ThreadingMixIn. Now four threads serve any number of clients that keep
their connections, and Ctrl-C lets a download finish. It listens at port 8000, or at the
one behind the command.
"""

import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler

import echoframe


class Handler(SimpleHTTPRequestHandler):
    # The connection is kept.
    protocol_version = "HTTP/1.1"


class Site(echoframe.PoolMixIn, HTTPServer):
    threads = 4


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    try:
        with Site(("127.0.0.1", port), Handler) as site:
            print("Listening on", *site.server_address, flush=True)
            site.run()
    except OSError as error:
        sys.exit(str(error))
