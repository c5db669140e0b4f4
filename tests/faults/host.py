"""Faults of the host: killed processes, a standstill, logs that cannot be written."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ..helpers import stopped
from .peers import (
    HELLO,
    ask,
    crowd,
    load,
    milliseconds,
    read_line,
    read_to_end,
    seconds_to_serve,
    serves_again,
)
from .scenario import Failed, need, only_on, scenario, until
from .stage import Stage
from .subject import OURS, SUBJECTS, Up

NO_WORKERS = only_on(("prefork",), OURS, "it has no workers")
NO_CHILDREN = only_on(("fork", "ForkingTCPServer"), SUBJECTS, "it has no children")
ONE_PROCESS = only_on(("fork", "prefork", "ForkingTCPServer"), SUBJECTS, "it is one process")


@scenario(ours=True, but=NO_WORKERS)
def worker_killed(on: Stage) -> str:
    """kill -9 for a worker under load: only its own conversations end, another takes its place"""
    with on.serve("--workers", "2") as up, crowd(up, 20) as peers:
        for peer in peers:
            ask(peer, b"hello")
        before = up.children()
        # Chance decides who is with whom; this is the one with fewer of them.
        victim = min(before, key=lambda pid: len(os.listdir(f"/proc/{pid}/fd")))
        with load(up, on.count(500, 100)) as clients:
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(set(up.children()) - set(before)) == 1, 5, "it was not replaced")
            time.sleep(0.05)
            with contextlib.suppress(Failed):
                # Who was with that worker is lost with it; see below for all others.
                clients.finish()
        lost = 0
        for peer in peers:
            try:
                lost += ask(peer, b"again") != b"again"
            except ConnectionError:
                lost += 1
        need(lost <= 10, f"{lost} of 20 were lost")
        need(len(up.children()) == 2, "there are not two workers")
        with load(up, 100) as clients:
            clients.finish()
        return f"{20 - lost} of 20 go on, served in {serves_again(up)}"


@scenario(but=NO_CHILDREN)
def child_killed(on: Stage) -> str:
    """kill -9 for one of 5 children: its own conversation ends, the others do not, no zombie"""
    with on.serve() as up, crowd(up, 5) as peers:
        for peer in peers:
            ask(peer, b"hello")
        os.kill(up.children()[0], signal.SIGKILL)
        lost = 0
        for peer in peers:
            try:
                lost += ask(peer, b"again") != b"again"
            except ConnectionError:
                lost += 1
        need(lost == 1, f"{lost} of 5 were lost")
        figure = serves_again(up)
        until(lambda: up.held().zombies == 0, 2, "a zombie stays")
        return f"4 of 5 go on, served in {figure}"


@scenario(but=ONE_PROCESS)
def handler_dies(on: Stage) -> str:
    """20 handlers end their process: each costs whoever is in it, the server serves on"""
    with on.serve() as up:
        for _ in range(20):
            with contextlib.suppress(ConnectionError), up.connect() as peer:
                peer.sendall(b"die\n")
                got = read_to_end(peer, on.patience)
                need(got == b"", f"somebody was told {got!r}")
            if on.forks:
                seconds_to_serve(up)
        # Workers that fail again and again are replaced after 5 s, and then have to start.
        return f"served in {serves_again(up, 7)}"


@scenario(but=ONE_PROCESS)
def parent_killed(on: Stage) -> str:
    """kill -9 for the parent of 5 idle children (or workers): they end, and the port is free"""
    with on.serve() as up, crowd(up, 5) as peers:
        for peer in peers:
            ask(peer, b"hello")
        need(up.children(), "there are none")
        began = time.monotonic()
        up.signal(signal.SIGKILL)
        up.wait(2)
        until(lambda: not up.pids(), 6.5, "they are left behind", 0.02)
        took = time.monotonic() - began
        try:
            up.connect().close()
        except ConnectionRefusedError:
            return f"after {took:.1f} s"
        raise Failed("somebody listens there still")


@scenario()
def standstill(on: Stage) -> str:
    """SIGSTOP for longer than idle_timeout, then SIGCONT: who spoke meanwhile is answered"""
    with on.serve("--idle-timeout", "0.4") as up, up.connect() as peer:
        ask(peer, b"hello")
        pids = up.pids()
        os.killpg(up.pid, signal.SIGSTOP)
        until(lambda: all(map(stopped, pids)), 2, "it does not stand still")
        peer.sendall(HELLO)
        time.sleep(0.6)
        os.killpg(up.pid, signal.SIGCONT)
        began = time.monotonic()
        got = read_line(peer)
        need(got == HELLO, f"it was told {got!r}")
        figure = milliseconds(time.monotonic() - began)
        if not on.one_at_a_time:
            seconds_to_serve(up)
        return f"answered after {figure}"


def _goes_on(up: Up, on: Stage) -> str:
    """Handlers raise, which is told where it can be, and everybody else is served rightly."""
    for _ in range(3):
        with contextlib.suppress(ConnectionError), up.connect() as peer:
            peer.sendall(b"raise\n")
            got = read_to_end(peer, on.patience)
            need(got == b"", f"a peer was told {got[:60]!r}")
        seconds_to_serve(up)
    for number in range(20):
        with up.connect() as peer:
            said = b"number %d" % number
            got = ask(peer, said)
            need(got == said, f"a peer was told {got[:60]!r}")
    up.stop()
    return "served, and ended with 0"


@scenario()
def closed_streams(on: Stage) -> str:
    """stdin, stdout and stderr are closed, and handlers raise: every peer hears the right bytes"""
    with on.serve("-v", shell='exec "$@" <&- >&- 2>&-') as up:
        return _goes_on(up, on)


@scenario()
def full_log(on: Stage) -> str:
    """stderr is a full disk, and handlers raise: it serves on"""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with on.serve("-v", stderr=full) as up:
            return _goes_on(up, on)
    finally:
        os.close(full)


@scenario()
def log_reader_gone(on: Stage) -> str:
    """Whoever read stderr is gone, and handlers raise: it serves on"""
    read, write = os.pipe()
    try:
        with on.serve("-v", stderr=write) as up:
            os.close(read)
            return _goes_on(up, on)
    finally:
        os.close(write)


@scenario(ours=True)
def controls_in_log(on: Stage) -> str:
    """Peers send escapes for terminals while messages are logged: none gets there as it is"""
    with on.serve("-v") as up:
        for said in (b"\x1b[2J\x1b[H", b"\x1b]0;owned\x07", b"\x9b6n", b"innocent\rforged\x08"):
            with up.connect() as peer:
                peer.sendall(said + b"\n")
                read_line(peer)
        until(lambda: "forged" in up.log, 2, "the messages are not in the log")
        bad = {char for char in up.log if not char.isprintable() and char != "\n"}
        need(not bad, f"the log has {sorted(bad)!r}")
        return "none"


@scenario()
def idle_cpu(on: Stage) -> str:
    """Nobody says anything for 2 s, with 30 connected: CPU < 1 %"""
    with on.serve() as up, crowd(up, 1 if on.one_at_a_time else 30) as peers:
        for peer in peers:
            ask(peer, b"hello")
        time.sleep(0.2)
        before = up.cpu()
        time.sleep(2)
        busy = (up.cpu() - before) / 2
        need(busy < 0.01, f"it used {busy:.1%} of a core")
        return f"{busy:.1%}"


@scenario()
def group_signalled(on: Stage) -> str:
    """SIGTERM for all of its processes at once, while a handler is at work: its answer arrives"""
    with on.serve() as up, up.connect() as peer:
        peer.sendall(b"wait 400\n")
        time.sleep(0.1)
        os.killpg(up.pid, signal.SIGTERM)
        got = read_line(peer)
        need(got == b"wait 400\n", f"the peer was told {got!r}")
        peer.close()
        code = up.wait(on.patience)
        need(code == 0, f"its exit code was {code}")
        return "it arrived"
