"""Who waited, who was served, and when: the clients of a crowd as rows of characters.

All servers stand under one another on one time axis, so that a staircase is seen to be
one, and a crowd that is served together too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .result import Cell, Person, Result, Task
from .terminal import LEAST_WIDTH, paint, wrap
from .units import brief, clean, count, duration, listed, plainly

__all__ = ["MOST", "render"]

# More rows than this for each server would push the others off the screen.
MOST = 6

WAITING, SERVED, REPLY = "·", "█", "│"


def render(
    result: Result,
    width: int,
    colour: bool = False,
    *,
    most: int = MOST,
    plain: bool = False,
) -> str:
    """Give the drawings of all workloads that have one, or nothing. `plain` keeps to ASCII."""
    width = max(width, LEAST_WIDTH)
    lines: list[str] = []
    for task in result.tasks:
        for connections in result.connections(task.name):
            cells = [
                cell
                for subject in result.subjects
                if (cell := result.cell(subject.name, task.name, connections)) is not None
                and cell.timeline
            ]
            if cells:
                lines += [""] if lines else []
                lines += _drawing(task, cells, width, colour, most)
    text = "".join(line + "\n" for line in lines)
    return plainly(text) if plain else text


def _drawing(task: Task, cells: Sequence[Cell], width: int, colour: bool, most: int) -> list[str]:
    end = max(_last(person) for cell in cells for person in cell.timeline)
    room = min(max(len(clean(cell.subject)) for cell in cells), max(12, width // 5))
    last = max(len(_when(person)) for cell in cells for person in cell.timeline)
    axis = _Axis(max(end, 1e-6), width - room - last - 6)
    name = clean(task.name)
    lines = wrap(f"{name}: {clean(task.what)}", width)
    lines[0] = paint(name, "title", colour) + lines[0][len(name) :]
    lines += _legend(cells, width, most)
    margin = " " * (room + 2)
    for text in axis.scale():
        lines.append(paint((margin + text).rstrip(), "dim", colour))
    for cell in cells:
        shown = cell.subject if len(cell.subject) <= room else cell.subject[: room - 1] + "…"
        title = clean(shown).ljust(room)
        for person in _chosen(cell.timeline, most):
            row = axis.row(person)
            used = len(row.rstrip())
            painted = "".join(
                paint(part, {WAITING: "dim", SERVED: "best"}.get(part[0], ""), colour)
                if part[0] in (WAITING, SERVED)
                else part
                for part in _runs(row[:used])
            )
            when = _when(person).rjust(last)
            lines.append(f"{title}  {painted}{' ' * (len(row) - used)}  {when}")
            title = " " * room
    return lines


def _legend(cells: Sequence[Cell], width: int, most: int) -> list[str]:
    counts = sorted({len(cell.timeline) for cell in cells})
    if counts[-1] > most:
        shown = f"{most} of {count(counts[-1], 'client')} of each server"
        if len(counts) > 1:
            shown = f"At most {most} of {counts[0]} to {counts[-1]} clients of each server"
    else:
        shown = "All clients of each server"
    said = [f"{shown}, in the order of their replies."]
    unseen = [
        clean(cell.subject)
        for cell in cells
        if all(person.began is None for person in cell.timeline)
    ]
    if unseen:
        said.append(f"When {listed(unseen, 'or')} began with each is not known.")
    return [
        *wrap(f"{WAITING} waits   {SERVED} is served   {REPLY} has its reply, and when", width),
        *wrap(" ".join(said), width),
    ]


def _runs(row: str) -> list[str]:
    runs: list[str] = []
    for letter in row:
        if runs and runs[-1][0] == letter:
            runs[-1] += letter
        else:
            runs.append(letter)
    return runs


def _last(person: Person) -> float:
    moments = (person.came, person.began, person.ended, person.replied)
    return max(moment for moment in moments if moment is not None)


def _when(person: Person) -> str:
    return "never" if person.replied is None else duration(person.replied)


def _chosen(people: Sequence[Person], most: int) -> list[Person]:
    """Choose some, as evenly as it goes, with the first and the last; the unserved last."""
    order = sorted(
        people,
        key=lambda one: (
            math.inf if one.replied is None else one.replied,
            math.inf if one.began is None else one.began,
            one.came,
        ),
    )
    if len(order) <= most:
        return order
    return [order[round(at * (len(order) - 1) / max(most - 1, 1))] for at in range(most)]


class _Axis:
    """Seconds to columns: from 0 to `end`, which is the last of `width`."""

    def __init__(self, end: float, width: int) -> None:
        self.end = end
        self.width = width

    def at(self, moment: float) -> int:
        return min(max(round(moment / self.end * (self.width - 1)), 0), self.width - 1)

    def row(self, person: Person) -> str:
        """Draw one client."""
        came = self.at(person.came)
        over = self.width if person.replied is None else self.at(person.replied)
        row = [" "] * self.width
        row[came:over] = WAITING * max(over - came, 0)
        if person.began is not None:
            ended = over if person.ended is None else self.at(person.ended)
            begin = min(self.at(person.began), self.width - 2)
            # Who was served so briefly that it cannot be drawn was served none the less.
            stop = max(min(ended, over), begin + 1)
            row[begin:stop] = SERVED * (stop - begin)
            over = max(over, stop)
        if person.replied is not None:
            row[min(over, self.width - 1)] = REPLY
        return "".join(row)

    def scale(self) -> list[str]:
        """Give two lines: times, and where they are."""
        step = self._step()
        times, marks = [" "] * (self.width + 12), ["─"] * self.width
        for number in range(int(self.end / step * (1 + 1e-9)) + 1):
            column = self.at(number * step)
            marks[column] = "┼"
            text = brief(number * step) if number else "0"
            begin = max(column - len(text) // 2, 0)
            if column + len(text) - len(text) // 2 <= self.width:
                times[begin : begin + len(text)] = text
        return ["".join(times[: self.width]).rstrip(), "".join(marks)]

    def _step(self) -> float:
        # A tenth of the width has room for one time; 1, 2 or 5 of a unit read well.
        least = self.end * 11 / self.width
        power: float = 10.0 ** math.floor(math.log10(least))
        return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= least)
