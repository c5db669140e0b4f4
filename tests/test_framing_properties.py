"""What must hold for all input: the cuts decide nothing, and no byte is lost."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import given, settings
from hypothesis import strategies as st

from echoframe.framing import (
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    LengthFraming,
    LineFraming,
    RawFraming,
)

from .test_framing import Make, read

quick = settings(max_examples=200, deadline=None, database=None)

MAKERS: list[Make] = [
    partial(LineFraming, 6),
    partial(LengthFraming, 6),
    partial(DelimiterFraming, b";", 6),
    partial(DelimiterFraming, b"\r\n\n", 6),
    partial(DelimiterFraming, b"aa", 6),
    partial(FixedFraming, 3, 6),
]
IDS = ["line", "length", "delimiter:;", "delimiter:CRLFLF", "delimiter:aa", "fixed:3"]

# Few letters, so that ends, and halves of ends, are everywhere.
text = st.lists(st.sampled_from([b"a", b"\r", b"\n", b";", b"\0", b"\3"]), max_size=40).map(
    b"".join
)


@st.composite
def chunked(draw: st.DrawFn) -> list[bytes]:
    data = draw(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
@quick
@given(chunks=chunked())
def test_messages_and_errors_do_not_depend_on_the_cuts(make: Make, chunks: list[bytes]) -> None:
    assert read(make(), chunks) == read(make(), [b"".join(chunks)])


@pytest.mark.parametrize("make", MAKERS[:5], ids=IDS[:5])
@quick
@given(messages=st.lists(st.binary(max_size=6), max_size=6), data=st.data())
def test_what_is_wrapped_comes_back_whole(
    make: Make, messages: list[bytes], data: st.DataObject
) -> None:
    marks = b"\r\n;a"
    messages = [message.translate(None, marks) for message in messages]
    wire = b"".join(map(make().wrap, messages))
    cut = data.draw(st.integers(0, len(wire)))
    assert read(make(), [wire[:cut], wire[cut:]]) == (messages, None)


@pytest.mark.parametrize("longest", [1, 3, 100])
@quick
@given(chunks=chunked())
def test_raw_loses_and_moves_no_byte(longest: int, chunks: list[bytes]) -> None:
    found, error = read(RawFraming(longest), chunks)
    assert error is None
    assert b"".join(found) == b"".join(chunks)
    assert all(0 < len(message) <= longest for message in found)


@quick
@given(chunks=chunked(), late=st.booleans())
def test_auto_reads_chunks_up_to_the_first_lf_and_lines_from_there(
    chunks: list[bytes], late: bool
) -> None:
    chunks = [chunk for chunk in chunks if chunk]
    at = next((n for n, chunk in enumerate(chunks) if b"\n" in chunk), len(chunks))
    before, rest = chunks[:at], chunks[at:]
    # The rule once more, in the words of a reader and not of the framing.
    expected: list[bytes] = []
    for chunk in before:
        if chunk.strip(b"\r") or not expected:
            expected.append(chunk)
    if rest and expected and not rest[0].strip(b"\r\n"):
        rest[0] = rest[0].partition(b"\n")[2]
    expected += read(LineFraming(), rest)[0]

    framing = AutoFraming()
    if late:
        for chunk in chunks:
            framing.feed(chunk)
        chunks = [b""]
    assert read(framing, chunks) == (expected, None)


@quick
@given(chunks=chunked())
def test_auto_reads_what_begins_with_a_line_as_lines(chunks: list[bytes]) -> None:
    chunks = [b"first\n", *chunks]
    assert read(AutoFraming(), chunks) == read(LineFraming(), chunks)
