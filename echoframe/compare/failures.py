"""What was not measured and what went wrong, each said once however often it happened."""

from __future__ import annotations

import re

from .result import Cell, Result
from .units import clean, listed

__all__ = ["KINDS", "refusals", "sentences"]

# What the kinds of errors are.
KINDS = {
    "refused": "nobody accepted the connection",
    "reset": "the connection was cut",
    "ended": "the server hung up before it had answered",
    "failed": "another error of the system",
    "tls": "no TLS connection came about",
    "timeout": "too late",
    "wrong": "what came back is not the reply",
    "lost": "no reply to a datagram, or to what was under way at the stop",
    "unsent": "planned, and nobody was free to send it",
}

# Models refuse in the same words, but for their names.
_NAMED = re.compile(r"the model '[^']*'(?: \(inner of '[^']*'\))?")


def refusals(result: Result) -> dict[str, str]:
    """Give whom nothing was measured of, in no workload, and why, if others were.

    Who is the only one of whom that is so, and in one place, is not among them.
    """
    reasons: dict[str, str] = {}
    measured = {cell.subject for cell in result.cells if cell.rounds}
    places = [cell for cell in result.cells if cell.subject not in measured]
    for cell in places:
        reasons.setdefault(cell.subject, cell.failure or "not measured")
    return reasons if measured and len(places) > 1 else {}


def sentences(result: Result) -> list[str]:
    """Say who was not measured, where, and why."""
    refused = refusals(result)
    alike: dict[str, list[str]] = {}
    for name, why in refused.items():
        alike.setdefault(_NAMED.sub("the model", why, count=1), []).append(name)
    said = []
    for why, names in alike.items():
        # With its name, if it is one model's; the model that it advises keeps its own.
        reason = why if len(names) > 1 else refused[names[0]]
        said.append(f"{listed(map(clean, names))}: {_ended(reason)}")
    places: dict[str, dict[str, list[Cell]]] = {}
    for cell in result.cells:
        if cell.failure and cell.subject not in refused:
            places.setdefault(cell.failure, {}).setdefault(cell.subject, []).append(cell)
    for why, by_name in places.items():
        groups: dict[str, list[str]] = {}
        for name, cells in by_name.items():
            groups.setdefault(_where(cells), []).append(name)
        for where, names in groups.items():
            who = "all" if _are_all(result, names) else listed(map(clean, names))
            said.append(f"{who} in {where}: {_ended(why)}")
    return said


def _are_all(result: Result, names: list[str]) -> bool:
    return len(names) > 1 and set(names) == {cell.subject for cell in result.cells}


def _where(cells: list[Cell]) -> str:
    counts: dict[str, list[int]] = {}
    for cell in cells:
        counts.setdefault(cell.task, []).append(cell.connections)
    return listed(
        f"{clean(task)} ({listed(f'{one:,}' for one in some)})" for task, some in counts.items()
    )


def _ended(why: str) -> str:
    return clean(why).rstrip(".") + "."
