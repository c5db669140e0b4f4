"""The columns of a workload's table, for whoever draws it: terminal and Markdown.

A column says how much it is wanted, for a page that is narrow. What nobody has is not
there, and neither is what is zero for everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .failures import refusals
from .figures import Figures, Spread, figures
from .measures import MEASURES, Measure, main, what_of
from .result import Cell, Result, Task
from .units import clean, count, few, share
from .workload import CROWD, HOLD

__all__ = [
    "AT_LEAST",
    "BOUND_NOTE",
    "LATE_NOTE",
    "NOTHING",
    "Column",
    "Sheet",
    "at_least",
    "bound_note",
    "footnotes",
    "per_second",
    "sheet",
]

# Before a rate that the load generator did not let grow any further.
AT_LEAST = "≥"
BOUND_NOTE = f"{AT_LEAST} at least: the load generator was at its end, and not the server."
LATE_NOTE = f"{AT_LEAST} at least: the load generator was late, and could not keep to its plan."
# Where somebody has no figure.
NOTHING = "–"

CPU = ("CPU for", "1,000")
_PERCENTILES = ("p50", "p90", "p99", "p99.9")


@dataclass
class Column:
    """One column; its title stands on two lines where the page is narrow."""

    title: tuple[str, str]
    # By subject.
    cells: dict[str, str]
    # The lower, the sooner it is taken.
    rank: int
    # The best, by what the column is about, and what is wrong.
    best: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    # A column of bars has no text: how long they are, as shares of the longest.
    bars: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Give its title on one line."""
        return " ".join(filter(None, self.title)).replace("- ", "").replace(" /", "/")


@dataclass
class Sheet:
    """One workload with one number of connections."""

    task: Task
    connections: int
    # In the order of the result, with a row each.
    subjects: list[str]
    columns: list[Column]
    # Who was not measured, and why.
    missing: dict[str, str]
    notes: list[str]
    # Who was measured in no workload, and has no row.
    left_out: list[str]
    # The kinds of errors that there were.
    errors: list[str]


def sheet(result: Result, task: Task, connections: int) -> Sheet:
    """Give the table of a workload with one number of connections."""
    refused = refusals(result)
    cells = [
        cell
        for subject in result.subjects
        if (cell := result.cell(subject.name, task.name, connections)) is not None
        and subject.name not in refused
    ]
    rows = [_Row(cell, figures(cell)) for cell in cells if cell.rounds]
    missing = {
        cell.subject: clean(cell.failure) or "not measured" for cell in cells if not cell.rounds
    }
    found = [column for make in _COLUMNS if (column := make(task, rows)) is not None]
    return Sheet(
        task,
        connections,
        [cell.subject for cell in cells],
        found,
        missing,
        _notes(rows),
        list(refused),
        sorted({kind for row in rows for kind in row.all.errors}),
    )


def at_least(found: Figures) -> str:
    """Give the sign of a rate that the load generator was at its end with, or nothing."""
    return AT_LEAST if found.bound else ""


def per_second(task: Task) -> tuple[str, str]:
    """Give the title of a rate, on two lines."""
    return ("connected" if what_of(task) == "connections" else "messages", "a second")


@dataclass
class _Row:
    cell: Cell
    all: Figures


_Make = Callable[[Task, list[_Row]], Column | None]


def bound_note(task: Task) -> str:
    """Explain the sign of at_least()."""
    return BOUND_NOTE if task.rate is None else LATE_NOTE


def footnotes(task: Task, columns: list[Column]) -> list[str]:
    """Explain the signs that stand in some columns."""
    notes = []
    if any(column.title == CPU for column in columns):
        notes.append("CPU for 1,000: the server's CPU time, for 1,000 messages answered.")
    if any(AT_LEAST in text for column in columns for text in column.cells.values()):
        notes.append(bound_note(task))
    # A percentile is missing for want of messages, and for no other reason.
    percentiles = (column for column in columns if column.title[0] in _PERCENTILES)
    if any(NOTHING in column.cells.values() for column in percentiles):
        notes.append(f"{NOTHING} too few messages for that percentile.")
    return notes


def _notes(rows: list[_Row]) -> list[str]:
    notes = []
    for row in rows:
        if row.cell.failure:
            notes.append(f"{row.cell.subject}: {clean(row.cell.failure).rstrip('.')}.")
        if row.all.unserved and row.all.messages:
            served = row.cell.connections - row.all.unserved
            notes.append(
                f"{row.cell.subject}: its figures are of the {count(served, 'client')} of "
                f"{row.cell.connections:,} that it served."
            )
        if row.all.errors:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in row.all.errors.items())
            notes.append(f"{row.cell.subject}: errors of all rounds: {clean(kinds)}.")
    return notes


def _served(row: _Row) -> bool:
    # Whoever left somebody waiting is no example for the others.
    return not row.all.unserved and not row.all.errors.get("wrong")


def _main_of(task: Task, rows: list[_Row]) -> tuple[Measure, dict[str, float]]:
    measure = main(task)
    values = {
        row.cell.subject: value
        for row in rows
        if (value := measure.of(row.cell, row.all)) is not None
    }
    return measure, values


def _best(measure: Measure, rows: list[_Row], values: dict[str, float]) -> set[str]:
    able = [row.cell.subject for row in rows if _served(row) and row.cell.subject in values]
    if len(able) < 2:
        return set()
    first = (max if measure.more else min)(values[name] for name in able)
    return {name for name in able if values[name] == first}


def _about(task: Task, rows: list[_Row]) -> Column | None:
    # What the workload is about comes first.
    measure, values = _main_of(task, rows)
    if not values:
        return None
    texts = {row.cell.subject: NOTHING for row in rows}
    marks = {row.cell.subject: at_least(row.all) for row in rows}
    for name, value in values.items():
        mark = marks[name] if measure.name == "throughput" else ""
        texts[name] = mark + measure.text(value)
    titles = {
        "throughput": per_second(task),
        "finished": ("until the", "last"),
        "memory-each": ("memory a", "connection"),
        "stop": ("time to", "stop"),
    }
    return Column(titles[measure.name], texts, 0, _best(measure, rows, values))


def _bars(task: Task, rows: list[_Row]) -> Column | None:
    _, values = _main_of(task, rows)
    # The memory of a single connection, where the others waited, would dwarf all else; nor
    # is a server that served a few as fast as it looks.
    able = {
        row.cell.subject: values[row.cell.subject]
        for row in rows
        if row.cell.subject in values and _served(row)
    }
    longest = max(able.values(), default=0.0)
    if not longest or len(rows) < 2:
        # There is nothing that one could be longer than.
        return None
    bars = {name: value / longest for name, value in able.items()}
    return Column(("", ""), dict.fromkeys((row.cell.subject for row in rows), ""), 0, bars=bars)


def _spread(task: Task, rows: list[_Row]) -> Column | None:
    name = main(task).name
    most = max((len(row.cell.rounds) for row in rows), default=0)
    if name not in ("throughput", "finished") or most < 2:
        return None
    texts = {}
    for row in rows:
        spread = row.all.per_second if name == "throughput" else row.all.finished
        texts[row.cell.subject] = NOTHING if spread is None else f"±{_deviation(spread)}"
    return Column(("", "spread"), texts, 6)


def _deviation(spread: Spread) -> str:
    far = max(spread.high - spread.median, spread.median - spread.low)
    return share(far / spread.median if spread.median else 0.0)


def _ratio(task: Task, rows: list[_Row]) -> Column | None:
    measure, values = _main_of(task, rows)
    best = _best(measure, rows, values)
    if not best or not values[min(best)]:
        return None
    first = values[min(best)]
    texts = {
        row.cell.subject: f"×{_times(values[row.cell.subject] / first)}"
        if row.cell.subject in values
        else NOTHING
        for row in rows
    }
    return Column(("of the", "best"), texts, 13)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 9.995 else few(ratio)


def _plain(
    name: str,
    title: tuple[str, str],
    rank: int,
    zero: bool = True,
    wrong: bool = False,
    ways: Callable[[Task], bool] = lambda task: True,
    text: Callable[[float], str] | None = None,
) -> _Make:
    measure = MEASURES[name]

    def make(task: Task, rows: list[_Row]) -> Column | None:
        if main(task) is measure or not ways(task):
            return None
        values = {row.cell.subject: measure.of(row.cell, row.all) for row in rows}
        if all(value is None or (not zero and not value) for value in values.values()):
            return None
        texts = {
            subject: NOTHING if value is None else (text or measure.text)(value)
            for subject, value in values.items()
        }
        bad = {subject for subject, value in values.items() if value} if wrong else set()
        return Column(title, texts, rank, wrong=bad)

    return make


def _memory(task: Task, rows: list[_Row]) -> Column | None:
    kinds = {row.all.memory_kind for row in rows if row.all.memory is not None}
    return _plain("memory", ("memory", " or ".join(sorted(kinds))), 8)(task, rows)


def _running(task: Task, rows: list[_Row]) -> Column | None:
    # Both in one column, since they are read together.
    both = {row.cell.subject: (row.all.threads, row.all.processes) for row in rows}
    if all(pair == (None, None) for pair in both.values()):
        return None
    texts = {
        name: "/".join(NOTHING if number is None else f"{number:,}" for number in pair)
        for name, pair in both.items()
    }
    return Column(("threads", "/procs"), texts, 9)


def _is_rated(task: Task) -> bool:
    return task.way not in (CROWD, HOLD)


_COLUMNS: list[_Make] = [
    _about,
    _spread,
    _bars,
    _ratio,
    _plain("throughput", ("messages", "a second"), 5, ways=lambda task: task.stops),
    _plain("p50", ("p50", ""), 1),
    _plain("p90", ("p90", ""), 10),
    _plain("p99", ("p99", ""), 2),
    _plain("p99.9", ("p99.9", ""), 11),
    _plain("max", ("longest", ""), 12, ways=lambda task: task.way != CROWD),
    _plain("unserved", ("never", "served"), 3, zero=False, wrong=True),
    _plain("errors", ("errors", ""), 4, zero=False, wrong=True),
    _plain("cpu", CPU, 7, ways=_is_rated),
    _memory,
    _running,
    _plain("switches", ("switches", "for 1,000"), 15, ways=_is_rated, text=few),
    _plain("fairness", ("fair-", "ness"), 14, ways=_is_rated, text=lambda v: f"{v:.2f}"),
    _plain("descriptors", ("descrip-", "tors"), 16),
    _plain("ready", ("time to", "start"), 17),
]
