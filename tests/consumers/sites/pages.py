"""A WSGI application with the odd answers that there are, for whoever serves WSGI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

BODY = b"hello from a socketserver program\n"


def begun() -> None:
    """Say that a slow request has begun, and take its time."""
    print("begun", flush=True)
    time.sleep(float(os.environ.get("SLOW", "0.3")))


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/slow":
        begun()
    if path == "/unread":
        # Whatever the client has sent.
        return _answer(start_response, b"not read\n")
    if path == "/read":
        # To its end, where the server knows where that is.
        ends = environ.get("wsgi.input_terminated")
        body = environ["wsgi.input"].read(*([] if ends else [_length(environ)]))
        return _answer(start_response, body.upper())
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/unchanged":
        start_response("304 Not Modified", [("ETag", '"1"')])
        return []
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _pieces()
    if path == "/close":
        return _answer(start_response, BODY, ("Connection", "close"))
    if path == "/raise":
        raise LookupError("raised by the application")
    if path == "/raise-later":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _raising()
    return _answer(start_response, BODY)


def _answer(start_response: Any, body: bytes, *headers: tuple[str, str]) -> list[bytes]:
    length = ("Content-Length", str(len(body)))
    start_response("200 OK", [("Content-Type", "text/plain"), length, *headers])
    return [body]


def _length(environ: dict[str, Any]) -> int:
    return int(environ.get("CONTENT_LENGTH") or 0)


def _pieces() -> Iterator[bytes]:
    for number in range(5):
        yield b"piece %d\n" % number


def _raising() -> Iterator[bytes]:
    yield b"so far\n"
    raise LookupError("raised on the way")
