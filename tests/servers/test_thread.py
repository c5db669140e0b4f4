"""What only thread promises."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

from echoframe.servers import ThreadingMixIn, ThreadServer
from echoframe.servers import thread as thread_module
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    Log,
    Notes,
    ask,
    echo,
    eventually,
    forked,
    noting,
    raw_connection,
    read_to_end,
    served,
)


def where(message: bytes) -> bytes:
    return threading.current_thread().name.encode()


def test_each_conversation_has_a_real_thread() -> None:
    seen: set[int] = set()

    def note(message: bytes) -> bytes:
        assert threading.current_thread() in threading.enumerate()
        seen.add(threading.get_ident())
        return message

    with running(note) as up, raw_connection(up) as one, raw_connection(up) as two:
        for peer in (one, two, one, two):
            assert ask(peer, b"hello") == b"hello"
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_a_thread_that_has_finished_takes_the_next_conversation() -> None:
    seen: list[int] = []

    def note(message: bytes) -> bytes:
        seen.append(threading.get_ident())
        return message

    with running(note) as up:
        assert up.server is not None
        server: Any = up.server
        for _ in range(5):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
                peer.shutdown(socket.SHUT_WR)
                assert read_to_end(peer) == b""
            eventually(lambda: server._idle_threads)
    assert len(set(seen)) == 1


def test_threads_that_nobody_needs_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "KEEP", 0.01)
    with running(echo) as up:
        server: Any = up.server
        for _ in range(3):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
        eventually(lambda: not server._live_threads)
        assert not server._idle_threads
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_handlers_share_what_they_see() -> None:
    seen: list[bytes] = []

    def note(message: bytes) -> str:
        seen.append(message)
        return str(len(seen))

    with running(note) as up:
        for number in (b"1", b"2", b"3"):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == number


def test_a_thread_that_cannot_start_costs_only_that_connection(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    start = thread_module._Thread.start
    tries: list[int] = []

    def fail_once(self: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(thread_module._Thread, "start", fail_once)
    with running(echo) as up:
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
    assert "WARNING resting before starting threads: can't start new thread" in log.text
    assert log.tracebacks == 0


def test_a_keeper_that_cannot_start_does_not_end_the_server() -> None:
    class Own(ThreadServer):
        # In a process of its own: the patch is nobody else's.
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            start = threading.Thread.start
            tries: list[str] = []

            def fail_once(thread: threading.Thread) -> None:
                if not tries:
                    tries.append(thread.name)
                    raise RuntimeError("can't start new thread")
                start(thread)

            threading.Thread.start = fail_once  # type: ignore[method-assign, assignment]
            super().serve_forever(poll_interval)

    with served(Own, echo, alone=True) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"hello\n")
            peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert read_to_end(peer) in (b"", b"hello\n")
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"


# It reaches threading.excepthook, as with the stdlib's mix-in, and there pytest hears it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_system_exit_in_a_handler_ends_only_its_conversation(notes: Notes, log: Log) -> None:
    def leave(message: bytes) -> bytes:
        if message == b"exit":
            raise SystemExit
        return message

    with running(noting(notes, leave)) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"exit\n")
            assert read_to_end(peer) == b""
        assert notes.take(2) == ["open", "close error"]
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_a_stop_reaches_a_thread_that_waits_for_more_to_do() -> None:
    with served(ThreadServer, echo) as up:
        server: Any = up.server
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        eventually(lambda: server._idle_threads)
    assert up.report is not None
    assert up.report.seconds < DEADLINE


def test_a_program_that_ends_does_not_wait_for_its_daemons() -> None:
    def work(notes: Notes) -> None:
        server = ThreadServer("tcp://127.0.0.1:0", echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with raw_connection(server) as peer:
            assert ask(peer, b"hello") == b"hello"
            kinds = [thread.daemon for thread in threading.enumerate()[1:]]
            assert all(kinds)

    with forked(work) as child:
        assert child.wait() == 0


def test_threads_are_daemons_as_the_class_says() -> None:
    kinds: list[bool] = []

    def note(message: bytes) -> bytes:
        kinds.append(threading.current_thread().daemon)
        return message

    with served(ThreadServer, note) as up:
        assert up.server is not None
        for daemon in (True, False, True):
            # Read anew each time.
            up.server.daemon_threads = daemon  # type: ignore[attr-defined]  # the mix-in's
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert kinds == [True, False, True]


def test_the_mix_in_works_on_a_server_of_the_stdlib() -> None:
    import socketserver

    class Own(ThreadingMixIn, socketserver.TCPServer):
        daemon_threads = True

    class Upper(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    with Own(("127.0.0.1", 0), Upper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with socket.create_connection(server.server_address) as one:
            one.settimeout(DEADLINE)
            assert ask(one, b"one") == b"ONE"
            with socket.create_connection(server.server_address) as two:
                two.settimeout(DEADLINE)
                assert ask(two, b"two") == b"TWO"
        server.shutdown()
        thread.join(DEADLINE)
    assert server.report is not None
    assert server.report.served == 2
