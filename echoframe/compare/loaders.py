"""The load processes, as whoever measures sees them."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import subprocess
import sys
import time
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from ..errors import EchoframeError
from .plan import CheckFailed, Group, Plan, Tally

__all__ = ["LoadFailed", "Loaders", "surroundings"]

# Longer than a plan takes besides its own time: preparations of thousands of clients on
# a slow server.
PATIENCE = 120.0
# And longer than one at rest takes to end.
GRACE = 0.5


class LoadFailed(EchoframeError, RuntimeError):
    """The load could not be made; a sentence says why."""


def surroundings() -> dict[str, str]:
    """Give the environment in which a process finds this echoframe, and not another one."""
    here = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH", "")
    paths = [path for path in known.split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, here])}


class Loaders:
    """Some processes that share the clients of each plan."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._seconds = 0.0
        # A Ctrl-C is for whoever measures, which then ends them.
        self._running = [
            subprocess.Popen(
                [sys.executable, "-m", "echoframe.compare.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=surroundings(),
                start_new_session=True,
            )
            for _ in range(count)
        ]

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [one.pid for one in self._running]

    def prepare(self, plan: Plan) -> int:
        """Connect the clients and let each be served once; how many were. Errors: LoadFailed."""
        self._seconds = plan.seconds
        for one, part in zip(self._running, _shares(plan, self.count), strict=True):
            self._say(one, part)
        return sum(self._hear())

    def go(self) -> None:
        """Begin to measure."""
        for one in self._running:
            self._say(one, "go")

    def tally(self) -> Tally:
        """Wait for the measurement and give what was counted. Errors: LoadFailed."""
        found: Tally = reduce(add, self._hear())
        return found

    def done(self) -> None:
        """Let the clients leave."""
        for one in self._running:
            self._say(one, "done")
        self._hear()

    def close(self) -> None:
        """End the processes."""
        # Whoever is at rest ends when nothing more can be said; who measures does not hear it.
        for one in self._running:
            for stream in (one.stdin, one.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()
        for one in self._running:
            try:
                one.wait(GRACE)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()

    def __enter__(self) -> Loaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, one: subprocess.Popen[bytes], what: Any) -> None:
        assert one.stdin is not None
        try:
            pickle.dump(what, one.stdin)
            one.stdin.flush()
        except OSError:
            raise LoadFailed(_ended(one)) from None

    def _hear(self) -> list[Any]:
        patience = PATIENCE + self._seconds
        deadline = time.monotonic() + patience
        found = []
        for one in self._running:
            assert one.stdout is not None
            left = max(deadline - time.monotonic(), 0)
            if not select.select([one.stdout], [], [], left)[0]:
                raise LoadFailed(f"the load generator said nothing for {patience:g} s")
            try:
                answer = pickle.load(one.stdout)
            except EOFError:
                raise LoadFailed(_ended(one)) from None
            if isinstance(answer, CheckFailed):
                raise LoadFailed(str(answer))
            if isinstance(answer, OSError):
                raise LoadFailed(f"the load generator failed: {answer.strerror or answer}")
            if isinstance(answer, Exception):
                raise LoadFailed(f"the load generator failed: {answer!r}")
            found.append(answer)
        return found


def _ended(one: subprocess.Popen[bytes]) -> str:
    return f"the load generator has ended with {one.wait()}; was there too little memory?"


def _shares(plan: Plan, count: int) -> list[Plan]:
    # Each gets as many of the clients, and as much of the rate.
    return [
        replace(
            plan,
            groups=tuple(_part(group, at, count) for group in plan.groups),
            rate=None if plan.rate is None else plan.rate / count,
            seed=plan.seed + at,
            first=plan.first + 100_000 * at,
        )
        for at in range(count)
    ]


def _part(group: Group, at: int, count: int) -> Group:
    return replace(group, count=group.count // count + (at < group.count % count))
