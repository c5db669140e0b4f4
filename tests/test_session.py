from __future__ import annotations

import array
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echoframe.errors import ProtocolError
from echoframe.framing import (
    CHUNK,
    AutoFraming,
    FixedFraming,
    Framing,
    LengthFraming,
    LineFraming,
    RawFraming,
)
from echoframe.handlers import Answer, EchoHandler, FunctionHandler, Handler, Reply
from echoframe.session import AwaitingSession, Session


def session_of(
    answer: Callable[[bytes], Any], framing: Framing | None = None, **settings: Any
) -> Session:
    """A session of a function, on lines unless said otherwise."""
    return Session(FunctionHandler(answer), framing or LineFraming(), **settings)


def echo(message: bytes) -> bytes:
    return message


def crash(message: bytes) -> bytes:
    if message == b"crash":
        raise RuntimeError("as told")
    return message


def close_now(message: bytes) -> Reply:
    return Reply(b"bye", close=True)


def silent(message: bytes) -> None:
    return None


class Diary(Handler):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.entries: list[object] = []

    def on_message(self, message: bytes) -> Any:
        self.entries.append(message)
        return message

    def on_close(self, reason: str) -> None:
        self.entries.append(f"closed: {reason}")


def rest_of(session: Session) -> bytes:
    """All that is still to be said, as if the peer read on and on."""
    said = b""
    while session.pending:
        said += session.more()
    return said


class Counting:
    """An iterable answer that knows how far it was pulled and whether it was closed."""

    def __init__(self, *items: Any) -> None:
        self.items = iter(items)
        self.pulled = 0
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self.items)
        self.pulled += 1
        return item

    def close(self) -> None:
        self.closed += 1


# ---------------------------------------------------------------------- answers


def test_a_message_is_answered() -> None:
    session = session_of(bytes.upper)
    assert session.open() == b""
    assert session.feed(b"hello\n") == b"HELLO\n"
    assert session.feed(b"again\r\n") == b"AGAIN\r\n"
    assert (session.pending, session.closing, session.reason) == (False, False, None)


def test_a_message_in_three_pieces_is_answered_once_it_is_whole() -> None:
    session = session_of(echo)
    assert [session.feed(piece) for piece in (b"he", b"ll", b"o\n")] == [b"", b"", b"hello\n"]


def test_messages_in_one_piece_are_answered_in_their_order() -> None:
    session = session_of(echo)
    assert session.feed(b"one\ntwo\nthree\nfo") == b"one\ntwo\nthree\n"
    assert session.feed(b"ur\n") == b"four\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"bytes", b"bytes\n"),
        (b"", b"\n"),
        ("Grüße", "Grüße\n".encode()),
        (bytearray(b"array"), b"array\n"),
        (memoryview(b"view"), b"view\n"),
        (memoryview(b"v.i.e.w")[::2], b"view\n"),
        (array.array("B", b"array"), b"array\n"),
        (None, b""),
        (Reply(), b""),
        (Reply(None), b""),
        (Reply(b"reply"), b"reply\n"),
        (Reply("Grüße"), "Grüße\n".encode()),
        (Reply(bytearray(b"array")), b"array\n"),
        ([], b""),
        ([b"a", "b", None, Reply(b"c"), memoryview(b"d")], b"a\nb\nc\nd\n"),
        ([[b"a", [b"b"]], (b"c",)], b"a\nb\nc\n"),
        ((piece for piece in (b"a", b"b")), b"a\nb\n"),
    ],
)
def test_whatever_a_handler_may_return_is_said(answer: Any, said: bytes) -> None:
    session = session_of(lambda message: answer)
    assert session.feed(b"?\n") == said
    assert session.failure is None
    assert not session.closing


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (5, "int"),
        (True, "bool"),
        (1.5, "float"),
        (object(), "object"),
        ([1, 2], "int"),
        ([b"a", object()], "object"),
        (Reply(5), "int"),  # type: ignore[arg-type]  # the mistake that is looked for
        (Reply([b"a"]), "list"),  # type: ignore[arg-type]  # the same
    ],
)
@pytest.mark.parametrize("make", [LineFraming, RawFraming])
def test_what_no_handler_may_return_is_a_type_error(
    answer: Any, kind: str, make: Callable[[], Framing]
) -> None:
    session = session_of(lambda message: answer, make())
    session.feed(b"?\n")
    assert isinstance(session.failure, TypeError)
    assert str(session.failure) == (
        f"a handler returns bytes, str, Reply, None or an iterable of those, not {kind}"
    )
    assert (session.closing, session.reason) == (True, "error")


def test_a_buffer_that_the_handler_goes_on_to_use_is_copied() -> None:
    buffer = bytearray(b"first")

    def answer(message: bytes) -> Iterator[bytearray]:
        yield buffer
        buffer[:] = b"second"
        yield buffer

    assert session_of(answer).feed(b"\n") == b"first\nsecond\n"


def test_a_trace_sees_each_message_before_it_is_answered() -> None:
    seen: list[bytes] = []

    def answer(message: bytes) -> bytes:
        assert seen[-1] is message
        return message

    for framing in (LineFraming(), RawFraming()):
        session = session_of(answer, framing, trace=seen.append)
        assert session.feed(b"a\n") == b"a\n"
    assert seen == [b"a", b"a\n"]


# -------------------------------------------------------------------- greetings


class Greeter(Handler):
    greeting: Any = b"welcome"

    def on_open(self) -> Any:
        return self.greeting

    def on_message(self, message: bytes) -> bytes:
        return message


@pytest.mark.parametrize(
    ("framing", "said"),
    [
        (LineFraming(), b"welcome\n"),
        (RawFraming(), b"welcome"),
        (AutoFraming(), b"welcome"),
        (LengthFraming(), b"\0\0\0\7welcome"),
    ],
)
def test_a_greeting_comes_first(framing: Framing, said: bytes) -> None:
    session = Session(Greeter(), framing)
    assert session.open() == said
    assert not session.closing


def test_a_greeting_may_hang_up() -> None:
    class Full(Greeter):
        greeting = Reply(b"try again later", close=True)

    session = Session(Full(), LineFraming())
    assert session.open() == b"try again later\n"
    assert (session.closing, session.reason) == (True, "reply")


def test_a_long_greeting_is_given_piece_by_piece() -> None:
    class Talkative(Greeter):
        greeting = Counting(b"x" * 10, b"y" * 10)

    session = Session(Talkative(), RawFraming(), write_buffer=10)
    assert session.open() == b"x" * 10
    assert session.pending
    # What the peer says in the meantime is answered behind it.
    assert session.feed(b"hello") == b""
    assert session.more() == b"y" * 10
    assert session.more() == b"hello"
    assert not session.pending


def test_a_greeting_that_fails_is_a_failure() -> None:
    class Broken(Handler):
        def on_open(self) -> bytes:
            raise RuntimeError("no greeting")

    session = Session(Broken(), LineFraming())
    assert session.open() == b""
    assert (str(session.failure), session.closing, session.reason) == ("no greeting", True, "error")


# ------------------------------------------------------------------- hanging up


def test_nothing_is_said_behind_a_reply_that_hangs_up() -> None:
    session = session_of(lambda message: close_now(message) if message == b"close" else message)
    assert session.feed(b"one\nclose\ntwo\n") == b"one\nbye\n"
    assert (session.closing, session.pending, session.reason) == (True, False, "reply")
    assert session.more() == b""
    assert session.end("peer") == b""
    assert session.reason == "reply"


@pytest.mark.parametrize("framing", [LineFraming(), RawFraming(), LengthFraming(), AutoFraming()])
def test_what_arrives_after_the_hang_up_reaches_no_handler(framing: Framing) -> None:
    diary = Diary()
    session = Session(diary, framing)
    session.end("cut")
    assert session.feed(b"\0\0\0\1x\n") == b""
    session.close("lost")
    assert diary.entries == ["closed: cut"]


def test_a_reply_without_words_may_hang_up() -> None:
    session = session_of(lambda message: Reply(close=True))
    assert session.feed(b"one\ntwo\n") == b""
    assert (session.closing, session.reason) == (True, "reply")


def test_an_iterable_is_not_pulled_behind_a_reply_that_hangs_up() -> None:
    answer = Counting(b"a", Reply(b"b", close=True), b"c")
    session = session_of(lambda message: answer)
    assert session.feed(b"\n") == b"a\nb\n"
    assert answer.pulled == 2
    session.close("peer")
    assert answer.closed == 1


def test_an_iterable_is_closed_at_once_behind_a_wordless_hang_up() -> None:
    answer = Counting(b"a", Reply(close=True), b"c")
    session = session_of(lambda message: answer)
    assert session.feed(b"\n") == b"a\n"
    assert (answer.pulled, answer.closed) == (2, 1)


# ---------------------------------------------------------------- back-pressure


def test_an_iterable_is_pulled_no_further_than_the_peer_reads() -> None:
    answer = Counting(*[b"x" * 10] * 10)
    session = session_of(lambda message: answer, RawFraming(), write_buffer=25)
    assert session.feed(b"go") == b"x" * 30
    assert (answer.pulled, session.pending) == (3, True)
    assert session.more() == b"x" * 30
    assert answer.pulled == 6
    assert rest_of(session) == b"x" * 40
    assert (answer.pulled, answer.closed, session.closing) == (10, 1, False)


def test_no_message_is_answered_while_more_than_the_write_buffer_waits() -> None:
    diary = Diary()
    session = Session(diary, LineFraming(), write_buffer=10)
    assert session.feed(b"12345\n" * 4) == b"12345\n" * 2
    assert (len(diary.entries), session.pending) == (2, True)
    # More input changes nothing, and is not lost.
    assert session.feed(b"last\n") == b""
    assert session.more() == b"12345\n" * 2
    assert session.more() == b"last\n"
    assert not session.pending


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101])
def test_at_most_the_write_buffer_and_one_reply_are_given_out(size: int) -> None:
    session = session_of(lambda message: [b"x" * size] * 50, RawFraming(), write_buffer=100)
    said = session.feed(b"go")
    given = [len(said)]
    while session.pending:
        given.append(len(session.more()))
    assert sum(given) == 50 * size
    assert max(given) < 100 + size


def test_raw_chunks_fed_while_something_is_pending_are_messages_of_their_own() -> None:
    diary = Diary()
    session = Session(diary, RawFraming(), write_buffer=1)
    assert session.feed(b"x" * (CHUNK + 1)) == b"x" * CHUNK
    assert session.feed(b"a") + session.feed(b"b") == b""
    assert rest_of(session) == b"xab"
    assert diary.entries[2:] == [b"a", b"b"]


# -------------------------------------------------------------- the end of input


@pytest.mark.parametrize(
    ("framing", "data", "said"),
    [
        (LineFraming(), b"one\ntw", b"one\ntw"),
        (AutoFraming(), b"one\r\ntw", b"one\r\ntw"),
        (RawFraming(), b"one", b"one"),
        (LengthFraming(), b"\0\0\0\1x", b"\0\0\0\1x"),
        (FixedFraming(3), b"onetwo", b"onetwo"),
    ],
)
def test_the_peers_end_of_input_leaves_nothing_unanswered(
    framing: Framing, data: bytes, said: bytes
) -> None:
    session = session_of(echo, framing)
    assert session.feed(data) + session.end("peer") == said
    assert (session.closing, session.reason, session.failure) == (True, "peer", None)


@pytest.mark.parametrize(
    ("framing", "data", "said"),
    [
        (LengthFraming(), b"\0\0\0\1x\0\0", b"\0\0\0\1x"),
        (FixedFraming(3), b"onetw", b"one"),
        (LineFraming(5), b"one\n12345\r", b"one\n"),
    ],
)
def test_a_rest_that_is_no_message_is_a_protocol_error(
    framing: Framing, data: bytes, said: bytes
) -> None:
    session = session_of(echo, framing)
    assert session.feed(data) + session.end() == said
    assert isinstance(session.failure, ProtocolError)
    assert (session.closing, session.reason) == (True, "protocol")


@pytest.mark.parametrize("reason", ["drain", "cut", "timeout", "limit", "lost"])
def test_any_other_end_drops_half_a_message(reason: str) -> None:
    diary = Diary()
    session = Session(diary, LineFraming())
    assert session.feed(b"pay 1") == b""
    assert session.end(reason) == b""
    assert (session.closing, session.reason, session.failure) == (True, reason, None)
    session.close("peer")
    assert diary.entries == [f"closed: {reason}"]


def test_what_is_pending_at_the_end_of_input_is_still_said() -> None:
    session = session_of(lambda message: [message] * 3, write_buffer=1)
    assert session.feed(b"a\nb") == b"a\n"
    assert session.end("peer") == b""
    assert rest_of(session) == b"a\na\nbbb"
    assert (session.closing, session.reason) == (True, "peer")


def test_what_is_pending_is_dropped_by_any_other_end() -> None:
    answer = Counting(b"a", b"b")
    session = session_of(lambda message: answer, write_buffer=1)
    assert session.feed(b"\n") == b"a\n"
    assert session.end("cut") == b""
    assert (session.pending, session.closing, answer.pulled) == (False, True, 1)
    session.close("cut")
    assert answer.closed == 1


def test_a_silent_handler_has_nothing_to_say_at_the_end_either() -> None:
    session = session_of(silent)
    assert session.feed(b"a\nb") + session.end() == b""
    assert session.reason == "peer"


# -------------------------------------------------------------------- the drain


def test_a_drain_ends_an_idle_conversation_at_once() -> None:
    session = session_of(echo)
    session.drain()
    assert session.more() == b""
    assert (session.closing, session.reason) == (True, "drain")


def test_a_drain_waits_for_the_message_that_has_begun() -> None:
    session = session_of(echo)
    assert session.feed(b"hel") == b""
    session.drain()
    assert session.more() == b""
    assert not session.closing
    assert session.feed(b"lo\n") == b"hello\n"
    assert (session.closing, session.reason) == (True, "drain")


def test_a_drain_during_an_answer_lets_all_complete_messages_be_answered() -> None:
    def answer(message: bytes) -> bytes:
        session.drain()
        return message

    session = session_of(answer, write_buffer=1)
    assert session.feed(b"one\ntwo\n") + rest_of(session) == b"one\ntwo\n"
    assert (session.closing, session.reason) == (True, "drain")


def test_a_drain_before_the_greeting_ends_behind_it() -> None:
    session = Session(Greeter(), LineFraming())
    session.drain()
    assert session.open() == b"welcome\n"
    assert (session.closing, session.reason) == (True, "drain")


@pytest.mark.parametrize("framing", [RawFraming(), AutoFraming()])
def test_a_drain_leaves_a_conversation_without_boundaries_to_its_driver(framing: Framing) -> None:
    session = session_of(echo, framing)
    session.drain()
    assert session.more() == b""
    assert session.feed(b"still") == b"still"
    assert not session.closing
    session.end("drain")
    assert (session.closing, session.reason) == (True, "drain")


def test_auto_has_boundaries_for_a_drain_once_it_reads_lines() -> None:
    session = session_of(echo, AutoFraming())
    session.drain()
    assert session.feed(b"one\n") == b"one\n"
    assert (session.closing, session.reason) == (True, "drain")


# --------------------------------------------------------------------- failures


def test_a_handler_that_raises_loses_no_answer_before_it() -> None:
    session = session_of(crash)
    assert session.feed(b"one\ntwo\ncrash\nthree\n") == b"one\ntwo\n"
    assert isinstance(session.failure, RuntimeError)
    assert (session.closing, session.pending, session.reason) == (True, False, "error")
    # The way it came is what the log shows.
    assert session.failure.__traceback__ is not None


def test_a_handler_that_raises_on_raw_is_a_failure_too() -> None:
    session = session_of(crash, RawFraming())
    assert session.feed(b"one") == b"one"
    assert session.feed(b"crash") == b""
    assert isinstance(session.failure, RuntimeError)
    assert (session.closing, session.reason) == (True, "error")


def test_an_iterable_that_raises_loses_no_answer_before_it() -> None:
    def answer(message: bytes) -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("as told")

    session = session_of(answer)
    assert session.feed(b"\n") == b"one\n"
    assert (str(session.failure), session.reason) == ("as told", "error")


def test_stop_iteration_from_a_handler_is_a_failure_and_ends_nothing_quietly() -> None:
    def answer(message: bytes) -> bytes:
        return next(iter([]))

    session = session_of(answer)
    assert session.feed(b"\n") == b""
    assert isinstance(session.failure, StopIteration)


def test_a_peer_that_breaks_the_rules_gets_the_answers_before_that() -> None:
    session = session_of(echo, LineFraming(5))
    assert session.feed(b"one\n123456\ntwo\n") == b"one\n"
    assert isinstance(session.failure, ProtocolError)
    assert (session.closing, session.pending, session.reason) == (True, False, "protocol")


def test_a_reply_that_does_not_fit_the_framing_is_a_failure() -> None:
    session = session_of(lambda message: b"too long", FixedFraming(3))
    assert session.feed(b"one") == b""
    assert isinstance(session.failure, ValueError)
    assert session.reason == "error"


# ---------------------------------------------------------------------- closing


def test_closing_tells_the_handler_once() -> None:
    diary = Diary()
    session = Session(diary, LineFraming())
    session.feed(b"one\n")
    session.close("timeout")
    session.close("lost")
    assert diary.entries == [b"one", "closed: timeout"]
    assert session.closing


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda session: session.end("peer"), "peer"),
        (lambda session: session.end("drain"), "drain"),
        (lambda session: session.feed(b"x" * 100), "protocol"),
        (lambda session: None, "lost"),
    ],
)
def test_the_reason_that_the_session_found_itself_comes_first(
    act: Callable[[Session], object], reason: str
) -> None:
    diary = Diary()
    session = Session(diary, LineFraming(10))
    act(session)
    session.close("lost")
    assert diary.entries == [f"closed: {reason}"]


def test_a_second_reason_to_end_does_not_replace_the_first() -> None:
    session = session_of(echo)
    assert session.end("drain") + session.end("cut") == b""
    assert session.reason == "drain"


def test_who_asks_once_more_behind_the_end_is_told_again_that_it_is_over() -> None:
    session = session_of(close_now)
    assert session.feed(b"first\nhalf a message") == b"bye\n"
    assert session.end() == session.more() == b""
    assert (session.busy, session.pending, session.closing) == (True, False, True)


def test_nothing_is_pending_in_a_session_that_was_closed_in_the_middle() -> None:
    session = session_of(lambda message: [b"one", b"two"], write_buffer=1)
    assert session.feed(b"?\n") == b"one\n"
    assert session.pending
    session.close("lost")
    assert (session.busy, session.pending, session.closing) == (True, False, True)


def test_a_closed_session_takes_and_gives_nothing() -> None:
    for framing in (LineFraming(), RawFraming()):
        session = session_of(echo, framing)
        session.feed(b"one\n")
        session.close("peer")
        with pytest.raises(RuntimeError, match="this session is closed"):
            session.feed(b"two\n")
        assert session.more() == b""


def test_an_unfinished_iterable_is_closed_before_the_handler_hears_of_the_end() -> None:
    entries: list[str] = []

    class Lists(Handler):
        def on_message(self, message: bytes) -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                entries.append("iterable")

        def on_close(self, reason: str) -> None:
            entries.append(reason)

    session = Session(Lists(), LineFraming(), write_buffer=1)
    assert session.feed(b"\n") == b"a\n"
    session.close("lost")
    assert entries == ["iterable", "lost"]


def test_an_iterable_that_fails_while_it_is_closed_does_not_keep_the_end_from_the_handler() -> None:
    class Lists(Diary):
        def on_message(self, message: bytes) -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                raise RuntimeError("clumsy")

    diary = Lists()
    session = Session(diary, LineFraming(), write_buffer=1)
    session.feed(b"\n")
    session.close("lost")
    assert diary.entries == ["closed: lost"]
    assert str(session.failure) == "clumsy"


def test_what_on_close_raises_is_kept_unless_something_failed_before() -> None:
    class Clumsy(Handler):
        def on_message(self, message: bytes) -> bytes:
            raise RuntimeError("first")

        def on_close(self, reason: str) -> None:
            raise RuntimeError("last")

    session = Session(Clumsy(), LineFraming())
    session.close("peer")
    assert (str(session.failure), session.reason) == ("last", "peer")

    session = Session(Clumsy(), LineFraming())
    session.feed(b"\n")
    session.close("peer")
    assert (str(session.failure), session.reason) == ("first", "error")


@pytest.mark.parametrize("make", [LineFraming, RawFraming, AutoFraming, LengthFraming])
@pytest.mark.parametrize("end", ["close", "reply", "protocol", "pending"])
def test_a_closed_session_is_freed_without_the_garbage_collector(
    make: type[Framing], end: str
) -> None:
    answers = {b"reply": Reply(b"bye", close=True), b"pending": [b"a", b"b"]}

    def answer(message: bytes) -> Any:
        return answers.get(message.strip(), message)

    def broken() -> bytes:
        raise ProtocolError("as told")

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        framing = make()
        session = Session(
            FunctionHandler(answer), framing, write_buffer=1, trace=lambda message: None
        )
        session.open()
        said = framing.wrap(end.encode())
        if end == "protocol":
            # Raw framing breaks no rules by itself.
            framing.next = broken  # type: ignore[method-assign]  # as if the peer had
            said *= CHUNK
        session.feed(said)
        assert session.closing == (end in ("reply", "protocol"))
        session.close("lost")
        freed = weakref.ref(session)
        del session
        assert freed() is None
    finally:
        if was_enabled:
            gc.enable()


# ------------------------------------------------------------------- one way in


def test_a_function_on_raw_takes_the_same_path_as_the_built_in_echo() -> None:
    built_in = Session(EchoHandler(), RawFraming())
    function = session_of(lambda message: message, RawFraming())
    assert built_in.straight is not None
    assert function.straight is not None
    for session in (built_in, function):
        assert session.feed(b"hello") == b"hello"
        assert session.feed(b"x" * (CHUNK + 5)) == b"x" * (CHUNK + 5)


@pytest.mark.parametrize("answer", [b"ok", "ok", [b"o", b"k"], Reply(b"ok"), bytearray(b"ok")])
def test_the_short_way_for_raw_says_the_same_as_the_long_one(answer: Any) -> None:
    class LongWay(RawFraming):
        """A subclass, so that the session cannot know that it may take the short way."""

    short, long = (session_of(lambda message: answer, kind()) for kind in (RawFraming, LongWay))
    assert long.straight is None
    assert short.straight is not None
    given = short.straight(b"?")
    assert (given if isinstance(given, bytes) else short.answered(given)) == b"ok"
    # The long way is open to a session that could take the short one.
    for session in (short, long):
        assert session.feed(b"?") == b"ok"
        assert session.end() == b""
        assert session.reason == "peer"


# ------------------------------------------------------------- to be awaited


class Promise:
    """What a handler gives where its answer comes later."""

    def __await__(self) -> Any:
        raise AssertionError("a session awaits nothing")


def awaiting_session(answer: Callable[[bytes], Answer], framing: Framing) -> AwaitingSession:
    return AwaitingSession(FunctionHandler(answer), framing)


def later_at(word: bytes) -> Callable[[bytes], Answer]:
    return lambda message: Promise() if message == word else message


@pytest.mark.parametrize("framing", [LineFraming, RawFraming])
def test_what_is_to_be_awaited_is_kept_and_makes_the_session_busy(framing: Any) -> None:
    session = awaiting_session(lambda message: Promise(), framing())
    assert session.feed(b"one\n") == b""
    assert session.awaiting is not None
    assert (session.busy, session.pending, session.closing) == (True, False, False)
    assert session.resume([b"a", b"b"]).replace(b"\n", b"") == b"ab"
    assert session.busy
    assert session.resumed() == b""
    assert not session.busy


def test_messages_behind_one_that_is_awaited_wait_their_turn() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    assert session.feed(b"one\nlater\ntwo\nlater\nthr") == b"one\n"
    assert session.feed(b"ee\n") == b""
    assert session.resume(b"then") == b"then\n"
    assert session.resumed() == b"two\n"
    assert session.awaiting is not None
    assert session.resumed() == b"three\n"
    assert not session.busy


def test_the_end_of_input_waits_for_what_is_awaited() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    session.feed(b"later\nunfinished")
    assert session.end() == b""
    assert not session.closing
    assert session.resume(b"then") == b"then\n"
    assert session.resumed() == b"unfinished"
    assert (session.closing, session.reason) == (True, "peer")


def test_any_other_end_does_not_wait() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    session.feed(b"later\n")
    assert session.end("cut") == b""
    assert (session.closing, session.reason) == (True, "cut")
    session.close("peer")
    assert session.reason == "cut"


def test_what_is_raised_while_it_is_awaited_is_a_failure_like_any_other() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    session.feed(b"later\nbehind\n")
    error = RuntimeError("late")
    session.failed(error)
    assert (session.failure, session.reason) == (error, "error")
    assert (session.awaiting, session.closing) == (None, True)


def test_a_reply_that_was_awaited_may_hang_up() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    session.feed(b"later\nbehind\n")
    assert session.resume(Reply(b"bye", close=True)) == b"bye\n"
    assert (session.closing, session.reason) == (True, "reply")


def test_a_greeting_may_be_awaited() -> None:
    class Late(Handler):
        def on_open(self) -> Answer:
            return Promise()

        def on_message(self, message: bytes) -> Answer:
            return message

    session = AwaitingSession(Late(), LineFraming())
    assert session.open() == b""
    assert session.busy
    assert session.feed(b"one\n") == b""
    assert session.resume(b"welcome") == b"welcome\n"
    assert session.resumed() == b"one\n"


def test_a_drain_ends_behind_what_is_awaited() -> None:
    session = awaiting_session(later_at(b"later"), LineFraming())
    session.feed(b"later\n")
    session.drain()
    assert session.resume(b"then") == b"then\n"
    assert session.resumed() == b""
    assert (session.closing, session.reason) == (True, "drain")


def test_a_plain_session_refuses_what_would_have_to_be_awaited() -> None:
    session = session_of(lambda message: Promise(), LineFraming())
    session.feed(b"one\n")
    assert isinstance(session.failure, TypeError)


def test_what_a_straight_call_raises_ends_the_session() -> None:
    session = session_of(lambda message: b"", RawFraming())
    error = RuntimeError("boom")
    assert session.failed(error) == b""
    assert session.failure is error
    assert session.closing
    assert session.reason == "error"
