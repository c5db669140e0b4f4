"""The standard library's servers: standard.py http|wsgi|xmlrpc [CERTIFICATE KEY]."""

from __future__ import annotations

import http.server
import ssl
import sys
import wsgiref.simple_server
import xmlrpc.server
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from tests.consumers.sites.pages import BODY, app, begun


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            begun()
        if self.path == "/once":
            # Not first its head, for which TCP then waits before it sends the rest.
            ends = "Connection: close\r\n" * self.close_connection
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n{ends}\r\n"
            self.wfile.write(head.encode() + BODY)
            return
        self.send_response(200)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *words: object) -> None:
        """Nothing."""


class WSGI(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """wsgiref's is not ready made."""


class RPC(ThreadingMixIn, xmlrpc.server.SimpleXMLRPCServer):
    """Nor is this."""


class Calls(xmlrpc.server.SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"


def say(word: Any) -> str:
    if word == "slow":
        begun()
    return BODY.decode()


def made(kind: str) -> TCPServer:
    place = ("127.0.0.1", 0)
    if kind == "http":
        return http.server.ThreadingHTTPServer(place, Page)
    if kind == "wsgi":
        return wsgiref.simple_server.make_server(*place, app, server_class=WSGI)
    server = RPC(place, Calls, logRequests=False)
    server.register_function(say)
    return server


def main(kind: str, *pair: str) -> None:
    server = made(kind)
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"Serving at http://127.0.0.1:{server.server_address[1]}", flush=True)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
