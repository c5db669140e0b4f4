"""What only fork promises."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoframe.servers import MODELS, ForkingMixIn, ForkServer
from echoframe.testing import running

from ..helpers import (
    Gate,
    Log,
    Notes,
    Place,
    ask,
    children,
    descriptors,
    echo,
    eventually,
    fail_first_fork,
    forked,
    noting,
    one_worker,
    raw_connection,
    read_line,
    read_to_end,
    served,
)


@pytest.fixture
def parent_only() -> Iterator[None]:
    """No thread of ours may live where processes are forked."""
    import threading

    assert threading.active_count() == 1
    yield
    assert threading.active_count() == 1


def test_each_conversation_has_a_process() -> None:
    def who(message: bytes) -> str:
        return f"{os.getpid()} {os.getppid()}"

    with running(who, "fork") as up, raw_connection(up) as one, raw_connection(up) as two:
        first, second = ask(one, b"?").split(), ask(two, b"?").split()
        assert ask(one, b"?").split() == first
        assert first[0] != second[0]
        assert first[1] == second[1] == str(up.pid).encode()


def test_what_a_handler_changes_is_lost_with_its_process() -> None:
    seen: list[bytes] = []

    def note(message: bytes) -> str:
        seen.append(message)
        return str(len(seen))

    with running(note, "fork") as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"1"


def test_a_child_holds_its_connection_and_no_listener() -> None:
    here = descriptors()

    def count(message: bytes) -> str:
        kinds = []
        for number in descriptors():
            if number in here:
                continue
            try:
                with socket.socket(fileno=os.dup(number)) as sock:
                    kinds.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            except OSError:
                pass
        return str(kinds)

    with running(count, "fork", "tcp") as up:
        with raw_connection(up) as one:
            before = ask(one, b"?")
        assert before == b"[0]"
        with raw_connection(up) as one, raw_connection(up) as two:
            # The first one's connection is not the second one's to hold.
            assert ask(one, b"?") == ask(two, b"?") == b"[0]"


# A child that held another's connection, too, would keep it from ending.
@pytest.mark.parametrize("order", [1, -1])
def test_a_connection_ends_although_one_that_came_with_it_goes_on(gate: Gate, order: int) -> None:
    class Own(ForkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            # All of them are there when it begins to accept.
            assert gate.wait()
            super().serve_forever(poll_interval)

    with served(Own, echo) as up, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(raw_connection(up, deadline=5)) for _ in range(10)]
        gate.open()
        for peer in peers[::order]:
            assert ask(peer, b"hello") == b"hello"
            peer.shutdown(socket.SHUT_WR)
            assert read_to_end(peer) == b""


def test_children_are_collected_while_it_serves() -> None:
    with served(ForkServer, echo) as up:
        for _ in range(5):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"

        def left() -> bool:
            tasks = f"/proc/{up.pid}/task/{up.pid}/children"
            with open(tasks) as file:
                return not file.read().split()

        if os.path.exists(f"/proc/{up.pid}/task/{up.pid}/children"):
            eventually(left, "the end of all children")


def test_max_children_is_obeyed_where_a_program_sets_it(notes: Notes) -> None:
    class Own(ForkServer):
        max_children = 2

    with served(Own, noting(notes)) as up:
        first, second, third = (raw_connection(up) for _ in range(3))
        with first, second, third:
            third.sendall(b"me too\n")
            assert ask(first, b"one") == b"one"
            assert ask(second, b"two") == b"two"
            assert notes.take(2) == ["open", "open"]
            first.close()
            assert notes.take(2) == ["close peer", "open"]
            assert read_line(third) == b"me too\n"


def test_the_stdlibs_forty_children_are_no_limit() -> None:
    peers: list[socket.socket] = []
    with running(echo, "fork") as up:
        try:
            for _ in range(45):
                peers.append(raw_connection(up))
                assert ask(peers[-1], b"hello") == b"hello"
        finally:
            for peer in peers:
                peer.close()


def test_a_fork_that_fails_costs_only_that_connection(log: Log) -> None:
    class Own(ForkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            fail_first_fork()
            super().serve_forever(poll_interval)

    with served(Own, echo) as up:
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
    assert "WARNING resting before starting processes: " in log.text
    assert "too many processes" in log.text
    assert log.tracebacks == 0


def test_a_child_that_is_killed_costs_only_its_connection() -> None:
    def die(message: bytes) -> bytes:
        if message == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        return message

    with served(ForkServer, die, max_connections=1) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                peer.sendall(b"die\n")
                assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.served == 3


def test_system_exit_in_a_handler_never_returns_into_the_parents_code(notes: Notes) -> None:
    def leave(message: bytes) -> bytes:
        raise SystemExit

    class Own(ForkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            try:
                super().serve_forever(poll_interval)
            finally:
                notes.write("returned", os.getpid())

    with served(Own, leave) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                peer.sendall(b"x\n")
                assert read_to_end(peer) == b""
    assert notes.so_far() == [f"returned {up.pid}"]


def test_what_was_printed_before_a_fork_is_printed_once(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def work(told: Notes) -> None:
        sys.stdout = path.open("w", buffering=1 << 16)
        print("before")
        server = ForkServer("tcp://127.0.0.1:0", lambda message: print("in a child") or message)
        told.write(str(server.address))
        server.run()
        sys.stdout.flush()

    with forked(work) as child:
        place = Place(child.notes.next())
        for _ in range(2):
            with raw_connection(place) as peer:
                assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0
    assert sorted(path.read_text().split("\n")) == ["", "before", "in a child", "in a child"]


def test_a_server_that_is_killed_leaves_its_port_to_the_next() -> None:
    with forked(lambda notes: _serve(notes, "tcp://127.0.0.1:0")) as child:
        text = child.notes.next()
        peers = [raw_connection(Place(text)) for _ in range(5)]
        for peer in peers:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    try:
        # The conversations go on, and the place is free for all that.
        with served(ForkServer, echo, text) as up, raw_connection(up) as late:
            assert ask(late, b"hello") == b"hello"
            assert ask(peers[0], b"still here") == b"still here"
    finally:
        for peer in peers:
            peer.close()


def _serve(notes: Notes, place: str) -> None:
    # Whoever has lost its parent ends when it is quiet.
    server = ForkServer(place, echo, drain_quiet=600)
    notes.write(str(server.address))
    server.run()


def test_sigterm_to_the_whole_group_is_a_drain(notes: Notes, gate: Gate) -> None:
    def answer(message: bytes) -> bytes:
        notes.write("begun")
        assert gate.wait()
        return message

    def work(told: Notes) -> None:
        os.setpgid(0, 0)
        server = ForkServer("tcp://127.0.0.1:0", answer)
        told.write(str(server.address))
        assert server.run()[:3] == (1, 1, 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
            peer.sendall(b"hello\n")
            assert notes.next() == "begun"
            os.killpg(child.pid, number)
            gate.open()
            assert read_to_end(peer) == b"hello\n"
            assert child.wait() == 0


def test_a_sigterm_for_one_child_drains_that_conversation_alone() -> None:
    with (
        running(lambda message: str(os.getpid()), "fork") as up,
        raw_connection(up) as one,
        raw_connection(up) as two,
    ):
        os.kill(int(ask(one, b"?")), signal.SIGTERM)
        assert read_to_end(one) == b""
        assert ask(two, b"?") == ask(two, b"?")


def test_active_children_are_there_until_close() -> None:
    def work(notes: Notes) -> None:
        server = ForkServer("tcp://127.0.0.1:0", echo)
        assert server.active_children == set()
        peer = raw_connection(server)
        server.handle_request()
        assert server.active_children == set(children())
        assert ask(peer, b"hello") == b"hello"
        peer.close()
        server.close()
        assert server.active_children == set()
        assert children() == ()

    with forked(work) as child:
        assert child.wait() == 0


def test_a_program_that_ignores_its_children_is_served_too() -> None:
    class Own(ForkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            super().serve_forever(poll_interval)

    with served(Own, echo, max_connections=1) as up:
        for _ in range(3):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.served == 3


def test_other_peoples_dead_children_do_not_hide_ours() -> None:
    class Own(ForkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            pid = os.fork()
            if pid == 0:
                os._exit(4)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            super().serve_forever(poll_interval)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4

    # Each needs the place of the one before it.
    with served(Own, echo, max_connections=1) as up:
        for _ in range(5):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.served == 5


def test_the_mix_in_works_on_a_server_of_the_stdlib(parent_only: None) -> None:
    class Own(ForkingMixIn, socketserver.TCPServer):
        allow_reuse_address = True

    class Upper(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    def work(notes: Notes) -> None:
        with Own(("127.0.0.1", 0), Upper) as server:
            host, port = server.server_address[:2]
            notes.write(f"tcp://{host!s}:{port}")
            assert server.run()[:3] == (2, 2, 0)

    with forked(work) as child:
        place = Place(child.notes.next())
        with raw_connection(place) as one, raw_connection(place) as two:
            assert ask(one, b"one") == b"ONE"
            assert ask(two, b"two") == b"TWO"
            os.kill(child.pid, signal.SIGTERM)
            assert child.wait() == 0


# As a tool that measures coverage does: it writes down what a child has done in os._exit(),
# under a lock that its own code takes wherever a new file is entered.
@pytest.mark.parametrize("model", ["fork", "prefork"])
def test_nothing_interrupts_a_child_on_its_way_out(model: str, notes: Notes) -> None:
    def work(told: Notes) -> None:
        leave = os._exit

        def slowly(status: int) -> None:
            if os.getpid() != parent:
                blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
                notes.write("deaf" if signal.SIGTERM in blocked else "interruptible")
            leave(status)

        server = MODELS[model]("tcp://127.0.0.1:0", echo, **one_worker(model))
        parent = os.getpid()
        os._exit = slowly  # type: ignore[assignment]  # it does leave
        told.write(str(server.address))
        server.run()
        os._exit = leave

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert notes.next() == "deaf"
        assert child.wait() == 0
