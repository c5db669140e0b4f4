"""A client and what comes to it: each question has its own reply or an error."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st

from echoframe.client import Client
from echoframe.errors import ConnectionEnded, ProtocolError, SettingError
from echoframe.framing import (
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    Framing,
    LengthFraming,
    LineFraming,
    RawFraming,
)

from ..test_framing import read
from .inputs import chunk, chunks_of_it

LONGEST = 6
FRAMINGS: list[Framing] = [
    LineFraming(LONGEST),
    LengthFraming(LONGEST),
    DelimiterFraming(b";", LONGEST),
    DelimiterFraming(b"aa", LONGEST),
    FixedFraming(3, LONGEST),
    AutoFraming(LONGEST),
    RawFraming(LONGEST),
]


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


class Wire:
    """Stands between a client and its socket: gives exactly these chunks, then the end.

    What is sent is taken in pieces, as a full socket buffer takes it. `echo` gives back
    what was sent instead, in chunks of these sizes.
    """

    def __init__(self, chunks: list[bytes], takes: int = 1000, echo: list[int] | None = None):
        self.chunks = [one for one in chunks if one]
        self.takes = takes
        self.echo = echo
        self.sent = b""
        self.back = b""

    def recv(self, size: int) -> bytes:
        if self.echo is None:
            return self.chunks.pop(0) if self.chunks else b""
        if not self.back:
            raise BlockingIOError
        cut = self.echo.pop(0) if self.echo else size
        found, self.back = self.back[:cut], self.back[cut:]
        return found

    def send(self, data: Any) -> int:
        taken = bytes(data)[: self.takes]
        self.sent += taken
        if self.echo is not None:
            self.back += taken
        return len(taken)


class Talk:
    """A client whose wire is scripted. Its socket always has something to read."""

    def __init__(self, listener: socket.socket, wire: Wire, **how: Any) -> None:
        self.client = Client(listener.getsockname(), timeout=5, **how)
        self.peer, _ = listener.accept()
        self.peer.sendall(b"there is something")
        self.wire = self.client._wire = wire  # type: ignore[assignment]  # all that is used of it

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.peer.close()


framings = st.sampled_from(FRAMINGS)


@given(framing=framings, chunks=chunks_of_it)
@example(framing=FRAMINGS[3], chunks=[b"seven b"])
def test_what_is_received_is_what_the_framing_finds(
    listener: socket.socket, framing: Framing, chunks: list[bytes]
) -> None:
    chunks = [one for one in chunks if one]
    messages, error = read(framing.fresh(), chunks)
    found = []
    failure: Exception | None = None
    with Talk(listener, Wire(chunks), framing=framing) as client:
        try:
            for message in client:
                found.append(message)
        except (ProtocolError, ConnectionEnded) as broken:
            failure = broken
        assert found == messages
        if error is None:
            assert failure is None
        elif read(framing.fresh(), chunks, end=False)[1] is None:
            # The rest is no message.
            assert isinstance(failure, ConnectionEnded)
            assert "in the middle of a reply, after " in str(failure)
        else:
            # Which stands behind the address.
            assert isinstance(failure, ProtocolError)
            assert str(failure).endswith(error)
        # There is no more, and that is said each time.
        for _ in range(2):
            with pytest.raises(ConnectionEnded):
                client.receive()


@given(framing=framings, messages=st.lists(chunk, min_size=1, max_size=3), chunks=chunks_of_it)
@example(framing=FRAMINGS[3], messages=[b"a"], chunks=[])
def test_each_question_has_its_own_reply_or_an_error(
    listener: socket.socket, framing: Framing, messages: list[bytes], chunks: list[bytes]
) -> None:
    replies, _ = read(framing.fresh(), [one for one in chunks if one], end=False)
    refused = 0
    found = []
    with Talk(listener, wire := Wire(chunks, takes=2), framing=framing) as client:
        for message in messages:
            before = wire.sent
            try:
                found.append(client.ask(message))
            except SettingError:
                # What the framing does not carry is not sent, and closes nothing.
                assert wire.sent == before
                refused += 1
            except (ConnectionEnded, ProtocolError):
                with pytest.raises(ConnectionEnded):
                    client.ask(message)
                break
        assert found == replies[: len(found)]
        if len(found) + refused < len(messages):
            assert len(found) == len(replies)


cuts = st.lists(st.integers(1, 4), max_size=30)


@given(messages=st.lists(st.binary(max_size=9), max_size=6), echo=cuts, takes=st.integers(1, 20))
def test_a_pipeline_of_echo_gives_back_each_message_however_it_is_cut(
    listener: socket.socket, messages: list[bytes], echo: list[int], takes: int
) -> None:
    wire = Wire([], takes, echo)
    with Talk(listener, wire, protocol="echo") as client:
        assert list(client.pipeline(messages)) == messages
        assert [client.ask(message) for message in messages] == messages
        assert wire.sent == b"".join(messages) * 2


@given(data=st.binary(max_size=60), echo=cuts, takes=st.integers(1, 20))
def test_a_stream_of_echo_gives_back_the_same_bytes(
    listener: socket.socket, data: bytes, echo: list[int], takes: int
) -> None:
    with Talk(listener, Wire([], takes, echo), protocol="echo") as client:
        assert b"".join(client.stream(io.BytesIO(data))) == data
        assert client.ask(b"again") == b"again"


@given(
    make=st.sampled_from([LineFraming, LengthFraming, partial(DelimiterFraming, b"||")]),
    messages=st.lists(st.binary(max_size=9), max_size=6),
    echo=cuts,
    takes=st.integers(1, 20),
)
def test_a_pipeline_over_any_framing_gives_back_each_message(
    listener: socket.socket, make: Any, messages: list[bytes], echo: list[int], takes: int
) -> None:
    # Its peer sends everything back, so that a message and its reply are framed the same.
    messages = [message.translate(None, b"\r\n|") for message in messages]
    with Talk(listener, Wire([], takes, echo), framing=make()) as client:
        assert list(client.pipeline(messages)) == messages
