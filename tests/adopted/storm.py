"""A thousand who come at once."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator

from ..consumers.consumer import Running
from ..helpers import eventually
from .bench import ADOPTED, Bench, Row, ask
from .missing import missing

STORM, FEW = 1000, 64
DEADLINE = 20.0
ASKS = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def measure(bench: Bench) -> Iterator[Row]:
    """1,000 connections at once, to werkzeug."""
    if said := missing("werkzeug"):
        yield Row("werkzeug", said)
        return
    for name, flags in ADOPTED.items():
        with bench.run("werkzeug", flags) as up:
            seen, seconds = storm(up)
        said = f"{told(seen)} in {seconds:.1f} s"
        promised = {} if flags is None else {"promised": "all answered", "ok": len(seen) == 1}
        yield Row(name, said, **promised)  # type: ignore[arg-type]  # two kinds of values
    for name, flags in ADOPTED.items():
        with bench.run("werkzeug", flags, shell=f'ulimit -n {FEW}; exec "$@"') as up:
            seen, seconds = storm(up)
            began = time.monotonic()
            recovers = _recovers(up)
            after = (time.monotonic() - began) * 1000
        said = f"{told(seen)} in {seconds:.1f} s; "
        said += f"then one is answered in {after:.0f} ms" if recovers else "then nobody is"
        if flags is None:
            yield Row(f"{name}, {FEW} descriptors", said)
        else:
            good = recovers and not seen["refused"]
            yield Row(f"{name}, {FEW} descriptors", said, "none refused, and it recovers", good)


def told(seen: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in seen.most_common())


def _recovers(up: Running) -> bool:
    def answered() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", up.port), 5) as sock:
                return b" 200 " in ask(sock)
        except OSError:
            return False

    try:
        eventually(answered, deadline=DEADLINE)
    except AssertionError:
        return False
    return True


def storm(up: Running) -> tuple[Counter[str], float]:
    """Have them all connect before the first asks; how many were answered, and what else."""
    seen: Counter[str] = Counter()
    began = time.monotonic()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(STORM):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", up.port))
            selector.register(sock, selectors.EVENT_WRITE, bytearray())
        while selector.get_map() and time.monotonic() < began + DEADLINE:
            for key, mask in selector.select(0.1):
                sock = key.fileobj  # type: ignore[assignment]  # all of them are sockets
                said = _on(sock, mask, key.data, selector)
                if said:
                    seen[said] += 1
                    selector.unregister(sock)
        seen["not answered"] += len(selector.get_map())
    return +seen, time.monotonic() - began


def _on(sock: socket.socket, mask: int, said: bytearray, selector: selectors.BaseSelector) -> str:
    try:
        if mask & selectors.EVENT_WRITE:
            sock.send(ASKS)
            selector.modify(sock, selectors.EVENT_READ, said)
            return ""
        more = sock.recv(65536)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "answered" if b"program\n" in said else "reset"
    said += more
    if more:
        return ""
    return "answered" if b"program\n" in said else "closed without an answer"
