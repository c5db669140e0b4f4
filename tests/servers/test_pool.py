"""What only pool promises: few threads, parked conversations, a bounded queue."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from echoframe import SettingError
from echoframe.handlers import Answer, Handler
from echoframe.servers import PoolMixIn, PoolServer, ThreadServer, watch
from echoframe.servers import workers as workers_module
from echoframe.servers.workers import Worker
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    Gate,
    Log,
    Notes,
    Place,
    ask,
    echo,
    eventually,
    forked,
    noting,
    raw_connection,
    read_line,
    read_to_end,
    served,
    slow,
)


def crew(up: Any) -> int:
    return len(up.server._pool_threads.crew)


@contextlib.contextmanager
def crowd(up: Any, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(raw_connection(up)) for _ in range(count)]


class Lines(socketserver.StreamRequestHandler):
    """Knows nothing of messages, and keeps its thread."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


# ---------------------------------------------------------------------- parking


def test_few_threads_serve_many_conversations() -> None:
    with served(PoolServer, echo, threads=8) as up, crowd(up, 300) as peers:
        for _ in range(3):
            for peer in peers:
                assert ask(peer, b"hello") == b"hello"
        assert crew(up) <= 8
        assert threading.active_count() < 30


def test_idle_conversations_and_busy_ones_share_the_threads() -> None:
    with (
        served(PoolServer, echo, threads=4) as up,
        crowd(up, 100) as idle,
        crowd(up, 5) as busy,
    ):
        for peer in idle:
            assert ask(peer, b"hello") == b"hello"
        for _ in range(100):
            for peer in busy:
                peer.sendall(b"hello\n")
            for peer in busy:
                assert read_line(peer) == b"hello\n"
        for peer in idle:
            assert ask(peer, b"still here") == b"still here"


def test_who_does_not_read_keeps_no_thread() -> None:
    def much(message: bytes) -> Answer:
        return b"x" * (16 << 20) if message == b"much" else message

    with served(PoolServer, much, threads=2) as up, crowd(up, 4) as deaf:
        for peer in deaf:
            peer.sendall(b"much\n")
            assert peer.recv(1) == b"x"
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        for peer in deaf:
            peer.shutdown(socket.SHUT_WR)
            # The first byte is missing, and the end of the line is there.
            assert len(read_to_end(peer)) == 16 << 20


def test_a_thread_is_a_real_one_and_is_started_on_demand() -> None:
    seen: list[Any] = []

    def note(message: bytes) -> bytes:
        seen.append(threading.current_thread())
        assert threading.current_thread() in threading.enumerate()
        return message

    with served(PoolServer, note, threads=64) as up:
        server: Any = up.server
        assert "_pool_threads" not in vars(server)
        with raw_connection(up) as peer:
            for _ in range(10):
                assert ask(peer, b"hello") == b"hello"
        # One that works and one that watches it; and, where others have the processor, now
        # and then one more that is called before those have begun.
        assert crew(up) < 64
    assert all(isinstance(thread, Worker) and thread.daemon for thread in seen)
    assert not any(thread.is_alive() for thread in seen)


# Each peer talks alone, so a conversation is parked and taken all the time; a byte
# that two threads took would be answered twice or by halves.
@pytest.mark.slow
def test_nobody_takes_anothers_conversation() -> None:
    class Counting(Handler):
        def __init__(self) -> None:
            self.seen = 0

        def on_message(self, message: bytes) -> str:
            self.seen += 1
            if self.seen % 7 == 0:
                # Somebody has to take over now and then.
                time.sleep(0.002)
            return f"{self.seen} {message.decode()}"

    failures: list[object] = []

    def talk(up: Any, name: int) -> None:
        try:
            with raw_connection(up) as peer:
                for number in range(1, 101):
                    answer = ask(peer, b"%d" % name)
                    if answer != b"%d %d" % (number, name):
                        failures.append(answer)
        except Exception as error:
            failures.append(error)

    with served(PoolServer, Counting, threads=6) as up:
        talkers = [threading.Thread(target=talk, args=(up, name)) for name in range(12)]
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.join(DEADLINE)
    assert failures == []
    assert up.report is not None
    assert up.report.served == 12


# --------------------------------------------------------------- slow handlers


def test_four_who_wait_are_served_at_once() -> None:
    barrier = threading.Barrier(4)

    def meet(message: bytes) -> bytes:
        barrier.wait(DEADLINE)
        return message

    with served(PoolServer, meet, threads=4) as up, crowd(up, 4) as peers:
        for _ in range(3):
            for peer in peers:
                peer.sendall(b"hello\n")
            for peer in peers:
                assert read_line(peer) == b"hello\n"


def test_a_stuck_handler_costs_one_thread(gate: Gate, notes: Notes) -> None:
    def answer(message: bytes) -> bytes:
        return slow(gate, notes)(message) if message == b"wait" else message

    with served(PoolServer, answer, threads=3) as up, crowd(up, 3) as peers:
        stuck, other, third = peers
        for waiting in (stuck, third):
            waiting.sendall(b"wait\n")
            assert notes.next() == "begun"
            for _ in range(20):
                assert ask(other, b"hello") == b"hello"
        gate.open()
        assert read_line(stuck) == read_line(third) == b"wait\n"


def test_who_is_ready_waits_while_all_threads_are_stuck(gate: Gate, notes: Notes) -> None:
    with served(PoolServer, slow(gate, notes), threads=2) as up, crowd(up, 5) as peers:
        for peer in peers:
            peer.sendall(b"hello\n")
        assert notes.take(2) == ["begun", "begun"]
        assert notes.so_far() == []
        assert crew(up) == 2
        gate.open()
        for peer in peers:
            assert read_line(peer) == b"hello\n"


def test_a_handler_that_computes_does_not_hold_up_the_others() -> None:
    done = threading.Event()

    def compute(message: bytes) -> bytes:
        if message == b"work":
            end = time.monotonic() + DEADLINE
            while not done.is_set() and time.monotonic() < end:
                pass
        return message

    with served(PoolServer, compute, threads=4) as up, crowd(up, 2) as (busy, other):
        assert ask(other, b"hello") == b"hello"
        busy.sendall(b"work\n")
        for _ in range(3):
            assert ask(other, b"hello") == b"hello"
        done.set()
        assert read_line(busy) == b"work\n"


# ------------------------------------------------------------ the bounded queue


def test_who_comes_when_the_queue_is_full_is_accepted_later(gate: Gate, notes: Notes) -> None:
    with served(PoolServer, slow(gate, notes), threads=1, queue_size=2) as up:
        server: Any = up.server
        with crowd(up, 8) as peers:
            for peer in peers:
                peer.sendall(b"hello\n")
            assert notes.next() == "begun"
            # It has one; so many wait, and the others are still the kernel's.
            assert len(server._life.open) <= 1 + 2 + server.batch
            assert len(server._pool_threads.ready) <= 2
            gate.open()
            for peer in peers:
                assert read_line(peer) == b"hello\n"
    assert up.report is not None
    assert up.report.served == 8


# ---------------------------------------------------------------------- resize


def test_a_pool_is_resized_while_it_talks(gate: Gate, notes: Notes) -> None:
    def answer(message: bytes) -> bytes:
        return slow(gate, notes)(message) if message == b"wait" else message

    with served(PoolServer, answer, threads=1) as up, crowd(up, 6) as peers:
        server: Any = up.server
        for peer in peers[:4]:
            peer.sendall(b"wait\n")
        assert notes.next() == "begun"
        assert notes.so_far() == []
        server.resize(5)
        assert notes.take(3) == ["begun"] * 3
        for peer in peers[4:]:
            assert ask(peer, b"hello") == b"hello"
        server.resize(2)
        gate.open()
        for peer in peers[:4]:
            assert read_line(peer) == b"wait\n"
        eventually(lambda: crew(up) <= 2, "the end of those who are too many")
        for peer in peers:
            assert ask(peer, b"hello") == b"hello"
        assert crew(up) <= 2
        with pytest.raises(SettingError, match="threads must be between 1 and 10,000"):
            server.resize(0)


def test_only_a_pool_has_threads_to_count() -> None:
    with pytest.raises(SettingError, match="threads is for the model 'pool', not for 'thread'"):
        ThreadServer("tcp://127.0.0.1:0", echo, threads=3)


# ------------------------------------------------------------------- stopping


def test_parked_conversations_are_told_of_the_end(notes: Notes) -> None:
    with served(PoolServer, noting(notes), threads=2) as up, crowd(up, 20) as peers:
        for peer in peers:
            assert ask(peer, b"hello") == b"hello"
        assert notes.take(20) == ["open"] * 20
        up.stop()
        for peer in peers:
            assert read_to_end(peer) == b""
        assert notes.take(20) == ["close drain"] * 20
    assert up.report is not None
    assert up.report[:3] == (20, 20, 0)


def test_parked_conversations_are_cut(notes: Notes) -> None:
    def much(message: bytes) -> bytes:
        return b"x" * (16 << 20)

    with crowd_of(notes, much) as (up, peers):
        for peer in peers:
            peer.sendall(b"much\n")
            assert peer.recv(1) == b"x"
        assert up.server is not None
        report = up.server.close(0.05)
        assert report[:3] == (3, 0, 3)
        assert notes.take(3) == ["close cut"] * 3


@contextlib.contextmanager
def crowd_of(notes: Notes, answer: Any) -> Iterator[Any]:
    with served(PoolServer, noting(notes, answer), threads=2) as up, crowd(up, 3) as peers:
        assert notes.take(3) == ["open"] * 3
        yield up, peers


def test_a_handler_may_outlive_its_server(gate: Gate, notes: Notes, log: Log) -> None:
    with (
        served(PoolServer, slow(gate, notes), drain_timeout=0.05) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        assert up.server is not None
        report = up.server.close()
        assert (report.finished, report.cut) == (0, 1)
        log.expect("1 handler has not returned since being cut")
        gate.open()
        assert peer.recv(1) == b""
    assert log.tracebacks == 0


def test_no_worker_keeps_a_program_alive_by_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(PoolMixIn, socketserver.TCPServer):
        pass

    monkeypatch.setattr(workers_module, "KEEP", 0.01)
    with Own(("127.0.0.1", 0), Lines) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for _ in range(2):
            with socket.create_connection(server.server_address[:2], DEADLINE) as peer:
                assert ask(peer, b"hello") == b"HELLO"
            # They are no daemons, so they end by themselves, and start again.
            eventually(lambda: not server._pool_threads.crew, "the end of the workers")
        server.shutdown()
        thread.join(DEADLINE)
    assert server.report is not None
    assert server.report.served == 2


def test_a_daemon_has_workers_of_its_own() -> None:
    server = PoolServer("tcp://127.0.0.1:0", echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with raw_connection(server) as peer:
        assert ask(peer, b"hello") == b"hello"
    # What is open now would be nobody's there.
    eventually(lambda: not server._life.open)
    server.shutdown()
    thread.join(DEADLINE)

    def work(told: Notes) -> None:
        told.write("served", server.run().served >= 1)

    with forked(work) as child:
        with raw_connection(Place(str(server.address))) as peer:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.notes.next() == "served True"
        assert child.wait() == 0
    server.close()


# ------------------------------------------------------------- handler classes


def test_a_handler_class_keeps_its_thread() -> None:
    with served(PoolServer, Lines, threads=2) as up:
        one, two, three = (raw_connection(up) for _ in range(3))
        with one, two, three:
            assert ask(one, b"one") == b"ONE"
            assert ask(two, b"two") == b"TWO"
            three.sendall(b"three\n")
            assert ask(one, b"again") == b"AGAIN"
            assert crew(up) == 2
            # In this order: its thread had to come free.
            one.close()
            assert read_line(three) == b"THREE\n"


def test_the_goodbye_of_a_handler_class_keeps_no_thread() -> None:
    def last(request: socket.socket, client_address: Any, server: Any) -> None:
        request.recv(1)
        request.sendall(b"bye")

    with served(PoolServer, last, threads=1, linger_timeout=5.0) as up, crowd(up, 3) as peers:
        for peer in peers:
            # More than it reads, so it lingers until this side ends too.
            peer.sendall(b"hello")
            assert read_to_end(peer) == b"bye"


def test_a_replaced_finish_request_holds_the_whole_conversation() -> None:
    held: list[str] = []

    class Own(PoolServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            held.append("begin")
            super().finish_request(request, client_address)
            held.append("end")

    with served(Own, echo) as up:
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
            assert held == ["begin"]
            peer.shutdown(socket.SHUT_WR)
            assert read_to_end(peer) == b""
        eventually(lambda: held == ["begin", "end"])


def test_the_mix_in_works_on_a_web_server() -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: object) -> None:
            pass

    class Site(PoolMixIn, http.server.HTTPServer):
        threads = 4
        daemon_threads = True

    with Site(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        place = site.server_address[0], site.server_address[1]
        sessions = [http.client.HTTPConnection(*place, timeout=DEADLINE) for _ in range(4)]
        for session in sessions * 2:
            session.request("GET", "/")
            assert session.getresponse().read() == b"hello"
        for session in sessions:
            session.close()
        site.shutdown()
        thread.join(DEADLINE)
    assert site.report is not None
    assert site.report.served == 4
    assert isinstance(site, socketserver.ThreadingMixIn)


# ----------------------------------------------------------------- out of things


def test_a_worker_that_cannot_start_costs_only_that_connection(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    start = Worker.start
    tries: list[int] = []

    def fail_once(self: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(Worker, "start", fail_once)
    with served(PoolServer, echo) as up:
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
    assert "WARNING resting before starting threads: can't start new thread" in log.text
    assert log.tracebacks == 0


def test_one_worker_is_enough_when_no_other_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Worker.start
    tries: list[int] = []

    def only_once(self: Any) -> None:
        tries.append(1)
        if len(tries) > 1:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(Worker, "start", only_once)
    with served(PoolServer, echo) as up, crowd(up, 5) as peers:
        for peer in peers * 3:
            assert ask(peer, b"hello") == b"hello"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_system_exit_in_a_handler_ends_only_its_conversation(notes: Notes) -> None:
    def leave(message: bytes) -> bytes:
        if message == b"exit":
            raise SystemExit
        return message

    with served(PoolServer, noting(notes, leave), threads=1) as up, raw_connection(up) as other:
        for _ in range(3):
            with raw_connection(up) as peer:
                peer.sendall(b"exit\n")
                assert read_to_end(peer) == b""
            assert ask(other, b"hello") == b"hello"


def test_a_descriptor_that_is_somebody_elses_while_it_is_silenced_is_polled_again() -> None:
    class Own:
        threads, queue_size, daemon_threads = 1, 10, True

    class Parked:
        keeps_worker, events = False, watch.READABLE

    class Between:
        """Lets the next one register just before its predecessor is silenced."""

        def register(self, number: int, events: int) -> None:
            poller.register(number, events)

        def modify(self, number: int, events: int) -> None:
            if events == watch.ONCE:
                crew.wait_for(number, watch.READABLE, known=False)
            poller.modify(number, events)

    crew = workers_module.Workers(Own(), print, print, lambda: True)
    poller = crew._poller
    near, far = socket.socketpair()
    with near, far:
        crew._poller = Between()  # type: ignore[assignment]  # what is asked for here
        crew._disarm(near.fileno())
        # As a worker does it.
        item = crew.parked[near.fileno()] = Parked()
        if near.fileno() in crew.disarmed:
            crew.wait_again(near.fileno(), item.events)
        far.sendall(b"x")
        assert poller.poll(0, 10) == [(near.fileno(), watch.READABLE)]
        crew._poller = poller
    crew.close(set())


def test_what_is_closed_is_polled_no_more_although_another_process_has_it_too() -> None:
    with served(PoolServer, echo, threads=1) as up:
        server: Any = up.server
        life, poller = server._life, server._pool_threads._poller
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
            (connection,) = life.open.values()
            # As a child has it that a program has forked.
            kept = os.dup(connection.request.fileno())
        eventually(lambda: not life.open)
        try:
            assert poller.poll(0, 10) == []
        finally:
            os.close(kept)


def test_without_epoll_it_works_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "one_shot_poller", watch._Once)
    with running(echo, "pool", threads=3) as up, crowd(up, 20) as peers:
        for _ in range(3):
            for peer in peers:
                peer.sendall(b"hello\n")
            for peer in peers:
                assert read_line(peer) == b"hello\n"
