"""Stopping a test server: serve_forever() in a thread, and then shutdown()."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from echoframe import PoolMixIn, ThreadingMixIn

from ..consumers.sites.standard import Page
from .bench import Bench, Row, ask

KINDS: dict[str, type[Any]] = {
    "socketserver's": socketserver.ThreadingMixIn,
    "thread": ThreadingMixIn,
    "pool": PoolMixIn,
}
TIMES = 10


def measure(bench: Bench) -> Iterator[Row]:
    """shutdown() of a test server, behind one request, ten times."""
    for name, mix_in in KINDS.items():
        kind = type("Site", (mix_in, http.server.HTTPServer), {"daemon_threads": True})
        took = [_stop(kind(("127.0.0.1", 0), Page)) for _ in range(TIMES)]
        said = f"{median(took):.1f} ms; at most {max(took):.1f} ms"
        if mix_in is socketserver.ThreadingMixIn:
            yield Row(name, said)
        else:
            yield Row(name, said, "under 10 ms", max(took) < 10)


def _stop(server: Any) -> float:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with socket.create_connection(server.server_address) as sock:
        ask(sock)
        began = time.monotonic()
        server.shutdown()
        took = (time.monotonic() - began) * 1000
    thread.join()
    server.server_close()
    return took
