"""A result in words, with reasons and limits, and what to choose for one's own handler.

Nothing is said to be better than something else unless the rounds show it, and nothing
at all where the load generator was at its end. Sentences, the most urgent ones first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any

from ..servers.settings import SETTINGS
from . import failures
from .figures import FAR, FEW, SMALL_OF_FEW, Figures, differ, figures
from .histogram import Histogram
from .measures import MEASURES, Measure, main, tail, what_of
from .result import Cell, Person, Result, Task
from .units import brief, clean, count, duration, few, listed, share, size, times
from .workload import CHURN, CROWD, HOLD, TALK

__all__ = ["changes", "recommend", "verdict"]

# Above this share of wrong or failed messages a rate says nothing any more.
TOO_MANY_ERRORS = 0.01
# A planned rate was kept if so much of it was answered.
KEPT = 0.95
# Other programs that took more than this share of the cores were in the way.
DISTURBED = 0.10
# Starting takes its time: a crowd of which so much is served at once is served together.
ALL = 0.75
# Who serves one after the other makes a staircase if each step takes at least so long:
# below that it is starting, and not waiting, that takes the time.
STEP = 0.005
# Whoever gets less of its fair share than this is talked about.
UNFAIR = 0.5


def verdict(result: Result) -> list[str]:
    """Tell who is best at what, by how much, why, and how far that can be trusted."""
    said = [*_troubles(result)]
    for task in result.tasks:
        counts = [
            one
            for one in result.connections(task.name)
            if any(row.cell.rounds for row in _rows(result, task, one))
        ]
        if counts:
            said += _about(result, task, counts)
    if any(one.messages for cell in result.cells for one in cell.rounds):
        said += _limits(result)
    return said


@dataclass
class _Row:
    name: str
    cell: Cell
    all: Figures

    @property
    def spoiled(self) -> str:
        """Why its figures cannot be set beside the others', or nothing."""
        errors = sum(self.all.errors.values())
        if self.all.errors.get("wrong"):
            return "gave wrong replies"
        if errors > TOO_MANY_ERRORS * (self.all.messages + errors):
            return f"failed {share(errors / (self.all.messages + errors))} of the time"
        if self.all.unserved:
            return f"left {self.all.unserved:,} of {self.cell.connections:,} waiting"
        return "" if self.all.messages else "answered nothing"


def _rows(result: Result, task: Task, connections: int) -> list[_Row]:
    cells = (result.cell(one.name, task.name, connections) for one in result.subjects)
    return [
        _Row(clean(cell.subject), cell, figures(cell))
        for cell in cells
        if cell is not None and cell.rounds
    ]


def _where(task: Task, connections: int) -> str:
    return f"{clean(task.name)} with {count(connections, 'connection')}"


# ------------------------------------------------------------------ what went wrong


def _troubles(result: Result) -> list[str]:
    said = []
    if not result.complete:
        said.append("This was not run to its end; what is missing was not measured.")
    wrong: dict[str, int] = {}
    for cell in result.cells:
        for one in cell.rounds:
            if number := one.errors.get("wrong"):
                wrong[cell.subject] = wrong.get(cell.subject, 0) + number
    for name, number in wrong.items():
        replies = count(number, "wrong reply", "wrong replies")
        said.append(f"{clean(name)} gave {replies}: what came back was not what had to come.")
    said += failures.sentences(result)
    for task in result.tasks:
        for connections in result.connections(task.name):
            said += _errors(task, connections, _rows(result, task, connections))
    return said


def _errors(task: Task, connections: int, rows: list[_Row]) -> list[str]:
    said = []
    all_failed: dict[str, list[str]] = {}
    for row in rows:
        kinds = {kind: number for kind, number in row.all.errors.items() if kind != "wrong"}
        if not kinds:
            continue
        if not row.all.messages:
            names = listed(map(clean, sorted(row.all.errors)))
            all_failed.setdefault(names, []).append(row.name)
            continue
        listed_ = listed(f"{number:,} {clean(kind)}" for kind, number in kinds.items())
        of = row.all.messages + sum(row.all.errors.values())
        said.append(
            f"{_where(task, connections)}: {row.name} met errors: {listed_}, "
            f"of {count(of, 'message')}."
        )
    said += [
        f"{_where(task, connections)}: every message failed on {listed(names)} ({kinds_})."
        for kinds_, names in all_failed.items()
    ]
    return said


# ------------------------------------------------------------------ a workload


def _about(result: Result, task: Task, counts: list[int]) -> list[str]:
    said = []
    if len(counts) > 1 and main(task).name == "throughput" and task.rate is None:
        said += _over_counts(result, task, counts)
    else:
        for connections in counts:
            said += _ranked(task, connections, _rows(result, task, connections))
    return said + _unserved(result, task, counts)


def _ranked(task: Task, connections: int, rows: list[_Row]) -> list[str]:
    where = _where(task, connections)
    if task.way == CROWD:
        return _crowd(where, rows, connections)
    if task.way == HOLD:
        return _held(where, rows)
    if task.stops:
        return _stopped(where, rows)
    if task.rate is not None:
        return _open_loop(where, task, task.rate, rows)
    if task.beside:
        measure = tail([row.cell for row in rows if not row.spoiled])
        return _compared(where, task, rows, measure) if measure else []
    said = _compared(where, task, rows, MEASURES["throughput"])
    if task.handler == "work":
        said += _cores_used(where, rows)
    return said + _unfair(where, rows)


def _standings(rows: list[_Row], measure: Measure) -> list[tuple[_Row, float]]:
    """Give who can be compared, the best first."""
    able = [
        (row, value)
        for row in rows
        if not row.spoiled and (value := measure.of(row.cell, row.all)) is not None
    ]
    return sorted(able, key=lambda pair: pair[1], reverse=measure.more)


@dataclass
class _Race:
    """Who is best, and by how much."""

    best: _Row
    value: float
    # Those of whom the rounds do not show that they are worse.
    equal: list[_Row]
    # The ratio of each that is worse.
    worse: list[tuple[_Row, float]]
    # Where the load generator was at its end with one of the two.
    unknown: list[_Row]


def _race(rows: list[_Row], measure: Measure) -> _Race | None:
    standings = _standings(rows, measure)
    if len(standings) < 2:
        return None
    (best, value), *others = standings
    race = _Race(best, value, [], [], [])
    own = measure.each(best.cell)
    for row, other in others:
        same = not differ(own, measure.each(row.cell)) or not other or not value
        if row.all.bound or (same and best.all.bound):
            race.unknown.append(row)
        elif same:
            race.equal.append(row)
        else:
            race.worse.append((row, value / other if measure.more else other / value))
    return race


def _compared(where: str, task: Task, rows: list[_Row], measure: Measure) -> list[str]:
    race = _race(rows, measure)
    if race is None:
        alone = [row for row in rows if not row.spoiled]
        if not alone:
            return []
        value = measure.of(alone[0].cell, alone[0].all)
        if value is None:
            return []
        told = _told(task, measure, value, "at least " if alone[0].all.bound else "")
        return [f"{where}: {alone[0].name}: {told}."]
    names = [race.best.name, *(row.name for row in race.equal)]
    fewest = min(len(row.cell.rounds) for row in (race.best, *race.equal))
    if fewest < 2 and race.equal:
        return [f"{where}: one round tells nothing about differences."]
    at_least = "at least " if race.best.all.bound else ""
    if not race.worse:
        if race.unknown:
            return [_hidden(where, [race.best, *race.equal, *race.unknown])]
        told = _told(task, measure, race.value, at_least)
        if _unsure(race, measure):
            return [
                f"{where}: {listed(names)} cannot be told apart, so uneven are the rounds "
                f"({race.best.name}: {told}); more of them may tell."
            ]
        return [f"{where}: no difference between {listed(names)}, {told}."]
    unsure = _unsure(race, measure)
    equal = [row.name for row in race.equal if row not in unsure]
    first = [race.best.name, *equal]
    if race.unknown:
        # Who could not be driven to the end may be ahead of whom we see in front.
        praise = f"{'lead' if equal else 'leads'} where that can be told"
    elif race.equal:
        # None of several that do not differ is the fastest.
        praise = "are in front" if equal else "is in front"
    else:
        praise = f"is {_praise(measure)}"
    text = f"{where}: {listed(first)} {praise}, {_told(task, measure, race.value, at_least)}"
    said = []
    if equal:
        said.append("no difference between them")
    if unsure:
        said.append(f"too uneven to be told from {listed(row.name for row in unsure)}")
    if said:
        text += f" ({'; '.join(said)})"
    text += f"; {at_least}{_ratios(race.worse)}"
    if race.unknown:
        rest = [race.best, *race.unknown]
        text += (
            f"; how {listed(row.name for row in rest)} compare cannot be told, since the load "
            f"generator was at its end with {listed(row.name for row in rest if row.all.bound)}"
        )
    elif at_least:
        text += ", since the load generator was at its end"
    return [text + "."]


def _unsure(race: _Race, measure: Measure) -> list[_Row]:
    """Give those who may well differ from the best: only, their rounds do not show it."""
    found = []
    for row in race.equal:
        value = measure.of(row.cell, row.all)
        if value and not 1 / FAR < race.value / value < FAR:
            found.append(row)
    return found


def _hidden(where: str, rows: list[_Row]) -> str:
    bound = [row.name for row in rows if row.all.bound]
    return (
        f"{where}: {listed(row.name for row in rows)} cannot be told apart: the load generator "
        f"was at its end with {listed(bound)}, and not the server."
    )


def _praise(measure: Measure) -> str:
    return "fastest" if measure.name in ("throughput", "finished") else "best"


def _told(task: Task, measure: Measure, value: float, at_least: str = "") -> str:
    if measure.name == "throughput":
        return f"{at_least}{few(value)} {what_of(task)} a second"
    if measure.name.startswith("p"):
        # What the generator adds, it adds to latency.
        return f"{measure.name} of {'at most ' if at_least else ''}{measure.text(value)}"
    return f"{at_least}{measure.text(value)}"


def _ratios(worse: Sequence[tuple[_Row, float]]) -> str:
    """Give "1.4 times pool, 2.0 times thread and fork"."""
    groups: list[tuple[str, list[str]]] = []
    for row, ratio in worse:
        text = times(ratio)
        if groups and groups[-1][0] == text:
            groups[-1][1].append(row.name)
        else:
            groups.append((text, [row.name]))
    return listed(f"{text} times {' and '.join(names)}" for text, names in groups)


def _over_counts(result: Result, task: Task, counts: list[int]) -> list[str]:
    """Tell of each number of connections who leads, and of the most who is behind."""
    rate = MEASURES["throughput"]
    most = counts[-1]
    said = _ranked(task, most, _rows(result, task, most))
    leaders: list[tuple[int, str]] = []
    for one in counts[:-1]:
        rows = _rows(result, task, one)
        race = _race(rows, rate)
        if race is None or (not race.worse) or race.unknown:
            continue
        first = [race.best.name, *(row.name for row in race.equal)]
        told = len(first) + len(race.worse)
        if len(rows) == told and len(first) > max(len(race.worse), 1):
            text = f"all but {listed(row.name for row, _ in race.worse)} are level"
        else:
            text = f"{listed(first)} {'is' if len(first) == 1 else 'are'} in front"
        leaders.append((one, text))
    if leaders:
        parts: list[tuple[str, list[str]]] = []
        for one, text in leaders:
            if parts and parts[-1][0] == text:
                parts[-1][1].append(f"{one:,}")
            else:
                parts.append((text, [f"{one:,}"]))
        text = "; ".join(f"with {listed(at)}, {who}" for who, at in parts)
        said.append(f"{clean(task.name)} with fewer connections: {text}.")
    return said + _falling(result, task, counts)


def _falling(result: Result, task: Task, counts: list[int]) -> list[str]:
    """Tell who serves many connections more slowly than it serves some."""
    rate = MEASURES["throughput"]
    rows = {one: {row.name: row for row in _rows(result, task, one)} for one in counts}
    said = []
    for name, row in rows[counts[-1]].items():
        if row.spoiled or not row.all.per_second:
            continue
        earlier = [
            (one, rows[one][name])
            for one in counts[:-1]
            if name in rows[one] and not rows[one][name].spoiled
        ]
        if not earlier:
            continue
        at, peak = max(earlier, key=lambda pair: max(rate.each(pair[1].cell)))
        own, now = rate.each(peak.cell), rate.each(row.cell)
        if row.all.bound or not differ(own, now):
            continue
        lost = 1 - median(now) / median(own)
        if lost >= 0.2:
            said.append(f"{name} loses {share(lost)} from {at:,} to {counts[-1]:,}")
    return [f"{clean(task.name)}, more connections: {'; '.join(said)}."] if said else []


def _unserved(result: Result, task: Task, counts: list[int]) -> list[str]:
    found: dict[str, list[tuple[int, int]]] = {}
    none: dict[int, list[str]] = {}
    own = result.handler.get("name")
    erred = set()
    for connections in counts:
        for row in _rows(result, task, connections):
            if row.all.errors:
                erred.add(row.name)
            if row.all.messages and row.all.unserved:
                found.setdefault(row.name, []).append((row.all.unserved, connections))
            elif not row.all.messages and not row.all.errors:
                # If there were errors, they have been told.
                none.setdefault(connections, []).append(row.name)
    said = [
        f"{_where(task, connections)}: nobody had a reply in a whole round on {listed(names)}"
        f"{' (a handler that returns None sends none)' if task.handler == own else ''}."
        for connections, names in none.items()
    ]
    for name, pairs in found.items():
        served = listed(f"{all_ - left:,} of {all_:,}" for left, all_ in pairs)
        subject = next((one for one in result.subjects if clean(one.name) == name), None)
        how = "had no reply by the end of the round"
        if name in erred:
            how = "had errors, or no reply by the end of the round"
        elif subject is not None and subject.model == "single":
            how = "waited in the backlog to the end of the round"
        said.append(
            f"{clean(task.name)}: {name} served {served}; the others {how}, and its "
            "other figures are of those whom it served."
        )
    return said


def _unfair(where: str, rows: list[_Row]) -> list[str]:
    said = []
    for row in rows:
        fair = row.all.fairness
        if fair is not None and not row.spoiled and fair.high < UNFAIR and row.cell.connections > 1:
            said.append(
                f"{where}: {row.name} served its clients unevenly (fairness {fair.median:.2f}, "
                "where 1 is the same for each)."
            )
    return said


def _open_loop(where: str, task: Task, rate: float, rows: list[_Row]) -> list[str]:
    kept, short = [], []
    for row in rows:
        if row.all.per_second is None or row.spoiled:
            continue
        if row.all.per_second.median >= KEPT * rate:
            kept.append(row)
        else:
            short.append(row)
    said = []
    if short:
        reached = listed(
            f"{row.name} ({few(row.all.per_second.median)}"
            f"{', the load generator was late' if row.all.bound else ''})"
            for row in short
            if row.all.per_second is not None
        )
        said.append(
            f"{where}: the planned {few(rate)} messages a second were not reached with {reached}."
        )
    if kept:
        names = listed(row.name for row in kept)
        measure = tail([row.cell for row in kept])
        if len(kept) == 1 and short:
            value = measure.of(kept[0].cell, kept[0].all) if measure else None
            with_ = f", with a {measure.name} of {measure.text(value)}" if measure and value else ""
            said.append(f"{where}: {names} kept up with the plan{with_}.")
        elif measure:
            said += _compared(where, task, kept, measure)
        else:
            said.append(
                f"{where}: {names} kept up with the plan; the messages are too few for a "
                "percentile to be compared, so measure longer."
            )
    return said + _hidden_by_a_loop(where, rows)


def _hidden_by_a_loop(where: str, rows: list[_Row]) -> list[str]:
    """Tell whose stalls nobody would have seen who asks again only after a reply."""
    found = []
    for row in rows:
        sent = sum((one.from_send for one in row.cell.rounds), Histogram())
        seen, planned = sent.percentile(99.0), row.all.latency.get(99.0)
        if seen and planned is not None and planned.median > 2 * seen and not row.all.bound:
            found.append(f"{row.name} (p99 {duration(planned.median)}, not {duration(seen)})")
    if not found:
        return []
    return [
        f"{where}: asking only after each reply would have hidden the stalls of {listed(found)}."
    ]


def _held(where: str, rows: list[_Row]) -> list[str]:
    standings = _standings(rows, MEASURES["memory-each"])
    if not standings:
        return []
    # One reading each: there are no rounds to compare.
    groups: list[tuple[float, list[str]]] = []
    for row, value in standings:
        if groups and value - groups[-1][0] <= SMALL_OF_FEW * value:
            groups[-1][1].append(row.name)
        else:
            groups.append((value, [row.name]))
    if len(groups) == 1 and len(standings) > 1:
        return [f"{where}: about {size(groups[0][0])} of memory a connection on all (read once)."]
    texts = [f"{size(value)} on {listed(names)}" for value, names in groups]
    return [f"{where}: a connection takes {listed(texts)} (memory is read once)."]


def _stopped(where: str, rows: list[_Row]) -> list[str]:
    known = sorted(
        ((row.cell.stop, row.name) for row in rows if row.cell.stop is not None),
    )
    if not known:
        return []
    (first, quick), (last, slow) = known[0], known[-1]
    text = f"{where}: told to stop, {quick} was gone after {duration(first)}"
    if len(known) > 1:
        text += f", and the last, {slow}, after {duration(last)}"
    lost = [f"{row.name} {row.all.errors['lost']:,}" for row in rows if row.all.errors.get("lost")]
    if lost:
        text += f"; messages under way were lost: {listed(lost)}"
    return [text + "."]


# ------------------------------------------------------------------ a crowd


def _crowd(where: str, rows: list[_Row], connections: int) -> list[str]:
    where = where.replace("connection", "client")
    able = [row for row in rows if not row.spoiled and row.all.finished is not None]
    if not able:
        return []
    ways: dict[str, list[_Row]] = {"one": [], "some": [], "all": []}
    for row in able:
        if (at_once := _at_once(row)) is not None:
            usual, most = at_once
            way = "one" if usual < 1.5 else "all" if most >= ALL * connections else "some"
            ways[way].append(row)
    said = []
    if ways["one"] and connections > 2:
        names = listed(row.name for row in ways["one"])
        soon, last = (end(_finished(row) for row in ways["one"]) for end in (min, max))
        one_by_one = "serves one after the other" if len(ways["one"]) == 1 else "serve one by one"
        said.append(
            f"{where}: {names} {one_by_one}, a staircase: the last has its reply after "
            f"{_from_to(soon, last)}, which is {connections} times "
            f"{_from_to(soon / connections, last / connections)}."
        )
    if ways["some"]:
        some = listed(
            f"{row.name} up to {(_at_once(row) or (0, 0))[1]} (all by {duration(_finished(row))})"
            for row in ways["some"]
        )
        said.append(f"{where}: some are served at a time: {some}.")
    if ways["all"]:
        names = listed(row.name for row in ways["all"])
        soon, last = (end(_finished(row) for row in ways["all"]) for end in (min, max))
        verb = "serves" if len(ways["all"]) == 1 else "serve"
        text = (
            f"{where}: {names} {verb} all together: everybody has a reply after "
            f"{_from_to(soon, last)}"
        )
        slow = [row for row in ways["one"] if all(_differs(row, other) for other in ways["all"])]
        if slow:
            ratio = min(_finished(row) for row in slow) / last
            text += f", {times(ratio)} times sooner than on {listed(row.name for row in slow)}"
        said.append(text + ".")
    if said:
        for row in able:
            if not any(row in rows_ for rows_ in ways.values()):
                said.append(
                    f"{where}: on {row.name} the last has its reply after "
                    f"{duration(_finished(row))}; how many it served at a time was not to be "
                    "seen."
                )
        return said
    race = _race(able, MEASURES["finished"])
    if race is None:
        return [
            f"{where}: {row.name}: the last has its reply after {duration(_finished(row))}."
            for row in able
        ]
    if min(len(row.cell.rounds) for row in (race.best, *race.equal)) < 2 and race.equal:
        return [f"{where}: one round tells nothing about differences."]
    unsure = _unsure(race, MEASURES["finished"])
    first = [race.best.name, *(row.name for row in race.equal if row not in unsure)]
    uneven = listed(row.name for row in unsure) if unsure else ""
    if not race.worse and uneven:
        return [
            f"{where}: {listed([*first, uneven])} cannot be told apart, so uneven are the rounds; "
            "more of them may tell."
        ]
    if not race.worse:
        last = max(_finished(row) for row in (race.best, *race.equal))
        return [
            f"{where}: no difference between {listed(first)}: the last has its reply after "
            f"{_from_to(race.value, last)}."
        ]
    behind = listed(f"{times(ratio)} times as long on {row.name}" for row, ratio in race.worse)
    verb = "is" if len(first) == 1 else "are"
    return [
        f"{where}: {listed(first)} {verb} the first to have served everybody, after "
        f"{duration(race.value)}; it takes {behind}"
        f"{f' (too uneven to be told: {uneven})' if uneven else ''}."
    ]


def _from_to(low: float, high: float) -> str:
    """Give one time, or two if they lie apart."""
    if high <= (1 + SMALL_OF_FEW) * low:
        return duration(high)
    return f"{duration(low)} to {duration(high)}"


def _finished(row: _Row) -> float:
    return row.all.finished.median if row.all.finished is not None else 0.0


def _differs(row: _Row, other: _Row) -> bool:
    measure = MEASURES["finished"]
    return differ(measure.each(row.cell), measure.each(other.cell))


def _at_once(row: _Row) -> tuple[float, int] | None:
    """Give how many were served at once while anybody was: on average, and at most.

    None where nobody saw that, or where most of the time went elsewhere, or where the
    handler takes so little that nobody waits for it.
    """
    seen = [_service(one) for one in row.cell.timeline]
    pairs = [pair for pair in seen if pair is not None]
    if len(pairs) * 2 <= len(seen) or not pairs:
        return None
    span = max(end for _, end in pairs) - min(begin for begin, _ in pairs)
    served = sum(end - begin for begin, end in pairs)
    if served < span / 2 or median(end - begin for begin, end in pairs) < STEP:
        return None
    # At the same moment one ends before another begins.
    steps = sorted([(begin, 1) for begin, _ in pairs] + [(end, -1) for _, end in pairs])
    most = max(accumulate(step for _, step in steps))
    return served / span, most


def _service(person: Person) -> tuple[float, float] | None:
    if person.began is None or person.ended is None:
        return None
    return person.began, person.ended


# ------------------------------------------------------------------ cores and limits


def _cores_used(where: str, rows: list[_Row]) -> list[str]:
    used = {
        row.name: row.all.cpu.median / 1000 * row.all.per_second.median
        for row in rows
        if row.all.cpu is not None and row.all.per_second is not None and not row.spoiled
    }
    if not used:
        return []
    several = {name: cores for name, cores in used.items() if cores >= 1.3}
    # Who has several processes could have, and was kept from it.
    one = [
        row.name
        for row in rows
        if row.name in used and row.name not in several and (row.all.processes or 1) == 1
    ]
    if not several:
        return []
    most = listed(f"{name} ({cores:.1f})" for name, cores in several.items())
    verb = "computes" if len(several) == 1 else "compute"
    text = f"{where}: {most} {verb} on more than one core"
    if one:
        text += f"; {listed(one)} on one at a time"
        if "thread" in one or "pool" in one:
            text += ", since the threads of one interpreter take turns"
    return [text + "."]


def _limits(result: Result) -> list[str]:
    said = []
    rounds = sorted({len(cell.rounds) for cell in result.cells if cell.rounds})
    if rounds[0] < FEW:
        low, high = rounds[0], rounds[-1]
        span = count(high, "round") if low == high else f"{low} to {high} rounds"
        said.append(f"All this is an indication, from {span}; {FEW} or more make it firm.")
    said += _machine(result)
    ways = {
        task.rate is None
        for task in result.tasks
        if task.way in (TALK, CHURN) and result.connections(task.name)
    }
    if ways == {True}:
        said.append(
            "Each client asked again only after its reply (a closed loop), which hides how many "
            "would have waited while a server stalls; --rate asks by the clock."
        )
    elif False in ways:
        said.append(
            "Where a rate was planned, clients asked by the clock (an open loop) and latency "
            "counts from the planned moment, so that stalls are seen in full. The moments come "
            "by chance, as many in a second as the rate on average (a Poisson process), and so "
            "a short round has a few more or fewer."
        )
    return said


def _machine(result: Result) -> list[str]:
    known = result.environment
    cores = known.get("cores_usable", known.get("cores"))
    others = [one.others for cell in result.cells for one in cell.rounds if one.others is not None]
    said = []
    if isinstance(cores, int):
        text = f"Servers and load shared {count(cores, 'core')}"
        if result.kind == "bench":
            # The server may be elsewhere.
            text = f"The load had {count(cores, 'core')}"
        elif known.get("pinned"):
            text = f"{count(cores, 'core')}, with servers and load pinned to their own"
        elif cores == 1:
            text += ", so no model could compute on several"
        if others and max(others) > DISTURBED:
            text += f", and other programs took up to {share(max(others))} of them meanwhile"
        elif others:
            text += ", which other programs left alone"
        said.append(text + ".")
    elif others and max(others) > DISTURBED:
        said.append(f"Other programs took up to {share(max(others))} of the cores meanwhile.")
    load = known.get("load")
    # It lags a minute behind: if the rounds were left alone, it tells of what is over.
    quiet = others and max(others) <= DISTURBED
    if isinstance(load, int | float) and isinstance(cores, int) and load > cores / 2 and not quiet:
        said.append(f"The machine was busy before it began (load {load:.1f}): repeat it in peace.")
    return said


# ------------------------------------------------------------------ old and new


def changes(result: Result, baseline: Result) -> list[str]:
    """Tell what differs from an older result: each workload, server and number of connections."""
    said = [*_other_machine(result, baseline)]
    same: dict[tuple[str, int], list[str]] = {}
    unknown: dict[tuple[str, int], list[str]] = {}
    planned: dict[str, dict[tuple[str, int], list[str]]] = {}
    found = 0
    for cell in result.cells:
        before = baseline.cell(cell.subject, cell.task, cell.connections)
        task = next((one for one in result.tasks if one.name == cell.task), None)
        if before is None or task is None:
            continue
        found += 1
        name = clean(cell.subject)
        where = f"{_where(task, cell.connections)}, {name}"
        if not cell.rounds or not before.rounds:
            if bool(cell.rounds) != bool(before.rounds):
                reason = clean(cell.failure or before.failure or "not measured").rstrip(".")
                when = "now" if before.rounds else "in the baseline"
                said.append(f"{where}: nothing to compare; {when}: {reason}.")
            continue
        if why := _other_plan(task, baseline):
            places = planned.setdefault(why, {})
            places.setdefault((task.name, cell.connections), []).append(name)
            continue
        changed, told = _changed(task, cell, before)
        if changed:
            said.append(f"{where}: {'; '.join(changed)}.")
        else:
            kind = same if told else unknown
            kind.setdefault((task.name, cell.connections), []).append(name)
    said += [f"{where}: no difference." for where in _together(same)]
    for why, places in planned.items():
        said += [f"{where}: cannot be compared, since {why}." for where in _together(places)]
    said += [
        f"{where}: cannot be told (one round, uneven rounds, or the load generator at its end)."
        for where in _together(unknown)
    ]
    if not found:
        said.append(
            "Nothing here was measured in the baseline too: no workload, server and number of "
            "connections are the same."
        )
    return said


def _other_plan(task: Task, baseline: Result) -> str:
    before = next((one for one in baseline.tasks if one.name == task.name), task)
    if before.rate == task.rate:
        return ""
    old, new = (
        "none" if rate is None else f"{few(rate)} messages a second"
        for rate in (before.rate, task.rate)
    )
    return f"the baseline had another rate planned ({old}; now {new})"


def _together(found: dict[tuple[str, int], list[str]]) -> list[str]:
    """Give one text for all numbers of connections with the same servers."""
    counts: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for (task, connections), names in found.items():
        counts.setdefault((task, tuple(names)), []).append(connections)
    return [
        f"{clean(task)} with {listed(f'{one:,}' for one in sorted(at))} "
        f"{'connection' if at == [1] else 'connections'}, {listed(names)}"
        for (task, names), at in counts.items()
    ]


def _changed(task: Task, cell: Cell, before: Cell) -> tuple[list[str], bool]:
    """Give what has changed, and whether that could be told at all."""
    now, then = figures(cell), figures(before)
    said = []
    told = False
    if now.unserved != then.unserved:
        said.append(f"{now.unserved:,} never served instead of {then.unserved:,}")
    errors, had = sum(now.errors.values()), sum(then.errors.values())
    if errors != had:
        said.append(f"{count(errors, 'error')} instead of {had:,}")
    tail_ = tail([cell, before]) if task.rate is not None else None
    for measure in filter(None, (main(task), tail_)):
        value, old = measure.of(cell, now), measure.of(before, then)
        if not value or not old:
            continue
        own, other = measure.each(cell), measure.each(before)
        # Some are read once, and not in each round.
        once = not own or not other
        if not once and min(len(own), len(other)) < 2:
            continue
        changed = abs(value - old) > SMALL_OF_FEW * max(value, old) if once else differ(own, other)
        if measure.name == "throughput" and _hides(changed, now, then, value > old):
            continue
        if not changed and not once and not 1 / FAR < value / old < FAR:
            # It may well have changed: only, the rounds do not show it.
            continue
        told = True
        if changed:
            text = _named(task, measure, value)
            more = f"{share(abs(value / old - 1))} {'more' if value > old else 'less'}"
            if value >= 2 * old:
                more = f"{times(value / old)} times as much"
            said.append(f"{text} instead of {measure.text(old)} ({more})")
    return said, told


def _hides(changed: bool, now: Figures, then: Figures, rose: bool) -> bool:
    """Tell whether the load generator may have hidden how two rates really compare."""
    if not changed:
        return bool(now.bound or then.bound)
    return bool(then.bound if rose else now.bound)


def _named(task: Task, measure: Measure, value: float) -> str:
    if measure.name == "throughput":
        return f"{few(value)} {what_of(task)} a second"
    return f"{measure.what} is {measure.text(value)}"


def _other_machine(result: Result, baseline: Result) -> list[str]:
    said = []
    for key in ("implementation", "python", "system", "machine", "cores_usable"):
        old, new = baseline.environment.get(key), result.environment.get(key)
        if old is not None and new is not None and old != new:
            said.append(f"{key.replace('_usable', '')} {old} → {new}")
    if not said:
        return []
    return [f"The baseline was made on something else: {clean(', '.join(said))}."]


# ------------------------------------------------------------------ one's own handler

# Below this a wait is no wait: it is what the scheduler makes of a call.
NO_WAIT = 0.0002
# Computing so long, a second process is worth having; and so long, others notice.
LIGHT, HEAVY = 0.0002, 0.001
# What `pool` has if nobody says otherwise.
POOL_THREADS: int = SETTINGS["threads"].default
# Threads of a server that serve nobody.
OTHER_THREADS = 8
# So many at once that it limits nothing.
ANY = 10**9


def recommend(result: Result) -> list[str]:
    """Say what fits the handler, if it is known how long it waits and computes.

    The rule: a thread is kept for as long as a message takes, so there must be as many
    as messages a second times seconds a message; and no process computes longer than a
    second in a second. What was measured of it limits what is worked out: a message
    costs no more than it did under load, and no model does less than it did.
    """
    known = _known(result.handler)
    if known is None:
        return []
    name, wait, cpu, asynchronous, keeps_worker = known
    cores = result.environment.get("cores_usable", result.environment.get("cores"))
    cores = cores if isinstance(cores, int) and cores > 0 else 1
    if _failed(result, result.handler.get("name")):
        return ["Nothing is advised: most messages to your handler failed, as told above."]
    seen = _seen(result)
    cost = _Cost(wait, min(cpu, seen.cpu), seen)
    said = [_profile(name, cost)]
    if keeps_worker:
        return said + _kept(cost, cores)
    if asynchronous:
        return said + _asynchronous(cost, cores)
    if cost.cpu >= LIGHT and cost.cpu > wait:
        return said + (_computing if cost.cpu >= HEAVY else _between)(cost, cores)
    if wait >= NO_WAIT:
        return said + _waiting(cost, cores)
    return said + _quick(cost, cores)


@dataclass
class _Seen:
    """What the handler was seen to do under load."""

    # CPU seconds of a message, at most.
    cpu: float
    # The most messages a second, by model.
    rates: dict[str, float]


# Whose messages are all computed in one process.
_ONE_PROCESS = ("single", "thread", "pool", "loop", "aio")


def _failed(result: Result, handler: object) -> bool:
    """Tell whether most messages failed wherever the handler was measured."""
    tasks = {one.name for one in result.tasks if one.handler == handler}
    cells = [cell for cell in result.cells if cell.rounds and cell.task in tasks]
    all_ = [figures(cell) for cell in cells]
    return bool(all_) and all(sum(one.errors.values()) > one.messages for one in all_)


def _seen(result: Result) -> _Seen:
    seen = _Seen(math.inf, {})
    models = {one.name: one.model for one in result.subjects}
    tasks = {one.name: one for one in result.tasks}
    for cell in result.cells:
        task, model = tasks.get(cell.task), models.get(cell.subject)
        if task is None or model is None or task.way not in (TALK, CHURN) or task.stops:
            continue
        found = figures(cell)
        if task.handler != result.handler.get("name") or found.errors or not found.messages:
            continue
        if found.cpu is not None:
            seen.cpu = min(seen.cpu, found.cpu.median / 1000)
        if found.per_second is not None:
            rate = found.per_second.median
            if model == "pool" and (found.threads or 0) > POOL_THREADS + OTHER_THREADS:
                # It is not the pool that we speak of.
                model = ""
            seen.rates[model] = max(seen.rates.get(model, 0.0), rate)
            if model in _ONE_PROCESS and rate:
                seen.cpu = min(seen.cpu, 1 / rate)
    return seen


@dataclass
class _Cost:
    """What a message costs."""

    wait: float
    cpu: float
    seen: _Seen

    def rate(self, at_once: int, processes: int = 1) -> float:
        """Give how many a second so many at once can be, in so many processes."""
        each = self.wait + self.cpu
        by_workers = at_once / each if each > 0 else math.inf
        # The interpreter lock lets one thread of a process compute.
        by_lock = processes / self.cpu if self.cpu > 0 else math.inf
        return min(by_workers, by_lock)

    def rated(self, at_once: int, *models: str, processes: int = 1) -> str:
        """Say it, of models: it is never less than they were seen to do."""
        rate = self.rate(at_once, processes)
        seen = max((self.seen.rates.get(one, 0.0) for one in models), default=0.0)
        # Two digits: it is a rule, and no measurement.
        rate = float(f"{rate:.2g}")
        if rate < seen:
            return f"up to {few(seen)} messages a second"
        return f"up to {rate:,.0f} messages a second" if rate >= 10 else f"up to {rate:g} a second"

    @property
    def computed(self) -> str:
        """Say what one process computes."""
        return self.rated(ANY, *_ONE_PROCESS)


def _known(handler: dict[str, Any]) -> tuple[str, float, float, bool, bool] | None:
    wait, cpu = handler.get("wait"), handler.get("cpu")
    for value in (wait, cpu):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            return None
    for key in ("asynchronous", "keeps_worker"):
        if not isinstance(handler.get(key), bool):
            return None
    name = handler.get("name")
    shown = clean(name) if isinstance(name, str) and name else ""
    return shown, float(wait), float(cpu), handler["asynchronous"], handler["keeps_worker"]  # type: ignore[arg-type]  # numbers: see above


def _profile(name: str, cost: _Cost) -> str:
    who = f"Your handler {name}" if name else "Your handler"
    waits = f"waits {brief(cost.wait)}" if cost.wait >= NO_WAIT else "waits for nothing"
    return f"{who} {waits} and computes {_short(cost.cpu)} for each message."


def _short(seconds: float) -> str:
    return brief(seconds) if seconds else "next to nothing"


def _waiting(cost: _Cost, cores: int) -> list[str]:
    each = cost.wait + cost.cpu
    said = [
        f"A pool with {POOL_THREADS} threads serves {cost.rated(POOL_THREADS, 'pool')}. Threads "
        f"needed are messages a second times {brief(each)}: {_threads_for(cost)}. thread has one "
        "for each connection."
    ]
    if cost.cpu > 0 and cost.rate(ANY) < 10 * cost.rate(POOL_THREADS):
        text = f"However many threads there are, one process computes {cost.computed}"
        if cores > 1:
            text += f"; prefork, with a pool in each of {cores} workers, does that on each core"
        said.append(f"{text}.")
    text = (
        f"loop and aio stall while it blocks: {cost.rated(1, 'loop', 'aio')} for all clients "
        "together; written as async def it would fit aio"
    )
    said.append(f"{text}, which then serves {cost.computed}." if cost.cpu > 0 else f"{text}.")
    said.append("single loses everything beyond one client: the others wait until that one leaves.")
    return said


def _threads_for(cost: _Cost) -> str:
    # An example that the interpreter lock allows.
    goal = next((one for one in (1000, 100, 10) if one <= cost.rate(ANY)), 1)
    needed = max(math.ceil(round(goal * (cost.wait + cost.cpu), 6)), 1)
    return f"{count(needed, 'thread')} for {goal:,}"


def _computing(cost: _Cost, cores: int) -> list[str]:
    if cores == 1:
        return [
            f"It computes, and there is one core: {cost.computed} is the end on every model. "
            "thread and pool keep short questions answered meanwhile; loop and aio do not.",
        ]
    said = [
        f"It computes, and one process computes {cost.computed}, however many threads it has: "
        f"prefork with {cores} workers does {cost.rated(ANY, 'prefork', processes=cores)} on "
        f"{cores} cores."
    ]
    if cost.cpu >= 4 * HEAVY:
        said.append(
            "fork does nearly as much where connections are few and long; a process for each "
            "connection costs about a millisecond."
        )
    else:
        said.append(
            "fork pays as well if conversations are long; a process for a connection costs about "
            "as much as one message here."
        )
    said.append("loop and aio answer nobody while one message is computed.")
    return said


def _between(cost: _Cost, cores: int) -> list[str]:
    if cores == 1:
        return _quick(cost, cores)
    return [
        f"It only computes, and one process computes {cost.computed} on any model: if that is "
        "enough, loop or aio do it with the least of everything, and each client waits "
        f"{brief(cost.cpu)} for each that is before it.",
        f"If it is not, prefork is worth its processes: with {cores} workers it does "
        f"{cost.rated(ANY, 'prefork', processes=cores)} on {cores} cores.",
    ]


def _quick(cost: _Cost, cores: int) -> list[str]:
    said = [
        "It needs no thread of its own, and threads only add switching: loop or aio"
        + (f" ({cost.computed}, as far as the handler goes)." if cost.cpu > 0 else ".")
    ]
    if cores > 1:
        said.append(
            f"If one core is not enough, prefork with loop in each of {cores} workers uses all."
        )
    return said


def _asynchronous(cost: _Cost, cores: int) -> list[str]:
    said = [
        "It is asynchronous, which is for aio: all conversations wait at once in one thread"
        + (f", {cost.computed}." if cost.cpu > 0 else ".")
    ]
    if cost.cpu >= HEAVY:
        more = f"; prefork with aio in each of {cores} workers uses all cores" if cores > 1 else ""
        said.append(f"While it computes {brief(cost.cpu)}, nobody else is answered{more}.")
    elif cores > 1:
        said.append(f"Beyond one core: prefork with aio in each of {cores} workers.")
    said.append("The other models await nothing, and refuse it.")
    return said


def _kept(cost: _Cost, cores: int) -> list[str]:
    said = [
        "A socketserver handler class keeps its thread for the whole conversation: thread, or a "
        f"pool with as many threads as connections at once (--threads; {POOL_THREADS} if nothing "
        "is said)."
    ]
    if cost.cpu >= HEAVY and cost.cpu > cost.wait and cores > 1:
        said.append(
            f"It computes, too, and threads share one core ({cost.computed}); fork, and "
            f"prefork with {cores} workers, use {cores} cores."
        )
    said.append("loop and aio cannot serve it, and single serves one client at a time.")
    return said
