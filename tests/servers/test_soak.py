"""A mixed load leaves nothing behind: no thread, child, descriptor, memory, nor a line in the log.

It takes half a second for each model; SOAK_SECONDS makes it more.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from echoframe.servers import MODELS

from ..helpers import (
    DEADLINE,
    Notes,
    Place,
    eventually,
    forked,
    logged,
    nothing_left_behind,
    pump,
    raw_connection,
    read_exactly,
    reset,
    resident,
)

SECONDS = float(os.environ.get("SOAK_SECONDS", "0.5"))
# Of each kind of client, at the same time.
CROWD = 2

SETTINGS: dict[str, dict[str, Any]] = {
    "pool": {"threads": 8},
    "prefork": {"workers": 2, "threads": 8},
}

needs_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(),
    reason="this kernel does not tell what another process has",
)


# ------------------------------------------------------------------ who comes


def talks(place: Place, size: int) -> None:
    with raw_connection(place) as peer:
        for number in range(50):
            message = b"%d " % number * (size % 100 + 1)
            peer.sendall(message)
            assert read_exactly(peer, len(message)) == message


def comes_and_goes(place: Place, size: int) -> None:
    with raw_connection(place) as peer:
        peer.sendall(b"hello")
        assert read_exactly(peer, 5) == b"hello"


def reads_slowly(place: Place, size: int) -> None:
    data = os.urandom(1 << 16) * 32
    with raw_connection(place) as peer:
        # Less than is sent: somebody has to wait for somebody.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        sender = threading.Thread(target=peer.sendall, args=[data])
        sender.start()
        got = bytearray()
        while len(got) < len(data):
            time.sleep(0.002)
            more = peer.recv(1 << 16)
            assert more
            got += more
        sender.join(DEADLINE)
    assert got == data


def ends_its_side(place: Place, size: int) -> None:
    data = b"half" * size
    with raw_connection(place) as peer:
        assert pump(peer, data) == data


def breaks_off(place: Place, size: int) -> None:
    peer = raw_connection(place)
    try:
        peer.sendall(b"!" * size)
        # So that it was served; the rest of the echo is under way, or not yet made.
        assert peer.recv(1) == b"!"
    finally:
        reset(peer)


def never_speaks(place: Place, size: int) -> None:
    reset(raw_connection(place))
    # Nobody waits for that one to be served: without the next one such clients come
    # faster than a busy machine forks, and the backlog grows until the others give up.
    comes_and_goes(place, size)


CLIENTS: list[Callable[[Place, int], None]] = [
    talks,
    comes_and_goes,
    reads_slowly,
    ends_its_side,
    breaks_off,
    never_speaks,
]


def load(place: Place, seconds: float) -> Counter[str]:
    """Let all kinds of clients come, each again and again; give how many of them came."""
    end = time.monotonic() + seconds
    came: Counter[str] = Counter()
    wrong: list[Exception] = []

    def go_on(client: Callable[[Place, int], None]) -> None:
        sizes = itertools.cycle([1, 100, 5000, 60_000])
        try:
            while time.monotonic() < end and not wrong:
                client(place, next(sizes))
                came[client.__name__] += 1
                # So that all kinds get their turn, and the kernel does not run out of ports.
                time.sleep(0.005)
        except Exception as error:
            wrong.append(error)

    crowd = [threading.Thread(target=go_on, args=[client]) for client in CLIENTS * CROWD]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(seconds + 2 * DEADLINE)
    assert not any(one.is_alive() for one in crowd)
    if wrong:
        # One alone is a conversation that went wrong; many are a server that did.
        raise ExceptionGroup(f"of {len(crowd)} clients, after {came}", wrong)
    return came


# --------------------------------------------------------------- what is left


class Held(NamedTuple):
    """What a server's processes have between them; memory in bytes."""

    processes: int
    threads: int
    descriptors: int
    memory: int


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def held(pid: int) -> Held:
    pids = family(pid)
    return Held(
        len(pids),
        sum(len(os.listdir(f"/proc/{one}/task")) for one in pids),
        sum(len(os.listdir(f"/proc/{one}/fd")) for one in pids),
        sum(map(resident, pids)),
    )


def at_rest(pid: int, processes: int) -> Held:
    """Give what is held when there are so many processes, and nothing has ended for a moment."""

    def look() -> Held | None:
        try:
            before = held(pid)
            time.sleep(0.05)
            now = held(pid)
        except (FileNotFoundError, ProcessLookupError):
            # One of them has just ended.
            return None
        return now if now[:3] == before[:3] and now.processes == processes else None

    found = eventually(look, f"a server of {processes} processes, at rest")
    assert isinstance(found, Held)
    return found


def is_within(pid: int, most: Held) -> bool:
    try:
        now = held(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(have <= may for have, may in zip(now, most, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(60 + 2 * SECONDS)
@needs_proc
@pytest.mark.parametrize("model", MODELS)
def test_a_mixed_load_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    settings = SETTINGS.get(model, {})
    processes = 1 + settings.get("workers", 0)

    def work(notes: Notes) -> None:
        with nothing_left_behind():
            server = MODELS[model]("tcp://127.0.0.1:0", "echo", **settings)
            notes.write(str(server.address))
            report = server.run()
        notes.write(*report[:3])

    with logged(tmp_path / "log", logging.WARNING) as log, forked(work) as child:
        place = Place(child.notes.next())
        warm = load(place, min(SECONDS / 2, 5))
        before = at_rest(child.pid, processes)
        came = load(place, SECONDS)
        most = Held(
            processes,
            # The one that serves, the one that keeps the deadlines, and a pool's own.
            processes * (2 + settings.get("threads", 0)),
            before.descriptors,
            before.memory + (5 << 20),
        )
        eventually(lambda: is_within(child.pid, most), f"a server that holds no more than {most}")
        os.kill(child.pid, signal.SIGTERM)
        both = warm + came
        # Of those who never speak there were two each time.
        assert child.notes.next() == f"{both.total() + both['never_speaks']} 0 0"
        assert child.wait() == 0
    assert log.text == ""
    assert set(came) == {client.__name__ for client in CLIENTS}
