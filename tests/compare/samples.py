"""Results that nobody measured, for what reads results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from echoframe.compare.histogram import Histogram
from echoframe.compare.result import Cell, Person, Result, Round, Subject, Task

ENVIRONMENT = {
    "python": "3.11.7",
    "implementation": "CPython",
    "system": "Linux",
    "machine": "x86_64",
    "cores": 2,
    "cores_usable": 2,
    "load": 0.1,
}

ECHO = Task("echo", "each client stays and asks again and again", "echo", "talk")
CHURN = Task("churn", "a connection for each message", "echo", "churn")
WAIT = Task("wait", "20 clients come at once", "wait", "crowd")
WORK = Task("work", "4 clients with 5 ms of CPU", "work", "churn", stay=3)
IDLE = Task("idle", "clients that say nothing more", "echo", "hold")
RATED = Task("rated", "asked by the clock", "echo", "talk", rate=10_000.0)
DRAIN = Task("drain", "told to stop", "echo", "talk", stops=True)


def measured(rate: float, latency: float = 1e-3, **more: Any) -> Round:
    """A round of one second, in which each message took nearly as long as the others."""
    times = [latency * (1 + (at % 100) / 100) for at in range(2000)]
    return Round(1.0, round(rate), Histogram.of(times), **more)


def rounds(*rates: float, **more: Any) -> list[Round]:
    return [measured(rate, **more) for rate in rates]


def five(rate: float, **more: Any) -> list[Round]:
    """Rounds of a server, two percent apart."""
    return rounds(*(rate * (1 + at / 100) for at in (-2, -1, 0, 1, 2)), **more)


def result(*cells: Cell, tasks: Sequence[Task] = (ECHO,), **more: Any) -> Result:
    names = dict.fromkeys(cell.subject for cell in cells)
    subjects = [Subject(name, name) for name in names]
    return Result(
        "compare",
        "2026-11-21T12:00:00+00:00",
        "echoframe compare",
        "0.1.0",
        dict(ENVIRONMENT),
        subjects,
        list(tasks),
        list(cells),
        **more,
    )


def crowd(subject: str, at_once: int, clients: int = 20, each: float = 0.02) -> Cell:
    """A server that serves so many clients at once, and what became of each."""
    people = []
    for at in range(clients):
        begin = (at // at_once) * each + 1e-4
        people.append(Person(0.0, begin, begin + each, begin + each + 1e-4))
    ends = [one.replied or 0.0 for one in people]
    made = [
        Round(max(ends) * (1 + at / 1000), clients, Histogram.of(ends), threads=1, processes=1)
        for at in range(5)
    ]
    return Cell(subject, "wait", clients, made, timeline=people)
