"""Results as drawings: plain data in plotly's words, which page.js lays out and colours.

What is drawn is decided here, where it can be tested; how it looks (theme, width, who
is hidden) is decided in page.js, where it can change. Every trace says in its `meta`
whose it is, and each server has one look, the same in all drawings and on all pages.

Nothing here is HTML; but plotly reads tags in its texts, so whatever comes from outside
goes through escape() on its way into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .figures import Figures, Spread, figures
from .histogram import BEHIND
from .measures import what_of
from .result import Cell, Person, Result, Subject, Task
from .units import duration, size
from .workload import CHURN, CROWD, HOLD

__all__ = ["Drawing", "Look", "Sheet", "count", "draw"]


@dataclass(frozen=True)
class Look:
    """How a server is told from the others: by colour, and without seeing any."""

    light: str
    dark: str
    symbol: str
    dash: str


# Far apart for eyes that lack one kind of cone, too: at least 9 in OKLab, times 100,
# between any two of the first eight, and with a contrast of 3 or more to the paper.
LOOKS = {
    "single": Look("#767989", "#73778c", "circle", "dot"),
    "thread": Look("#1537d1", "#2f82ff", "square", "solid"),
    "fork": Look("#bf3917", "#f2402f", "diamond", "dash"),
    "pool": Look("#0d4a40", "#28c58a", "triangle-up", "longdash"),
    "prefork": Look("#8b1a8f", "#bb92e4", "triangle-down", "dashdot"),
    "loop": Look("#c88801", "#ffd23c", "cross", "solid"),
    "aio": Look("#0f92fb", "#a8d9ff", "x", "longdashdot"),
}
# Whoever else is measured takes these, in turn.
OTHERS = [
    Look("#111111", "#f8f8f7", "star", "dash"),
    Look("#d46a9f", "#e879b0", "hexagon", "dot"),
    Look("#6b7a00", "#9aab2e", "pentagon", "longdash"),
    Look("#7a4a1e", "#b5773f", "bowtie", "dashdot"),
    Look("#0e8f96", "#37b4bd", "hourglass", "solid"),
]

# Several results: the look is the server's, and these tell of which run it is.
DASHES = ["solid", "dot", "dash", "dashdot", "longdash"]
PATTERNS = ["", "/", ".", "x", "-"]

# More clients than this would be rows too thin to point at.
ROWS = 60

# Of a crowd so small the whole curve is shown: each point is a client.
CROWD_ENOUGH = 1000


def _three(amount: float) -> str:
    # 1e+03 for what rounds up to 1,000 is for nobody.
    return f"{amount:#.3g}".rstrip(".") if amount < 999.5 else f"{amount:,.0f}"


def count(amount: float) -> str:
    """Say a number with three figures or so: 7, 42.5, 1,240, 198 k, 1.20 M."""
    for over, by, unit in ((999.5e3, 1e6, " M"), (9999.5, 1e3, " k")):
        if amount >= over:
            return _three(amount / by) + unit
    return f"{amount:,.0f}" if amount == int(amount) else _three(amount)


@dataclass
class Drawing:
    """One drawing. `layout` is plotly's; page.js adds what depends on who looks."""

    # bars, lines or timeline.
    kind: str
    title: str
    # What the axis says, which way is better, and what else must be known.
    note: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    # Of what is drawn: amount, seconds or bytes.
    unit: str = "amount"
    # The words for those who cannot see it.
    label: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Entry:
    """A cell where it stands: of which run, and of which server."""

    run: int
    at: int
    subject: Subject
    cell: Cell
    figures: Figures


class Sheet:
    """Results side by side: all that is in any of them, in the order in which it came.

    `titles` name the runs; of one result it may be missing.
    """

    def __init__(self, results: Sequence[Result], titles: Sequence[str] = ()) -> None:
        self.results = list(results)
        self.titles = [
            titles[at] if at < len(titles) else f"run {at + 1}" for at in range(len(results))
        ]
        subjects: dict[str, Subject] = {}
        tasks: dict[str, Task] = {}
        for result in results:
            for subject in result.subjects:
                subjects.setdefault(subject.name, subject)
            for task in result.tasks:
                tasks.setdefault(task.name, task)
        self.subjects = list(subjects.values())
        self.tasks = list(tasks.values())
        self._at = {name: at for at, name in enumerate(subjects)}
        others = 0
        self.looks: list[Look] = []
        for subject in self.subjects:
            look = LOOKS.get(subject.name)
            if look is None:
                look, others = OTHERS[others % len(OTHERS)], others + 1
            self.looks.append(look)
        self.entries = [
            Entry(run, self._at[cell.subject], subjects[cell.subject], cell, figures(cell))
            for run, result in enumerate(results)
            for cell in result.cells
            if cell.subject in self._at and cell.task in tasks
        ]

    @property
    def several(self) -> bool:
        """Whether there is more than one run."""
        return len(self.results) > 1

    def name(self, entry: Entry) -> str:
        """Say whose figures these are: "loop", or "before: loop"."""
        return (
            f"{self.titles[entry.run]}: {entry.subject.name}"
            if self.several
            else (entry.subject.name)
        )

    def connections(self, task: Task) -> list[int]:
        """With how many connections a workload was measured in any run, the fewest first."""
        return sorted({one.cell.connections for one in self.entries if one.cell.task == task.name})

    def usual(self, task: Task) -> int | None:
        """Which of them is shown first: the most with which everybody was measured."""
        counts = self.connections(task)
        whole = [one for one in counts if all(e.cell.rounds for e in self.of(task, one))]
        return max(whole or counts, default=None)

    def of(self, task: Task, connections: int | None = None) -> list[Entry]:
        """Give what was measured of a workload, server by server and run by run."""
        found = [
            one
            for one in self.entries
            if one.cell.task == task.name and connections in (None, one.cell.connections)
        ]
        return sorted(found, key=lambda one: (one.at, one.cell.connections, one.run))


def draw(sheet: Sheet, task: Task) -> tuple[list[Drawing], dict[int, list[Drawing]]]:
    """Draw a workload: over all numbers of connections, and for each of them."""
    counts = sheet.connections(task)
    curves = list(_curves(sheet, task)) if len(counts) > 1 else []
    return curves, {one: list(_with(sheet, task, one)) for one in counts}


def _with(sheet: Sheet, task: Task, connections: int) -> Iterator[Drawing]:
    # What is drawn of a workload depends on what its clients do.
    entries = sheet.of(task, connections)
    if task.way == CROWD:
        yield from _bars(
            sheet,
            entries,
            "Until the last was served",
            "less is better",
            lambda one: one.figures.finished,
            duration,
            "seconds",
        )
    elif task.way != HOLD:
        yield from _bars(
            sheet,
            entries,
            rate_of(task),
            "more is better",
            lambda one: one.figures.per_second,
            count,
            planned=task.rate,
        )
    if task.way == HOLD:
        yield from _memory(sheet, entries)
    yield from _latency(sheet, entries, task)
    if task.stops:
        yield from _bars(
            sheet,
            entries,
            "Time to stop",
            "from SIGTERM to its end; less is better",
            lambda one: Spread.of([one.cell.stop]),
            duration,
            "seconds",
        )
    if task.way not in (CROWD, CHURN, HOLD):
        yield from _memory(sheet, entries)
    if task.way != HOLD:
        yield from _bars(
            sheet,
            entries,
            "CPU for 1,000 messages",
            "of the server and its children; less is better",
            lambda one: one.figures.cpu,
            duration,
            "seconds",
        )
    yield from _timeline(sheet, entries)


def rate_of(task: Task) -> str:
    """What the throughput of a workload counts."""
    return f"{what_of(task).capitalize()} a second"


def _memory(sheet: Sheet, entries: list[Entry]) -> Iterator[Drawing]:
    kinds = sorted({one.figures.memory_kind for one in entries} - {""})
    yield from _bars(
        sheet,
        entries,
        "Memory for each connection",
        f"{' and '.join(kinds) or 'of all its processes'}; less is better",
        lambda one: _alone(one.figures.memory_each),
        size,
        "bytes",
    )


def _alone(value: float | None) -> Spread | None:
    return None if value is None else Spread(value, value, value)


def _meta(entry: Entry, role: str) -> dict[str, Any]:
    return {"subject": entry.at, "run": entry.run, "role": role}


def shorten(text: str, length: int = 30) -> str:
    """Keep the beginning of a text."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def between(spread: Spread, say: Callable[[float], str]) -> str:
    """Say a figure with its spread."""
    around = reach(spread, say)
    return f"{say(spread.median)} ({around})" if around else say(spread.median)


def reach(spread: Spread, say: Callable[[float], str]) -> str:
    """Say from where to where it goes: "15.1 to 15.9 ms"; "" if that cannot be told apart."""
    low, high = say(spread.low), say(spread.high)
    number, _, unit = low.partition(" ")
    if unit and high.endswith(f" {unit}"):
        return "" if low == high else f"{number} to {high}"
    return "" if low == high else f"{low} to {high}"


def _bars(
    sheet: Sheet,
    entries: list[Entry],
    title: str,
    note: str,
    of: Callable[[Entry], Spread | None],
    say: Callable[[float], str],
    unit: str = "amount",
    planned: float | None = None,
) -> Iterator[Drawing]:
    # What nobody has is not drawn.
    if not any(of(one) for one in entries):
        return
    traces: list[dict[str, Any]] = []
    words = []
    bound = False
    for one in entries:
        spread = of(one)
        name = sheet.name(one)
        remarks = []
        if spread is None:
            said = shorten(one.cell.failure) if one.cell.failure else "not known"
            hover = one.cell.failure or "not known"
        else:
            # What a generator at its end shows is what the server can do at least.
            at_least = "≥ " if one.figures.bound and unit == "amount" else ""
            bound = bound or bool(at_least)
            said = at_least + say(spread.median)
            hover = at_least + between(spread, say)
            if one.figures.unserved:
                remarks.append(f"{one.figures.unserved:,} unserved")
            if one.figures.errors:
                remarks.append(f"{sum(one.figures.errors.values()):,} errors")
            if one.figures.bound:
                remarks.append("generator-bound")
        words.append(f"{name}: {', '.join([hover, *remarks])}")
        tell = "<br>".join([f"<b>{escape(name)}</b>", escape(hover), *map(escape, remarks)])
        mark, length = escape(said), len(said)
        if one.figures.unserved and spread is not None:
            # Bars of several runs are too thin for two lines.
            mark += " " if sheet.several else "<br>"
            mark += f'<span style="font-size:10px">{remarks[0]}</span>'
            length = length + len(remarks[0]) if sheet.several else max(length, len(remarks[0]))
        value = 0.0 if spread is None else spread.median
        if spread is not None:
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": escape(name),
                    "x": [value],
                    "error_x": {
                        "type": "data",
                        "symmetric": False,
                        "array": [spread.high - value],
                        "arrayminus": [value - spread.low],
                        "visible": spread.low != spread.high,
                    },
                    "hovertemplate": tell + "<extra></extra>",
                    "meta": _meta(one, "bar"),
                }
            )
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "name": escape(name),
                "x": [0.0 if spread is None else spread.high],
                "text": [mark],
                "textposition": "middle right",
                "cliponaxis": False,
                "hovertemplate": tell + "<extra></extra>",
                "meta": {**_meta(one, "figure"), "length": length},
            }
        )
    layout: dict[str, Any] = {"xaxis": {}}
    if planned:
        layout["xaxis"]["planned"] = planned
        note = f"{planned:,.0f} were planned: the dotted line"
    if bound:
        note += "; ≥: the generator was at its end"
    yield Drawing("bars", title, note, traces, layout, unit, "; ".join(words))


def _curves(sheet: Sheet, task: Task) -> Iterator[Drawing]:
    entries = sheet.of(task)
    counts = sheet.connections(task)
    axis = {
        "type": "log",
        "tickvals": counts,
        "ticktext": [f"{one:,}" for one in counts],
        "title": {"text": "connections"},
    }
    if task.way != HOLD:
        yield _over(
            sheet,
            entries,
            rate_of(task),
            "by number of connections; more is better",
            lambda one: one.figures.per_second,
            count,
            {"xaxis": axis, "yaxis": {}},
        )
    known = {percent for one in entries for percent in one.figures.latency}
    if not known:
        return
    percent = 99.0 if 99.0 in known else min(known)
    yield _over(
        sheet,
        entries,
        f"The {said_of(percent)}",
        f"{percent:g} of 100 replies come sooner, by number of connections; less is better",
        lambda one: one.figures.latency.get(percent),
        duration,
        {"xaxis": axis, "yaxis": {"type": "log"}},
        "seconds",
    )


def said_of(percent: float) -> str:
    """Name a percentile."""
    return f"p{percent:g}"


def _over(
    sheet: Sheet,
    entries: list[Entry],
    title: str,
    note: str,
    of: Callable[[Entry], Spread | None],
    say: Callable[[float], str],
    layout: dict[str, Any],
    unit: str = "amount",
) -> Drawing:
    lines: dict[tuple[int, int], list[tuple[Entry, Spread]]] = {}
    for one in entries:
        spread = of(one)
        if spread is not None:
            lines.setdefault((one.at, one.run), []).append((one, spread))
    traces = []
    words = []
    for points in lines.values():
        first = points[0][0]
        name = sheet.name(first)
        tell = []
        for one, spread in points:
            at_least = "≥ " if one.figures.bound and of(one) is one.figures.per_second else ""
            tell.append(f"{one.cell.connections:,} connections: {at_least}{between(spread, say)}")
            if one.figures.unserved:
                tell[-1] += f"<br>{one.figures.unserved:,} unserved"
        words.append(f"{name}: {', '.join(tell)}")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escape(name),
                "x": [one.cell.connections for one, _ in points],
                "y": [spread.median for _, spread in points],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [spread.high - spread.median for _, spread in points],
                    "arrayminus": [spread.median - spread.low for _, spread in points],
                },
                "text": tell,
                "hovertemplate": f"<b>{escape(name)}</b><br>%{{text}}<extra></extra>",
                "meta": _meta(first, "line"),
            }
        )
    label = "; ".join(words).replace("<br>", ", ")
    return Drawing("lines", title, note, traces, layout, unit, label)


def _latency(sheet: Sheet, entries: list[Entry], task: Task) -> Iterator[Drawing]:
    traces: list[dict[str, Any]] = []
    words = []
    whole = task.way == CROWD and all(
        one.figures.histogram.total <= CROWD_ENOUGH for one in entries
    )
    furthest = 2.0
    for one in entries:
        shares, times = _distribution(one.figures, whole)
        if not times:
            continue
        name = sheet.name(one)
        # One answered in so many has not come yet: 2 at the median, 100 at p99.
        ranks = [1 / (1 - share) for share in shares]
        furthest = max(furthest, ranks[-1])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"shape": "vh"},
                "name": escape(name),
                "x": ranks,
                "y": times,
                "customdata": shares,
                "hovertemplate": f"<b>{escape(name)}</b><br>%{{customdata:.4~p}} within "
                "%{y:.3s}s<extra></extra>",
                "meta": _meta(one, "line"),
            }
        )
        marks = one.figures.latency
        if marks:
            tell = [
                f"{said_of(percent)}: {between(spread, duration)}"
                for percent, spread in marks.items()
            ]
            words.append(f"{name}: {', '.join(tell)}")
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": escape(name),
                    "x": [100 / (100 - percent) for percent in marks],
                    "y": [spread.median for spread in marks.values()],
                    "text": tell,
                    "hovertemplate": f"<b>{escape(name)}</b><br>%{{text}}<extra></extra>",
                    "meta": _meta(one, "mark"),
                }
            )
    if not traces:
        return
    note = "from the quickest reply to the slowest; lower is better"
    if whole:
        note += "; each step is a client"
    elif task.rate is not None:
        note += "; counted from the planned moment"
    axis = {
        "type": "log",
        "tickvals": [1, 2, 10, 100, 1000, 10_000],
        "ticktext": ["", "p50", "p90", "p99", "p99.9", "p99.99"],
        "limits": [1, furthest * 1.15],
    }
    yield Drawing(
        "lines",
        "Latency",
        note,
        traces,
        {"xaxis": axis, "yaxis": {"type": "log"}},
        "seconds",
        label="; ".join(words),
    )


def _distribution(found: Figures, whole: bool) -> tuple[list[float], list[float]]:
    """Give shares, and in what time so many had their reply.

    No further than ten slower ones are left, unless all of it is wanted: the tail of a
    curve would be a single outlier's story.
    """
    total = found.histogram.total
    shares: list[float] = []
    times: list[float] = []
    seen = 0
    for low, high, many in found.histogram:
        middle = min((low + high) / 2, found.histogram.longest)
        last = 1 - (0.5 if whole else BEHIND) / total
        if not shares:
            shares, times = [0.0], [middle]
        seen += many
        shares.append(min(seen / total, last))
        times.append(middle)
        if seen / total >= last:
            break
    if not whole and total <= BEHIND:
        return [], []
    return shares, times


def _timeline(sheet: Sheet, entries: list[Entry]) -> Iterator[Drawing]:
    drawn = [one for one in entries if one.cell.timeline]
    if not drawn:
        return
    end = max(
        moment
        for one in drawn
        for person in one.cell.timeline
        for moment in (person.came, person.began, person.ended, person.replied)
        if moment is not None
    )
    traces: list[dict[str, Any]] = []
    words = []
    some = ""
    for one in drawn:
        # In the order in which they were served, so that a staircase looks like one.
        people = sorted(one.cell.timeline, key=lambda who: (_left(who, end), who.came))
        if len(people) > ROWS:
            some = f"; {ROWS} of {len(people):,} clients, evenly chosen"
            people = [people[at * (len(people) - 1) // (ROWS - 1)] for at in range(ROWS)]
        traces.extend(_rows(sheet, one, people, end))
        answered = [who.replied for who in people if who.replied is not None]
        words.append(
            f"{sheet.name(one)}: {len(answered)} of {len(people)} answered"
            + (f", the last after {duration(max(answered))}" if answered else "")
        )
    yield Drawing(
        "timeline",
        "Who waited, and who was served",
        "each row is a client of one round: light while it waits, solid while it is served, "
        f"a stroke where its reply came{some}",
        traces,
        {"xaxis": {"limits": [0, end * 1.02]}},
        label="; ".join(words),
        wide=True,
    )


def _left(who: Person, end: float) -> float:
    # Those who were never answered stand last.
    return who.replied if who.replied is not None else 2 * end + 1


def _rows(sheet: Sheet, one: Entry, people: list[Person], end: float) -> Iterator[dict[str, Any]]:
    name = sheet.name(one)
    waited: list[tuple[int, float, float]] = []
    served: list[tuple[int, float, float]] = []
    tell = []
    for row, who in enumerate(people):
        until = who.replied if who.replied is not None else end
        began = who.began if who.began is not None else until
        ended = who.ended if who.ended is not None else until
        waited.append((row, who.came, began))
        if who.began is not None:
            served.append((row, began, ended))
        tell.append(f"<b>{escape(name)}</b>, client {row + 1} of {len(people)}<br>{_fate(who)}")
    common = {
        "type": "bar",
        "orientation": "h",
        "name": escape(name),
        "hovertemplate": "%{text}<extra></extra>",
        "textposition": "none",
    }
    for role, spans in (("waited", waited), ("served", served)):
        yield {
            **common,
            "y": [row for row, _, _ in spans],
            "base": [start for _, start, _ in spans],
            "x": [stop - start for _, start, stop in spans],
            "text": [tell[row] for row, _, _ in spans],
            "meta": {**_meta(one, role), "rows": len(people)},
        }
    for role, moments in (
        (
            "reply",
            [(row, who.replied) for row, who in enumerate(people) if who.replied is not None],
        ),
        ("never", [(row, end) for row, who in enumerate(people) if who.replied is None]),
    ):
        if moments:
            yield {
                "type": "scatter",
                "mode": "markers",
                "name": escape(name),
                "x": [moment for _, moment in moments],
                "y": [row for row, _ in moments],
                "text": [tell[row] for row, _ in moments],
                "hovertemplate": "%{text}<extra></extra>",
                "cliponaxis": False,
                "meta": {**_meta(one, role), "rows": len(people)},
            }


def _fate(who: Person) -> str:
    came = f"came at {duration(who.came)}"
    if who.replied is None and who.began is None:
        return f"{came}, was never served"
    if who.began is None:
        assert who.replied is not None
        return f"{came}, had its reply after {duration(who.replied - who.came)}"
    words = [came, f"waited {duration(max(who.began - who.came, 0.0))}"]
    if who.ended is not None:
        words.append(f"was served for {duration(who.ended - who.began)}")
    words.append(
        "had no reply" if who.replied is None else f"had its reply at {duration(who.replied)}"
    )
    return "<br>".join(words)
