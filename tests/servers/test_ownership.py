"""Who owns a connection between accept and its conversation, and what interrupts it.

Each of these was once lost, counted twice, or served for ever.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import socketserver
import sys
import threading
import weakref
from typing import Any

import pytest

from echoframe import SettingError, ThreadingMixIn, ThreadServer
from echoframe.handlers import Handler
from echoframe.servers import MODELS, Server
from echoframe.servers.life import Connection, Report
from echoframe.servers.rows import Rows
from echoframe.servers.thread import _Thread
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
    one_worker,
    raw_connection,
    read_to_end,
    served,
    slow,
)

every_model = pytest.mark.parametrize("model", MODELS)
in_this_process = pytest.mark.parametrize(
    "model", [name for name in MODELS if not MODELS[name].forks]
)


def own(model: str, base: type[Any]) -> Any:
    """A model's class with a mix-in of the test's in front."""
    return type("Own", (base, MODELS[model]), {})


@pytest.mark.parametrize("model", ["thread", "fork", "pool"])
def test_a_datagram_that_was_received_is_answered_while_the_server_stops(
    model: str, gate: Gate, notes: Notes
) -> None:
    with (
        served(MODELS[model], slow(gate, notes), "udp://127.0.0.1:0") as up,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        peer.settimeout(DEADLINE)
        place = up.addresses[0]
        peer.sendto(b"hello", (place.host, place.port))
        assert notes.next() == "begun"
        up.stop()
        gate.open()
        assert peer.recv(100) == b"hello"


# A program that ignores SIGCHLD has its dead buried by the kernel.
def test_children_that_others_bury_give_their_places_back() -> None:
    def work(told: Notes) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        server = MODELS["fork"]("tcp://127.0.0.1:0", echo, max_connections=3)
        told.write(str(server.address))
        server.run()

    with forked(work) as child:
        place = Place(child.notes.next())
        with raw_connection(place) as long:
            assert ask(long, b"hello") == b"hello"
            for _ in range(6):
                with raw_connection(place) as short:
                    assert ask(short, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


# Two exceptions that nobody foresees: the places of two connections.
@every_model
def test_no_place_is_lost_to_an_error_before_the_conversation(model: str) -> None:
    class Odd(Server):
        failures = 2

        def process_request(self, request: Any, client_address: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise LookupError("odd")
            super().process_request(request, client_address)

    with served(own(model, Odd), echo, max_connections=1, **one_worker(model)) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"


@in_this_process
def test_a_request_that_was_wrapped_is_the_same_connection(model: str) -> None:
    class Wrapped:
        def __init__(self, request: socket.socket) -> None:
            self.request = request

        def __getattr__(self, name: str) -> Any:
            return getattr(self.request, name)

    class Wrapping(Server):
        def process_request(self, request: Any, client_address: Any) -> None:
            wrapped: Any = Wrapped(request)
            super().process_request(wrapped, client_address)

    with served(own(model, Wrapping), echo, max_connections=1) as up:
        for _ in range(3):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert up.report is not None
    assert up.report.served == 3


# A number that is closed twice is somebody else's the second time.
@in_this_process
def test_a_wrapped_request_is_closed_once(model: str) -> None:
    taken: list[tuple[int, tuple[int, int]]] = []

    class Wrapped:
        def __init__(self, request: socket.socket) -> None:
            self.request = request

        def __getattr__(self, name: str) -> Any:
            return getattr(self.request, name)

        def close(self) -> None:
            number = self.request.fileno()
            self.request.close()
            if number >= 0:
                # Whoever opens something now gets this number.
                os.dup2(null.fileno(), number)
                taken.append((number, identity(number)))

    class Wrapping(Server):
        def process_request(self, request: Any, client_address: Any) -> None:
            wrapped: Any = Wrapped(request)
            super().process_request(wrapped, client_address)

    def identity(number: int) -> tuple[int, int]:
        facts = os.fstat(number)
        return facts.st_dev, facts.st_ino

    with open(os.devnull, "rb") as null:
        with served(own(model, Wrapping), echo) as up, raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        assert len(taken) == 1
        for number, was in taken:
            assert identity(number) == was
            os.close(number)


def test_a_program_that_accepts_by_itself_gives_what_it_took() -> None:
    class Loop(ThreadingMixIn, socketserver.TCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            request, client_address = self.get_request()
            self.process_request(request, client_address)

    class Upper(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    with Loop(("127.0.0.1", 0), Upper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with socket.create_connection(server.server_address[:2], DEADLINE) as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(100) == b"HELLO\n"
        thread.join(DEADLINE)


@in_this_process
def test_several_who_close_get_the_same_report(model: str) -> None:
    with raw_connection_to(model) as (server, peer):
        assert ask(peer, b"hello") == b"hello"
        reports: list[Any] = []
        closers = [
            threading.Thread(target=lambda: reports.append(server.close())) for _ in range(3)
        ]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(DEADLINE)
        assert len(reports) == 3
        assert {report[:3] for report in reports} == {(1, 1, 0)}
        # What is closed stays closed, without a word.
        server.serve_forever()
        server.handle_request()


@contextlib.contextmanager
def raw_connection_to(model: str) -> Any:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with raw_connection(server) as peer:
                yield server, peer
        finally:
            server.close()
            thread.join(DEADLINE)


@every_model
def test_with_closes_by_the_name_that_programs_extend(model: str) -> None:
    closed: list[str] = []

    class Extended(Server):
        def server_close(self) -> None:
            closed.append("mine")
            super().server_close()

    with own(model, Extended)("tcp://127.0.0.1:0", echo) as server:
        place = server.address
    assert closed == ["mine"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((place.host, place.port), DEADLINE)


def serve_until_interrupted(server: Server, told: Notes) -> Report:
    told.write(str(server.address))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        told.write("interrupted")
    return server.close()


# Ctrl-C where the program has no handlers of its own and run() is not used.
@every_model
def test_an_interrupted_loop_lets_go_of_everybody(model: str) -> None:
    def work(told: Notes) -> None:
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        report = serve_until_interrupted(server, told)
        # Less than the drain time: nobody was forgotten.
        told.write(report.cut, len(getattr(server, "active_children", ())), report.seconds < 9)

    with forked(work) as child:
        place = Place(child.notes.next())
        peers = [raw_connection(place) for _ in range(10)]
        try:
            assert ask(peers[0], b"hello") == b"hello"
            os.kill(child.pid, signal.SIGINT)
            if model == "single":
                # The conversation has the main thread, and ends with it.
                peers[0].close()
            assert child.notes.next() == "interrupted"
            assert child.notes.next() == "0 0 True"
            assert child.wait() == 0
        finally:
            for peer in peers:
                peer.close()


# Between accepting somebody and entrusting him to a conversation, too.
@every_model
def test_who_was_accepted_is_let_go_if_that_interrupts_the_loop(model: str) -> None:
    class Interrupting(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.getMessage().startswith("Accepted"):
                raise KeyboardInterrupt
            return True

    def work(told: Notes) -> None:
        log = logging.getLogger("echoframe.server")
        log.setLevel("INFO")
        log.addFilter(Interrupting())
        server = MODELS[model]("tcp://127.0.0.1:0", echo)
        told.write(str(server.address))
        try:
            # On prefork, serve_forever() would accept in another process.
            server.handle_request() if model == "prefork" else server.serve_forever()
        except KeyboardInterrupt:
            rows = server._life.rows
            told.write(len(server._life.open), rows.free == Rows(server._permits()).free)
        server.close()

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            assert read_to_end(peer) == b""
        assert child.notes.next() == "0 True"
        assert child.wait() == 0


@pytest.mark.parametrize("model", ["thread", "loop"])
@pytest.mark.parametrize("step", ["add", "remove"])
@pytest.mark.parametrize("behind", [True, False])
def test_listening_that_was_interrupted_half_done_is_done_anew(
    model: str, step: str, behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        watch = server._life.watch
        real = getattr(watch, step)

        def interrupted(*words: Any) -> None:
            if behind:
                real(*words)
            raise KeyboardInterrupt

        server._listen_to(server._listeners() if step == "remove" else [])
        monkeypatch.setattr(watch, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            server._listen_to(server._listeners() if step == "add" else [])
        monkeypatch.undo()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with raw_connection(server) as peer:
            assert ask(peer, b"hello") == b"hello"
        server.shutdown()
        thread.join(DEADLINE)


def test_an_idle_thread_that_was_chosen_and_given_nothing_ends_with_the_server() -> None:
    class Interrupted(ThreadServer):
        def _idle_thread(self) -> Any:
            if super()._idle_thread() is not None:
                raise KeyboardInterrupt
            return None

    def work(told: Notes) -> None:
        server = Interrupted("tcp://127.0.0.1:0", echo)
        report = serve_until_interrupted(server, told)
        told.write(report.cut, report.seconds < 9, len(server._live_threads))

    with forked(work) as child:
        place = Place(child.notes.next())
        with contextlib.suppress(OSError, AssertionError):
            # Until one of them finds the thread of the one before.
            while True:
                with raw_connection(place) as peer:
                    assert ask(peer, b"hello") == b"hello"
        assert child.notes.next() == "interrupted"
        assert child.notes.next() == "0 True 0"
        assert child.wait() == 0


def test_a_thread_gives_back_what_it_has_not_begun() -> None:
    with ThreadServer("tcp://127.0.0.1:0", echo) as server:
        thread = _Thread(server)
        thread.given.put(Connection(None, None, 0, None))
        assert thread.is_let_go()
        # It was told to end, in case that somebody has started it.
        thread.start()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert not thread.is_let_go()


# A handler knows its peer, who knows the connection, which knows the conversation, which
# knows the handler: left to the garbage collector, it would cost more than the rest.
@in_this_process
@pytest.mark.parametrize("framing", ["raw", "line"])
def test_who_has_left_is_forgotten_without_the_garbage_collector(model: str, framing: str) -> None:
    alive: weakref.WeakSet[Handler] = weakref.WeakSet()

    class Own(Handler):
        def __init__(self) -> None:
            alive.add(self)

        def on_message(self, message: bytes) -> bytes:
            return self.peer.remote.encode() if message == b"who?" else message

    gc.collect()
    gc.disable()
    try:
        with served(MODELS[model], Own, framing=framing) as up:
            for _ in range(3):
                with raw_connection(up) as peer:
                    assert ask(peer, b"hello") == b"hello"
            eventually(lambda: not alive)
    finally:
        gc.enable()


def test_a_child_leaves_whatever_its_buffers_do() -> None:
    class Broken:
        def flush(self) -> None:
            raise RuntimeError("reentrant call")

        def write(self, text: str) -> int:
            return len(text)

    def work(told: Notes) -> None:
        mine = os.getpid()
        server = MODELS["fork"]("tcp://127.0.0.1:0", echo)
        told.write(str(server.address))
        real: Any = sys.stdout
        flush: Any = Broken()

        class Late(Handler):
            def on_message(self, message: bytes) -> bytes:
                sys.stdout = flush  # what is flushed at the end
                return message

        assert server.protocol is not None
        server.protocol = server.protocol._replace(handler=Late)
        server.run()
        sys.stdout = real
        told.write("out of run()", os.getpid() == mine)

    with forked(work) as child:
        place = Place(child.notes.next())
        for _ in range(2):
            with raw_connection(place) as peer:
                assert ask(peer, b"hello") == b"hello"
                peer.shutdown(socket.SHUT_WR)
                assert read_to_end(peer) == b""
        os.kill(child.pid, signal.SIGTERM)
        assert child.notes.next() == "out of run() True"
        assert child.wait() == 0


# -------------------------------------------------------------------- settings


def test_the_stdlibs_name_for_backlog_is_obeyed() -> None:
    class Short(ThreadServer):
        request_queue_size = 7

    asked: list[int] = []

    def note(sock: socket.socket, options: Any) -> None:
        asked.append(options.backlog)
        socket.socket.listen(sock, options.backlog)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "echoframe.transports.tcp.Tcp.listen", lambda self, sock, options: note(sock, options)
        )
        with Short("tcp://127.0.0.1:0", echo):
            pass
        with MODELS["thread"]("tcp://127.0.0.1:0", echo, backlog=9):
            pass
    assert asked == [7, 9]


@pytest.mark.parametrize("model", [name for name in MODELS if not MODELS[name].runs_async_handlers])
def test_a_greeting_that_is_asynchronous_is_refused(model: str) -> None:
    class Greeter(Handler):
        async def on_open(self) -> str:
            return "hello"

        def on_message(self, message: bytes) -> bytes:
            return message

    with pytest.raises(SettingError, match="is asynchronous"):
        MODELS[model]("tcp://127.0.0.1:0", Greeter)


@every_model
def test_a_class_that_forgot_its_base_is_refused(model: str) -> None:
    class Forgot:
        def on_message(self, message: bytes) -> bytes:
            return message

    with pytest.raises(SettingError, match=r"Forgot is neither an echoframe.Handler nor a socket"):
        MODELS[model]("tcp://127.0.0.1:0", Forgot)


@in_this_process
def test_a_programs_default_timeout_is_not_for_our_connections(model: str) -> None:
    # Conversations here wait for their peers as long as it takes.
    socket.setdefaulttimeout(0.01)
    try:
        with running(echo, model) as up:
            with raw_connection(up) as peer:
                peer.settimeout(DEADLINE)
                assert ask(peer, b"hello") == b"hello"
                assert up.server is not None
                life = up.server._life
                (connection,) = life.open.values()
                # It waits as long as it takes, or not at all.
                assert not connection.request.gettimeout()
            eventually(lambda: not life.open, "the end of the conversation")
    finally:
        socket.setdefaulttimeout(None)


@every_model
def test_a_server_class_of_ones_own_is_a_model(model: str) -> None:
    class Polite(Server):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            request.sendall(b"Good day. ")
            return True

    with running(echo, own(model, Polite)) as up, raw_connection(up) as peer:
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b"Good day. hello"


@in_this_process
@pytest.mark.parametrize("name", ["shutdown_request", "close_request"])
def test_a_hook_may_be_replaced_on_the_server_itself(model: str, name: str) -> None:
    with served(MODELS[model], echo) as up:
        server: Any = up.server
        hook = getattr(server, name)
        told = Notes()

        def own(request: Any) -> None:
            told.write(name)
            hook(request)

        setattr(server, name, own)
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        assert told.next() == name
        told.close()


@in_this_process
@pytest.mark.parametrize("framing", ["raw", "line"])
def test_messages_are_logged_from_the_next_connection_on(
    model: str, framing: str, log: Log
) -> None:
    with served(MODELS[model], echo, framing=framing) as up:
        for word in (b"one", b"two"):
            with raw_connection(up) as peer:
                assert ask(peer, word) == word
            server: Any = up.server
            server.log_messages = True
    assert "Received: two" in log.text
    assert "Received: one" not in log.text


# None and text take another way than bytes do, and so does what comes behind them.
@in_this_process
@pytest.mark.parametrize("framing", ["raw", "line"])
def test_what_answers_is_the_same_to_the_end(model: str, framing: str) -> None:
    class Own(Handler):
        def on_message(self, message: bytes) -> str:
            self.on_message = lambda message: "another"  # type: ignore[method-assign]  # see above
            return message.decode()

    with served(MODELS[model], Own, framing=framing) as up, raw_connection(up) as peer:
        for word in (b"one", b"two", b"three"):
            assert ask(peer, word) == word


# Python looks for signals where a function begins.
@pytest.mark.parametrize("model", ["thread", "pool"])
def test_ctrl_c_at_the_beginning_of_any_call_leaves_nobody_behind(model: str) -> None:
    def work(told: Notes) -> None:
        with MODELS[model]("tcp://127.0.0.1:0", echo, framing="raw") as server:
            place = Place(str(server.address))
            calls = which = 0
            interrupted: set[str] = set()

            def interrupt(frame: Any, event: str, _: Any) -> None:
                nonlocal calls
                ours = frame.f_code.co_filename.endswith(("thread.py", "pool.py", "workers.py"))
                if event == "call" and ours and server._life.open:
                    calls += 1
                    if calls == which:
                        sys.setprofile(None)
                        interrupted.add(frame.f_code.co_name)
                        raise KeyboardInterrupt

            # The first is served undisturbed. There are fewer calls, and not always the same.
            for which in range(13):
                calls = 0
                with raw_connection(place) as peer:
                    sys.setprofile(interrupt)
                    with contextlib.suppress(KeyboardInterrupt):
                        server.handle_request()
                    sys.setprofile(None)
                    peer.shutdown(socket.SHUT_WR)
                    assert read_to_end(peer) == b""
                eventually(lambda: not server._life.open, f"the end, at call {which}")
            told.write("process_request" in interrupted, len(interrupted) > 2)

    with forked(work) as child:
        assert child.notes.next() == "True True"
        assert child.wait() == 0
