"""stop, drain, cut and limits: the same promises on every model."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.handlers import Answer
from echoframe.servers import (
    MODELS,
    ForkingMixIn,
    PoolMixIn,
    Server,
    SingleServer,
    ThreadingMixIn,
    ThreadServer,
    watch,
)
from echoframe.servers.base import Server as BaseServer
from echoframe.servers.tending import LOOK
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
    nothing_left_behind,
    noting,
    one_worker,
    pump,
    raw_connection,
    read_exactly,
    read_line,
    read_to_end,
    resident,
    served,
    slow,
)

every_model = pytest.mark.parametrize("model", MODELS)
at_once = pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].at_once != "1"])
talk_in_the_main_thread = pytest.mark.parametrize("model", ["single", "loop", "aio"])
in_this_process = pytest.mark.parametrize(
    "model", [name for name in MODELS if not MODELS[name].forks]
)


def own(model: str, base: type[Any]) -> Any:
    """A model's class with a mix-in of the test's in front."""
    return type("Own", (base, MODELS[model]), {})


class Known(BaseServer):
    """Leaves itself where a handler finds it, also across forks."""

    here: Server

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        Known.here = self
        super().serve_forever(poll_interval)


def name_of(peer: socket.socket) -> str:
    return "{}:{}".format(*peer.getsockname())


# ------------------------------------------------------------------------ stop


@pytest.mark.parametrize("alone", [False, True])
@every_model
def test_an_idle_server_stops(model: str, alone: bool) -> None:
    with served(MODELS[model], echo, alone=alone) as up:
        pass
    assert up.report is not None
    assert up.report[:4] == (0, 0, 0, ())


@every_model
def test_stop_before_serving_makes_the_next_serve_forever_return(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        server.stop()
        server.stop()
        server.serve_forever()


@in_this_process
def test_a_server_that_was_stopped_may_serve_again(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        for _ in range(2):
            server.stop()
            server.serve_forever()
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with raw_connection(server) as peer:
                assert ask(peer, b"hello") == b"hello"
            server.stop()
            thread.join(DEADLINE)
            assert not thread.is_alive()


@every_model
def test_a_handler_may_stop_its_server(model: str) -> None:
    def stop(message: bytes) -> bytes:
        Known.here.stop()
        Known.here.stop()
        return message

    with served(own(model, Known), stop) as up, raw_connection(up) as peer:
        assert ask(peer, b"bye") == b"bye"
        # Nobody else tells it to.
        up.stopped = True
        assert read_to_end(peer) == b""
        if up.server is not None:
            eventually(lambda: up.server is None or up.server._life.serving is None)
    assert up.report is not None
    assert (up.report.served, up.report.cut) == (1, 0)


@in_this_process
def test_any_thread_may_stop_it(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        other = threading.Thread(target=server.stop)
        ticker = threading.Timer(0.02, other.start)
        ticker.start()
        server.serve_forever()
        ticker.join()
        other.join()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@every_model
def test_run_ends_well_on_the_first_signal(model: str, number: int) -> None:
    with served(MODELS[model], echo, alone=True) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
        os.kill(up.pid, number)
        up.stopped = True
        assert read_to_end(peer) == b""
    assert up.report is not None
    assert up.report[:3] == (1, 1, 0)


@every_model
def test_a_signal_handler_may_stop_it(model: str) -> None:
    def work(notes: Notes) -> None:
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        signal.signal(signal.SIGUSR1, lambda *_: server.stop())
        notes.write(str(server.address))
        server.serve_forever()
        notes.write("returned")
        server.close()

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            assert ask(peer, b"hello") == b"hello"
            os.kill(child.pid, signal.SIGUSR1)
            assert read_to_end(peer) == b""
        assert child.notes.next() == "returned"
        assert child.wait() == 0


# asyncio's loop waits as it always does.
@pytest.mark.parametrize("method", ["serve_forever", "handle_request"])
@pytest.mark.parametrize("model", [name for name in MODELS if name != "aio"])
def test_a_signal_that_interrupts_nothing_is_heard_a_little_later_by_who_waits(
    model: str, method: str, gate: Gate
) -> None:
    # As one does that comes just before the main thread begins to wait.
    def work(told: Notes) -> None:
        def signalled() -> None:
            assert gate.wait()
            eventually(lambda: not server._life.ended.is_set())
            if model == "prefork" and method == "serve_forever":
                # What comes in the middle of a fork is lost in what logging does behind it.
                eventually(lambda: server._crew.is_complete)  # type: ignore[attr-defined]
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        watch.SHORTLY = 0.05
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        threading.Thread(target=signalled).start()
        told.write("ready")
        with pytest.raises(KeyboardInterrupt), server:
            getattr(server, method)()
        told.write("interrupted")

    with forked(work) as child:
        assert child.notes.next() == "ready"
        gate.open()
        assert child.notes.next() == "interrupted"
        assert child.wait() == 0


@every_model
def test_the_signals_of_a_child_are_not_the_servers(model: str) -> None:
    # What a handler forks writes into the same wake-up descriptor.
    class Hearing(Known):
        looks = 0

        def _hear_of_signals(self) -> None:
            super()._hear_of_signals()
            self.looks += 1

    def has_heard(looks: int) -> bool:
        server: Any = Known.here
        if MODELS[model].only_while_serving:
            # The thread that polls is this one, and another one tells it.
            return bool(server.looks > looks)
        return not select.select([server._life.wake.fileno()], [], [], 0)[0]

    def fork(message: bytes) -> bytes:
        looks = getattr(Known.here, "looks", 0)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            # It has that already, unless uvloop is loaded, which takes it from children.
            signal.set_wakeup_fd(Known.here._life.wake.written_to)
            os.kill(os.getpid(), signal.SIGTERM)
        os.waitpid(pid, 0)
        eventually(lambda: has_heard(looks))
        return message

    with (
        served(own(model, Hearing), fork, alone=True) as up,
        raw_connection(up) as peer,
        raw_connection(up) as another,
    ):
        for _ in range(2):
            assert ask(peer, b"hello") == b"hello"
        if MODELS[model].at_once != "1":
            assert ask(another, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.cut == 0


@every_model
def test_run_leaves_the_signal_handlers_as_they_were(model: str) -> None:
    def mine(*_: object) -> None:
        pass

    def work(notes: Notes) -> None:
        signal.signal(signal.SIGTERM, mine)
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        server.stop()
        assert server.run() == server.report
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    with forked(work) as child:
        assert child.wait() == 0


def test_run_outside_the_main_thread_is_refused_in_a_sentence() -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            server.run()
        except RuntimeError as error:
            caught.append(error)

    with ThreadServer("tcp://127.0.0.1:0", echo) as server:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "only the main thread can" in str(caught[0])


@every_model
def test_a_forked_child_stops_its_parent(model: str) -> None:
    class Own(BaseServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            in_a_child(self.stop)
            return True

    with served(own(model, Own), echo, alone=True) as up, raw_connection(up) as peer:
        # Nobody else tells it to.
        up.stopped = True
        if model == "single":
            # What wakes the accept loop is read when the conversation is over.
            peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b""
    assert up.report is not None
    assert up.report.served == 1


@every_model
def test_close_in_a_forked_child_leaves_the_parent_serving(model: str) -> None:
    class Own(BaseServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            in_a_child(self.close)
            return True

    with served(own(model, Own), echo, alone=True) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"


@every_model
def test_a_child_that_was_forked_before_serving_stops_its_parent_too(model: str) -> None:
    def work(notes: Notes) -> None:
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        in_a_child(server.stop)
        server.serve_forever()
        server.close()

    with forked(work) as child:
        assert child.wait() == 0


# As a daemon does it: bind, fork, serve in the child.
@every_model
def test_a_server_may_be_served_by_a_child_of_its_maker(model: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = MODELS[model](f"unix://{path}", echo)

    def work(notes: Notes) -> None:
        notes.write(str(server.run().served))

    with forked(work) as child:
        for listener in server.listeners:
            listener.socket.close()
        with raw_connection(server) as peer:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.notes.next() == "1"
        assert child.wait() == 0
    assert not path.exists()
    server.close()


def in_a_child(work: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


# -------------------------------------------------------------------- shutdown


@every_model
def test_shutdown_lets_conversations_go_on(model: str, gate: Gate) -> None:
    class Own(BaseServer):
        # In the serving thread: it must return at once.
        def verify_request(self, request: Any, client_address: Any) -> bool:
            self.shutdown()
            return True

    def work(notes: Notes) -> None:
        server = own(model, Own)("tcp://127.0.0.1:0", echo, drain_quiet=0.01)
        notes.write(str(server.address))
        server.serve_forever()
        notes.write("returned")
        assert gate.wait()
        server.close()
        notes.write("closed")

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        if MODELS[model].only_while_serving and MODELS[model].at_once != "1":
            # It stands still until there is a thread for it again: close()'s.
            peer.sendall(b"one\n")
            assert child.notes.next() == "returned"
            gate.open()
            assert read_to_end(peer) == b"one\n"
            assert child.notes.next() == "closed"
            assert child.wait() == 0
            return
        assert ask(peer, b"one") == b"one"
        if MODELS[model].at_once != "1":
            assert child.notes.next() == "returned"
        assert ask(peer, b"two") == b"two"
        assert child.notes.so_far() == []
        if MODELS[model].at_once == "1":
            peer.shutdown(socket.SHUT_WR)
        gate.open()
        assert read_to_end(peer) == b""
        assert child.notes.take(1 + (MODELS[model].at_once == "1"))[-1] == "closed"
        assert child.wait() == 0


@in_this_process
def test_shutdown_waits_until_serve_forever_has_returned(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with raw_connection(server) as peer:
            assert ask(peer, b"hello") == b"hello"
        server.shutdown()
        assert server._life.serving is None
        thread.join()
        # Nobody serves: nothing to wait for.
        server.shutdown()


# ----------------------------------------------------------------------- close


@in_this_process
def test_a_handler_that_calls_close_gets_a_sentence(model: str) -> None:
    caught: list[str] = []

    def close(message: bytes) -> bytes:
        try:
            Known.here.close()
        except RuntimeError as error:
            caught.append(str(error))
        return message

    with served(own(model, Known), close) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
    assert len(caught) == 1
    assert "call stop()" in caught[0]


@every_model
def test_close_may_be_called_again_and_gives_the_same_report(model: str) -> None:
    server = MODELS[model]("tcp://127.0.0.1:0", echo)
    report = server.close()
    assert server.close() is report
    assert server.report is report
    server.server_close()
    server.stop()


@every_model
def test_with_closes(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        port = server.address.port
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.long
@every_model
def test_the_port_is_free_at_once_although_peers_were_connected(model: str) -> None:
    place = "tcp://127.0.0.1:0"
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            with served(MODELS[model], echo, place) as up:
                peer = stack.enter_context(raw_connection(up))
                assert ask(peer, b"hello") == b"hello"
                place = str(up.addresses[0])
            assert read_to_end(peer) == b""


# ----------------------------------------------------------------------- drain


@pytest.mark.long
@pytest.mark.parametrize("transport", ["tcp", "unix"])
@every_model
def test_idle_connections_end_and_are_counted(
    model: str, transport: str, notes: Notes, tmp_path: Path
) -> None:
    place = "tcp://127.0.0.1:0" if transport == "tcp" else f"unix://{tmp_path}/s"
    count = 1 if MODELS[model].at_once == "1" else 5
    with contextlib.ExitStack() as stack:
        with served(MODELS[model], noting(notes), place) as up:
            peers = [stack.enter_context(raw_connection(up)) for _ in range(count)]
            # One that has never said anything is idle too.
            for peer in peers[1:]:
                assert ask(peer, b"hello") == b"hello"
            assert notes.take(count) == ["open"] * count
            up.stop()
            for peer in peers:
                assert read_to_end(peer) == b""
            assert notes.take(count) == ["close drain"] * count
        assert up.report is not None
        assert up.report[:3] == (count, count, 0)
        assert [how for _, how in up.report.who] == ["finished"] * count


# A quiet raw conversation ends; so that a busy machine does not look like a quiet
# peer, quiet takes long here.
@every_model
def test_what_is_under_way_arrives_whole(model: str) -> None:
    data = os.urandom(1 << 20) * 16
    with served(MODELS[model], "echo", drain_quiet=5.0) as up, raw_connection(up) as peer:
        peer.sendall(data[:100_000])
        begun = read_exactly(peer, 1000)
        up.stop()
        assert begun + pump(peer, data[100_000:]) == data
    assert up.report is not None
    assert up.report[:3] == (1, 1, 0)


@every_model
def test_complete_messages_are_answered_before_the_end(
    model: str, notes: Notes, gate: Gate
) -> None:
    with served(MODELS[model], slow(gate, notes)) as up, raw_connection(up) as peer:
        peer.sendall(b"one\ntwo\n")
        assert notes.next() == "begun"
        up.stop()
        gate.open()
        assert read_to_end(peer) == b"one\ntwo\n"
    assert up.report is not None
    assert up.report[:3] == (1, 1, 0)


@pytest.mark.long
@pytest.mark.parametrize("framing", ["line", "length", "fixed:100"])
@every_model
def test_half_a_message_delays_by_the_drain_time_and_is_never_answered(
    model: str, framing: str, notes: Notes
) -> None:
    with (
        served(MODELS[model], noting(notes), framing=framing, drain_timeout=0.15) as up,
        raw_connection(up) as peer,
    ):
        assert notes.next() == "open"
        peer.sendall(b"\0\0\0\x09pay 1" if framing == "length" else b"pay 1")
        name = name_of(peer)
        if framing == "line":
            peer.sendall(b"0\npay 1")
            assert read_line(peer) == b"pay 10\n"
        up.stop()
        assert read_to_end(peer) == b""
        assert notes.next() == "close cut"
    assert up.report is not None
    assert up.report[:4] == (1, 0, 1, ((name, "cut"),))


@every_model
def test_a_message_that_is_completed_in_the_drain_is_answered(model: str) -> None:
    with (
        served(MODELS[model], echo, drain_quiet=0.01) as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"pay 1")
        up.stop()
        threading.Event().wait(0.1)
        peer.sendall(b"0\n")
        assert read_to_end(peer) == b"pay 10\n"
    assert up.report is not None
    assert up.report.cut == 0


@in_this_process
def test_close_may_give_less_time_than_the_setting(model: str) -> None:
    server = MODELS[model]("tcp://127.0.0.1:0", echo, drain_timeout=60)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with raw_connection(server) as peer:
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"half")
        report = server.close(0.1)
        assert report[:3] == (1, 0, 1)
        assert read_to_end(peer) == b""
    thread.join(DEADLINE)


@pytest.mark.long
@every_model
def test_a_handler_that_computes_is_waited_for(model: str, notes: Notes, gate: Gate) -> None:
    with (
        served(MODELS[model], slow(gate, notes), drain_quiet=0.01) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        up.stop()
        threading.Event().wait(0.2)
        gate.open()
        assert read_to_end(peer) == b"hello\n"
    assert up.report is not None
    assert up.report.cut == 0


@pytest.mark.long
@pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].runs_handler_classes])
def test_a_handler_class_is_not_disturbed_in_what_it_writes(model: str, gate: Gate) -> None:
    words = os.urandom(1 << 20)

    def answer(request: socket.socket, client_address: Any, server: Server) -> None:
        request.sendall(b"!")
        assert gate.wait()
        request.sendall(words)
        assert request.recv(1) == b""

    with (
        served(MODELS[model], answer, drain_quiet=0.05) as up,
        raw_connection(up) as peer,
    ):
        assert peer.recv(1) == b"!"
        up.stop()
        threading.Event().wait(0.3)
        gate.open()
        assert read_to_end(peer) == words
    assert up.report is not None
    assert up.report[:3] == (1, 1, 0)


@every_model
def test_a_second_signal_cuts(model: str) -> None:
    with (
        served(MODELS[model], echo, alone=True, drain_timeout=600) as up,
        raw_connection(up) as peer,
    ):
        # In one piece: what has half a message has nothing to do when the signals come. Or
        # the second might come upon it anywhere, also where coverage has just taken a lock.
        peer.sendall(b"hello\nhalf")
        assert read_line(peer) == b"hello\n"
        # Two kinds, so that the kernel does not make one of them.
        os.kill(up.pid, signal.SIGTERM)
        os.kill(up.pid, signal.SIGINT)
        up.stopped = True
        # A cut is no goodbye: what was not read by then makes it a reset.
        with contextlib.suppress(ConnectionResetError):
            assert read_to_end(peer) == b""
    assert up.report is not None
    assert up.report[:3] == (1, 0, 1)


@pytest.mark.long
@every_model
def test_a_deaf_handler_does_not_hold_up_the_end(
    model: str, notes: Notes, gate: Gate, log: Log
) -> None:
    def work(told: Notes) -> None:
        server = MODELS[model](
            "tcp://127.0.0.1:0", slow(gate, notes), drain_timeout=0.05, linger_timeout=0
        )
        told.write(str(server.address))
        report = server.run()
        told.write(report.cut, report.who[0][1])

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(child.pid, signal.SIGTERM)
        # On single the handler has the main thread, and the server gets it out.
        assert child.notes.next() == "1 cut"
        if model == "thread":
            log.expect("1 handler has not returned since being cut: " + name_of(peer))
        assert child.wait() == 0


@talk_in_the_main_thread
def test_a_signal_that_interrupts_nothing_is_heard_all_the_same(
    model: str, notes: Notes, gate: Gate
) -> None:
    # One that comes just before a handler waits for something; here it is restarted instead.
    def work(told: Notes) -> None:
        def wait(message: bytes) -> bytes:
            signal.siginterrupt(signal.SIGTERM, False)
            threading.Thread(target=hear_again).start()
            notes.write("begun")
            os.read(gate._read, 1)
            return b""

        def hear_again() -> None:
            eventually(lambda: server._life.draining)
            signal.siginterrupt(signal.SIGTERM, True)

        server = MODELS[model]("tcp://127.0.0.1:0", wait, drain_timeout=0.05, linger_timeout=0)
        told.write(str(server.address))
        told.write(server.run().cut)

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(child.pid, signal.SIGTERM)
        assert child.notes.next() == "1"
        assert child.wait() == 0


@pytest.mark.parametrize("when", ["idle", "reading", "deaf", "draining"])
@talk_in_the_main_thread
def test_signals_that_interrupt_nothing_mean_the_same(
    model: str, when: str, notes: Notes, gate: Gate, log: Log
) -> None:
    # Another thread gets them from the kernel, and the main thread, whose matter they are, is
    # woken from nothing: as when they come just before that thread begins to wait.
    said = b"hello\n" if when == "idle" else b"hello\nhalf"
    deaf_to = {"deaf": b"hello", "draining": b"half and half"}.get(when)
    signals = [signal.SIGTERM, signal.SIGINT]
    if when == "idle":
        signals.remove(signal.SIGINT)
    elif when == "draining":
        signals.remove(signal.SIGTERM)

    def work(told: Notes) -> None:
        def signalled() -> None:
            eventually(lambda: bool(server._life.runs))
            assert gate.wait()
            for number in signals:
                signal.pthread_kill(threading.get_ident(), number)

        def wait(message: bytes) -> bytes:
            notes.write("begun")
            if message == deaf_to:
                threading.Event().wait()
            return message

        server = MODELS[model]("tcp://127.0.0.1:0", wait, drain_timeout=600, linger_timeout=0)
        threading.Thread(target=signalled).start()
        told.write(str(server.address))
        told.write(server.run().cut, bool(server.cut_by))

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(said)
        assert notes.next() == "begun"
        if when == "draining":
            assert read_line(peer) == b"hello\n"
            os.kill(child.pid, signal.SIGTERM)
            log.expect("for 1 conversation; a second signal cuts")
            peer.sendall(b" and half\n")
            assert notes.next() == "begun"
        gate.open()
        assert child.notes.next() == ("0 False" if when == "idle" else "1 True")
        assert child.wait() == 0


@talk_in_the_main_thread
def test_who_has_handled_a_signal_is_not_interrupted_again(model: str, notes: Notes) -> None:
    # By what is for those who may have missed it: not every call goes on behind that.
    class Telling(Known):
        def _hear_of_signals(self) -> None:
            eventually(lambda: self._life.handled)
            super()._hear_of_signals()
            notes.write("heard")

        def _nudge(self) -> None:
            notes.write("nudged")
            super()._nudge()

    def work(message: bytes) -> bytes:
        notes.write("begun")
        eventually(lambda: Known.here._life.draining)
        assert notes.next() == "heard"
        return message

    with served(own(model, Telling), work, alone=True) as up, raw_connection(up) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        up.stop()
        assert read_to_end(peer) == b"hello\n"
    assert "nudged" not in notes.so_far()


@talk_in_the_main_thread
def test_the_time_of_a_drain_begins_with_the_signal(model: str) -> None:
    # And not when the main thread comes out of whatever it cannot be got out of. What can be
    # read here tells that it is in such a call: one of the kernel's, to its end.
    size = 1 << 20

    def work(told: Notes) -> None:
        def signalled() -> None:
            left = size - len(os.read(read, 1))
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            missed = eventually(lambda: server._life.missed)
            while left:
                left -= len(os.read(read, left))
            eventually(lambda: server._life.draining)
            eventually(lambda: server._life.deadline == missed + 600)
            told.write("in time")

        def wait(message: bytes) -> bytes:
            if message == b"hello":
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGURG,))
                assert os.write(write, bytes(size)) == size
                signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGURG,))
            return message

        read, write = os.pipe()
        server = MODELS[model]("tcp://127.0.0.1:0", wait, drain_timeout=600)
        threading.Thread(target=signalled).start()
        told.write(str(server.address))
        server.run()

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\nhalf")
        assert child.notes.next() == "in time"
        peer.sendall(b"\n")
        assert read_to_end(peer) == b"hello\nhalf\n"
        assert child.wait() == 0


@every_model
def test_a_use_that_a_program_has_for_our_own_signal_is_left_to_it(model: str) -> None:
    def work(told: Notes) -> None:
        def urgent(*_: object) -> None:
            told.write("urgent")

        signal.signal(signal.SIGURG, urgent)
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        told.write(str(server.address))
        server.run()
        told.write(signal.getsignal(signal.SIGURG) is urgent)

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        assert ask(peer, b"hello") == b"hello"

        def is_heard() -> bool:
            # It may come just before that thread waits for its peer; nobody gets it out then.
            os.kill(child.pid, signal.SIGURG)
            return "urgent" in child.notes.so_far()

        eventually(is_heard)
        os.kill(child.pid, signal.SIGTERM)
        while (said := child.notes.next()) == "urgent":
            pass
        assert said == "True"
        assert child.wait() == 0


@talk_in_the_main_thread
def test_a_handler_that_takes_our_own_signal_is_cut_all_the_same(model: str, notes: Notes) -> None:
    def deaf(message: bytes) -> bytes:
        signal.signal(signal.SIGURG, lambda *_: None)
        notes.write("begun")
        threading.Event().wait()
        return message

    with (
        served(MODELS[model], deaf, alone=True, drain_timeout=0.05, linger_timeout=0) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
    assert up.report is not None
    assert up.report.cut == 1


@pytest.mark.parametrize("model", ["loop", "aio"])
def test_who_is_deaf_to_a_signal_hears_the_next_one_a_while_later(model: str, notes: Notes) -> None:
    # Each of them must not bring the next one about: whoever is slow would come into
    # thousands of them, one within the other.
    class Slow(BaseServer):
        def _stop(self) -> None:
            super()._stop()
            threading.Event().wait(LOOK / 5)

    def deaf(message: bytes) -> bytes:
        heard: list[float] = []
        notes.write("begun")
        while len(heard) < 4:
            try:
                threading.Event().wait(DEADLINE)
            except BaseException:
                heard.append(time.monotonic())
        notes.write(*(later - earlier > LOOK for earlier, later in itertools.pairwise(heard[1:])))
        return message

    cls = own(model, Slow)
    with served(cls, deaf, alone=True, drain_timeout=0) as up, raw_connection(up) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(up.pid, signal.SIGTERM)
        up.stopped = True
        assert notes.next() == "True True"


@pytest.mark.long
@every_model
def test_a_stop_that_takes_longer_says_what_it_waits_for(model: str, log: Log) -> None:
    with (
        served(MODELS[model], echo, alone=True, drain_timeout=600) as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"half")
        os.kill(up.pid, signal.SIGTERM)
        log.expect("for 1 conversation; a second signal cuts")
        peer.sendall(b" and half\n")
        assert read_to_end(peer) == b"half and half\n"


# ---------------------------------------------------------------- out of things


def exhaust() -> Callable[[int], None]:
    """Take all descriptors this process may still have; give how to free some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))

    def free(count: int) -> None:
        for number in [taken.pop() for _ in range(min(count, len(taken)))]:
            os.close(number)

    return free


@pytest.mark.long
@pytest.mark.parametrize("left", [0, 1, 2, 3])
@every_model
def test_a_server_without_descriptors_rests_and_recovers(model: str, left: int, log: Log) -> None:
    class Own(BaseServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            free = exhaust()
            free(left)
            signal.signal(signal.SIGUSR1, lambda *_: free(100))
            super().serve_forever(poll_interval)

    def work(notes: Notes) -> None:
        # All of its processes lack them, and all get some back.
        os.setpgid(0, 0)
        # A pool needs more of them than its worker keeps, before its first connection.
        inner = {"inner": "thread"} if model == "prefork" else {}
        server = own(model, Own)("tcp://127.0.0.1:0", echo, **one_worker(model), **inner)
        notes.write(str(server.address))
        server.run()

    with forked(work) as child:
        place = Place(child.notes.next())
        with contextlib.ExitStack() as stack, raw_connection(place) as early:
            early.sendall(b"hello\n")
            if left == 0:
                # A worker begins with some that were kept for it.
                for _ in range(10):
                    stack.enter_context(raw_connection(place))
                log.expect("WARNING resting before ")
                began = time.monotonic()
                # Twice as often as it may complain.
                threading.Event().wait(0.5)
                seconds = time.monotonic() - began
                assert log.text.count("resting before") <= 2 + seconds
                os.killpg(child.pid, signal.SIGUSR1)
                assert read_line(early) == b"hello\n"
            else:
                # Served, hung up on or kept waiting, but not the end of the server.
                heard = select.poll()
                heard.register(early, select.POLLIN)
                eventually(lambda: heard.poll(0) or "resting before" in log.text, "something")
                os.killpg(child.pid, signal.SIGUSR1)
                with contextlib.suppress(ConnectionError):
                    assert read_line(early) in (b"hello\n", b"")
        with raw_connection(place) as late:
            assert ask(late, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0
    assert log.tracebacks == 0


# ------------------------------------------------------------ what is left behind


@every_model
def test_other_peoples_children_keep_their_status(model: str) -> None:
    def work(notes: Notes) -> None:
        program = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        pid = os.fork()
        if pid == 0:
            os._exit(4)
        # Both are dead, and nobody has waited for them.
        for number in (pid, program.pid):
            os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        notes.write(str(server.address))
        assert server.run().served == 5
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
        assert program.wait() == 3

    with forked(work) as child:
        place = Place(child.notes.next())
        for _ in range(5):
            with raw_connection(place) as peer:
                assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


@every_model
def test_nothing_is_left_behind_by_a_server_that_talked_failed_and_was_cut(model: str) -> None:
    def answer(message: bytes) -> Answer:
        if message == b"boom":
            raise RuntimeError
        return message

    def work(notes: Notes) -> None:
        with nothing_left_behind():
            server = MODELS[model](
                ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"], answer, drain_timeout=0.1
            )
            for address in server.addresses:
                notes.write(str(address))
            assert server.run().served == 23

    with forked(work) as child, contextlib.ExitStack() as stack:
        stream, datagrams = (Place(text) for text in child.notes.take(2))
        for _ in range(20):
            with raw_connection(stream) as peer:
                assert ask(peer, b"hello") == b"hello"
        with raw_connection(datagrams) as peer:
            peer.send(b"hello")
            assert peer.recv(10) == b"hello"
        with raw_connection(stream) as peer:
            peer.sendall(b"boom\n")
            assert read_to_end(peer) == b""
        peer = stack.enter_context(raw_connection(stream))
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"half")
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it in this way")
@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("single", 1200),
        ("thread", 1200),
        ("fork", 120),
        ("pool", 1200),
        ("loop", 1200),
        ("aio", 1200),
    ],
)
def test_many_connections_leave_no_memory_behind(model: str, count: int) -> None:
    with served(MODELS[model], echo, alone=True) as up:

        def talk(times: int) -> None:
            for _ in range(times):
                with raw_connection(up) as peer:
                    assert ask(peer, b"hello") == b"hello"

        talk(count // 10)
        before = resident(up.pid)
        talk(count)
        assert resident(up.pid) - before < 5 << 20
    assert up.report is not None
    assert up.report.served == count + count // 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "count"),
    [("thread", 1000), ("fork", 120), ("pool", 1000), ("loop", 1000), ("aio", 1000)],
)
def test_a_thousand_idle_connections_are_drained(model: str, count: int) -> None:
    with contextlib.ExitStack() as stack:
        with served(MODELS[model], echo, max_connections=count + 100, drain_timeout=60) as up:
            peers = [stack.enter_context(raw_connection(up)) for _ in range(count)]
            for peer in peers:
                assert ask(peer, b"hello") == b"hello"
        assert up.report is not None
        assert up.report[:3] == (count, count, 0)
        # Many times what it takes, and less than the time until they would be cut.
        assert up.report.seconds < 50
        for peer in peers:
            assert read_to_end(peer) == b""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip(f"this machine allows {hard} descriptors")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["thread", "pool", "loop", "aio"])
def test_who_is_idle_makes_nobody_else_dearer(
    model: str, many_descriptors: None, tidy: None
) -> None:
    def spent(message: bytes) -> str:
        return str(time.process_time())

    with served(MODELS[model], spent, alone=True, max_connections=3000) as up:

        def price() -> float:
            with raw_connection(up) as peer:
                before = float(ask(peer, b"?"))
            for _ in range(120):
                with raw_connection(up) as peer:
                    after = float(ask(peer, b"?"))
            return after - before

        price()
        alone = min(price() for _ in range(3))
        with contextlib.ExitStack() as stack:
            for _ in range(2000):
                ask(stack.enter_context(raw_connection(up)), b"?")
            # Where somebody looks at all of them for each newcomer, it is six times as much.
            assert min(price() for _ in range(3)) < 3 * alone


@pytest.mark.slow
@every_model
def test_an_idle_server_uses_no_cpu(model: str) -> None:
    def work(notes: Notes) -> None:
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        signal.signal(signal.SIGALRM, lambda *_: server.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()
        before = time.process_time()
        server.serve_forever()
        notes.write((time.process_time() - before) / (time.monotonic() - began))
        server.close()

    with forked(work) as child:
        # A loop that polls without a pause would use about 1.
        assert float(child.notes.next()) < 0.1
        assert child.wait() == 0


def test_single_holds_back_whoever_comes_while_it_drains(notes: Notes) -> None:
    with served(SingleServer, noting(notes)) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
        behind = raw_connection(up)
        up.stop()
        assert read_to_end(peer) == b""
    with behind, pytest.raises(ConnectionResetError):
        read_line(behind)
    assert notes.take(2) == ["open", "close drain"]
    assert notes.so_far() == []


@every_model
def test_running_and_its_own_stop_agree(model: str) -> None:
    with running(echo, model) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.served == 1


@pytest.mark.parametrize("model", ["thread", "pool"])
def test_close_waits_for_whoever_is_in_handle_request(model: str) -> None:
    asking: list[int] = []
    together: list[int] = []
    server = MODELS[model]("tcp://127.0.0.1:0", echo)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with raw_connection(server) as peer:
        assert ask(peer, b"hello") == b"hello"
        thread.join(DEADLINE)
        watch = server._life.watch
        real = watch._ask

        def slowly(pause: float | None) -> list[tuple[int, int]]:
            # Two threads may not be in here at a time.
            asking.append(1)
            together.append(len(asking))
            try:
                found = real(pause)
                if threading.current_thread() is again:
                    eventually(lambda: server._life.draining)
                    # Meanwhile the other one gets here, if it does not wait.
                    time.sleep(0.02)
                return found
            finally:
                asking.pop()

        watch._ask = slowly
        again = threading.Thread(target=server.handle_request)
        again.start()
        eventually(lambda: asking)
        # The conversation is still open, and is waited for.
        server.close(drain=0.01)
        again.join(DEADLINE)
    assert not again.is_alive()
    assert max(together) == 1


@pytest.mark.parametrize("mixin", [ThreadingMixIn, PoolMixIn])
def test_a_program_may_send_its_log_to_its_own_server(mixin: Any) -> None:
    told = []

    class Listener(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            told.append(self.rfile.readline())
            self.wfile.write(b"heard")

    class ToTheServer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # With the handler's lock held, as always.
            with socket.create_connection(server.server_address, DEADLINE) as peer:
                peer.sendall(record.getMessage().encode() + b"\n")
                assert read_exactly(peer, 5) == b"heard"

    own: Any = type("Own", (mixin, socketserver.TCPServer), {})
    logger = logging.getLogger("echoframe")
    before, handler = logger.level, ToTheServer()
    with own(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            logger.info("hello")
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)
            server.shutdown()
            thread.join(DEADLINE)
    assert told == [b"hello\n"]


@pytest.mark.parametrize("mixin", [ThreadingMixIn, PoolMixIn, ForkingMixIn])
def test_a_program_may_use_our_names_for_its_own(mixin: Any) -> None:
    class Shouting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    class Own(mixin, socketserver.TCPServer):  # type: ignore[misc]  # a variable
        def start(self) -> None:
            self.thread = threading.Thread(target=self.serve_forever)
            self.thread.start()

        def stop(self) -> None:
            self.shutdown()
            self.thread.join(DEADLINE)
            self.server_close()

        def close(self) -> None:
            self.stop()

        def report(self) -> str:
            return "my own"

    # To fork beside a thread is what a later Python warns of, and what programs do.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server = Own(("127.0.0.1", 0), Shouting)
        server.start()
        place: Any = server.server_address
        with socket.create_connection(place, DEADLINE) as peer:
            assert ask(peer, b"hello") == b"HELLO"
        server.close()
    assert not server.thread.is_alive()
    assert server.fileno() == -1
    assert server.report() == "my own"
