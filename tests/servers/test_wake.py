"""Wake: seen by whoever polls, never in anybody's way."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from echoframe.servers.wake import STOP, WAKE, Wake

from ..helpers import forked


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    made.close()


def is_set(wake: Wake) -> bool:
    return bool(select.select([wake], [], [], 0)[0])


def test_whoever_polls_it_sees_that_it_was_set_and_then_cleared(wake: Wake) -> None:
    assert not is_set(wake)
    assert wake.clear() == b""
    wake.set()
    wake.set(STOP)
    assert is_set(wake)
    assert wake.clear() == WAKE + STOP
    assert not is_set(wake)


def test_a_forked_process_sets_it_too(wake: Wake) -> None:
    with forked(lambda notes: wake.set(STOP)) as child:
        assert child.wait() == 0
    assert wake.clear() == STOP


def test_setting_it_never_blocks_however_often(wake: Wake) -> None:
    for _ in range(100_000):
        wake.set()
    assert is_set(wake)
    while wake.clear():
        pass
    assert not is_set(wake)


def test_setting_it_behind_its_end_reaches_nobody() -> None:
    wake = Wake()
    number = wake.fileno()
    wake.close()
    wake.close()
    # Whoever has the numbers now.
    read, write = os.pipe()
    assert number in (read, write)
    wake.set()
    assert wake.clear() == b""
    assert not select.select([read], [], [], 0)[0]
    os.close(read)
    os.close(write)
