"""Tests of somebody's client, with pytest-httpserver: `pytest check_httpserver.py`."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "threaded"])
def make_httpserver(request: pytest.FixtureRequest) -> Iterator[Any]:
    with HTTPServer(host="127.0.0.1", port=0, threaded=request.param) as server:
        yield server


def ask(client: http.client.HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    return client.getresponse().read()


def test_many_clients(httpserver: Any) -> None:
    httpserver.expect_request("/hello").respond_with_data("hello")
    clients = [
        http.client.HTTPConnection("127.0.0.1", httpserver.port, timeout=15) for _ in range(24)
    ]
    for _ in range(2):
        for client in clients:
            client.request("GET", "/hello")
        assert [client.getresponse().read() for client in clients] == [b"hello"] * 24
    for client in clients:
        client.close()
    assert len(httpserver.log) == 48


def test_what_nobody_expects(httpserver: Any) -> None:
    client = http.client.HTTPConnection("127.0.0.1", httpserver.port, timeout=15)
    assert b"No handler found" in ask(client, "/other")
    client.close()
    with pytest.raises(AssertionError):
        httpserver.check_assertions()
    httpserver.clear_assertions()


def test_what_it_is_and_how_long_it_takes_to_stop() -> None:
    for threaded in (False, True):
        server = HTTPServer(host="127.0.0.1", port=0, threaded=threaded)
        server.start()
        server.expect_request("/").respond_with_data("hello")
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
        assert ask(client, "/") == b"hello"
        client.close()
        assert server.server is not None
        print("made of", *(kind.__name__ for kind in type(server.server).__mro__))
        began = time.monotonic()
        server.stop()
        print(f"stopped in {(time.monotonic() - began) * 1000:.0f} ms")
