from __future__ import annotations

import pytest

from echoframe.framing import CHUNK, RawFraming
from echoframe.handlers import EchoHandler, registry
from echoframe.session import Session


@pytest.mark.parametrize(
    "chunks",
    [
        [b"Hello, world"],
        [b"Hello", b", ", b"world\n", b"\r\n\0\xff"],
        [bytes([n]) for n in range(256)],
        [b"x" * CHUNK, b"y" * (CHUNK + 1)],
    ],
)
def test_every_byte_comes_back_in_order_to_the_end_of_input(chunks: list[bytes]) -> None:
    session = Session(EchoHandler(), RawFraming())
    said = session.open()
    for chunk in chunks:
        said += session.feed(chunk)
    said += session.end("peer")
    assert said == b"".join(chunks)
    assert (session.closing, session.reason) == (True, "peer")


def test_both_sides_know_how_long_a_reply_is() -> None:
    protocol = registry.find("echo")
    assert (protocol.framing, protocol.client_framing) == ("raw", "raw")
    assert protocol.reply_size is not None
    assert protocol.reply_size(b"hello") == 5
