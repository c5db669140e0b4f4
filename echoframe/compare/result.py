"""What came out, as plain data, and to and from JSON.

Nothing here is computed from anything else here: what people read (medians, ratios,
verdicts) is worked out anew from these figures by whoever shows them, so that a file
of last year can be shown in this year's way.

A Result has Cells, one for each subject, workload and number of connections; a cell has
Rounds, in the order in which they were measured. Times are seconds, sizes are bytes,
moments are seconds since the crowd was let go.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import EchoframeError
from .histogram import Histogram

__all__ = ["SCHEMA", "Cell", "Person", "ResultError", "Result", "Round", "Subject", "Task"]

# Goes up when an older program could not read it any more.
SCHEMA = 1


class ResultError(EchoframeError, ValueError):
    """A file holds no result that can be read."""


@dataclass
class Subject:
    """A server that was measured: a model, or somebody else's command."""

    name: str
    # Ours; None of a command of somebody else's.
    model: str | None = None
    command: str | None = None
    # What is to be known when its figures are read: "on uvloop", "2 workers, inner pool".
    note: str = ""


@dataclass
class Task:
    """A workload as it was measured."""

    name: str
    what: str
    handler: str
    # talk, churn, crowd, hold or sip: what the measured clients do.
    way: str
    # Messages a second that were planned, whether or not they are answered; None where
    # each client waits for its reply before it asks again (a closed loop).
    rate: float | None = None
    # The other clients, in words; "" if there are none.
    beside: str = ""
    # The server is told to stop in the middle, and it is about that.
    stops: bool = False
    # Messages in each connection, of clients that come and go.
    stay: int = 1


@dataclass
class Person:
    """What became of one client of a crowd, as moments; None is what never happened."""

    came: float
    # The server began with its message, and ended; seen in the server.
    began: float | None = None
    ended: float | None = None
    # The client had its reply.
    replied: float | None = None


@dataclass
class Round:
    """One measurement."""

    # It took so long, from the first question to the last reply that counts.
    seconds: float
    # So many right replies came in that time.
    messages: int
    # From the moment at which a message was to be sent until its reply was there.
    latency: Histogram = field(default_factory=Histogram)
    # The same from the moment at which it was sent, where there was a plan: what a closed
    # loop would have seen.
    from_send: Histogram = field(default_factory=Histogram)
    # What went wrong, by kind, and how often: refused, reset, ended, wrong, timeout, lost,
    # and unsent: planned, and nobody was free to send it, to the end.
    errors: dict[str, int] = field(default_factory=dict)
    # Clients that waited for the server to the end and never heard a word.
    unserved: int = 0
    # 1.0 if each client got the same, 1/n if one got everything.
    fairness: float | None = None
    # The load generator: its share of a core, and how late it was (99 of 100 sends).
    generator: float = 0.0
    lag: float = 0.0
    # The figures show the generator and not the server.
    bound: bool = False
    # Of the server's processes, ended children included; None without psutil.
    cpu: float | None = None
    switches: int | None = None
    threads: int | None = None
    processes: int | None = None
    descriptors: int | None = None
    memory: int | None = None
    # What `memory` is: PSS, or RSS where the system does not tell.
    memory_kind: str = ""
    # Before the first client came.
    memory_before: int | None = None
    # The share of all cores that other programs took meanwhile.
    others: float | None = None


@dataclass
class Cell:
    """One subject, one workload, one number of connections."""

    subject: str
    task: str
    connections: int
    rounds: list[Round] = field(default_factory=list)
    # Why there are no rounds, or no more of them: a sentence.
    failure: str = ""
    # From exec to the first moment it could be connected to.
    ready: float | None = None
    # From SIGTERM to its end, and what was under way then and never answered.
    stop: float | None = None
    # One round, client by client, if the workload is drawn.
    timeline: list[Person] = field(default_factory=list)


@dataclass
class Result:
    """All of it."""

    # "compare" or "bench".
    kind: str
    # ISO 8601, UTC.
    made: str
    # What was typed.
    command: str
    version: str
    # python, implementation, system, machine, cores, cores_usable, load (before), pinned, ...
    environment: dict[str, Any] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    # What was said of the handler, if it is the user's own: see verdict.py.
    # name, wait (seconds), cpu (seconds), asynchronous, keeps_worker (a handler class).
    handler: dict[str, Any] = field(default_factory=dict)
    # Sentences for the reader: what was left out and why.
    remarks: list[str] = field(default_factory=list)
    # False if it was interrupted, or ran out of time.
    complete: bool = True

    def cell(self, subject: str, task: str, connections: int) -> Cell | None:
        """Find one."""
        wanted = (subject, task, connections)
        for cell in self.cells:
            if (cell.subject, cell.task, cell.connections) == wanted:
                return cell
        return None

    def connections(self, task: str) -> list[int]:
        """With how many connections a workload was measured, the fewest first."""
        return sorted({cell.connections for cell in self.cells if cell.task == task})

    def task(self, name: str) -> Task:
        """Find a workload."""
        return next(task for task in self.tasks if task.name == name)

    def to_json(self) -> str:
        """Give it as text."""
        plain = asdict(self, dict_factory=_plainly)
        return json.dumps({"schema": SCHEMA, **plain}) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "the file") -> Result:
        """Read what to_json() gave, now or in an earlier version. Errors: ResultError."""
        try:
            data = json.loads(text, parse_constant=_no_number)
            schema = data.pop("schema")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ResultError(
                f"{name} holds no result; make one with echoframe compare --export-json FILE"
            ) from None
        if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
            raise ResultError(
                f"{name} has schema {schema!r}, and this version reads up to {SCHEMA}; "
                "a newer echoframe made it"
            )
        try:
            found: Result = _read(cls, data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(f"{name} is damaged: {error}") from None
        return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no figure")


def _plainly(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: value.to_json() if isinstance(value, Histogram) else value for name, value in pairs
    }


# The fields that are not plain themselves.
_PARTS: dict[tuple[type, str], Any] = {}


def _read(kind: Any, data: dict[str, Any]) -> Any:
    # What a later version left out has its default; what an earlier one had and we do
    # not know is dropped.
    known = kind.__dataclass_fields__
    found = {name: value for name, value in data.items() if name in known}
    for name, value in found.items():
        part = _PARTS.get((kind, name))
        if part is Histogram:
            found[name] = Histogram.from_json(value)
        elif part is not None:
            found[name] = [_read(part, one) for one in value]
        else:
            _check(name, known[name].type, value)
    return kind(**found)


# What may stand in a plain field, by its annotation.
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "None": (type(None),),
    "dict": (dict,),
    "list": (list,),
}


def _check(name: str, annotation: str, value: Any) -> None:
    # Programs that show a result rely on what it is made of.
    kinds = [one.partition("[")[0] for one in annotation.split(" | ")]
    fits = any(isinstance(value, _PLAIN[kind]) for kind in kinds)
    if fits and isinstance(value, bool):
        fits = "bool" in kinds
    if fits and annotation == "dict[str, int]":
        fits = all(isinstance(one, int) for one in value.values())
    if fits and annotation == "list[str]":
        fits = all(isinstance(one, str) for one in value)
    if not fits:
        raise ValueError(f"{name} is {value!r:.40}")


_PARTS.update(
    {
        (Result, "subjects"): Subject,
        (Result, "tasks"): Task,
        (Result, "cells"): Cell,
        (Cell, "rounds"): Round,
        (Cell, "timeline"): Person,
        (Round, "latency"): Histogram,
        (Round, "from_send"): Histogram,
    }
)
