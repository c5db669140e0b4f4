"""What a result must not be, in a line: --fail-if 'p99>50ms'.

    [WORKLOAD[/SUBJECT[/CONNECTIONS]]:] METRIC OP VALUE

METRIC is a name in MEASURES: throughput, p50, p90, p99, p99.9, max, finished, unserved,
errors, fairness, cpu, switches, threads, processes, descriptors, memory, memory-each,
ready, stop. OP is <, <=, > or >=. VALUE is a number with a unit (ns us ms s, B KiB MiB
GiB, k M for counts), or one measured earlier: baseline, 0.9*baseline, baseline*1.2, +20%
or -10%. Without WORKLOAD it is about all of them, and * stands for any name:

    p99>50ms    echo/loop:throughput<100k    throughput<0.9*baseline    */fork:memory>+20%

A figure that a workload does not have cannot fail. A server that was not measured does.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from ..errors import SettingError, suggest
from .figures import figures
from .measures import MEASURES, Measure
from .result import Cell, Result
from .units import clean, count, times
from .workload import CROWD, HOLD

__all__ = ["Criterion", "check", "parse"]

_OPS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_WORDS = {"<": "less than", "<=": "not more than", ">": "more than", ">=": "not less than"}

_UNITS: dict[str, dict[str, float | None]] = {
    "s": {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": None},
    "bytes": {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "": None},
    "": {"": 1.0, "k": 1e3, "M": 1e6},
}

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?|\.\d{1,9}"
_EXAMPLE = "write it as 'p99>50ms', 'echo/loop:throughput<100k' or 'throughput<0.9*baseline'"


@dataclass(frozen=True)
class Criterion:
    """One of them, read."""

    text: str
    measure: Measure
    op: str
    # In base units; or, if `relative`, how many times the baseline's.
    value: float
    relative: bool
    workload: str = "*"
    subject: str = "*"
    connections: int | None = None


def parse(text: str) -> Criterion:
    """Read one. Errors: SettingError."""
    where, _, what = text.rpartition(":")
    found = re.fullmatch(r"\s*([A-Za-z][\w.-]*?)\s*(<=|>=|<|>)\s*(\S(?:.*\S)?)\s*", what)
    if found is None:
        raise SettingError(f"takes a criterion, not {text!r}; {_EXAMPLE}")
    name, op, value = found.groups()
    measure = MEASURES.get(name)
    if measure is None:
        raise SettingError(f"{text!r}: unknown metric {name!r}; {suggest(name, MEASURES)}")
    number, relative = _value(text, measure, value)
    workload, subject, connections = _where(text, where)
    return Criterion(text, measure, op, number, relative, workload, subject, connections)


def _where(text: str, where: str) -> tuple[str, str, int | None]:
    parts = [part.strip() for part in where.split("/")] if where.strip() else []
    if len(parts) > 3 or not all(parts):
        raise SettingError(f"{text!r}: {where!r} is no WORKLOAD/SUBJECT/CONNECTIONS; {_EXAMPLE}")
    workload, subject, number = [*parts, "*", "*", "*"][:3]
    if number == "*":
        return workload, subject, None
    digits = number.replace(",", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise SettingError(f"{text!r}: {number!r} is no number of connections")
    return workload, subject, int(digits)


def _value(text: str, measure: Measure, value: str) -> tuple[float, bool]:
    compact = value.replace(" ", "")
    if found := re.fullmatch(rf"([+-])({_NUMBER})%", compact):
        sign = 1 if found[1] == "+" else -1
        return 1 + sign * float(found[2]) / 100, True
    if compact == "baseline":
        return 1.0, True
    found = re.fullmatch(rf"({_NUMBER})\*baseline", compact)
    found = found or re.fullmatch(rf"baseline\*({_NUMBER})", compact)
    if found:
        return float(found[1]), True
    found = re.fullmatch(rf"({_NUMBER})(\D*)", compact)
    if found is None:
        raise SettingError(f"{text!r}: {value!r} is no value; {_EXAMPLE}")
    units = _UNITS.get(measure.unit, _UNITS[""])
    factor = units.get(found[2], 0.0)
    number = float(found[1])
    if factor is None and not number:
        # Nothing is nothing in any unit.
        factor = 1.0
    if not factor:
        known = ", ".join(unit for unit in units if unit)
        if not measure.unit or measure.unit == "count":
            raise SettingError(
                f"{text!r}: {measure.name} is a number without a unit, as in 500, 100k or 2M"
            )
        what = f"the unit {found[2]!r}" if found[2] else "no unit"
        raise SettingError(
            f"{text!r}: {value!r} has {what}, and {measure.name} is measured in {known}"
        )
    return number * factor, False


def check(result: Result, criterion: Criterion, baseline: Result | None = None) -> list[str]:
    """Say what fails; nothing, if nothing does.

    Errors: SettingError, if there is nothing that it could be about.
    """
    if criterion.relative and baseline is None:
        raise SettingError(
            f"{criterion.text!r} compares with a baseline, and there is none; add --baseline FILE"
        )
    cells = [cell for cell in result.cells if _is_meant(criterion, cell, result)]
    if not cells:
        raise SettingError(
            f"{criterion.text!r} is about nothing that is measured; {_known(result)}"
        )
    said = []
    told = False
    for cell in cells:
        value = criterion.measure.of(cell, figures(cell))
        where = _named(cell)
        if value is None:
            if cell.failure and not cell.rounds and not _failed_before(criterion, cell, baseline):
                told = True
                reason = clean(cell.failure).rstrip(".")
                said.append(f"{where}: no {criterion.measure.name}, since it failed: {reason}")
            continue
        limit, source = _limit(criterion, cell, baseline)
        if limit is None:
            continue
        told = True
        if _OPS[criterion.op](value, limit):
            text = criterion.measure.text
            said.append(
                f"{where}: {criterion.measure.name} is {text(value)}, which is "
                f"{_WORDS[criterion.op]} {text(limit)}{source}"
            )
    if not told:
        raise SettingError(f"{criterion.text!r} cannot be told: {_why(criterion, result)}")
    return said


def _is_meant(criterion: Criterion, cell: Cell, result: Result) -> bool:
    if criterion.workload == "*":
        # What a crowd's or an idle client's messages a second would be says nothing.
        way = next((task.way for task in result.tasks if task.name == cell.task), "")
        if criterion.measure.name == "throughput" and way in (CROWD, HOLD):
            return False
        if criterion.measure.name == "finished" and way != CROWD:
            return False
    return (
        criterion.workload in ("*", cell.task)
        and criterion.subject in ("*", cell.subject)
        and criterion.connections in (None, cell.connections)
    )


def _failed_before(criterion: Criterion, cell: Cell, baseline: Result | None) -> bool:
    # Then nothing has become worse.
    if not criterion.relative or baseline is None:
        return False
    before = baseline.cell(cell.subject, cell.task, cell.connections)
    return before is None or not before.rounds


def _named(cell: Cell) -> str:
    where = f"{clean(cell.task)}/{clean(cell.subject)}"
    return f"{where} with {count(cell.connections, 'connection')}"


def _limit(criterion: Criterion, cell: Cell, baseline: Result | None) -> tuple[float | None, str]:
    if not criterion.relative or baseline is None:
        return criterion.value, ""
    before = baseline.cell(cell.subject, cell.task, cell.connections)
    if before is None:
        return None, ""
    old = criterion.measure.of(before, figures(before))
    if old is None:
        return None, ""
    if criterion.value == 1.0:
        return old, ", the baseline's"
    said = f", {times(criterion.value)} times the baseline's {criterion.measure.text(old)}"
    return old * criterion.value, said


def _known(result: Result) -> str:
    tasks = ", ".join(dict.fromkeys(clean(cell.task) for cell in result.cells))
    subjects = ", ".join(dict.fromkeys(clean(cell.subject) for cell in result.cells))
    return f"workloads: {tasks or 'none'}; subjects: {subjects or 'none'}"


def _why(criterion: Criterion, result: Result) -> str:
    name = criterion.measure.name
    system = ("cpu", "memory", "memory-each", "threads", "processes", "switches", "descriptors")
    if name in system and result.kind == "bench":
        return f"{name} is not seen of a server that runs elsewhere; compare starts its own"
    if name in system and result.environment.get("psutil") is None:
        return f"{name} was not measured, which needs psutil: pip install 'echoframe[sys]'"
    if criterion.relative:
        return f"the baseline has no {name} of the same workload, subject and connections"
    if name.startswith("p"):
        return f"there were too few messages for a {name}; measure longer, or use max"
    return f"no workload that is meant has a {name}"
