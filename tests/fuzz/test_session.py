"""A session against a reader's model of it: no reply lost, none behind the end, one on_close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from echoframe.errors import ProtocolError
from echoframe.framing import (
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    Framing,
    LengthFraming,
    LineFraming,
    RawFraming,
)
from echoframe.handlers import Answer, EchoHandler, Handler, Reply
from echoframe.session import AwaitingSession, Session

from ..test_framing import Make, singly
from ..test_session import rest_of
from .inputs import chunks_of_it

REASONS = {"peer", "reply", "drain", "cut", "timeout", "limit", "protocol", "error", "lost"}

LONGEST = 20
FRAMINGS: list[Make] = [
    partial(LineFraming, LONGEST),
    partial(LengthFraming, LONGEST),
    partial(DelimiterFraming, b"||", LONGEST),
    partial(FixedFraming, 2, LONGEST),
    partial(AutoFraming, LONGEST),
    RawFraming,
    partial(RawFraming, 4),
]

# Peers that say what the handler below has an answer to, in the words of some framing;
# and peers that do not.
WORDS = [b"a", b"bytes", b"str", b"none", b"reply", b"list", b"gen", b"view"]
WORDS += [b"gg", b"bb", b"nn", b"ss", b"vv", b"rr", b"\xff", b"", b"gen", b"list", b"none"]
# After these nothing else is said.
WORDS += [b"close", b"quiet", b"fail", b"xyz", b"half", b"int", b"b" * 25]
ENDS = [b"", b"\n", b"\n", b"\r\n", b"||", b"|", b"\r"]


def prefixed(word: bytes) -> bytes:
    return LengthFraming().wrap(word)


words = st.sampled_from(WORDS)
said_by_peers = st.lists(
    st.builds(bytes.__add__, words, st.sampled_from(ENDS)) | words.map(prefixed), max_size=4
).map(b"".join)


class Told(Exception):
    """What the handler raises when it is told to."""


# What the handler says to a message, and what that is: the pieces, and whether the
# handler hangs up behind them, or fails.
def answer(message: bytes, live: list[Any]) -> Answer:
    match message[:1]:
        case b"s":
            return message.decode("latin-1")
        case b"n":
            return None
        case b"r":
            return Reply(bytearray(message))
        case b"c":
            return Reply("bye", close=True)
        case b"q":
            return Reply(close=True)
        case b"l":
            return [message, "é", None, Reply(b"!"), (b"deep", [message])]
        case b"g" | b"f" | b"h" as kind:
            return pulled(kind, message, live)
        case b"v":
            return memoryview(message)
        case b"x":
            raise Told
        case b"i":
            return [b"ok", 7]
    return message


def pulled(kind: bytes, message: bytes, live: list[Any]) -> Iterator[Answer]:
    mark = object()
    live.append(mark)
    try:
        for _ in range(3):
            yield message
        if kind == b"f":
            raise Told
        if kind == b"h":
            yield Reply(b"bye", close=True)
        yield b"end"
    finally:
        live.remove(mark)


def meaning(message: bytes) -> tuple[list[bytes], str | None]:
    match message[:1]:
        case b"s":
            return [message.decode("latin-1").encode()], None
        case b"n":
            return [], None
        case b"c":
            return [b"bye"], "reply"
        case b"q":
            return [], "reply"
        case b"l":
            return [message, "é".encode(), b"!", b"deep", message], None
        case b"g":
            return [message] * 3 + [b"end"], None
        case b"f":
            return [message] * 3, "error"
        case b"h":
            return [message] * 3 + [b"bye"], "reply"
        case b"x":
            return [], "error"
        case b"i":
            return [b"ok"], "error"
    return [message], None


class Telling(Handler):
    """The handler of these tests. Its greeting is `greeting`, answered as a message is."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.live: list[Any] = []
        self.closed: list[str] = []

    def on_open(self) -> Answer:
        return answer(self.greeting, self.live)

    def on_message(self, message: bytes) -> Answer:
        assert not self.closed
        return answer(message, self.live)

    def on_close(self, reason: str) -> None:
        assert not self.live
        self.closed.append(reason)


class Expected:
    """All that must be said in the end, as if the peer read everything at once."""

    def __init__(self, framing: Framing, greeting: bytes) -> None:
        self.framing = framing
        self.said = b""
        self.reason: str | None = None
        self._answer(greeting)

    def feed(self, data: bytes) -> None:
        if self.reason is None:
            self.framing.feed(data)
            self._read(self.framing.next)

    def end(self) -> None:
        self._read(self.framing.end)
        self.reason = self.reason or "peer"

    def _read(self, find: Callable[[], bytes | None]) -> None:
        try:
            while self.reason is None and (message := find()) is not None:
                self._answer(message)
        except ProtocolError:
            self.reason = "protocol"

    def _answer(self, message: bytes) -> None:
        pieces, reason = meaning(message)
        for number, piece in enumerate(pieces, 1):
            try:
                self.said += self.framing.wrap(piece)
            except ValueError:
                # What is said does not fit; that it hangs up was known before.
                last = number == len(pieces) and reason == "reply"
                self.reason = "reply" if last else "error"
                return
        self.reason = reason


def flags(session: Session) -> tuple[object, ...]:
    failure = type(session.failure)
    return session.busy, session.pending, session.closing, session.reason, failure


class Conversations(RuleBasedStateMachine):
    """A Session and an AwaitingSession, in step with each other and with the model."""

    @initialize(
        make=st.sampled_from(FRAMINGS),
        bound=st.sampled_from([1, 2, 10, 1000]),
        greeting=st.sampled_from([b"none", b"none", b"welcome", b"welcome", b"gen", b"gen"])
        | st.sampled_from([b"close", b"fail", b"xyz", b"list", b"none"]),
    )
    def begin(self, make: Make, bound: int, greeting: bytes) -> None:
        self.handlers = [Telling(greeting), Telling(greeting)]
        self.sessions = [
            kind(handler, make(), write_buffer=bound)
            for kind, handler in zip((Session, AwaitingSession), self.handlers, strict=True)
        ]
        self.expected = Expected(make(), greeting)
        self.bound = bound
        self.said = b""
        self.longest = LONGEST
        # The peer has ended; somebody else has; it is over.
        self.ended = self.cut = self.closed = False
        self.both(lambda session: session.open())

    def both(self, act: Callable[[Session], bytes]) -> bytes:
        one, other = map(act, self.sessions)
        assert one == other
        self.said += one
        # What passes the bound is one reply, a little longer than its message at most.
        assert len(one) < self.bound + self.longest + 10
        return one

    @property
    def session(self) -> Session:
        return self.sessions[0]

    @precondition(lambda self: not (self.ended or self.cut or self.closed))
    @rule(data=said_by_peers)
    def feed(self, data: bytes) -> None:
        over = self.session.closing
        if not over:
            self.expected.feed(data)
        # To raw, all of it is a message.
        self.longest = max(self.longest, len(data))
        out = self.both(lambda session: session.feed(data))
        assert not (over and out)

    @precondition(lambda self: not (self.ended or self.cut or self.closed))
    @rule(data=said_by_peers)
    def feed_and_take_all(self, data: bytes) -> None:
        self.feed(data)
        while self.session.pending:
            self.more()

    @rule()
    def more(self) -> None:
        idle = not self.session.pending
        out = self.both(lambda session: session.more())
        assert not (idle and out)

    @precondition(lambda self: not (self.ended or self.cut or self.closed))
    @rule()
    def end_of_input(self) -> None:
        self.ended = True
        if not self.session.closing:
            self.expected.end()
        self.both(lambda session: session.end())

    @rule()
    def drain(self) -> None:
        for session in self.sessions:
            session.drain()

    @precondition(lambda self: not self.closed)
    @rule(reason=st.sampled_from(["drain", "cut", "timeout", "limit", "lost"]))
    def end_otherwise(self, reason: str) -> None:
        self.cut = self.cut or not self.session.closing
        assert self.both(lambda session: session.end(reason)) == b""

    @rule(reason=st.sampled_from(["peer", "drain", "cut", "timeout", "limit", "lost"]))
    def close(self, reason: str) -> None:
        for session in self.sessions:
            session.close(reason)
        self.cut = self.cut or not self.closed
        self.closed = True
        with pytest.raises(RuntimeError, match="closed"):
            self.session.feed(b"late")

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        one, other = self.sessions
        assert flags(one) == flags(other)

    @invariant()
    def what_is_said_is_what_the_messages_ask_for(self) -> None:
        session = self.session
        assert self.expected.said.startswith(self.said)
        if self.cut:
            return
        if session.pending:
            assert not session.closing
        elif session.reason != "drain":
            assert self.said == self.expected.said
            assert session.reason == self.expected.reason
        else:
            assert session.draining
            assert self.said == self.expected.said
            assert session.framing.has_boundaries
            assert not session.framing.unfinished

    @invariant()
    def the_flags_agree(self) -> None:
        session = self.session
        assert session.busy is (session.pending or session.closing)
        assert session.closing is (session.reason is not None)
        assert not (session.pending and session.closing)
        assert session.reason is None or session.reason in REASONS
        failed = session.reason in ("error", "protocol")
        assert isinstance(session.failure, ProtocolError) is (session.reason == "protocol")
        assert failed <= (session.failure is not None)

    @invariant()
    def the_handler_hears_of_the_end_once(self) -> None:
        for session, handler in zip(self.sessions, self.handlers, strict=True):
            assert handler.closed == ([session.reason] if self.closed else [])
            if not session.pending and not session.closing:
                assert not handler.live

    def teardown(self) -> None:
        if hasattr(self, "sessions") and not self.closed:
            self.close("lost")
            self.the_handler_hears_of_the_end_once()


TestConversations = Conversations.TestCase


# ------------------------------------------------- one conversation, several ways


class Promise:
    """An answer that comes later, piece by piece."""

    def __init__(self, pieces: Answer) -> None:
        self.pieces = pieces

    def __await__(self) -> Any:
        raise AssertionError("a session awaits nothing")


class Later(Telling):
    """Gives some of its answers later."""

    def on_message(self, message: bytes) -> Answer:
        if len(message) % 2:
            return super().on_message(message)
        return Promise(message)


def settle(session: Session, handler: Telling, out: bytes) -> bytes:
    """All that is to be said, with what has to be awaited."""
    while not session.closing:
        if session.pending:
            out += session.more()
        elif isinstance(session, AwaitingSession) and session.awaiting is not None:
            try:
                out += session.resume(answer(session.awaiting.pieces, handler.live))
            except Exception as error:
                out += session.failed(error)
            out += rest_of(session)
            if session.reason is None:
                out += session.resumed()
        else:
            break
    return out


def straight(session: Session, data: bytes) -> bytes:
    """Without feed(), as servers do that have nothing else to do."""
    if session.straight is None or session.busy:
        return session.feed(data)
    try:
        found = session.straight(data)
    except Exception as error:
        return session.failed(error)
    return found if found.__class__ is bytes else session.answered(found)


def conversation(
    session: Session,
    handler: Telling,
    chunks: list[bytes],
    feed: Callable[[Session, bytes], bytes] = lambda session, data: session.feed(data),
) -> tuple[bytes, str | None, type]:
    said = settle(session, handler, session.open())
    for data in chunks:
        if not session.closing:
            said += settle(session, handler, feed(session, data))
    if not session.closing:
        said += settle(session, handler, session.end())
    session.close("lost")
    assert handler.closed == [session.reason]
    return said, session.reason, type(session.failure)


@given(st.sampled_from(FRAMINGS), st.lists(said_by_peers, max_size=5), st.sampled_from([1, 1000]))
@example(RawFraming, [b"gen", b"view", b"xyz"], 1)
@example(RawFraming, [b"half"], 1000)
def test_it_makes_no_difference_who_drives_and_what_is_awaited(
    make: Make, chunks: list[bytes], bound: int
) -> None:
    plain, later, other = Telling(b"welcome"), Later(b"welcome"), Telling(b"welcome")
    outcome = conversation(Session(plain, make(), write_buffer=bound), plain, chunks)
    awaited = AwaitingSession(later, make(), write_buffer=bound)
    assert conversation(awaited, later, chunks) == outcome
    directly = Session(other, make(), write_buffer=bound)
    assert conversation(directly, other, chunks, straight) == outcome


@given(st.sampled_from(FRAMINGS[:4]), st.lists(said_by_peers, max_size=4))
def test_the_same_bytes_cut_anywhere_are_answered_the_same(make: Make, chunks: list[bytes]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[bytes, str | None, type]:
        handler = Telling(b"none")
        return conversation(Session(handler, make()), handler, chunks)

    data = b"".join(chunks)
    whole = outcome([data])
    assert outcome(chunks) == outcome(singly(data)) == whole
    for at in range(1, len(data)):
        assert outcome([data[:at], data[at:]]) == whole


@given(chunks_of_it, st.sampled_from([1, 5, 1000]), st.sampled_from([2, 100_000]))
def test_echo_gives_back_the_same_bytes(chunks: list[bytes], bound: int, longest: int) -> None:
    session = Session(EchoHandler(), RawFraming(longest), write_buffer=bound)
    said = b""
    for data in chunks:
        said += session.feed(data)
        if len(data) % 2:
            said += rest_of(session)
    said += session.end()
    said += rest_of(session)
    assert said == b"".join(chunks)
    assert session.reason == "peer"
