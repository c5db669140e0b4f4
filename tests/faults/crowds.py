"""Slow, silent, greedy, broken peers, and too many of them."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from pathlib import Path

from ..helpers import reset
from .peers import (
    HELLO,
    all_at_once,
    ask,
    crowd,
    hears,
    milliseconds,
    over_tls,
    read_line,
    read_to_end,
    seconds_to_serve,
    serves_again,
    stay,
)
from .scenario import Absent, Failed, need, only_on, scenario, until
from .stage import Stage
from .subject import SUBJECTS, Held, Up

MIB = 1 << 20
FEW = 4

# As the table of models in the README says of it.
ALONE = {"single": "it serves one at a time"}
ONE_PROCESS = ("--workers", "1")


def workers_of(on: Stage) -> tuple[str, ...]:
    """The flags with which all connections meet in one process."""
    return ONE_PROCESS if on.name == "prefork" else ()


def connections(on: Stage, count: int) -> tuple[str, ...]:
    """The flag with which so many may be there."""
    return () if on.name in ("loop", "aio", "single") else ("--max-connections", str(count))


def mib(size: int) -> str:
    return f"{max(size, 0) / MIB:.1f} MiB"


def grown(up: Up, before: int, most: int) -> str:
    """Errors: Failed when it has more memory than before, by more than that."""
    by = up.held().memory - before
    need(by < most, f"its memory grew by {mib(by)}")
    return mib(by)


def warm(up: Up, on: Stage) -> None:
    """Whatever is made for the first client who comes is there, in each worker."""
    for _ in range(1 if on.one_at_a_time else 3):
        with crowd(up, 1 if on.one_at_a_time else 20) as peers:
            for peer in peers:
                ask(peer, b"hello")


def few_threads(on: Stage) -> tuple[str, ...]:
    """The flags with which pools soon have all of their threads, and each worker a client."""
    workers = ("--workers", "2") if on.name == "prefork" else ()
    return (*workers, "--threads", str(FEW)) if on.name in ("pool", "prefork") else ()


def given_back(up: Up, on: Stage, before: Held) -> str:
    """Errors: Failed when it has more than before, but for a little memory."""
    # Threads of a pool are started when there is something to do, and stay.
    grown = up.gives_back(before, threads=FEW * before.processes if few_threads(on) else 0)
    need(grown < 5 * MIB, f"its memory grew by {mib(grown)}")
    return mib(grown)


@scenario(but=ALONE)
def silent_and_dripping(on: Stage) -> str:
    """200 silent peers and 50 who say a byte at a time: a healthy one is answered in < 100 ms"""
    with on.serve() as up, crowd(up, 200) as silent, crowd(up, 50) as dripping:
        # Behind all of them.
        seconds_to_serve(up)
        worst = 0.0
        for _ in range(on.count(40, 20)):
            for peer in dripping:
                peer.send(b"x")
            worst = max(worst, seconds_to_serve(up))
        need(worst < 0.1, f"it took up to {milliseconds(worst)}")
        stay([*silent, *dripping])
        return f"slowest {milliseconds(worst)}"


@scenario(deadline=60)
def connects_and_closes(on: Stage) -> str:
    """5,000 connects that are closed at once: nothing is left of them, memory < 5 MiB"""
    with on.serve(*few_threads(on)) as up:
        warm(up, on)
        before = up.at_rest()
        for _ in range(on.count(5000, 500)):
            up.connect().close()
        took = serves_again(up, on.patience)
        return f"answered after {took}, grew by {given_back(up, on, before)}"


@scenario(deadline=60)
def resets_in_messages(on: Stage) -> str:
    """1,000 resets in the middle of a message: nothing is left of them, memory < 5 MiB"""
    with on.serve(*few_threads(on)) as up:
        warm(up, on)
        before = up.at_rest()
        for _ in range(on.count(1000, 500)):
            peer = up.connect()
            peer.send(b"half a mess")
            reset(peer)
        took = serves_again(up, on.patience)
        return f"answered after {took}, grew by {given_back(up, on, before)}"


OF_ITS_OWN = "the process of each connection has descriptors of its own"


@scenario(
    but={"TCPServer": ALONE["single"], **ALONE, "fork": OF_ITS_OWN, "ForkingTCPServer": OF_ITS_OWN}
)
def out_of_descriptors(on: Stage) -> str:
    """300 connections at a limit of 64 descriptors: CPU < 20 %, nobody inside lost, over in 1 s"""
    with on.serve(shell='ulimit -n 64; exec "$@"') as up:
        seconds_to_serve(up)
        with crowd(up, 300, HELLO) as peers:
            # Who is in has the reply by then.
            time.sleep(0.7 if on.forks else 0.3)
            before, began = up.cpu(), time.monotonic()
            time.sleep(1)
            busy = (up.cpu() - before) / (time.monotonic() - began)
            # A process without a descriptor is no help to anybody, but it lives.
            need(up.process.poll() is None, "it ended")
            ready, _, _ = select.select(peers, [], [], 0)
            need(ready, "nobody was let in")
            for peer in ready:
                got = read_line(peer)
                need(got == HELLO, f"somebody inside was told {got!r}")
            for peer in ready:
                got = ask(peer, b"again")
                need(got == b"again", f"somebody inside was lost, and told {got!r}")
            need(busy < 0.2, f"it used {busy:.0%} of a core")
        return f"{len(ready)} inside, CPU {busy:.0%}, served after {serves_again(up)}"


# KiB: of a thread, and of address space for all that a process has.
STACK, ROOM = 8192, 700_000
THREADED = ("thread", "pool", "prefork", "ThreadingTCPServer")


@scenario(but=only_on(THREADED, SUBJECTS, "no thread of it is for one connection"))
def out_of_memory(on: Stage) -> str:
    """300 at work without memory for so many threads: nobody is lost who was answered once"""
    words = (*workers_of(on), "--threads", "300") if few_threads(on) else ()
    with on.serve(*words, shell=f'ulimit -s {STACK}; ulimit -v {ROOM}; exec "$@"') as up:
        seconds_to_serve(up)
        with crowd(up, 300, b"wait 20\n") as peers:
            said = [_said(peer) for peer in peers]
            if not any(0 <= _room_left(pid) < 2 * STACK for pid in up.pids()):
                raise Absent("it never came to the limit")
            threads = up.held().threads
            inside = [peer for peer, line in zip(peers, said, strict=True) if line == b"wait 20\n"]
            need(inside, "nobody was answered")
            for peer in inside:
                got = ask(peer, b"again")
                need(got == b"again", f"somebody inside was lost, and told {got!r}")
        lost = len(peers) - len(inside)
        figure = f"{len(inside)} inside with {threads} threads, {lost} turned away"
        return f"{figure}, served after {_serves_soon(up, 3)}"


def _room_left(pid: int) -> int:
    """KiB that a process had still when it had the most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return ROOM - int(status.partition("VmPeak:")[2].split()[0])


def _said(peer: socket.socket) -> bytes:
    try:
        return read_line(peer)
    except OSError:
        return b""


def _feed(peer: socket.socket, piece: bytes, size: int, stuck: float = 1.0) -> int:
    """Send this until it is so many bytes, and read nothing; give what was taken."""
    peer.setblocking(False)
    poller = select.poll()
    poller.register(peer, select.POLLOUT)
    taken = 0
    while taken < size:
        try:
            taken += peer.send(memoryview(piece)[taken % len(piece) :])
        except BlockingIOError:
            if not poller.poll(stuck * 1000):
                break
        except OSError:
            break
    return taken


# The reply to "size 1048576".
LARGE = b"x" * MIB + b"\n"


@scenario()
def never_reads(on: Stage) -> str:
    """A peer sends 256 MiB and reads late: memory grows by < 8 MiB, and every reply comes"""
    with on.serve() as up, up.connect(buffer=4096) as deaf:
        ask(deaf, b"hello")
        before = up.held().memory
        line = b"x" * 65535 + b"\n"
        taken = _feed(deaf, line, 256 * MIB)
        figure = grown(up, before, 8 * MIB)
        stay([deaf])
        if not on.one_at_a_time:
            seconds_to_serve(up)
        # It reads after all, whatever was whole.
        deaf.settimeout(on.patience)
        hears(deaf, line, taken // len(line) * len(line))
        return f"grew by {figure}, took {mib(taken)}, then told it all"


@scenario()
def asks_and_never_reads(on: Stage) -> str:
    """A peer asks for 64 MiB and reads late: memory grows by < 8 MiB, and every reply comes"""
    with on.serve() as up, up.connect(buffer=4096) as deaf:
        ask(deaf, b"hello")
        before = up.held().memory
        deaf.sendall(b"size 1048576\n" * 64)
        time.sleep(0.5)
        figure = grown(up, before, 8 * MIB)
        stay([deaf])
        if not on.one_at_a_time:
            seconds_to_serve(up)
        hears(deaf, LARGE, 64 * len(LARGE))
        return f"grew by {figure}, then told it all"


@scenario(but=ALONE)
def many_never_read(on: Stage) -> str:
    """40 ask for 4 MiB each and read late: each costs < 2 MiB (4 with a process), and hears all"""
    with on.serve() as up:
        warm(up, on)
        before = up.at_rest().memory
        with crowd(up, 40, b"size 1048576\n" * 4, buffer=4096) as deaf:
            time.sleep(0.5)
            figure = grown(up, before, 40 * (4 if on.forks else 2) * MIB)
            took = serves_again(up)
            stay(deaf)
            for peer in deaf:
                hears(peer, LARGE, 4 * len(LARGE))
        return f"grew by {figure}, served after {took}, then told all"


@scenario()
def much_goes_through(on: Stage) -> str:
    """64 MiB go in and come back, read as they come: every byte is right, memory < 8 MiB"""
    size = on.count(64, 8) * MIB
    line = bytes(range(11, 256)) * 33 + b"\n"
    whole = line * (65536 // len(line))
    with on.serve() as up, up.connect() as peer:
        ask(peer, b"hello")
        before = up.held().memory
        peer.setblocking(False)
        sent = got = 0
        end = time.monotonic() + on.patience * 2
        rest = memoryview(whole)
        most = before
        while got < size:
            need(time.monotonic() < end, f"{mib(got)} of {mib(size)} had come back")
            wants = [peer] if sent < size else []
            readable, writable, _ = select.select([peer], wants, [], 1)
            if writable:
                done = peer.send(rest)
                sent += done
                rest = rest[done:] or memoryview(whole)
            if readable:
                data = peer.recv(1 << 18)
                need(data, f"it hung up after {mib(got)}")
                place = got % len(whole)
                times = (place + len(data)) // len(whole) + 1
                need(data == (whole * times)[place : place + len(data)], "a byte was wrong")
                before_look, got = got, got + len(data)
                if before_look // (8 * MIB) != got // (8 * MIB):
                    most = max(most, up.held().memory)
            if sent >= size and got >= sent:
                break
        need(most - before < 8 * MIB, f"its memory grew by {mib(most - before)}")
        return f"grew by {mib(most - before)}"


# Bytes for each of those who have said half a message: a thread has a stack, a process all.
PER_PEER = {
    "thread": 48 << 10,
    "fork": 4 << 20,
    "pool": 16 << 10,
    "prefork": 16 << 10,
    "loop": 8 << 10,
    "aio": 16 << 10,
    "ThreadingTCPServer": 48 << 10,
    "ForkingTCPServer": 4 << 20,
}


@scenario(but={**ALONE, "TCPServer": "it serves one at a time"}, deadline=90)
def half_messages(on: Stage) -> str:
    """10,000 (on loop and aio; else 1,000) half messages: bounded memory, a healthy one < 1 s"""
    most = 10_000 if on.name in ("loop", "aio") else 1000
    count = on.count(most, most // 10)
    with on.serve(*connections(on, count + 100)) as up:
        warm(up, on)
        before = up.at_rest().memory
        with crowd(up, count, b"half of ") as peers:
            # Who is not inside has not been answered by then.
            need(_all_inside(up, peers, on), f"{count:,} were not let in")
            each = max(up.held().memory - before, 0) / count
            need(
                each < PER_PEER[on.name],
                f"each of {count:,} costs {each / 1024:,.1f} KiB",
            )
            took = serves_again(up)
            for peer in (peers[0], peers[-1]):
                need(ask(peer, b"it") == b"half of it", "a half was lost")
        return f"{each / 1024:,.1f} KiB each, a healthy one {took}"


def _all_inside(up: Up, peers: list[socket.socket], on: Stage) -> bool:
    """Wait until the kernel has no more of them than the healthy client could bear."""
    end = time.monotonic() + on.patience
    with contextlib.suppress(Failed):
        while time.monotonic() < end:
            if seconds_to_serve(up) < 0.5:
                return True
    return False


@scenario(but={"TCPServer": "it serves one at a time", **ALONE})
def endless_messages(on: Stage) -> str:
    """50 peers, each with 4 MiB of a message without end: memory grows by < 16 MiB"""
    with on.serve("--max-message", "65536") as up:
        warm(up, on)
        before = up.at_rest().memory
        with crowd(up, 50) as peers:
            for peer in peers:
                _feed(peer, b"x" * 65536, 4 * MIB, stuck=0.1)
            time.sleep(0.2)
            figure = grown(up, before, 16 * MIB)
            took = serves_again(up)
        return f"grew by {figure}, a healthy one {took}"


@scenario()
def burst(on: Stage) -> str:
    """300 come in the same instant: all are answered within 1 s (3, with a process for each)"""
    with on.serve() as up:
        seconds_to_serve(up)
        took = all_at_once(up, 300)
        limit = 3 if on.forks else 1
        need(took < limit, f"the last one was answered after {took:.1f} s")
        return f"the last after {milliseconds(took)}"


@scenario(ours=True)
def full_waits(on: Stage) -> str:
    """100 come where 20 may be open (overload: wait): all are answered in the end"""
    words = () if on.name == "single" else ("--max-connections", "20")
    with on.serve(*words, *workers_of(on)) as up, crowd(up, 100, HELLO) as peers:
        began = time.monotonic()
        waiting = set(peers)
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], on.patience)
            need(ready, f"{len(waiting)} of 100 were never answered")
            for peer in ready:
                need(read_line(peer) == HELLO, "somebody was turned away")
                waiting.discard(peer)
                peer.close()
        return f"the last after {milliseconds(time.monotonic() - began)}"


NO_OVERLOAD = {"single": "it never has too many: the others wait"}


@scenario(ours=True, but=NO_OVERLOAD)
def full_refuses(on: Stage) -> str:
    """200 come where 10 may be open (overload: refuse:busy): they are told, the log says little"""
    words = ("--max-connections", "10", "--overload", "refuse:busy", *workers_of(on))
    with on.serve(*words) as up:
        with crowd(up, 10) as inside:
            for peer in inside:
                ask(peer, b"hello")
            for _ in range(on.count(200, 50)):
                with up.connect() as late:
                    got = read_to_end(late, on.patience)
                    need(got == b"busy\n", f"one too many was told {got!r}")
            for peer in inside:
                need(ask(peer, b"again") == b"again", "somebody inside was lost")
        lines = up.log.count("Turned away")
        need(0 < lines <= 6, f"the log has {lines} lines about it")
        served = _serves_soon(up)
        return f"{lines} lines in the log, a place after {served}"


def _serves_soon(up: Up, within: float = 1.0) -> str:
    """The places of those who left are given to others within so many seconds."""
    began = time.monotonic()

    def served() -> bool:
        with contextlib.suppress(OSError), up.connect() as peer:
            return ask(peer, b"hello") == b"hello"
        return False

    until(served, within, "nobody was let in when there was a place")
    return milliseconds(time.monotonic() - began)


@scenario(ours=True, but=NO_OVERLOAD)
def full_drops(on: Stage) -> str:
    """50 come where 10 may be open (overload: drop): they are reset, and nobody inside is"""
    words = ("--max-connections", "10", "--overload", "drop", *workers_of(on))
    with on.serve(*words) as up:
        with crowd(up, 10) as inside:
            for peer in inside:
                ask(peer, b"hello")
            for _ in range(50):
                try:
                    with up.connect() as late:
                        got = late.recv(9)
                    need(False, f"one too many was told {got!r}")
                except ConnectionResetError:
                    pass
            for peer in inside:
                need(ask(peer, b"again") == b"again", "somebody inside was lost")
        return f"a place after {_serves_soon(up)}"


@scenario(ours=True, but=NO_OVERLOAD)
def greedy_host(on: Stage) -> str:
    """A host wants 50 connections and may have 5 (max_per_peer): others are served as ever"""
    with on.serve("--max-per-peer", "5", *workers_of(on)) as up:
        with crowd(up, 5) as inside:
            for peer in inside:
                ask(peer, b"hello")
            for _ in range(45):
                with up.connect() as late:
                    got = read_to_end(late, on.patience)
                    need(got == b"", f"one too many was told {got!r}")
            took = seconds_to_serve(up, "127.0.0.2")
        return f"another host {milliseconds(took)}"


@scenario(ours=True)
def denied_host(on: Stage) -> str:
    """50 come from a network that may not (deny): they are hung up on, others are served"""
    with on.serve("--deny", "127.0.0.2") as up:
        for _ in range(50):
            with up.connect("127.0.0.2") as barred:
                got = read_to_end(barred, on.patience)
                need(got == b"", f"somebody barred was told {got!r}")
        return f"others {serves_again(up)}"


@scenario(but=ALONE)
def silent_at_tls(on: Stage) -> str:
    """20 peers connect over TLS and never shake hands: a healthy one is served within 1 s"""
    with on.serve(place="tls://127.0.0.1:0") as up, crowd(up, 20) as silent:
        time.sleep(0.1)
        began = time.monotonic()
        try:
            with over_tls(up.connect()) as peer:
                need(ask(peer, b"hello") == b"hello", "a healthy one was not answered")
        except OSError as error:
            raise Failed(f"a healthy one was not served: {error}") from None
        took = time.monotonic() - began
        need(took < 1, f"it took {milliseconds(took)}")
        stay(silent)
        return milliseconds(took)


@scenario()
def last_reply(on: Stage) -> str:
    """A peer says close and goes on talking: the last reply arrives, and no reset (20 times)"""
    with on.serve() as up:
        for number in range(20):
            with up.connect() as peer:
                peer.sendall(b"close\n")
                try:
                    for _ in range(3):
                        peer.sendall(b"and then\n" * 100)
                        time.sleep(0.002)
                    peer.shutdown(socket.SHUT_WR)
                    got = read_to_end(peer, on.patience)
                except ConnectionError as error:
                    raise Failed(f"it was reset the {number + 1}. time: {error}") from None
                need(got == b"closed\n", f"the last it heard was {got[-20:]!r}")
        return "20 of 20"


@scenario()
def half_close_behind_many(on: Stage) -> str:
    """1,000 messages and the end of input in one go: 1,000 replies, and then the end"""
    said = b"".join(b"message %d\n" % number for number in range(1000))
    with on.serve() as up, up.connect() as peer:
        peer.sendall(said)
        peer.shutdown(socket.SHUT_WR)
        got = read_to_end(peer, on.patience)
        need(got == said, f"{got.count(10)} of 1,000 came back")
        return "1,000 of 1,000"


@scenario()
def handler_raises(on: Stage) -> str:
    """100 handlers raise: each costs its own connection, and the others are served"""
    with on.serve() as up:
        for _ in range(on.count(100, 30)):
            with up.connect() as peer:
                peer.sendall(b"raise\n")
                got = read_to_end(peer, on.patience)
                need(got == b"", f"somebody was told {got!r}")
            seconds_to_serve(up)
        return f"served after {serves_again(up)}"
