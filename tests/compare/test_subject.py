from __future__ import annotations

import asyncio
import functools
import socketserver
from collections.abc import AsyncIterator
from typing import Any

import pytest

from echoframe import EchoHandler, Handler
from echoframe.compare.subject import witnessed
from echoframe.handlers import Protocol, registry
from echoframe.handlers.base import Peer, runs_async

PEER = Peer("127.0.0.1:4711", "127.0.0.1:7007", "tcp")


class Shouting(Handler):
    framing = "length"

    def __init__(self, end: bytes = b"!") -> None:
        self.end = end

    def on_message(self, message: bytes) -> bytes:
        return message.upper() + self.end


async def awaiting(message: bytes) -> bytes:
    await asyncio.sleep(0)
    return message


async def yielding(message: bytes) -> AsyncIterator[bytes]:
    yield message
    await asyncio.sleep(0)
    yield message


class Told:
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def __call__(self, port: int, began: float) -> None:
        self.seen.append((port, began))


def opened(handler: Any, told: Told) -> Handler:
    return Protocol.of(witnessed(handler, told)).open(PEER)


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        (bytes.upper, b"HELLO"),
        (EchoHandler, b"hello"),
        (Shouting, b"HELLO!"),
        (functools.partial(Shouting, b"?"), b"HELLO?"),
    ],
)
def test_a_witness_changes_nothing_and_tells(handler: Any, answer: bytes) -> None:
    told = Told()
    made = opened(handler, told)
    assert made.on_message(b"hello") == answer
    assert [port for port, _ in told.seen] == [4711]


def test_it_has_the_name_of_what_it_watches() -> None:
    class Request(socketserver.BaseRequestHandler):
        pass

    for handler in (awaiting, Shouting, Request):
        assert witnessed(handler, Told()).__name__ == handler.__name__


def test_the_framing_stays() -> None:
    found = Protocol.of(witnessed(Shouting, Told()))
    assert found.framing == "length"
    entry = witnessed(registry.find("echo"), Told())
    assert entry.framing == "raw"
    assert entry.reply_size is not None


def test_what_awaits_still_awaits() -> None:
    told = Told()
    made: Any = opened(awaiting, told)
    assert runs_async(made.on_message)
    assert asyncio.run(made.on_message(b"hello")) == b"hello"
    assert len(told.seen) == 1


def test_what_yields_later_is_over_when_all_is_said() -> None:
    told = Told()
    made: Any = opened(yielding, told)
    assert runs_async(made.on_message)

    async def collect() -> list[bytes]:
        return [one async for one in made.on_message(b"hello")]

    assert asyncio.run(collect()) == [b"hello", b"hello"]
    assert len(told.seen) == 1


def test_it_tells_of_a_handler_that_raises() -> None:
    def fails(message: bytes) -> bytes:
        raise LookupError("odd")

    told = Told()
    with pytest.raises(LookupError):
        opened(fails, told).on_message(b"hello")
    assert len(told.seen) == 1


def test_a_handler_class_is_seen_as_a_whole() -> None:
    class Request(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.append("handled")

    told = Told()
    request: Any = []
    server: Any = None
    witnessed(Request, told)(request, ("127.0.0.1", 4711), server)
    assert request == ["handled"]
    assert [port for port, _ in told.seen] == [4711]
