"""SIGTERM while somebody waits for an answer."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

from ..consumers.clients import Peers, peers
from .bench import ADOPTED, Bench, Row
from .missing import missing

NAMES = ("flask", "flask-reload", "django", "django-reload")
SECONDS = 2


def measure(bench: Bench) -> Iterator[Row]:
    """SIGTERM during a request of 2 s, to Flask and Django, with and without reloader."""
    names = [name for name in NAMES if not missing(name)]
    yield from (Row(name, missing(name)) for name in NAMES if name not in names)
    for how, flags in ADOPTED.items():
        with contextlib.ExitStack() as stack:
            # All at once, since each takes its time.
            ups = [stack.enter_context(bench.run(name, flags, SLOW=str(SECONDS))) for name in names]
            asked = [stack.enter_context(peers(up, 1)) for up in ups]
            for up, peer in zip(ups, asked, strict=True):
                peer.ask("slow")
                up.expect("begun")
                up.terminate()
            began = time.monotonic()
            for name, up, peer in zip(names, ups, asked, strict=True):
                answered = _answered(peer)
                try:
                    code = up.process.wait(SECONDS + 5)
                except subprocess.TimeoutExpired:
                    code = None
                took = time.monotonic() - began
                said = f"{'answered' if answered else 'cut off'}, exit code {code}, {took:.1f} s"
                if flags is None:
                    yield Row(f"{name}, {how}", said)
                else:
                    promised = "answered, exit code 0"
                    yield Row(f"{name}, {how}", said, promised, answered and code == 0)


def _answered(peer: Peers) -> bool:
    try:
        return peer.answers("slow") == [(200, True)]
    except OSError:
        return False
