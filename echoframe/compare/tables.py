"""Results as CSV, for programs, and as Markdown, for whoever reads a pull request."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from statistics import median

from .columns import Sheet, footnotes, sheet
from .failures import KINDS
from .figures import PERCENTILES, Figures, Spread, figures
from .result import Cell, Result, Task
from .units import clean, count, few, listed
from .verdict import changes, recommend, verdict

__all__ = ["CSV_COLUMNS", "to_csv", "to_markdown"]

ERRORS = ("refused", "reset", "ended", "wrong", "timeout", "lost")

# Seconds, bytes and numbers; what is not known is empty. Columns may be added at the
# end, and keep their names.
CSV_COLUMNS = (
    *("result", "made", "command", "subject", "model", "workload", "handler", "way"),
    *("planned_per_second", "connections", "rounds", "messages"),
    *("per_second", "per_second_low", "per_second_high"),
    *(
        f"latency_p{percent:g}_seconds".replace(".", "_") + end
        for percent in PERCENTILES
        for end in ("", "_low", "_high")
    ),
    *("latency_max_seconds", "finished_seconds", "finished_seconds_low", "finished_seconds_high"),
    *("unserved", "errors", *(f"errors_{kind}" for kind in ERRORS), "errors_other"),
    *("fairness", "cpu_seconds_per_1000", "switches_per_1000"),
    *("threads", "processes", "descriptors"),
    *("memory_bytes", "memory_kind", "memory_bytes_per_connection"),
    *("ready_seconds", "stop_seconds"),
    *("generator_share", "generator_lag_seconds", "generator_bound_rounds", "others_share"),
    "failure",
)


def to_csv(results: Sequence[Result]) -> str:
    """Give a line for each workload, server and number of connections.

    `result` counts the results from 1.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for number, result in enumerate(results, 1):
        tasks = {task.name: task for task in result.tasks}
        models = {subject.name: subject.model for subject in result.subjects}
        for cell in result.cells:
            row = _row(cell, figures(cell), tasks.get(cell.task))
            row |= {
                "result": number,
                "made": result.made,
                "command": result.command,
                "model": models.get(cell.subject),
            }
            writer.writerow(row)
    return file.getvalue()


def _row(cell: Cell, found: Figures, task: Task | None) -> dict[str, object]:
    row: dict[str, object] = {
        "subject": cell.subject,
        "workload": cell.task,
        "connections": cell.connections,
        "rounds": len(cell.rounds),
        "ready_seconds": cell.ready,
        "stop_seconds": cell.stop,
        "failure": cell.failure,
    }
    if task is not None:
        row |= {"handler": task.handler, "way": task.way, "planned_per_second": task.rate}
    if not cell.rounds:
        return row
    row |= {
        "messages": found.messages,
        **_spread("per_second", found.per_second),
        **_spread("finished_seconds", found.finished),
        "latency_max_seconds": found.longest,
        "unserved": found.unserved,
        "errors": sum(found.errors.values()),
        **{f"errors_{kind}": found.errors.get(kind, 0) for kind in ERRORS},
        "errors_other": sum(number for kind, number in found.errors.items() if kind not in ERRORS),
        "fairness": found.fairness and found.fairness.median,
        "cpu_seconds_per_1000": found.cpu and found.cpu.median,
        "switches_per_1000": found.switches and found.switches.median,
        "threads": found.threads,
        "processes": found.processes,
        "descriptors": found.descriptors,
        "memory_bytes": found.memory,
        "memory_kind": found.memory_kind,
        "memory_bytes_per_connection": found.memory_each,
        "generator_share": median(one.generator for one in cell.rounds),
        "generator_lag_seconds": median(one.lag for one in cell.rounds),
        "generator_bound_rounds": found.bound,
        "others_share": found.others,
    }
    for percent, spread in found.latency.items():
        row |= _spread(f"latency_p{percent:g}_seconds".replace(".", "_"), spread)
    return row


def _spread(name: str, spread: Spread | None) -> dict[str, float]:
    if spread is None:
        return {}
    return {name: spread.median, f"{name}_low": spread.low, f"{name}_high": spread.high}


# ------------------------------------------------------------------ Markdown


def to_markdown(results: Sequence[Result], titles: Sequence[str] = ()) -> str:
    """Give the verdict and all tables, one result after the other."""
    lines: list[str] = []
    for number, result in enumerate(results):
        title = titles[number] if number < len(titles) else ""
        name = clean(title or result.command)
        lines += [f"# {_escaped(name)}", "", _escaped(_made(result)), ""]
        for sentence in (*verdict(result), *recommend(result), *result.remarks):
            lines.append(f"* {_escaped(clean(sentence))}")
        lines.append("")
        if number:
            first = clean(titles[0]) if titles and titles[0] else "the first result"
            lines += [f"## Against {_escaped(first)}", ""]
            lines += [f"* {_escaped(one)}" for one in changes(result, results[0])]
            lines.append("")
        for task in result.tasks:
            for connections in result.connections(task.name):
                found = sheet(result, task, connections)
                if len(found.missing) < len(found.subjects):
                    lines += _table(found)
    return "\n".join(lines).rstrip("\n") + "\n"


def _made(result: Result) -> str:
    known = [f"{key} {value}" for key, value in result.environment.items() if value is not None]
    return clean(f"echoframe {result.version}, {result.made}, {', '.join(known)}")


def _table(found: Sheet) -> list[str]:
    columns = [column for column in found.columns if not column.bars]
    title = f"## {clean(found.task.name)}, {count(found.connections, 'connection')}"
    what = clean(found.task.what)
    if found.task.beside and "beside" not in what:
        what += f", beside {clean(found.task.beside).removeprefix('beside ')}"
    if found.task.rate is not None:
        what += f", {few(found.task.rate)} messages a second planned"
    lines = [_escaped(title), "", _escaped(what[:1].upper() + what[1:] + "."), ""]
    heads = ["", *(column.name for column in columns)]
    lines.append(_cells(heads))
    lines.append(_cells(["---", *("---:" for _ in columns)]))
    for subject in found.subjects:
        if subject not in found.missing:
            lines.append(_cells([subject, *(column.cells[subject] for column in columns)]))
    lines.append("")
    missing = [f"{name}: {why.rstrip('.')}." for name, why in found.missing.items()]
    notes = [*footnotes(found.task, columns), *found.notes, *missing]
    if found.left_out:
        notes.append(f"Not measured: {listed(found.left_out)}.")
    notes += [f"{kind}: {KINDS[kind]}." for kind in found.errors if kind in KINDS]
    lines += [_escaped(clean(note)) + "  " for note in notes[:-1]]
    lines += [_escaped(clean(note)) for note in notes[-1:]]
    return [*lines, ""] if notes else lines


def _cells(texts: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(clean(text)) for text in texts) + " |"


def _escaped(text: str) -> str:
    # What would end a cell, or be more than text.
    for letter in "\\|`*_<[":
        text = text.replace(letter, "\\" + letter)
    return text
