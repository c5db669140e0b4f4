from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest

from echoframe.errors import ProtocolError, SettingError
from echoframe.framing import (
    CHUNK,
    FRAMINGS,
    MAX_MESSAGE,
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    Framing,
    LengthFraming,
    LineFraming,
    RawFraming,
    make_framing,
)

Make = Callable[[], Framing]
# The messages that came out, and the error that ended them, if one did.
Outcome = tuple[list[bytes], str | None]


def read(framing: Framing, chunks: Iterable[bytes], end: bool = True) -> Outcome:
    """What a framing makes of these chunks, followed by the end of input."""
    found = []
    try:
        for chunk in chunks:
            framing.feed(chunk)
            while (message := framing.next()) is not None:
                found.append(message)
        if end and (message := framing.end()) is not None:
            found.append(message)
    except ProtocolError as error:
        return found, str(error)
    return found, None


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def line(max_message: int = 5) -> Framing:
    return LineFraming(max_message)


def length(max_message: int = 5) -> Framing:
    return LengthFraming(max_message)


def semicolon() -> Framing:
    return DelimiterFraming(b";", max_message=5)


def end_word() -> Framing:
    return DelimiterFraming(b"END", max_message=5)


def overlapping() -> Framing:
    # Its own beginning is also its end: "aba" in "ababa" can be seen twice.
    return DelimiterFraming(b"aba", max_message=5)


def fixed() -> Framing:
    return FixedFraming(3, max_message=5)


TOO_LONG = "a message is longer than 5 bytes (max_message)"

# What comes in, and what it is, whatever way it is cut.
WHOLE: list[tuple[Make, bytes, list[bytes]]] = [
    (line, b"one\n", [b"one"]),
    (line, b"one\r\n", [b"one"]),
    (line, b"\n", [b""]),
    (line, b"\r\n", [b""]),
    (line, b"\r\r\n", [b"\r"]),
    (line, b"a\rb\n", [b"a\rb"]),
    (line, b"one\ntwo\r\n\nfour\n", [b"one", b"two", b"", b"four"]),
    (line, b"12345\n", [b"12345"]),
    (line, b"12345\r\n", [b"12345"]),
    (line, b"\xff\x00\n", [b"\xff\x00"]),
    (length, b"\0\0\0\3one", [b"one"]),
    (length, b"\0\0\0\0", [b""]),
    (length, b"\0\0\0\5\0\0\0\1x\0\0\0\1y", [b"\0\0\0\1x", b"y"]),
    (semicolon, b"one;", [b"one"]),
    (semicolon, b";;a;", [b"", b"", b"a"]),
    (semicolon, b"12345;\n;", [b"12345", b"\n"]),
    (end_word, b"oneEND", [b"one"]),
    (end_word, b"ENENDEND", [b"EN", b""]),
    (end_word, b"12345END", [b"12345"]),
    (end_word, b"12ENEEND", [b"12ENE"]),
    (overlapping, b"ababaaba", [b"", b"ba"]),
    (overlapping, b"abxabaxababaaba", [b"abx", b"x", b"ba"]),
    (fixed, b"one", [b"one"]),
    (fixed, b"onetwo", [b"one", b"two"]),
]

# What the end of input makes of a rest: a message, or an error.
REST: list[tuple[Make, bytes, Outcome]] = [
    (line, b"", ([], None)),
    (line, b"one\ntwo", ([b"one", b"two"], None)),
    (line, b"one\r", ([b"one\r"], None)),
    (line, b"12345", ([b"12345"], None)),
    (semicolon, b"a;b", ([b"a", b"b"], None)),
    (end_word, b"aENDbEN", ([b"a", b"bEN"], None)),
    (length, b"", ([], None)),
    (
        length,
        b"\0\0\0\1x\0\0",
        ([b"x"], "the input ended in the middle of a message, after 2 bytes of it"),
    ),
    (
        length,
        b"\0\0\0\3on",
        ([], "the input ended in the middle of a message, after 6 bytes of it"),
    ),
    (fixed, b"", ([], None)),
    (fixed, b"onetw", ([b"one"], "the input ended after 2 of the 3 bytes of a message")),
]

# What breaks the rule: the messages before it are given all the same.
BROKEN: list[tuple[Make, bytes, list[bytes]]] = [
    (line, b"ok\n123456\n", [b"ok"]),
    (line, b"ok\n123456", [b"ok"]),
    (line, b"12345\r", []),
    (line, b"12345\rx\n", []),
    (line, b"12345\r\r\n", []),
    (line, b"ok\r\n" + b"x" * 100, [b"ok"]),
    (length, b"\0\0\0\1x\0\0\0\x06123456", [b"x"]),
    (length, b"\xff\xff\xff\xff", []),
    (semicolon, b"ok;123456;", [b"ok"]),
    (semicolon, b"ok;123456", [b"ok"]),
    (end_word, b"okEND123456END", [b"ok"]),
    (end_word, b"123456", []),
    (end_word, b"12345EN", []),
    (end_word, b"12345ENx", []),
]


@pytest.mark.parametrize(("make", "data", "messages"), WHOLE)
class TestMessagesAreTheSame:
    def test_in_one_piece(self, make: Make, data: bytes, messages: list[bytes]) -> None:
        assert read(make(), [data]) == (messages, None)

    def test_byte_by_byte(self, make: Make, data: bytes, messages: list[bytes]) -> None:
        assert read(make(), singly(data)) == (messages, None)

    def test_with_the_next_ones_already_behind_them(
        self, make: Make, data: bytes, messages: list[bytes]
    ) -> None:
        assert read(make(), [data + data + data]) == (messages * 3, None)

    def test_wherever_they_are_cut(self, make: Make, data: bytes, messages: list[bytes]) -> None:
        data, messages = data + data, messages * 2
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                chunks = [data[:first], data[first:second], data[second:]]
                assert read(make(), chunks) == (messages, None), chunks

    def test_when_the_chunks_arrive_before_anybody_asks(
        self, make: Make, data: bytes, messages: list[bytes]
    ) -> None:
        framing = make()
        for piece in singly(data + data):
            framing.feed(piece)
        assert read(framing, [b""]) == (messages * 2, None)

    def test_and_leave_nothing_behind(self, make: Make, data: bytes, messages: list[bytes]) -> None:
        framing = make()
        read(framing, [data], end=False)
        assert framing.unfinished == 0
        assert framing.end() is None


@pytest.mark.parametrize(("make", "data", "outcome"), REST)
def test_the_end_of_input_means_the_same_wherever_the_rest_was_cut(
    make: Make, data: bytes, outcome: Outcome
) -> None:
    assert read(make(), [data]) == outcome
    assert read(make(), singly(data)) == outcome
    for at in range(len(data) + 1):
        assert read(make(), [data[:at], data[at:]]) == outcome


@pytest.mark.parametrize(("make", "data", "messages"), BROKEN)
def test_a_message_over_the_limit_is_the_same_error_wherever_it_was_cut(
    make: Make, data: bytes, messages: list[bytes]
) -> None:
    assert read(make(), [data]) == (messages, TOO_LONG)
    assert read(make(), singly(data)) == (messages, TOO_LONG)
    for at in range(len(data) + 1):
        assert read(make(), [data[:at], data[at:]]) == (messages, TOO_LONG)


@pytest.mark.parametrize("make", [line, semicolon, end_word, length])
def test_no_more_than_max_message_of_an_unfinished_message_is_kept(make: Make) -> None:
    framing = make()
    kept = []
    for piece in singly(b"\0\0\0\6" + b"x" * 100):
        kept.append(framing.unfinished)
        if read(framing, [piece], end=False)[1] is not None:
            break
    # What frames the message comes on top.
    assert max(kept) <= 5 + 4
    assert len(kept) <= 5 + 4


@pytest.mark.parametrize(
    ("make", "part", "unfinished"),
    [(line, b"one", 3), (length, b"\0\0\0\3o", 5), (end_word, b"xEN", 3), (fixed, b"12", 2)],
)
def test_a_framing_tells_how_much_of_a_message_it_keeps(
    make: Make, part: bytes, unfinished: int
) -> None:
    framing = make()
    assert framing.has_boundaries
    assert read(framing, [part], end=False) == ([], None)
    assert framing.unfinished == unfinished


def test_a_long_line_in_small_pieces_is_whole_again() -> None:
    data = b"x" * 300_000
    framing = LineFraming()
    for at in range(0, len(data), 1000):
        framing.feed(data[at : at + 1000])
        assert framing.next() is None
    framing.feed(b"\r\n")
    assert framing.next() == data


# ------------------------------------------------------------------ the way out


def test_a_line_is_answered_with_the_end_that_it_had() -> None:
    framing = LineFraming()
    assert framing.wrap(b"hello") == b"hello\n"
    framing.feed(b"a\r\nb\nc")
    answers = []
    while framing.next() is not None:
        answers.append(framing.wrap(b"ok"))
    assert answers == [b"ok\r\n", b"ok\n"]
    assert framing.end() == b"c"
    assert framing.wrap(b"ok") == b"ok"


def test_a_delimited_message_is_answered_with_the_delimiter_and_a_rest_without() -> None:
    framing = DelimiterFraming(b"END")
    framing.feed(b"aENDb")
    assert framing.next() == b"a"
    assert framing.wrap(b"ok") == b"okEND"
    assert framing.next() is None
    assert framing.end() == b"b"
    assert framing.wrap(b"ok") == b"ok"


def test_length_puts_four_bytes_in_front() -> None:
    assert LengthFraming().wrap(b"hello") == b"\0\0\0\5hello"
    assert LengthFraming().wrap(b"") == b"\0\0\0\0"


def test_a_reply_that_does_not_fit_a_fixed_size_is_our_own_mistake() -> None:
    framing = FixedFraming(3)
    assert framing.wrap(b"abc") == b"abc"
    with pytest.raises(ValueError, match="a message of 2 bytes does not fit a framing of 3"):
        framing.wrap(b"ab")


def test_what_one_side_wraps_the_other_side_reads() -> None:
    for make in (line, length, semicolon, end_word):
        here, there = make(), make()
        messages = [b"", b"a", b"12345"]
        assert read(there, singly(b"".join(map(here.wrap, messages)))) == (messages, None)


# -------------------------------------------------------------------------- raw


def test_a_raw_message_is_what_arrived() -> None:
    framing = RawFraming()
    assert not framing.has_boundaries
    assert read(framing, [b"a", b"\n\0", b"bc"]) == ([b"a", b"\n\0", b"bc"], None)
    assert framing.wrap(b"abc") == b"abc"
    assert framing.unfinished == 0


def test_raw_chunks_stay_apart_when_they_arrive_before_anybody_asks() -> None:
    framing = RawFraming()
    for chunk in (b"a", b"", b"b"):
        framing.feed(chunk)
    assert read(framing, []) == ([], None)
    assert [framing.next(), framing.next(), framing.next()] == [b"a", b"b", None]


def test_a_raw_message_is_cut_at_64_kib_and_at_max_message() -> None:
    found, error = read(RawFraming(), [b"x" * (2 * CHUNK + 1)])
    assert [len(message) for message in found] == [CHUNK, CHUNK, 1]
    assert error is None
    assert read(RawFraming(2), [b"abcde"]) == ([b"ab", b"cd", b"e"], None)
    assert RawFraming(10 * CHUNK).max_message == CHUNK


# ------------------------------------------------------------------------- auto

# Chunks, and the messages with the reply that each gets to "ok".
AUTO: list[tuple[str, list[bytes], list[tuple[bytes, bytes]]]] = [
    ("a chunk is a message", [b"one", b"two"], [(b"one", b"ok"), (b"two", b"ok")]),
    ("the first LF switches", [b"one\n"], [(b"one", b"ok\n")]),
    ("and CRLF is answered so", [b"one\r\n"], [(b"one", b"ok\r\n")]),
    (
        "for good",
        [b"one", b"two\n", b"thr", b"ee\n"],
        [(b"one", b"ok"), (b"two", b"ok\n"), (b"three", b"ok\n")],
    ),
    (
        "starting with that chunk",
        [b"one\ntwo\nthr", b"ee\r\n"],
        [(b"one", b"ok\n"), (b"two", b"ok\n"), (b"three", b"ok\r\n")],
    ),
    ("a CR belongs to the message", [b"one\r", b"two"], [(b"one\r", b"ok"), (b"two", b"ok")]),
    (
        "an LF behind it is its end",
        [b"one\r", b"\n", b"two\n"],
        [(b"one\r", b"ok"), (b"two", b"ok\n")],
    ),
    ("CRLF alone is the end", [b"one", b"\r\n", b"\n"], [(b"one", b"ok"), (b"", b"ok\n")]),
    ("LF alone is the end", [b"one", b"\n", b"two\n"], [(b"one", b"ok"), (b"two", b"ok\n")]),
    ("CR, then LF, are one end", [b"one", b"\r", b"\n", b"\n"], [(b"one", b"ok"), (b"", b"ok\n")]),
    ("a CR alone is half an end", [b"one", b"\r", b"two"], [(b"one", b"ok"), (b"two", b"ok")]),
    ("a further end is an empty line", [b"one", b"\n\r\n"], [(b"one", b"ok"), (b"", b"ok\r\n")]),
    (
        "text behind an end is not the end",
        [b"one", b"\ntwo\n"],
        [(b"one", b"ok"), (b"", b"ok\n"), (b"two", b"ok\n")],
    ),
    ("at first, an empty line is a message", [b"\n"], [(b"", b"ok\n")]),
    ("and so is an empty CRLF line", [b"\r\n", b"\r\n"], [(b"", b"ok\r\n"), (b"", b"ok\r\n")]),
    ("at first, a CR is a message", [b"\r", b"\n"], [(b"\r", b"ok")]),
    (
        "a switch is for good",
        [b"a\n", b"\r\n"],
        [(b"a", b"ok\n"), (b"", b"ok\r\n")],
    ),
    ("any bytes will do", [b"\xff\xfe\0"], [(b"\xff\xfe\0", b"ok")]),
]


@pytest.mark.parametrize(
    ("chunks", "expected"), [case[1:] for case in AUTO], ids=[case[0] for case in AUTO]
)
def test_auto(chunks: list[bytes], expected: list[tuple[bytes, bytes]]) -> None:
    at_once = AutoFraming()
    found = []
    for chunk in chunks:
        at_once.feed(chunk)
        while (message := at_once.next()) is not None:
            found.append((message, at_once.wrap(b"ok")))
    assert found == expected

    # And the same when the answers come later than the chunks.
    late = AutoFraming()
    for chunk in chunks:
        late.feed(chunk)
    found = []
    while (message := late.next()) is not None:
        found.append((message, late.wrap(b"ok")))
    assert found == expected


def test_auto_has_boundaries_and_a_rest_once_it_reads_lines() -> None:
    framing = AutoFraming()
    assert not framing.has_boundaries
    assert read(framing, [b"one"], end=False) == ([b"one"], None)
    assert (framing.has_boundaries, framing.unfinished) == (False, 0)
    assert read(framing, [b"two\nthr"], end=False) == ([b"two"], None)
    assert (framing.has_boundaries, framing.unfinished) == (True, 3)
    assert framing.end() == b"thr"
    assert framing.wrap(b"ok") == b"ok"


def test_auto_without_a_line_has_no_rest_at_the_end_of_input() -> None:
    assert read(AutoFraming(), [b"one"]) == ([b"one"], None)
    assert read(AutoFraming(), [b""]) == ([], None)


def test_auto_cuts_a_long_chunk_and_refuses_a_long_line() -> None:
    assert read(AutoFraming(2), [b"abcd\r", b"\n"]) == ([b"ab", b"cd", b"\r"], None)
    assert read(AutoFraming(5), [b"one\n123456\n"]) == ([b"one"], TOO_LONG)
    found, error = read(AutoFraming(), [b"x" * (CHUNK + 1)])
    assert [len(message) for message in found] == [CHUNK, 1]
    assert error is None


# ----------------------------------------------------------------------- naming


@pytest.mark.parametrize("name", ["raw", "line", "length", "auto", "delimiter:;", "fixed:3"])
def test_a_name_makes_a_framing_with_the_limit_given_and_a_new_one_each_time(name: str) -> None:
    make = make_framing(name, 80)
    framing = make()
    assert framing.max_message == 80
    assert framing.name == name.partition(":")[0]
    assert make() is not framing


def test_names_are_those_of_the_classes() -> None:
    assert {name: kind.name for name, kind in FRAMINGS.items()} == {name: name for name in FRAMINGS}


@pytest.mark.parametrize(
    "example",
    [
        RawFraming(7),
        LineFraming(7),
        LengthFraming(7),
        DelimiterFraming(b"END", max_message=7),
        FixedFraming(3, max_message=7),
        AutoFraming(7),
    ],
)
def test_an_example_keeps_its_parameters_and_shares_no_state(example: Framing) -> None:
    example.feed(b"unfinished")
    fresh = make_framing(example, 80)()
    assert type(fresh) is type(example)
    assert fresh.max_message == 7
    assert fresh.next() is None
    assert getattr(fresh, "size", None) == getattr(example, "size", None)
    assert getattr(fresh, "delimiter", None) == getattr(example, "delimiter", None)
    assert repr(fresh) == f"{type(example).__name__}(max_message=7)"


def test_a_class_gets_the_limit_and_a_function_makes_what_it_likes() -> None:
    assert make_framing(LineFraming, 80)().max_message == 80
    assert make_framing(LineFraming)().max_message == MAX_MESSAGE
    made = make_framing(partial(LineFraming, 40), 80)()
    assert (type(made), made.max_message) == (LineFraming, 40)


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [
        ("delimiter:;", b";"),
        ("delimiter:::", b"::"),
        (r"delimiter:\0", b"\0"),
        (r"delimiter:\x1e", b"\x1e"),
        (r"delimiter:\r\n", b"\r\n"),
        ("delimiter:é", "é".encode()),
    ],
)
def test_a_delimiter_may_be_written_with_escapes(name: str, delimiter: bytes) -> None:
    framing = make_framing(name)()
    assert isinstance(framing, DelimiterFraming)
    assert framing.delimiter == delimiter


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("lines", "unknown framing 'lines'; did you mean 'line'? known: auto, delimiter, fixed, "),
        ("", "unknown framing ''; known: "),
        ("line:5", "framing 'line' takes no parameter, so not 'line:5'"),
        ("raw:", "framing 'raw' takes no parameter"),
        ("fixed", "framing 'fixed' needs a size, as in fixed:16"),
        ("fixed:-1", "framing 'fixed:-1' needs a size"),
        ("fixed:²", "framing 'fixed:²' needs a size"),
        ("fixed:" + "9" * 5000, "needs a size"),
        ("fixed:0", "fixed messages of 0 bytes: the size must be between 1 and 80"),
        ("fixed:81", "fixed messages of 81 bytes: the size must be between 1 and 80"),
        ("delimiter", "a delimiter must have at least one byte"),
        ("delimiter:", "a delimiter must have at least one byte"),
        ("delimiter:\\", "cannot read that delimiter; write it as in delimiter:; or"),
        ("delimiter:\\q", "cannot read that delimiter"),
        ("delimiter:\\u20ac", "cannot read that delimiter"),
        ("delimiter:\udc80", "cannot read that delimiter"),
        (5, "5 is not a framing; known: auto"),
        (None, "None is not a framing; known: auto"),
    ],
)
def test_a_framing_that_cannot_be_made_is_a_sentence(spec: object, sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        make_framing(spec, 80)  # type: ignore[arg-type]  # some of them are wrong
    assert sentence in str(caught.value)


@pytest.mark.parametrize("kind", [RawFraming, LineFraming, LengthFraming, AutoFraming])
def test_a_limit_below_one_byte_is_refused(kind: type[Framing]) -> None:
    with pytest.raises(SettingError, match="max_message must be at least 1 byte, not 0"):
        kind(max_message=0)


def test_a_framing_of_ones_own_owes_all_four_methods() -> None:
    framing = Framing()
    for call in (
        partial(framing.feed, b""),
        framing.next,
        framing.end,
        partial(framing.wrap, b""),
    ):
        with pytest.raises(NotImplementedError):
            call()
