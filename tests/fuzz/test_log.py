"""What peers say, and what errors quote of it, on its way to a log or a terminal."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st

from echoframe.cli.log import log_to_stderr
from echoframe.cli.streams import Streams
from echoframe.printing import visible
from echoframe.servers.base import log_received, printable

from .inputs import text

said_by_peers = st.binary(max_size=30) | text().map(lambda said: said.encode(errors="replace"))


@given(said_by_peers)
@example(b"\x1b[2J\r\n\x9b1m\xc2\x9b\xe2\x80\xa8\xff")
def test_what_a_peer_said_is_one_line_without_anything_that_a_terminal_obeys(said: bytes) -> None:
    shown = printable(said)
    assert shown.isprintable()
    # Nothing that can be read is changed.
    if said.isascii() and said.decode().isprintable():
        assert shown == said.decode()
    assert visible(shown) == shown


def logged(form: str, colour: bool, said: bytes) -> list[str]:
    """The lines of a log after a message, a warning and an error that quote a peer."""
    errors = io.StringIO()
    quoted = said.decode("latin-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", errors)
        with log_to_stderr(logging.INFO, form, colour):
            logger = logging.getLogger("echoframe.server")
            log_received(said)
            logger.warning("from %s", quoted)
            try:
                raise ValueError(quoted)
            except ValueError:
                logger.exception("the handler raised")
    return errors.getvalue().removesuffix("\n").split("\n")


@given(said_by_peers)
@example(b"\x1b]0;title\x07")
@example(b"x\nAccepted connection from 10.0.0.1:1\r\n\x85forged")
def test_no_record_of_the_log_looks_like_two_or_like_an_order_to_a_terminal(said: bytes) -> None:
    received, warning, error, *traceback = logged("text", False, said)
    assert all(line.isprintable() for line in (received, warning, error, *traceback))
    assert received.startswith("Received: ")
    assert warning.startswith("from ")
    assert error == "the handler raised"
    # Nothing of it begins where a record does.
    assert traceback[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in traceback)

    records = logged("json", False, said)
    assert [json.loads(line)["level"] for line in records] == ["INFO", "WARNING", "ERROR"]
    assert all(line.isprintable() and line.isascii() for line in records)


@given(said_by_peers)
def test_the_only_orders_in_a_coloured_log_are_its_own(said: bytes) -> None:
    coloured = "\n".join(logged("text", True, said))
    plain = "\n".join(logged("text", False, said))
    for code in ("\x1b[33m", "\x1b[31m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


@given(text(60))
@example("first\nsecond\x1b[2J")
def test_a_complaint_is_visible(sentence: str) -> None:
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", errors)
        patch.setattr(sys, "stdout", io.StringIO())
        Streams().complain(sentence)
    said = errors.getvalue()
    assert said.startswith("echoframe: ")
    assert said.endswith("\n")
    assert said[:-1].isprintable()
