"""Many clients who keep their connections and say nothing, and ten who do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median

from ..consumers.clients import wrk
from .bench import Bench, Row, held, memory_of, pin

IDLE, BUSY, ROUNDS = 490, 10, 5
POOL = ["--model", "pool", "--threads", "16"]


def measure(bench: Bench) -> Iterator[Row]:
    """Of 500 clients, 490 are idle."""
    with bench.run("http", POOL) as alone, bench.run("http", POOL) as full:
        core, other = _two_cores()
        for up in (alone, full):
            pin(up, core)
        with held(full, IDLE):
            rates: tuple[list[float], list[float]] = ([], [])
            seen = []
            for _ in range(ROUNDS):
                for up, found in zip((alone, full), rates, strict=True):
                    found.append(wrk(up.url("/once"), BUSY, 2, core=other).per_second)
            for up in (alone, full):
                seen.append(memory_of(up.process.pid))
        without, behind = map(median, rates)
        # Of rounds side by side: others have this machine too.
        lost = 1 - median(many / few for few, many in zip(*rates, strict=True))
    yield Row("adopted, 16 threads: ten busy ones alone", f"{without:,.0f} requests/s; {seen[0]}")
    yield Row(
        "adopted, 16 threads: ten busy ones, 490 idle",
        f"{behind:,.0f} requests/s, {lost:.0%} lost; {seen[1]}",
        "under 20% lost",
        lost < 0.2,
    )
    with bench.run("http", None) as up, held(up, IDLE):
        pin(up, core)
        rate = wrk(up.url("/once"), BUSY, 2, core=other).per_second
        # The ten have gone.
        with held(up, BUSY):
            seen = [memory_of(up.process.pid)]
    yield Row("unadopted: ten busy ones, 490 idle", f"{rate:,.0f} requests/s; {seen[0]}")


def _two_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]
