from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from echoframe.handlers import FunctionHandler, Handler, Peer, Reply, replies, runs_async


def test_replies_are_equal_when_they_say_the_same() -> None:
    assert Reply(b"a") == Reply(b"a", close=False)
    assert Reply(b"a") != Reply(b"a", close=True)
    assert Reply(b"a") != b"a"
    assert repr(Reply(b"a", close=True)) == "Reply(b'a', close=True)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Reply(b"a"))


def test_an_answer_is_taken_apart_in_order() -> None:
    answer = [b"a", "b", None, Reply(b"c"), Reply(), [Reply("d", close=True)], b"never"]
    assert list(replies(answer)) == [
        (b"a", False),
        (b"b", False),
        (b"c", False),
        (None, False),
        (b"d", True),
    ]


def test_a_nested_iterable_is_closed_with_the_outer_one() -> None:
    closed = []

    def inner() -> Any:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append("inner")

    def outer() -> Any:
        try:
            yield inner()
        finally:
            closed.append("outer")

    pieces = replies(outer())
    assert next(pieces) == (b"a", False)
    pieces.close()  # type: ignore[attr-defined]  # replies() is a generator
    assert closed == ["inner", "outer"]


def test_a_handler_without_on_message_says_so() -> None:
    class Empty(Handler):
        pass

    empty = Empty()
    assert empty.on_open() is None
    empty.on_close("peer")
    with pytest.raises(NotImplementedError, match=r"Empty has no on_message\(\)"):
        empty.on_message(b"")


def test_a_function_is_called_as_it_is() -> None:
    def function(message: bytes) -> bytes:
        return message

    assert FunctionHandler(function).on_message is function


def test_a_peer_is_three_names_and_what_its_certificate_says() -> None:
    peer = Peer("127.0.0.1:5", "127.0.0.1:80", "tcp")
    assert repr(peer) == "Peer('127.0.0.1:5', '127.0.0.1:80', 'tcp')"
    assert peer.tls is None
    assert Handler().peer.remote == "nobody"


def function(message: bytes) -> bytes:
    return message


async def coroutine(message: bytes) -> bytes:
    return message


async def generator(message: bytes) -> AsyncIterator[bytes]:
    yield message


class Methods:
    def plain(self, message: bytes) -> bytes:
        return message

    async def waits(self, message: bytes) -> bytes:
        return message

    @classmethod
    async def of_the_class(cls, message: bytes) -> bytes:
        return message

    @staticmethod
    async def static(message: bytes) -> bytes:
        return message


class CalledPlain:
    def __call__(self, message: bytes) -> bytes:
        return message


class CalledAsync:
    async def __call__(self, message: bytes) -> bytes:
        return message


@pytest.mark.parametrize(
    ("what", "is_async"),
    [
        (function, False),
        (coroutine, True),
        (generator, True),
        (Methods.plain, False),
        (Methods.waits, True),
        (Methods().plain, False),
        (Methods().waits, True),
        (Methods.of_the_class, True),
        (Methods.static, True),
        (partial(function, b""), False),
        (partial(coroutine, b""), True),
        (partial(partial(Methods().waits), b""), True),
        (CalledPlain(), False),
        (CalledAsync(), True),
        (CalledAsync, False),
        (len, False),
        (bytes.upper, False),
        (None, False),
    ],
)
def test_functions_that_give_a_coroutine_are_told_from_others(what: Any, is_async: bool) -> None:
    assert runs_async(what) is is_async
