"""The servers with a fault have it, and only that one."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from ..cli.programs import PATIENCE, echoes
from ..helpers import DEADLINE, pump
from .faulty import Corrupt, running

# Each starts a program.
pytestmark = pytest.mark.slow


def test_stall_stands_still_now_and_then() -> None:
    with running("stall", "--every", "0.1", "--length", "0.05") as server, server.connect() as peer:
        end = time.monotonic() + DEADLINE
        took: list[float] = []
        while not took or max(took) < 0.04:
            assert time.monotonic() < end, f"never longer than {max(took):.3f} s"
            began = time.monotonic()
            assert echoes(peer)
            took.append(time.monotonic() - began)
        assert min(took) < 0.04


def wrong_places(sent: bytes, got: bytes) -> list[int]:
    assert len(got) == len(sent)
    return [place for place, (one, other) in enumerate(zip(sent, got, strict=True)) if one != other]


@pytest.mark.parametrize("size", [1, 7, 1000, 20_000])
def test_which_bytes_are_wrong_depends_on_the_seed_alone(size: int) -> None:
    sent = random.Random(1).randbytes(20_000)
    corrupt = Corrupt(every=1000, seed=7)
    got = b"".join(corrupt(sent[at : at + size]) for at in range(0, len(sent), size))
    wrong = wrong_places(sent, got)
    assert [place // 1000 for place in wrong] == list(range(20))
    assert wrong == wrong_places(sent, Corrupt(every=1000, seed=7)(sent))
    assert wrong != wrong_places(sent, Corrupt(every=1000, seed=8)(sent))


def test_corrupt_gives_back_one_wrong_byte_in_so_many() -> None:
    with running("corrupt", "--every", "100000") as server, server.connect() as peer:
        sent = os.urandom(300_000)
        wrong = wrong_places(sent, pump(peer, sent))
        assert [place // 100_000 for place in wrong] == [0, 1, 2]


def test_die_answers_so_many_messages() -> None:
    with running("die", "--after", "3") as server, server.connect() as peer:
        assert [echoes(peer) for _ in range(4)] == [True, True, True, False]
        assert server.process.wait(PATIENCE) == 1


def test_silent_reads_and_never_answers() -> None:
    with running("silent") as server, server.connect() as peer:
        # Its end of the conversation is all that comes.
        assert pump(peer, os.urandom(1 << 20)) == b""


def test_nobody_can_connect_to_refuse() -> None:
    with running("refuse") as server:
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == -signal.SIGTERM
