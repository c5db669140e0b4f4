"""One scenario after the other, each with a deadline; nothing of it outlives it."""

from __future__ import annotations

import contextlib
import resource
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Each of these adds its scenarios.
from . import crowds, host, soak, stops, times, zoo  # noqa: F401
from .scenario import SCENARIOS, Absent, Failed, Scenario
from .stage import Stage

__all__ = ["Result", "play"]


class Hangs(BaseException):
    """The deadline of a scenario has passed. No `except Exception` is meant."""


class Result(NamedTuple):
    subject: str
    scenario: str
    # "ok", "no", "hangs", or "n/a" for what means nothing here and does not count
    verdict: str
    # The figure, or what went wrong, or why it means nothing.
    said: str
    seconds: float

    @property
    def survived(self) -> bool:
        return self.verdict == "ok"

    @property
    def counts(self) -> bool:
        return self.verdict != "n/a"


def play(
    subjects: Iterable[str], names: Iterable[str], quick: bool = False, whole: bool = False
) -> Iterator[Result]:
    """Put each subject through these scenarios, in the main thread; give each result at once."""
    names = list(names)
    with tempfile.TemporaryDirectory() as folder, _room():
        for subject in subjects:
            stage = Stage(subject, Path(folder), quick, whole)
            with contextlib.closing(stage):
                for name in names:
                    yield _one(SCENARIOS[name], stage)


def _one(scenario: Scenario, stage: Stage) -> Result:
    began = time.monotonic()
    verdict, said = _played(scenario, stage)
    return Result(stage.name, scenario.name, verdict, said, time.monotonic() - began)


def _played(scenario: Scenario, stage: Stage) -> tuple[str, str]:
    if stage.name in scenario.but:
        return "n/a", scenario.but[stage.name]
    if scenario.ours and not stage.ours:
        return "n/a", "it has no such thing"
    # A server of others that stands still is given up earlier.
    deadline = scenario.deadline if stage.ours or stage.whole else min(scenario.deadline, 12.0)
    try:
        with _deadline(deadline):
            return "ok", scenario.play(stage)
    except Failed as failed:
        return "no", str(failed)
    except Absent as absent:
        return "n/a", str(absent)
    except Hangs:
        return "hangs", f"not over within {deadline:g} s"
    except Exception as error:
        return "no", f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """As many descriptors as this process may have; the crowds are its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
