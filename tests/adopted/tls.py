"""One client that never shakes hands."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..consumers.clients import peers, silent
from .bench import ADOPTED, Bench, Row


def measure(bench: Bench) -> Iterator[Row]:
    """TLS, with a client that never shakes hands."""
    if bench.pair is None:
        yield Row("TLS", "trustme is not installed, which makes certificates")
        return
    for name, flags in ADOPTED.items():
        with bench.run("https", flags) as up, silent(up, 1):
            # Patience of clients who would otherwise wait for ever.
            with peers(up, 1, 2.0) as others:
                began = time.monotonic()
                try:
                    others.ask()
                    served = others.answers() == [(200, True)]
                except OSError:
                    served = False
            took = (time.monotonic() - began) * 1000
            said = f"the next one is served in {took:.0f} ms" if served else "nobody is, in 2 s"
            if flags is None:
                yield Row(name, said)
            else:
                yield Row(name, said, "at once (100 ms)", served and took < 100)
