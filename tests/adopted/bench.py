"""What a measurement is given, and the rows that it gives."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..consumers.consumer import CONSUMERS, Running, running
from ..helpers import DEADLINE, resident

__all__ = ["ADOPTED", "Bench", "Measure", "Row", "ask", "held", "memory_of", "pin"]

# By what is said in the table: the flags of adopt; None is not adopted.
ADOPTED: dict[str, list[str] | None] = {
    "unadopted": None,
    "thread": ["-q", "--model", "thread"],
    "pool": ["-q", "--model", "pool"],
}


class Row(NamedTuple):
    """Something that was seen; `ok` is None where nothing was promised."""

    what: str
    seen: str
    promised: str = ""
    ok: bool | None = None


class Bench:
    """A place to run programs."""

    def __init__(self, folder: Path, pair: tuple[Path, Path] | None) -> None:
        self._folder = folder
        # A certificate and its key, where they can be made.
        self.pair = pair
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def run(
        self, name: str, flags: list[str] | None, shell: str = "", **variables: str
    ) -> Iterator[Running]:
        consumer = CONSUMERS[name]
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        if flags is not None:
            # The line that says where it is.
            flags = [flag for flag in flags if flag != "-q"]
        pair = self.pair if consumer.tls else None
        with running(consumer, flags, folder, pair, shell=shell, **variables) as up:
            yield up


Measure = Callable[[Bench], Iterator[Row]]


def ask(sock: socket.socket, headers: bytes = b"", path: bytes = b"/") -> bytes:
    """Ask for a page, and give the answer, which has a Content-Length."""
    sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    said = b""
    while b"\r\n\r\n" not in said or not said.partition(b"\r\n\r\n")[2]:
        more = sock.recv(65536)
        if not more:
            break
        said += more
    return said


@contextlib.contextmanager
def held(up: Running, count: int) -> Iterator[list[socket.socket]]:
    """Clients that have asked once, and keep their connections."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", up.port), DEADLINE)
            made.append(stack.enter_context(sock))
            assert ask(sock).startswith(b"HTTP/1.1 200"), "no answer"
        yield made


def pin(up: Running, core: int) -> None:
    """Keep a program on one core, and the threads that it will start."""
    for task in os.listdir(f"/proc/{up.process.pid}/task"):
        os.sched_setaffinity(int(task), {core})


def memory_of(pid: int) -> str:
    """Say how many threads a process has, and how much memory."""
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return f"{threads} threads, {resident(pid) / 2**20:.0f} MiB"
