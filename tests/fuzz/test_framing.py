"""What must hold for all input: the cuts decide nothing, no byte is lost, and memory is bounded."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st

from echoframe.errors import SettingError
from echoframe.framing import (
    CHUNK,
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    Framing,
    LengthFraming,
    LineFraming,
    RawFraming,
    make_framing,
)

from ..test_framing import Make, Outcome, read, singly
from .inputs import chunk, chunks_of_it, text

LONGEST = 6

DELIMITERS = [b"\n", b";", b"\r\n\n", b"aa", b"aba", b"\0\0\3"]

delimiting: list[Make] = [partial(DelimiterFraming, one, LONGEST) for one in DELIMITERS]
MAKERS: list[Make] = [
    partial(LineFraming, LONGEST),
    partial(LengthFraming, LONGEST),
    partial(FixedFraming, 1, LONGEST),
    partial(FixedFraming, 3, LONGEST),
    *delimiting,
]
# Whose messages depend on the cuts.
CHUNKED: list[Make] = [
    RawFraming,
    partial(RawFraming, 1),
    partial(RawFraming, LONGEST),
    AutoFraming,
    partial(AutoFraming, LONGEST),
]

make_any = st.sampled_from(MAKERS)


def expected(framing: Framing, data: bytes) -> tuple[Outcome, int]:
    """The rules once more, in the words of a reader and not of the framing.

    What comes of all the data and the end of input, and how many bytes of an
    unfinished message there are before the end.
    """
    found: list[bytes] = []
    too_long = (found, f"a message is longer than {framing.max_message} bytes (max_message)")
    if isinstance(framing, DelimiterFraming):
        *whole, rest = data.split(framing.delimiter)
        if isinstance(framing, LineFraming):
            whole = [line.removesuffix(b"\r") for line in whole]
        for message in whole:
            if len(message) > framing.max_message:
                return too_long, 0
            found.append(message)
        if len(rest) > framing.max_message:
            return too_long, len(rest)
        return ([*found, rest] if rest else found, None), len(rest)
    while True:
        head = 0
        if isinstance(framing, FixedFraming):
            size = framing.size
        else:
            head = 4
            size = int.from_bytes(data[:4], "big")
            if len(data) >= 4 and size > framing.max_message:
                return too_long, 0
        if len(data) < head or len(data) < head + size:
            break
        found.append(data[head : head + size])
        data = data[head + size :]
    error = None
    if data and isinstance(framing, FixedFraming):
        error = f"the input ended after {len(data)} of the {framing.size} bytes of a message"
    elif data:
        error = f"the input ended in the middle of a message, after {len(data)} bytes of it"
    return (found, error), len(data)


def kept(framing: Framing) -> int:
    """How many bytes of its peer a framing holds on to."""
    size = 0
    for value in vars(framing).values():
        if isinstance(value, Framing):
            size += kept(value)
        elif isinstance(value, bytes | bytearray):
            size += len(value)
        elif hasattr(value, "popleft"):
            size += sum(map(len, value))
    return size


@given(make_any, chunks_of_it)
@example(partial(DelimiterFraming, b"aba", LONGEST), [b"ab", b"", b"ab", b"aaba"])
@example(partial(LineFraming, LONGEST), [b"abcdef\r", b"\nb"])
def test_messages_and_errors_are_those_of_the_rule_however_it_is_cut(
    make: Make, chunks: list[bytes]
) -> None:
    data = b"".join(chunks)
    outcome, _ = expected(make(), data)
    assert read(make(), [data]) == outcome
    assert read(make(), chunks) == outcome
    assert read(make(), singly(data)) == outcome


@given(make_any, chunk)
def test_a_cut_at_any_position_changes_nothing(make: Make, data: bytes) -> None:
    outcome, _ = expected(make(), data)
    for at in range(1, len(data)):
        assert read(make(), [data[:at], data[at:]]) == outcome


@given(st.sampled_from(MAKERS + CHUNKED), chunks_of_it)
def test_what_is_read_late_is_read_the_same(make: Make, chunks: list[bytes]) -> None:
    late = make()
    for one in chunks:
        late.feed(one)
    assert read(late, [b""]) == read(make(), chunks)


@given(st.sampled_from(MAKERS + CHUNKED), chunks_of_it)
def test_no_more_is_kept_than_a_message_and_a_chunk(make: Make, chunks: list[bytes]) -> None:
    framing = make()
    overhead = kept(framing) + len(getattr(framing, "delimiter", b"1234"))
    for number, one in enumerate(chunks):
        messages, error = read(framing, [one], end=False)
        assert all(len(message) <= framing.max_message for message in messages)
        if error is not None:
            break
        assert kept(framing) <= framing.max_message + overhead + len(one)
        if make in MAKERS:
            _, unfinished = expected(framing, b"".join(chunks[: number + 1]))
            assert framing.unfinished == unfinished
        assert framing.unfinished <= framing.max_message + overhead


@given(st.sampled_from(MAKERS + CHUNKED), chunks_of_it, chunks_of_it)
def test_a_fresh_one_knows_nothing_of_the_conversation_before(
    make: Make, before: list[bytes], chunks: list[bytes]
) -> None:
    used = make()
    read(used, before)
    assert read(used.fresh(), chunks) == read(make(), chunks)


# ------------------------------------------------------------------ the way out


@given(make_any, st.lists(chunk, max_size=5), st.data())
@example(partial(DelimiterFraming, b"aa", LONGEST), [b"a"], None)
@example(partial(DelimiterFraming, b"\r\n\r\n", LONGEST), [b"b\r\n", b"a"], None)
def test_what_is_carried_comes_back_as_it_was(make: Make, messages: list[bytes], data: Any) -> None:
    framing = make()
    if isinstance(framing, FixedFraming):
        messages = [message[: framing.size].ljust(framing.size) for message in messages]
    messages = [message[:LONGEST] for message in messages if framing.carries(message[:LONGEST])]
    if isinstance(framing, LineFraming):
        # A CR in the last place becomes a part of the line's end.
        messages = [message.rstrip(b"\r") for message in messages]
    wire = b"".join(map(framing.wrap, messages))
    cut = data.draw(st.integers(0, len(wire))) if data else 0
    assert read(make(), [wire[:cut], wire[cut:]]) == (messages, None)


@given(st.sampled_from(delimiting), chunk)
def test_what_is_not_carried_would_be_something_else(make: Make, message: bytes) -> None:
    message = message[:LONGEST]
    found, _ = read(make(), [make().wrap(message)], end=False)
    assert make().carries(message) is (found == [message])


@given(st.lists(st.tuples(chunk, st.sampled_from([b"\n", b"\r\n"])), max_size=5))
def test_a_line_is_answered_with_the_end_it_came_with(lines: list[tuple[bytes, bytes]]) -> None:
    lines = [(line.translate(None, b"\r\n"), end) for line, end in lines]
    data = b"".join(line + end for line, end in lines)
    framing = LineFraming()
    framing.feed(data)
    said = b""
    while (message := framing.next()) is not None:
        said += framing.wrap(message)
    assert said == data


# ---------------------------------------------------------- raw, auto and names


@given(st.sampled_from([1, 3, 100]), chunks_of_it)
def test_raw_loses_and_moves_no_byte(longest: int, chunks: list[bytes]) -> None:
    found, error = read(RawFraming(longest), chunks)
    assert error is None
    assert b"".join(found) == b"".join(chunks)
    assert all(0 < len(message) <= longest for message in found)


@given(chunks_of_it, st.sampled_from([1, LONGEST, CHUNK]))
@example([b"a", b"\r", b"\n", b"b\r", b"\n"], LONGEST)
@example([b"abcdefgh", b"\r\nabcdefgh\n"], LONGEST)
def test_auto_reads_chunks_up_to_the_first_lf_and_lines_from_there(
    chunks: list[bytes], longest: int
) -> None:
    chunks = [one for one in chunks if one]
    at = next((n for n, one in enumerate(chunks) if b"\n" in one), len(chunks))
    before, rest = chunks[:at], chunks[at:]
    # The rule once more, in the words of a reader and not of the framing.
    messages: list[bytes] = []
    for one in before:
        if one.strip(b"\r") or not messages:
            messages += [one[start : start + longest] for start in range(0, len(one), longest)]
    if rest and messages and not rest[0].strip(b"\r\n"):
        rest[0] = rest[0].partition(b"\n")[2]
    lines, error = read(LineFraming(longest), rest)

    framing = AutoFraming(longest)
    assert read(framing, chunks) == (messages + lines, error)
    assert framing.has_boundaries is bool(rest)


@given(st.lists(chunk, max_size=6))
def test_auto_reads_what_begins_with_a_line_as_lines(chunks: list[bytes]) -> None:
    chunks = [b"first\n", *chunks]
    assert read(AutoFraming(), chunks) == read(LineFraming(), chunks)


names = st.sampled_from(["raw", "line", "length", "auto", "fixed", "delimiter", "Line", "lin", ""])
specs = st.one_of(
    text(),
    st.builds("{}{}{}".format, names, st.sampled_from(["", ":", "::"]), text(8)),
    st.text("0123456789abcfnrtuxN{}\\ \n", max_size=8).map("delimiter:{}".format),
    st.integers(-1, 10**20).map("fixed:{}".format),
)


@given(specs)
@example("delimiter:\\777")
@example("delimiter:\\N{BELL}\ud800")
@example("fixed:²")
def test_any_text_names_a_framing_or_is_refused_in_a_sentence(spec: str) -> None:
    make: Make | None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            make = make_framing(spec, 100)
        except SettingError as error:
            refused = str(error)
            make = None
    if make is None:
        assert refused.isprintable()
        return
    framing = make()
    assert framing.max_message <= 100
    assert spec.partition(":")[0] == framing.name
    assert type(framing.fresh()) is type(framing)
