"""Made-up results, small and with all that can be odd about one."""

from __future__ import annotations

from random import Random

from echoframe.compare.histogram import Histogram
from echoframe.compare.result import Cell, Person, Result, Round, Subject, Task

# What a name, a note, a command or a failure can be: all of it is somebody else's.
HOSTILE = '</script><img src=x onerror="alert(1)"><!--{{%{y}}}&amp;'


def made_up(speed: float = 1.0) -> Result:
    """Give a result: an axis, a crowd, a hold, an open loop, failures, a foreign server."""
    result = Result(
        "compare",
        "2026-11-21T12:00:00+00:00",
        f"echoframe compare --handler '{HOSTILE}'",
        "0.1.0",
        {"python": "3.13.0", "implementation": "CPython", "cores": 2, "load": 0.3, "odd": HOSTILE},
        [Subject(one, one, f"echoframe serve -m {one}") for one in ("single", "pool", "loop")],
        [
            Task("echo", "each asks again and again", "echo", "talk"),
            Task("wait", "all come at once", "wait", "crowd"),
            Task("idle", "ask once and stay", "echo", "hold"),
            Task("rated", "planned", HOSTILE, "talk", 20_000.0),
            Task("drain", "is told to stop", "echo", "talk", stops=True),
        ],
        remarks=[f"a remark: {HOSTILE}"],
        complete=False,
    )
    result.subjects.append(Subject(HOSTILE, None, f"run {HOSTILE}", HOSTILE))
    for at, subject in enumerate(result.subjects):
        for task in result.tasks:
            for connections in (1, 10, 100) if task.name == "echo" else (20,):
                cell = Cell(subject.name, task.name, connections, ready=0.1, stop=0.01 * (at + 1))
                _measure(cell, task, (at + 1) * 10_000 * speed, Random(at))
                result.cells.append(cell)
    first = result.cells[0]
    first.rounds[0].unserved = first.rounds[1].unserved = 3
    first.rounds[0].errors = {"reset": 2, HOSTILE: 1}
    result.cells[-1].rounds, result.cells[-1].failure = [], f"it has died: {HOSTILE}"
    return result


def _measure(cell: Cell, task: Task, rate: float, random: Random) -> None:
    for one in range(3):
        if task.way == "crowd":
            ends = [0.02 * (at + 1) for at in range(20)]
            cell.rounds.append(Round(ends[-1], 20, Histogram.of(ends)))
            continue
        times = [random.lognormvariate(0, 0.5) * cell.connections / rate for _ in range(400)]
        cell.rounds.append(
            Round(
                0.2,
                int(rate * 0.2) + one * 10,
                Histogram.of(times),
                cpu=0.1 if cell.connections < 100 else None,
                memory=20_000_000,
                memory_before=19_000_000,
                memory_kind="PSS",
                threads=3,
                bound=cell.subject == "loop",
            )
        )
    if task.way == "crowd":
        ends = [0.02 * (at + 1) for at in range(20)]
        cell.timeline = [Person(0.001, end - 0.019, end - 0.001, end) for end in ends]
        # Nobody saw when it began; it began and had no reply; nothing ever happened.
        cell.timeline[3].began = cell.timeline[3].ended = None
        cell.timeline[4].ended = cell.timeline[4].replied = None
        cell.timeline[5] = Person(0.002)
