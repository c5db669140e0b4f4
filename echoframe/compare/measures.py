"""What can be said of a cell, each under one name: in tables, verdicts, files and --fail-if.

What a workload is about is main(): how many messages a second, or the time until the
last of a crowd was served, or the memory of each connection that is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .figures import Figures, Spread
from .result import Cell, Round, Task
from .units import duration, few, size
from .workload import CHURN, CROWD, HOLD

__all__ = ["MEASURES", "Measure", "main", "own_rate", "tail", "what_of"]


@dataclass(frozen=True)
class Measure:
    """One figure of a cell."""

    name: str
    what: str
    # "s", "bytes", "count" for whole numbers, or "" for others.
    unit: str
    # Whether more of it is better.
    more: bool
    of: Callable[[Cell, Figures], float | None]
    # Each round's own, for telling whether two servers differ. None: there is one value.
    rounds: Callable[[Round], float | None] | None = None

    def text(self, value: float) -> str:
        """Give it as people read it."""
        words = {"s": duration, "bytes": size, "count": "{:,.0f}".format}
        return words.get(self.unit, few)(value)

    def each(self, cell: Cell) -> list[float]:
        """Give what the rounds say, as far as they say anything."""
        if self.rounds is None:
            return []
        values = [self.rounds(one) for one in cell.rounds]
        return [value for value in values if value is not None]

    def better(self, one: float, other: float) -> bool:
        """Tell whether one value is better than another."""
        return one > other if self.more else one < other


def _middle(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def own_rate(one: Round) -> float:
    """Give the messages a second of a round."""
    return one.messages / one.seconds if one.seconds else 0.0


def _percentile(percent: float, name: str, what: str) -> Measure:
    return Measure(
        name,
        what,
        "s",
        False,
        lambda cell, all_: all_.latency[percent].median if percent in all_.latency else None,
        lambda one: one.latency.percentile(percent),
    )


def _of_1000(amount: float | None, one: Round) -> float | None:
    return None if amount is None or not one.messages else amount * 1000 / one.messages


def _errors(one: Round) -> float:
    return sum(one.errors.values())


MEASURES = {
    one.name: one
    for one in [
        Measure(
            "throughput",
            "messages a second",
            "",
            True,
            lambda cell, all_: _middle(all_.per_second),
            own_rate,
        ),
        _percentile(50.0, "p50", "the median latency"),
        _percentile(90.0, "p90", "the latency that 90 % stay under"),
        _percentile(99.0, "p99", "the latency that 99 % stay under"),
        _percentile(99.9, "p99.9", "the latency that 99.9 % stay under"),
        Measure(
            "max",
            "the longest latency",
            "s",
            False,
            lambda cell, all_: all_.longest,
            lambda one: one.latency.longest if one.latency.total else None,
        ),
        Measure(
            "finished",
            "the time until the last of a crowd was served",
            "s",
            False,
            lambda cell, all_: _middle(all_.finished) if all_.messages else None,
            lambda one: one.seconds,
        ),
        Measure(
            "unserved",
            "clients that were never served",
            "count",
            False,
            lambda cell, all_: all_.unserved if cell.rounds else None,
            lambda one: one.unserved,
        ),
        Measure(
            "errors",
            "errors, of all rounds together",
            "count",
            False,
            lambda cell, all_: sum(all_.errors.values()) if cell.rounds else None,
            _errors,
        ),
        Measure(
            "fairness",
            "1 if each client got the same",
            "",
            True,
            lambda cell, all_: _middle(all_.fairness),
            lambda one: one.fairness,
        ),
        Measure(
            "cpu",
            "the CPU time of 1,000 messages",
            "s",
            False,
            lambda cell, all_: _middle(all_.cpu),
            lambda one: _of_1000(one.cpu, one),
        ),
        Measure(
            "switches",
            "context switches of 1,000 messages",
            "",
            False,
            lambda cell, all_: _middle(all_.switches),
            lambda one: (
                one.switches * 1000 / one.messages
                if one.switches is not None and one.messages
                else None
            ),
        ),
        Measure("threads", "threads", "count", False, lambda cell, all_: all_.threads),
        Measure("processes", "processes", "count", False, lambda cell, all_: all_.processes),
        Measure(
            "descriptors", "open descriptors", "count", False, lambda cell, all_: all_.descriptors
        ),
        Measure("memory", "the server's memory", "bytes", False, lambda cell, all_: all_.memory),
        Measure(
            "memory-each",
            "the memory of each connection",
            "bytes",
            False,
            lambda cell, all_: all_.memory_each,
        ),
        Measure("ready", "the time to start", "s", False, lambda cell, all_: cell.ready),
        Measure("stop", "the time to stop", "s", False, lambda cell, all_: cell.stop),
    ]
}


def main(task: Task) -> Measure:
    """Give what a workload is about."""
    if task.way == CROWD:
        return MEASURES["finished"]
    if task.way == HOLD:
        return MEASURES["memory-each"]
    if task.stops:
        return MEASURES["stop"]
    return MEASURES["throughput"]


def what_of(task: Task) -> str:
    """Give what the messages of a workload are counted as."""
    return "connections" if task.way == CHURN and task.stay == 1 else "messages"


def tail(cells: list[Cell]) -> Measure | None:
    """Give the highest percentile that the messages of each round of all cells carry."""
    for name in ("p99", "p90", "p50"):
        measure = MEASURES[name]
        if all(len(measure.each(cell)) == len(cell.rounds) for cell in cells):
            return measure
    return None
