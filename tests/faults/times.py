"""Deadlines: each is kept, neither too early nor much too late."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from .crowds import workers_of
from .peers import ask, hung_up, milliseconds, over_tls
from .scenario import need, scenario, until
from .stage import Stage
from .subject import Up

LIMIT = 0.4
# What a deadline may be late, and what a busy machine adds to that.
LATEST = 1.25 * LIMIT + 0.2


def _kept(seconds: float, latest: float = LATEST) -> str:
    need(seconds > 0.9 * LIMIT, f"it was cut after {seconds:.2f} s, of {LIMIT} s")
    need(seconds < latest, f"it was cut after {seconds:.2f} s only, of {LIMIT} s")
    return f"{milliseconds(seconds)} of {LIMIT * 1000:.0f} ms"


def _since(began: float) -> float:
    return time.monotonic() - began


@scenario(ours=True)
def first_byte_timeout(on: Stage) -> str:
    """A peer never says a word: it is cut by first_byte_timeout"""
    with on.serve("--first-byte-timeout", str(LIMIT)) as up:
        began = time.monotonic()
        with up.connect() as silent:
            hung_up(silent, on.patience)
            return _kept(_since(began))


@scenario(ours=True)
def idle_timeout(on: Stage) -> str:
    """A peer falls silent: it is cut by idle_timeout"""
    with on.serve("--idle-timeout", str(LIMIT)) as up, up.connect() as silent:
        began = time.monotonic()
        ask(silent, b"hello")
        hung_up(silent, on.patience)
        return _kept(_since(began))


def _write_timeout(on: Stage, place: str) -> str:
    with (
        on.serve("--write-timeout", str(LIMIT), place=place) as up,
        up.connect(buffer=4096) as sock,
    ):
        deaf = over_tls(sock) if up.address.scheme == "tls" else sock
        with deaf:
            began = time.monotonic()
            deaf.sendall(b"size 1048576\n" * 64)
            hung_up(deaf, on.patience)
            # A socket that blocks learns of a standstill when it has waited, and Unix's tell
            # nothing of their peer.
            twice = on.name in ("single", "thread", "fork") and up.address.scheme == "unix"
            return _kept(_since(began), LATEST + LIMIT if twice else LATEST)


@scenario(ours=True)
def write_timeout(on: Stage) -> str:
    """A peer does not read its reply: it is cut by write_timeout"""
    return _write_timeout(on, "tcp://127.0.0.1:0")


@scenario(ours=True)
def write_timeout_tls(on: Stage) -> str:
    """A peer does not read its reply over TLS: it is cut by write_timeout"""
    return _write_timeout(on, "tls://127.0.0.1:0")


@scenario(ours=True)
def write_timeout_unix(on: Stage) -> str:
    """A peer does not read its reply at a socket file: it is cut by write_timeout"""
    return _write_timeout(on, f"unix://{on.folder / f'deaf-{on.name}'}")


@scenario(ours=True)
def total_timeout(on: Stage) -> str:
    """A peer talks and talks: it is cut by total_timeout"""
    with on.serve("--total-timeout", str(LIMIT)) as up:
        began = time.monotonic()
        with up.connect() as peer:
            try:
                while ask(peer, b"and another thing"):
                    need(_since(began) < LATEST + 1, "it was never cut")
                    time.sleep(0.01)
            except ConnectionError:
                pass
            return _kept(_since(began))


@scenario(ours=True)
def handshake_timeout(on: Stage) -> str:
    """A peer never shakes hands: it is cut by handshake_timeout"""
    words = ("--handshake-timeout", str(LIMIT))
    with on.serve(*words, place="tls://127.0.0.1:0") as up:
        began = time.monotonic()
        with up.connect() as silent:
            hung_up(silent, on.patience)
            return _kept(_since(began))


@scenario(ours=True)
def linger_timeout(on: Stage) -> str:
    """A peer stays when its conversation is over: it is let go by linger_timeout"""
    with on.serve("--linger-timeout", str(LIMIT), *workers_of(on)) as up:
        with up.connect() as peer:
            ask(peer, b"hello")
        before = up.at_rest()
        with up.connect() as stays:
            began = time.monotonic()
            need(ask(stays, b"close") == b"closed", "it was not told that it is over")
            until(_has_no_more_than(up, before.descriptors, before.processes), on.patience, "stays")
            return _kept(_since(began))


def _has_no_more_than(up: Up, descriptors: int, processes: int) -> Callable[[], bool]:
    def look() -> bool:
        now = up.held()
        return now.descriptors <= descriptors and now.processes <= processes

    return look


@scenario(ours=True)
def drain_timeout(on: Stage) -> str:
    """Half a message when the server stops: drain_timeout is kept, the half is not answered"""
    with on.serve("--drain-timeout", str(LIMIT)) as up, up.connect() as peer:
        ask(peer, b"hello")
        peer.sendall(b"pay 1")
        time.sleep(0.05)
        began = time.monotonic()
        up.signal(signal.SIGTERM)
        try:
            got = peer.recv(99)
        except ConnectionError:
            got = b""
        need(got == b"", f"the half was answered with {got!r}")
        code = up.wait(on.patience)
        need(code == 0, f"its exit code was {code}")
        return _kept(_since(began))
