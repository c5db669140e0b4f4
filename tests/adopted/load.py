"""Requests in a second, as wrk counts them; the server on one core and wrk on another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from statistics import median

from ..consumers.clients import wrk
from .bench import ADOPTED, Bench, Row, pin

ROUNDS, SECONDS, CLIENTS = 5, 2, 50
CLOSE = ("-H", "Connection: close")
# What is asked for and how, and how many times what the unadopted one gives is promised.
LOADS: dict[str, tuple[str, Sequence[str], dict[str, float]]] = {
    # A page of http.server's comes in two pieces, for which Nagle's algorithm makes the
    # stdlib's wait; /once is one piece, and compares the servers alone. To look between two
    # requests whether to stop, and whether another one is here already, costs something there.
    "kept connections": ("/", (), {"thread": 1.0, "pool": 1.0}),
    "kept connections, in one piece": ("/once", (), {"thread": 0.7, "pool": 0.7}),
    "a connection for each request": ("/", CLOSE, {"thread": 1.0, "pool": 1.5}),
    "a connection for each request, in one piece": (
        "/once",
        CLOSE,
        {"thread": 1.0, "pool": 1.5},
    ),
}


def measure(bench: Bench) -> Iterator[Row]:
    """50 clients of wrk, to http.server; medians of interleaved rounds."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield Row("wrk", "server and wrk need a core each")
        return
    with contextlib.ExitStack() as stack:
        ups = {
            name: stack.enter_context(bench.run("http", flags)) for name, flags in ADOPTED.items()
        }
        for up in ups.values():
            pin(up, cores[0])
        for load, (path, words, promised) in LOADS.items():
            rates: dict[str, list[float]] = {name: [] for name in ups}
            errors: dict[str, str] = {}
            for _ in range(ROUNDS):
                for name, up in ups.items():
                    found = wrk(up.url(path), CLIENTS, SECONDS, *words, core=cores[1])
                    rates[name].append(found.per_second)
                    if found.errors:
                        errors[name] = f"; {found.errors}"
            base = median(rates["unadopted"])
            for name, found_rates in rates.items():
                rate = median(found_rates)
                said = f"{rate:,.0f}/s{errors.get(name, '')}"
                if name == "unadopted":
                    yield Row(f"{load}: {name}", said)
                    continue
                least = promised[name]
                good = rate >= least * base and name not in errors
                yield Row(f"{load}: {name}", f"{rate / base:.2f}x, {said}", f"{least}x", good)
