"""The numbers of each open connection, where every process of a server can read them.

One row for a connection, in one anonymous mapping that is made before any fork.
Every cell has one writer: the accepting process writes ORDER, whoever converses
writes the rest. So nothing here needs a lock.
"""

from __future__ import annotations

import mmap

__all__ = [
    "CUT",
    "DRAIN",
    "FINISH",
    "HIGHEST",
    "LINGERING",
    "ORDER",
    "REASONS",
    "RECEIVED",
    "SENT",
    "SETTLED",
    "TIMEOUT",
    "UNFINISHED",
    "WANTED",
    "Cells",
    "Rows",
    "loose_row",
]

# The first cells of all, before the first row: somebody waits for a row to come free;
# the highest row that was ever taken, where that is written down.
WANTED, HIGHEST = 0, 1

Cells = memoryview  # of unsigned 64-bit numbers

# Eight cells are one cache line, so two processes never fight for one.
CELLS = 8
# How many free rows are known by number at a time.
LISTED = 1024
(
    ORDER,  # what the accepting process wants, below
    RECEIVED,  # bytes, written before they are dealt with
    SETTLED,  # the same number, written when all of them are dealt with and answered
    SENT,  # bytes, written when there is time: at each wait for a slow reader, at the end
    UNFINISHED,  # bytes of a message whose end is still to come
    LINGERING,  # 1 from the last reply on
) = range(6)

# Orders, from mild to strict. A stricter one may follow a milder one.
FINISH = 1  # end at the next boundary between messages
DRAIN = 2  # idle: end now
TIMEOUT = 3
CUT = 4

# Why the input ended, for the orders that end it; FINISH does not.
REASONS = ("", "", "drain", "timeout", "cut")


class Rows:
    """A fixed number of rows; a row is known by the place of its first cell."""

    def __init__(self, count: int) -> None:
        # One more, whose first cell tells children that their end is waited for.
        self._map = mmap.mmap(-1, (count + 1) * CELLS * 8)
        self.cells: Cells = memoryview(self._map).cast("Q")
        # What take() gives next stands at the end. Only some are listed, and the others
        # when these are used up: a million that are never used must not cost memory,
        # neither in the list nor in the mapping.
        self.free: list[int] = []
        self._listed = 0
        self._last = count * CELLS
        self._list_more()

    @property
    def wanted(self) -> bool:
        """Somebody waits for a row to come free; the accepting process says so."""
        return self.cells[WANTED] != 0

    @wanted.setter
    def wanted(self, value: bool) -> None:
        self.cells[WANTED] = value

    def take(self) -> int:
        """Give a free row, all zero. Errors: IndexError when there is none."""
        row = self.free.pop()
        if not self.free:
            self._list_more()
        self.cells[row : row + CELLS] = _ZEROS
        return row

    def _list_more(self) -> None:
        first, self._listed = self._listed, min(self._listed + LISTED * CELLS, self._last)
        self.free.extend(range(self._listed, first, -CELLS))

    def give_back(self, row: int) -> None:
        self.free.append(row)

    def close(self) -> None:
        self.cells.release()
        self._map.close()


_ZEROS = memoryview(bytes(CELLS * 8)).cast("Q")


def loose_row() -> Cells:
    """Give the cells of a row that belongs to no server."""
    return memoryview(bytearray(CELLS * 8)).cast("Q")
