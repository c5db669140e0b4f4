"""Stopping and starting: under load, with idle peers, at once, and in the same place."""

from __future__ import annotations

import select
import signal
import socket
import time

from .peers import (
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
from .subject import OURS

# More than the kernel takes for a peer who reads nothing, and no burden 200 times.
LONG = 400_000
DRAIN = 10.0
NO_WORKERS = only_on(("prefork",), OURS, "it has no workers")


@scenario(deadline=60)
def stop_in_flight(on: Stage) -> str:
    """SIGTERM with 200 replies under way: each arrives whole, and the server ends in drain time"""
    count = 1 if on.one_at_a_time else 200
    words = ("--drain-timeout", str(DRAIN))
    with on.serve(*words) as up, crowd(up, count, b"size %d\n" % LONG, buffer=4096) as peers:
        begun: set[socket.socket] = set()
        end = time.monotonic() + on.patience
        while len(begun) < count:
            need(time.monotonic() < end, f"{len(begun)} of {count} replies were begun")
            begun.update(select.select([peer for peer in peers if peer not in begun], [], [], 1)[0])
        kept = up.in_kernel()
        # Of the others, nothing is left to the server that it could lose.
        under_way = sum(kept[peer.getsockname()[1]] <= LONG for peer in peers)
        need(under_way >= 0.9 * count, f"the kernel has all but {under_way} of {count} replies")
        began = time.monotonic()
        up.signal(signal.SIGTERM)
        # Whoever breaks off has done so when they read.
        time.sleep(0.3)
        for number, peer in enumerate(peers):
            try:
                got = read_to_end(peer, on.patience)
            except OSError as error:
                raise Failed(
                    f"{number} of {count} had it whole and an end, then: {error}"
                ) from None
            whole = len(got) == LONG + 1
            need(whole, f"{number} of {count} came whole, then {len(got):,} bytes of {LONG + 1:,}")
        code = up.wait(max(began + DRAIN - time.monotonic(), 0))
        need(code == 0, f"its exit code was {code}")
        took = milliseconds(time.monotonic() - began)
        return f"{count} whole ({under_way} not yet with the kernel), over after {took}"


@scenario()
def stop_with_idle_peers(on: Stage) -> str:
    """SIGTERM with 30 idle peers connected: the server ends within 1 s"""
    count = 1 if on.one_at_a_time else 30
    with on.serve() as up, crowd(up, count) as peers:
        for peer in peers:
            ask(peer, b"hello")
        return f"after {milliseconds(up.stop(1.0))}"


@scenario()
def stop_waits_for_handlers(on: Stage) -> str:
    """SIGTERM while a handler is at work: its answer arrives"""
    with on.serve() as up, up.connect() as peer:
        peer.sendall(b"wait 400\n")
        time.sleep(0.1)
        up.signal(signal.SIGTERM)
        got = read_line(peer)
        need(got == b"wait 400\n", f"the peer was told {got!r}")
        peer.close()
        code = up.wait(on.patience)
        need(code == 0, f"its exit code was {code}")
        return "it arrived"


def _second(on: Stage, number: int, expected: int) -> str:
    with on.serve() as up, up.connect() as peer:
        ask(peer, b"hello")
        # It is being drained, and takes its time.
        peer.sendall(b"half of a mess")
        time.sleep(0.05)
        up.signal(number)
        time.sleep(0.2)
        need(up.process.poll() is None, "it did not wait for the message that was begun")
        began = time.monotonic()
        up.signal(number)
        code = up.wait(2.0)
        need(code == expected, f"its exit code was {code}")
        return f"{code} after {milliseconds(time.monotonic() - began)}"


@scenario(ours=True)
def second_sigterm(on: Stage) -> str:
    """A second SIGTERM: it ends at once, with 143"""
    return _second(on, signal.SIGTERM, 143)


@scenario(ours=True)
def second_ctrl_c(on: Stage) -> str:
    """A second Ctrl-C: it ends at once, with 130"""
    return _second(on, signal.SIGINT, 130)


@scenario(ours=True, deadline=120)
def takeover(on: Stage) -> str:
    """A new server takes over (--takeover) under 5,000 requests: none refused, reset or wrong"""
    words = ("--takeover", str(on.folder / f"takeover-{on.name}"))
    with on.serve(*words) as old, load(old, on.count(5000, 300)) as clients:
        time.sleep(0.2)
        with on.serve(*words) as new:
            code = old.wait(on.patience)
            need(code == 0, f"the exit code of the old one was {code}")
            need(new.address == old.address, "it listens elsewhere")
            return clients.finish()


@scenario(ours=True)
def failed_takeover(on: Stage) -> str:
    """A new server fails while it takes over: the old one serves on as if nothing had happened"""
    words = ("--takeover", str(on.folder / f"failed-{on.name}"))
    with on.serve(*words) as old, socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        try:
            with on.serve(*words, place=place):
                raise Failed("it started where somebody else listens")
        except Failed as failed:
            need("did not start" in str(failed), str(failed))
        figure = serves_again(old)
        old.stop()
        return f"served in {figure}"


@scenario(ours=True, but=NO_WORKERS, deadline=120)
def reload(on: Stage) -> str:
    """SIGHUP renews the workers under 5,000 requests: none refused, reset or wrong"""
    with on.serve("--workers", "2") as up:
        until(lambda: len(up.children()) == 2, on.patience, "it has not two workers")
        before = set(up.children())
        with load(up, on.count(5000, 300)) as clients:
            time.sleep(0.2)
            up.signal(signal.SIGHUP)
            until(
                lambda: len(now := set(up.children())) == len(before) and not now & before,
                on.patience,
                "its workers were not renewed",
            )
            return clients.finish()


@scenario(ours=True, but=NO_WORKERS)
def bad_reload(on: Stage) -> str:
    """SIGHUP when the configuration is broken: the log says so, and nothing changes"""
    config = on.folder / "broken.toml"
    config.write_text("idle_timeout = 60\n")
    with on.serve("--config", str(config), "--workers", "2") as up:
        until(lambda: len(up.children()) == 2, on.patience, "it has not two workers")
        before = up.children()
        config.write_text("idle_timeout = [")
        up.signal(signal.SIGHUP)
        until(lambda: str(config) in up.log, on.patience, "the log does not name the file")
        need(up.children() == before, "its workers were replaced")
        return f"served in {serves_again(up)}"


@scenario()
def restart_at_once(on: Stage) -> str:
    """A stop with conversations behind it, and a start on the same port at once: it serves"""
    with on.serve() as up:
        place = str(up.address)
        for _ in range(5):
            with up.connect() as peer:
                # The server ends first, and its side of the connection stays with the kernel.
                peer.sendall(b"close\n")
                read_to_end(peer, on.patience)
        up.stop()
        with on.serve(place=place) as again:
            return f"served in {serves_again(again)}"


@scenario()
def restart_after_kill(on: Stage) -> str:
    """kill -9 with peers connected, and a start on the same port at once: it serves"""
    with on.serve() as up, up.connect() as peer:
        ask(peer, b"hello")
        place = str(up.address)
        up.kill()
        with on.serve(place=place) as again:
            return f"served in {serves_again(again)}"


@scenario()
def port_in_use(on: Stage) -> str:
    """A second server at the same port: it says which process has it, and the first serves on"""
    with on.serve() as up:
        try:
            with on.serve(place=str(up.address)):
                raise Failed("both listen there")
        except Failed as failed:
            said = str(failed)
        need("did not start" in said, said)
        need(str(up.pid) in said, f"the last it said was {said.partition(': ')[2]!r}")
        return f"named, served in {serves_again(up)}"


@scenario(ours=True)
def socket_file_left(on: Stage) -> str:
    """kill -9 leaves a socket file behind: the next server takes its place, and removes it"""
    path = on.folder / f"socket-{on.name}"
    with on.serve(place=f"unix://{path}") as up:
        seconds_to_serve(up)
        up.kill()
    need(path.exists(), "there is none")
    with on.serve(place=f"unix://{path}") as up:
        figure = serves_again(up)
        up.stop()
    need(not path.exists(), "it was left behind by a stop")
    return f"served in {figure}"
