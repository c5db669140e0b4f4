"""What answering means: Handler, Reply, and the order of meaning of an answer.

Nothing here holds a socket, so a handler runs on every model and in a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from ..framing import FramingSpec

__all__ = [
    "Answer",
    "FunctionHandler",
    "Handler",
    "Peer",
    "Reply",
    "is_asynchronous",
    "replies",
    "runs_async",
]


Data = bytes | bytearray | memoryview


class Reply:
    """What a handler says, and whether the conversation ends behind it.

    `data` is bytes-like, str (sent as UTF-8), or None to say nothing.
    """

    __slots__ = ("close", "data")

    def __init__(self, data: Data | str | None = None, close: bool = False) -> None:
        self.data = data
        self.close = close

    def __repr__(self) -> str:
        return f"Reply({self.data!r}, close={self.close})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reply):
            return NotImplemented
        return (self.data, self.close) == (other.data, other.close)

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable


# What a handler may return. The order in which it is understood is in replies(), and
# what is asynchronous stands for what will come of it, where a model awaits it.
Answer = Data | str | None | Reply | Iterable[Any] | Awaitable[Any] | AsyncIterable[Any]


class Peer:
    """Who is at the other end, in the words of Address: HOST:PORT, or a path.

    A server gives its handlers a subclass that finds the names when it is asked.
    """

    def __init__(self, remote: str, local: str, transport: str, tls: Any = None) -> None:
        self.remote = remote
        self.local = local
        self.transport = transport
        # The facts about an encrypted connection: version, cipher, server_name and
        # certificate; None for any other. To be asked for while it is open.
        self.tls = tls

    def __str__(self) -> str:
        return self.remote

    def __repr__(self) -> str:
        return f"Peer({self.remote!r}, {self.local!r}, {self.transport!r})"


_NOBODY = Peer("nobody", "nobody", "none")


class Handler:
    """Answers the messages of one conversation; one instance for each connection.

    Subclasses replace:
        on_message(message)   required
        on_open()             may reply, like on_message
        on_close(reason)      the last call; what it returns is ignored

    Subclasses may set, as class attributes, what the protocol needs:
        framing          where the peer's messages end ("line")
        client_framing   what a Client uses; None means the same
        reply_size       message -> length of its reply, for framings that do not
                         mark where a reply ends

    `self.peer` is who is at the other end; it is set before on_open().
    """

    framing: ClassVar[FramingSpec] = "line"
    client_framing: ClassVar[FramingSpec | None] = None
    reply_size: ClassVar[Callable[[bytes], int | None] | None] = None

    peer: Peer = _NOBODY

    def on_open(self) -> Answer:
        """Greet, or say nothing. May be replaced."""
        return None

    def on_message(self, message: bytes) -> Answer:
        """Answer one message. Must be replaced.

        Returns bytes-like data, str (UTF-8), a Reply, None (no reply), or an
        iterable of those, which is pulled only as fast as the peer reads. On the
        model aio it may be a coroutine or an asynchronous generator.
        """
        raise NotImplementedError(f"{type(self).__name__} has no on_message()")

    def on_close(self, reason: str) -> None:
        """The conversation is over. May be replaced.

        `reason` is one of: peer (it ended its input), reply (we hung up behind a
        Reply), drain, cut, timeout, limit, protocol, error, lost.
        """


class FunctionHandler(Handler):
    """A function of one message, as a handler."""

    def __init__(self, function: Callable[[bytes], Answer]) -> None:
        # The instance attribute hides the method, so that calling it costs one
        # call and not two.
        self.on_message = function  # type: ignore[method-assign, assignment]  # see above


def replies(answer: Answer) -> Iterator[tuple[bytes | None, bool]]:
    """Give what an answer says, piece by piece: (data or None, hang up behind it).

    An iterable is pulled one step at a time, and no further than a Reply that
    hangs up.

    Errors: TypeError for what no handler may return; whatever an iterable raises.
    """
    if answer is None:
        return
    if isinstance(answer, bytes):
        yield answer, False
    elif isinstance(answer, str):
        yield answer.encode(), False
    elif isinstance(answer, Reply):
        data = answer.data
        yield (None if data is None else _as_bytes(data)), answer.close
    else:
        try:
            # Copied: the handler may go on to use its buffer.
            data = bytes(memoryview(answer))  # type: ignore[arg-type]  # asks whether it is one
        except TypeError:
            yield from _items(answer)
        else:
            yield data, False


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise _unusable(data) from None


def _items(answer: Any) -> Iterator[tuple[bytes | None, bool]]:
    # Through iter() and a finally of our own: a generator that is not exhausted
    # (the peer left) is closed at once, not when it happens to be collected.
    try:
        items = iter(answer)
    except TypeError:
        raise _unusable(answer) from None
    try:
        for item in items:
            if isinstance(item, int):
                raise _unusable(item)
            for piece in replies(item):
                yield piece
                if piece[1]:
                    return
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _unusable(answer: object) -> TypeError:
    return TypeError(
        "a handler returns bytes, str, Reply, None or an iterable of those, "
        f"not {type(answer).__name__}"
    )


def is_asynchronous(answer: Any) -> bool:
    """Tell whether what a handler returned is still to be awaited, or iterated so."""
    kind = type(answer)
    return hasattr(kind, "__await__") or hasattr(kind, "__aiter__")


def runs_async(function: Any) -> bool:
    """Tell whether calling this gives a coroutine (or an asynchronous generator)."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        # An object that can be called.
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004  # its code is wanted
    # CO_COROUTINE | CO_ASYNC_GENERATOR, without importing inspect for two bits.
    return code is not None and bool(code.co_flags & (0x80 | 0x200))
