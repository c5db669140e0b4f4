"""The same bytes as from socketserver's own mix-in, for requests that servers have trouble with."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echoframe import PoolMixIn, ThreadingMixIn
from echoframe.servers.turns import gives_way

from ..helpers import DEADLINE, eventually, read_to_end
from .consumer import needs
from .sites.pages import app

POST = b"POST /%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s"
CHUNKS = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 11"
TEXT = b"hello world"


def get(path: bytes, *headers: bytes, verb: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    first = verb + b" /" + path + b" HTTP/" + version
    return b"\r\n".join((first, b"Host: x", *headers, b"", b""))


ODD = {
    "plain": get(b""),
    "close": get(b"", b"Connection: close"),
    "the application closes": get(b"close") + get(b""),
    "1.0": get(b"", version=b"1.0"),
    "1.0 that keeps": get(b"", b"Connection: keep-alive", version=b"1.0") + get(b""),
    "two at once": get(b"") + get(b"stream"),
    "HEAD": get(b"", verb=b"HEAD") + get(b""),
    "HEAD of a stream": get(b"stream", verb=b"HEAD"),
    "204": get(b"none") + get(b""),
    "304": get(b"unchanged") + get(b""),
    "a stream": get(b"stream"),
    "a stream for 1.0": get(b"stream", version=b"1.0"),
    "a body": POST % (b"read", LENGTH, TEXT),
    "a body and more": POST % (b"read", LENGTH, TEXT) + get(b""),
    "a body that nobody reads": POST % (b"unread", LENGTH, TEXT),
    "a body that nobody reads, and more": POST % (b"unread", LENGTH, TEXT) + get(b""),
    "chunks": POST % (b"read", b"Transfer-Encoding: chunked", CHUNKS),
    "chunks that nobody reads": POST % (b"unread", b"Transfer-Encoding: chunked", CHUNKS),
    "half a body": POST % (b"read", LENGTH, TEXT[:5]),
    "100": POST % (b"read", LENGTH + b"\r\nExpect: 100-continue", TEXT),
    "an exception": get(b"raise") + get(b""),
    "an exception on the way": get(b"raise-later") + get(b""),
    "nonsense": b"nonsense\r\n\r\n",
    "half a line": b"GET / HT",
    "half a head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "nothing": b"",
    "an upgrade": get(b"", b"Connection: Upgrade", b"Upgrade: websocket") + get(b""),
    "CONNECT": get(b"", verb=b"CONNECT") + get(b""),
    "an unknown verb": get(b"", verb=b"BREW") + get(b""),
}


# Only some read what is left of this before they close.
LARGE = {"a large one": POST % (b"unread", b"Content-Length: 1000000", b"x" * 1000000)}


def werkzeugs(mix_in: type[Any]) -> Any:
    needs("werkzeug")
    from werkzeug.serving import BaseWSGIServer

    # As ThreadedWSGIServer is.
    names = {"multithread": True, "daemon_threads": True}
    return type("Threaded", (mix_in, BaseWSGIServer), names)("127.0.0.1", 0, app)


def djangos(mix_in: type[Any]) -> Any:
    needs("django")
    from django.conf import settings
    from django.core.servers import basehttp

    if not settings.configured:
        settings.configure(DATABASES={})
    body = dict(vars(basehttp.ThreadedWSGIServer))
    for name in ("__init__", "process_request_thread", "close_request"):
        # They call super(), which looks for the class that they were written in.
        del body[name]
    body["close_request"] = basehttp.WSGIServer.close_request
    made = type("Threaded", (mix_in, basehttp.WSGIServer), body)
    server = made(("127.0.0.1", 0), basehttp.WSGIRequestHandler)
    server.set_app(app)
    return server


def wsgirefs(mix_in: type[Any]) -> Any:
    from wsgiref.simple_server import WSGIServer, make_server

    return make_server("127.0.0.1", 0, app, type("Threaded", (mix_in, WSGIServer), {}))


def standards(mix_in: type[Any]) -> Any:
    from http.server import HTTPServer

    from .sites.standard import Page

    return type("Threaded", (mix_in, HTTPServer), {"daemon_threads": True})(("127.0.0.1", 0), Page)


MAKE: dict[str, Callable[[type[Any]], Any]] = {
    "werkzeug": werkzeugs,
    "django": djangos,
    "wsgiref": wsgirefs,
    "http.server": standards,
}


class Pool(PoolMixIn):
    threads = 2


@contextlib.contextmanager
def serving(server: Any) -> Iterator[tuple[str, int]]:
    # socketserver's own stops within so many seconds.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join(DEADLINE)
        server.server_close()


def exchange(place: tuple[str, int], data: bytes) -> bytes:
    """Send it all, and nothing more: what comes back, but for the time."""
    for _ in range(50):
        try:
            return _exchange(place, data)
        except OSError:
            # Whoever closes on what it has not read resets the connection, and what it has
            # said may be lost. So it is with socketserver.
            pass
    return b"reset"


def _exchange(place: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(place, DEADLINE) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        return re.sub(rb"(?m)^Date: .*\r\n", b"", read_to_end(peer))


@pytest.mark.parametrize("mix_in", [ThreadingMixIn, Pool])
@pytest.mark.parametrize("name", MAKE)
def test_the_same_bytes(name: str, mix_in: type[Any]) -> None:
    odd = {**ODD, **LARGE} if name in ("werkzeug", "django") else ODD
    with serving(MAKE[name](socketserver.ThreadingMixIn)) as theirs:
        expected = {what: exchange(theirs, data) for what, data in odd.items()}
    with serving(MAKE[name](mix_in)) as ours:
        found = {what: exchange(ours, data) for what, data in odd.items()}
    assert found == expected
    assert found["plain"].endswith(b"program\n")
    assert b"reset" not in found.values()


def test_werkzeugs_handlers_keep_no_thread_for_who_says_nothing() -> None:
    server = werkzeugs(Pool)
    assert gives_way(server.RequestHandlerClass)
    with serving(server) as place, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(place, DEADLINE))
        eventually(lambda: len(server._pool_threads.parked) == 5)
        assert exchange(place, ODD["plain"]).startswith(b"HTTP/1.1 200 ")
