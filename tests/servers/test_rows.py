"""Rows: taken, given back, zero at the start, and seen across a fork."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from echoframe.servers.rows import ORDER, RECEIVED, SENT, UNFINISHED, Rows, loose_row

from ..helpers import Notes, forked


@pytest.fixture
def rows() -> Iterator[Rows]:
    made = Rows(3)
    yield made
    made.close()


def test_there_are_as_many_as_were_asked_for(rows: Rows) -> None:
    taken = [rows.take() for _ in range(3)]
    assert len(set(taken)) == 3
    assert not rows.free
    with pytest.raises(IndexError):
        rows.take()


def test_a_row_that_was_given_back_is_taken_again_and_is_all_zero(rows: Rows) -> None:
    row = rows.take()
    for cell in (ORDER, RECEIVED, SENT, UNFINISHED):
        rows.cells[row + cell] = 7
    rows.give_back(row)
    assert rows.take() == row
    assert [rows.cells[row + cell] for cell in range(8)] == [0] * 8


def test_rows_do_not_share_cells(rows: Rows) -> None:
    one, two = rows.take(), rows.take()
    for cell in range(8):
        rows.cells[one + cell] = 1
    assert [rows.cells[two + cell] for cell in range(8)] == [0] * 8
    assert not rows.wanted


def test_what_a_forked_process_writes_is_seen_here(rows: Rows) -> None:
    row = rows.take()

    def work(notes: Notes) -> None:
        assert rows.wanted
        rows.cells[row + SENT] = 1 << 40

    rows.wanted = True
    with forked(work) as child:
        assert child.wait() == 0
    assert rows.cells[row + SENT] == 1 << 40
    rows.wanted = False
    assert not rows.wanted


def test_many_rows_cost_little_until_they_are_used() -> None:
    rows = Rows(100_000)
    pages = {rows.take() * 8 // os.sysconf("SC_PAGESIZE") for _ in range(60)}
    assert len(pages) <= 2
    rows.close()


def test_a_loose_row_is_one_row_of_zeros() -> None:
    cells = loose_row()
    assert list(cells) == [0] * 8
    cells[SENT] = 3
    assert loose_row()[SENT] == 0
