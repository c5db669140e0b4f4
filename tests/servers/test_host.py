"""Faults of the host: killed parents, processes that stand still, clocks that are set back."""

from __future__ import annotations

import ast
import itertools
import os
import signal
import socket
import socketserver
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import echoframe
from echoframe import Client
from echoframe.servers import MODELS, ForkServer, Server
from echoframe.servers import fork as fork_module
from echoframe.servers.children import kill
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    Gate,
    Notes,
    Place,
    ask,
    echo,
    eventually,
    forked,
    one_worker,
    raw_connection,
    read_line,
    read_to_end,
    served,
    slow,
    stopped,
)


def _orphaned(work: Callable[[Notes], object], talk: Callable[[socket.socket], None]) -> float:
    """Connect, talk, kill the parent, and give the seconds until the child has hung up."""
    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        talk(peer)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        began = time.monotonic()
        assert read_to_end(peer) == b""
        return time.monotonic() - began


def _alone(handler: Any, **settings: Any) -> Callable[[Notes], None]:
    def work(told: Notes) -> None:
        server = ForkServer("tcp://127.0.0.1:0", handler, **settings)
        told.write(str(server.address))
        server.run()

    return work


def test_an_idle_child_whose_parent_was_killed_ends() -> None:
    def talk(peer: socket.socket) -> None:
        assert ask(peer, b"hello") == b"hello"

    _orphaned(_alone(echo), talk)


def test_a_child_whose_parent_was_killed_finishes_what_it_is_doing(
    notes: Notes, gate: Gate
) -> None:
    work = _alone(slow(gate, notes))
    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        # It has noticed by then.
        peer.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(DEADLINE)
        gate.open()
        assert read_to_end(peer) == b"hello\n"


def test_half_a_message_keeps_a_child_without_a_parent_for_the_drain_time() -> None:
    def talk(peer: socket.socket) -> None:
        peer.sendall(b"hello\nhalf")
        assert read_line(peer) == b"hello\n"

    seconds = _orphaned(_alone(echo, framing="line", drain_timeout=0.3), talk)
    assert 0.25 < seconds < DEADLINE


def test_a_deaf_handler_ends_too_when_its_parent_was_killed(
    notes: Notes, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_module, "GRACE", 0.1)

    def talk(peer: socket.socket) -> None:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"

    _orphaned(_alone(slow(gate, notes), drain_timeout=0.1), talk)


def test_a_handler_class_without_a_parent_ends_too() -> None:
    def talk(peer: socket.socket) -> None:
        assert ask(peer, b"hello") == b"hello"

    _orphaned(_alone(Reading), talk)


def test_a_handler_has_the_alarm_to_itself(notes: Notes) -> None:
    def wait(message: bytes) -> bytes:
        signal.signal(signal.SIGALRM, lambda *_: notes.write("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        signal.pause()
        return message

    with running(wait, "fork") as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
        assert notes.next() == "alarm"


class Reading(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


# ------------------------------------------------------------------ standing still


def _family(pid: int) -> list[int]:
    """A process and its children."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("this kernel does not tell which children a process has")
    return [pid, *map(int, found.read_text().split())]


def test_who_spoke_while_the_server_stood_still_is_answered_and_not_cut() -> None:
    idle = 0.4
    pairs: list[tuple[type[Server], Any]] = [(cls, echo) for cls in MODELS.values()]
    pairs += [(cls, Reading) for cls in MODELS.values() if cls.runs_handler_classes]
    with ExitStack() as stack:
        peers, silent = [], []
        for cls, handler in pairs:
            settings = {**one_worker(cls.model), "idle_timeout": idle}
            up = stack.enter_context(served(cls, handler, alone=True, **settings))
            peer = stack.enter_context(raw_connection(up))
            assert ask(peer, b"hello") == b"hello"
            if cls.at_once != "1":
                other = stack.enter_context(raw_connection(up))
                assert ask(other, b"hello") == b"hello"
                silent.append(other)
            for pid in _family(up.pid):
                os.kill(pid, signal.SIGSTOP)
                stack.callback(kill, pid, signal.SIGCONT)
                eventually(partial(stopped, pid), "its standstill")
            peer.sendall(b"are you there?\n")
            peers.append((peer, up.pid))
        # For all of them at once: this is the time that must pass.
        time.sleep(2 * idle)
        for _, pid in peers:
            for one in _family(pid):
                # First the one that orders.
                os.kill(one, signal.SIGCONT)
        for (peer, _), pair in zip(peers, pairs, strict=True):
            assert read_line(peer) == b"are you there?\n", pair
        for other in silent:
            # That was not their silence; they have all of their time again.
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(1)
        for peer, _ in peers:
            # And who is silent from then on is cut as ever.
            assert peer.recv(1) == b""


# --------------------------------------------------------------------- the clock

# What tells the time of day, which may be set to anything at any moment.
OF_DAY = {"time", "time_ns", "localtime", "gmtime", "now", "utcnow", "today"}


def _asks_for_the_time_of_day(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module="time" | "datetime", names=names):
                found += [one.name for one in names if one.name not in ("sleep", "monotonic")]
            case ast.Attribute(value=ast.Name(id="time" | "datetime" | "date" as name), attr=asked):
                found += [f"{name}.{asked}, line {node.lineno}"] if asked in OF_DAY else []
    return found


@pytest.mark.parametrize("part", ["servers", "transports", "handlers", "testing", ""])
def test_nothing_that_waits_asks_for_the_time_of_day(part: str) -> None:
    files = sorted((Path(echoframe.__file__).parent / part).glob("*.py"))
    assert files
    asked = {file.name: _asks_for_the_time_of_day(file) for file in files}
    assert not any(asked.values()), asked


def test_a_clock_that_is_asked_for_is_seen(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import time\nfrom datetime import datetime\ntime.time()\n")
    assert len(_asks_for_the_time_of_day(tmp_path / "x.py")) == 2


@pytest.mark.parametrize("model", MODELS)
def test_a_clock_that_is_set_back_changes_nothing(model: str) -> None:
    def work(told: Notes) -> None:
        hours = itertools.count()
        # An hour back whenever somebody looks.
        time.time = lambda: 1e9 - 3600 * next(hours)
        time.time_ns = lambda: int(time.time() * 1e9)
        with running(echo, model, "tcp", idle_timeout=0.1, drain_timeout=5) as up:
            with Client(up.address, timeout=DEADLINE) as client:
                assert client.ask("hello") == b"hello"
            with raw_connection(up) as silent:
                assert silent.recv(1) == b""
                told.write("cut")
        assert up.report is not None
        told.write(up.report.seconds < 1.0)

    with forked(work) as child:
        assert child.notes.take(2) == ["cut", "True"]
        assert child.wait() == 0
