"""What only aio promises: handlers that await, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import select
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from echoframe import AioServer, Handler, Reply, SettingError
from echoframe.testing import running

from ..certificates import Certificates
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
    logged,
    noting,
    pump,
    raw_connection,
    read_exactly,
    read_line,
    read_to_end,
    served,
    silent,
)

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
BOTH = [
    pytest.param(False, id="asyncio"),
    pytest.param(
        True,
        id="uvloop",
        marks=pytest.mark.skipif(not HAS_UVLOOP, reason="uvloop is not installed"),
    ),
]
both_loops = pytest.mark.parametrize("uvloop", BOTH)


@pytest.fixture(autouse=True)
def asyncio_is_silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("WARNING", logger="asyncio")
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


class Bell:
    """What a coroutine waits at until a thread rings."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.wait_for(self._event.wait(), DEADLINE)

    def ring(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._event.set)


# ----------------------------------------------------------------- both loops


@both_loops
def test_it_says_whose_loop_it_runs_on(uvloop: bool) -> None:
    with AioServer("tcp://127.0.0.1:0", echo, uvloop=uvloop) as server:
        assert server.runs_on == ("uvloop" if uvloop else "asyncio")


def test_uvloop_is_taken_where_it_is_installed() -> None:
    with AioServer("tcp://127.0.0.1:0", echo) as server:
        assert server.runs_on == ("uvloop" if HAS_UVLOOP else "asyncio")


def test_where_uvloop_is_missing_its_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    with pytest.raises(SettingError, match=r"pip install 'echoframe\[uvloop\]'"):
        AioServer("tcp://127.0.0.1:0", echo, uvloop=True)
    with AioServer("tcp://127.0.0.1:0", echo) as server:
        assert server.runs_on == "asyncio"


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@both_loops
def test_the_whole_of_a_conversation(uvloop: bool, transport: str, notes: Notes) -> None:
    data = os.urandom(1 << 20) * 8
    with running("echo", "aio", transport, uvloop=uvloop) as up, raw_connection(up) as peer:
        assert pump(peer, data) == data
    with running(noting(notes), "aio", transport, uvloop=uvloop) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"one\ntwo")
            peer.shutdown(socket.SHUT_WR)
            assert read_to_end(peer) == b"one\ntwo"
        assert notes.take(2) == ["open", "close peer"]
        idle = raw_connection(up)
        assert ask(idle, b"hello") == b"hello"
    with idle:
        assert read_to_end(idle) == b""
    assert notes.take(2) == ["open", "close drain"]
    assert up.report is not None
    assert up.report[:3] == (2, 1, 0)


@both_loops
def test_a_large_last_reply_arrives_whole_although_input_was_left(uvloop: bool) -> None:
    words = os.urandom(1 << 16) * 64

    def last(message: bytes) -> Reply:
        return Reply(words, close=True)

    with running(last, "aio", uvloop=uvloop) as up, raw_connection(up) as peer:
        assert pump(peer, b"go\n" + b"left\n" * 100_000, half_close=False) == words + b"\n"


@both_loops
def test_half_a_message_is_cut_and_an_idle_connection_is_not(uvloop: bool, notes: Notes) -> None:
    with (
        served(AioServer, noting(notes), drain_timeout=0.3, uvloop=uvloop) as up,
        raw_connection(up) as idle,
        raw_connection(up) as half,
    ):
        assert ask(idle, b"hello") == ask(half, b"hello") == b"hello"
        half.sendall(b"pay 1")
        up.stop()
        assert read_to_end(idle) == b""
        # A cut may be a reset.
        with contextlib.suppress(ConnectionResetError):
            assert read_to_end(half) == b""
        assert sorted(notes.take(4))[:2] == ["close cut", "close drain"]
    assert up.report is not None
    assert up.report[:3] == (2, 1, 1)


@both_loops
def test_a_deaf_handler_is_cut_by_a_second_signal(uvloop: bool, gate: Gate, notes: Notes) -> None:
    def deaf(message: bytes) -> bytes:
        notes.write("begun")
        assert gate.wait()
        return message

    with (
        served(AioServer, deaf, alone=True, drain_timeout=600, uvloop=uvloop) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(up.pid, 15)
        os.kill(up.pid, 2)
        up.stopped = True
    assert up.report is not None
    assert up.report[:3] == (1, 0, 1)


@both_loops
def test_close_goes_on_without_a_deaf_handler_and_the_loop_ends_behind_it(
    uvloop: bool, gate: Gate, notes: Notes, log: Log
) -> None:
    def deaf(message: bytes) -> bytes:
        notes.write("begun")
        assert gate.wait()
        return message

    server = AioServer("tcp://127.0.0.1:0", deaf, uvloop=uvloop)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with raw_connection(server) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        server.close(0.05)
        log.expect("1 handler has not returned since being cut: ")
        gate.open()
        thread.join(DEADLINE)
        assert not thread.is_alive()


@both_loops
def test_tls_with_its_beginning_and_its_end(
    uvloop: bool, certificates: Certificates, notes: Notes
) -> None:
    data = os.urandom(1 << 20)
    settings: dict[str, Any] = {**certificates.settings, "uvloop": uvloop}
    with (
        running("echo", "aio", "tls", **settings) as up,
        up.client("echo", tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        assert client.ask(data) == data
        client.send(b"rest")
        client.half_close()
        assert b"".join(client) == b"rest"
    with running(noting(notes, later), "aio", "tls", **settings) as up:
        with up.client(tls=certificates.ca, timeout=DEADLINE) as client:
            assert client.ask(b"hello") == b"hello"
        assert notes.take(2) == ["open", "close peer"]
        idle = up.client(tls=certificates.ca, timeout=DEADLINE)
        assert idle.ask(b"hello") == b"hello"
    with idle:
        assert list(idle) == []
    assert notes.take(2) == ["open", "close drain"]
    assert up.report is not None
    assert up.report[:3] == (2, 1, 0)
    # Nobody waited for the word with which the peer would end, too.
    assert up.report.seconds < 1


@both_loops
def test_an_end_that_tls_did_not_announce_is_none(
    uvloop: bool, certificates: Certificates, notes: Notes, log: Log
) -> None:
    settings: dict[str, Any] = {**certificates.settings, "uvloop": uvloop}
    context = certificates.client_context()
    with (
        running(noting(notes), "aio", "tls", **settings) as up,
        context.wrap_socket(raw_connection(up), server_hostname="localhost") as peer,
    ):
        peer.sendall(b"whole\nunfini")
        assert read_line(peer) == b"whole\n"
        socket.socket.shutdown(peer, socket.SHUT_WR)
        assert notes.take(2) == ["open", "close lost"]
    assert log.tracebacks == 0


@both_loops
def test_a_handler_knows_the_facts_of_tls(uvloop: bool, certificates: Certificates) -> None:
    class Telling(Handler):
        def on_message(self, message: bytes) -> str:
            return str(self.peer.tls.version)

    settings: dict[str, Any] = {**certificates.settings, "uvloop": uvloop}
    with (
        running(Telling, "aio", "tls", **settings) as up,
        up.client(tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        assert client.ask(b"?") == b"TLSv1.3"


# ------------------------------------------------------------ to be awaited


async def later(message: bytes) -> bytes:
    await asyncio.sleep(0)
    return message


async def piecewise(message: bytes) -> AsyncIterator[Any]:
    for piece in (message, b"", None, "ü", Reply(b"last"), bytearray(b"end")):
        await asyncio.sleep(0)
        yield piece


class Greeter(Handler):
    async def on_open(self) -> AsyncIterator[str]:
        yield "wel"
        yield "come"

    async def on_message(self, message: bytes) -> Any:
        await asyncio.sleep(0)
        return [message, Reply(b"bye", close=message == b"close")]


@both_loops
def test_what_comes_of_awaiting_is_understood_as_any_answer(uvloop: bool) -> None:
    with running(later, "aio", uvloop=uvloop) as up, raw_connection(up) as peer:
        peer.sendall(b"one\ntwo\nthree")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b"one\ntwo\nthree"
    with running(piecewise, "aio", uvloop=uvloop) as up, raw_connection(up) as peer:
        peer.sendall(b"one\n")
        assert read_exactly(peer, 17) == b"one\n\n" + "ü".encode() + b"\nlast\nend\n"
    with running(Greeter, "aio", framing="raw", uvloop=uvloop) as up, raw_connection(up) as peer:
        assert read_exactly(peer, 7) == b"welcome"
        peer.sendall(b"hello")
        assert read_exactly(peer, 8) == b"hellobye"
        peer.sendall(b"close")
        assert read_to_end(peer) == b"closebye"


@pytest.mark.parametrize("framing", ["line", "raw"])
def test_a_plain_function_may_give_what_is_to_be_awaited(framing: str) -> None:
    def answer(message: bytes) -> Awaitable[bytes]:
        return later(message)

    with running(answer, "aio", framing=framing) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"


@both_loops
def test_who_awaits_delays_nobody_and_answers_stay_in_order(uvloop: bool) -> None:
    bell = Bell()

    async def answer(message: bytes) -> bytes:
        if message == b"wait":
            await bell.wait()
        return message

    with (
        running(answer, "aio", uvloop=uvloop) as up,
        raw_connection(up) as patient,
        raw_connection(up) as other,
    ):
        patient.sendall(b"wait\nbehind\n")
        assert ask(other, b"hello") == b"hello"
        assert select.select([patient], [], [], 0)[0] == []
        bell.ring()
        assert [read_line(patient), read_line(patient)] == [b"wait\n", b"behind\n"]


@both_loops
def test_an_asynchronous_generator_is_pulled_only_as_fast_as_the_peer_reads(
    uvloop: bool, notes: Notes
) -> None:
    piece = b"x" * 65_536
    many = 2048

    async def answer(message: bytes) -> AsyncIterator[bytes]:
        for number in range(many):
            if number % 16 == 0:
                notes.write(number)
            yield piece

    with (
        running(answer, "aio", framing="raw", uvloop=uvloop) as up,
        raw_connection(up) as peer,
        raw_connection(up) as other,
    ):
        peer.sendall(b"go")
        pulled = 0
        with contextlib.suppress(AssertionError):
            while True:
                pulled = int(notes.next(0.1))
        assert pulled < many / 2
        other.sendall(b"go")
        assert len(read_exactly(other, 100)) == 100
        assert len(read_exactly(peer, many * len(piece))) == many * len(piece)


async def raising(message: bytes) -> bytes:
    await asyncio.sleep(0)
    raise ConnectionResetError("mine")


async def raising_in_the_middle(message: bytes) -> AsyncIterator[bytes]:
    yield message
    raise ConnectionResetError("mine")


async def cancelling_itself(message: bytes) -> bytes:
    raise asyncio.CancelledError("mine")


async def giving_nonsense(message: bytes) -> int:
    return 5


@pytest.mark.parametrize(
    ("handler", "said", "error"),
    [
        (raising, b"", "ConnectionResetError: mine"),
        (raising_in_the_middle, b"boom\n", "ConnectionResetError: mine"),
        (cancelling_itself, b"", "RuntimeError: the handler has cancelled itself"),
        (giving_nonsense, b"", "TypeError: a handler returns bytes, str, Reply"),
    ],
)
@both_loops
def test_what_a_coroutine_raises_costs_only_its_own_connection(
    uvloop: bool, handler: Callable[..., Any], said: bytes, error: str, log: Log
) -> None:
    class Own(Handler):
        def on_message(self, message: bytes) -> Any:
            return handler(message) if message == b"boom" else message

    with running(Own, "aio", uvloop=uvloop) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"before\nboom\nbehind\n")
            assert read_to_end(peer) == b"before\n" + said
        with raw_connection(up) as peer:
            assert ask(peer, b"still there?") == b"still there?"
    assert log.tracebacks == 1
    assert error in log.text


@both_loops
def test_a_cut_cancels_what_is_awaited_and_its_end_comes_before_the_farewell(
    uvloop: bool, notes: Notes
) -> None:
    class Slow(Handler):
        async def on_message(self, message: bytes) -> Any:
            try:
                notes.write("begun")
                await asyncio.sleep(DEADLINE)
            finally:
                notes.write("cancelled")

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    with running(Slow, "aio", drain=0.05, uvloop=uvloop) as up:
        peer = raw_connection(up)
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
    with peer:
        assert read_to_end(peer) == b""
    assert notes.take(2) == ["cancelled", "close cut"]
    assert up.report is not None
    assert up.report[:3] == (1, 0, 1)


@both_loops
def test_a_generator_whose_peer_has_left_is_closed(uvloop: bool, notes: Notes, log: Log) -> None:
    class Endless(Handler):
        async def on_message(self, message: bytes) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield message * 1000
                    await asyncio.sleep(0)
            finally:
                notes.write("closed")

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    with running(Endless, "aio", uvloop=uvloop) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"go on\n")
            assert peer.recv(5) == b"go on"
        assert notes.take(2) == ["closed", "close lost"]
    assert log.tracebacks == 0


@both_loops
def test_a_drain_waits_for_what_is_awaited(uvloop: bool) -> None:
    bell = Bell()
    waiting = threading.Event()

    async def answer(message: bytes) -> bytes:
        waiting.set()
        await bell.wait()
        return message

    with (
        served(AioServer, answer, drain_quiet=0.01, uvloop=uvloop) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"one\ntwo\n")
        assert waiting.wait(DEADLINE)
        up.stop()
        threading.Event().wait(0.1)
        bell.ring()
        assert read_to_end(peer) == b"one\ntwo\n"
    assert up.report is not None
    assert up.report.cut == 0


@both_loops
def test_who_awaits_is_not_idle(uvloop: bool) -> None:
    async def nap(message: bytes) -> bytes:
        await asyncio.sleep(0.4)
        return message

    with (
        running(nap, "aio", idle_timeout=0.05, uvloop=uvloop) as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"hello") == b"hello"
        assert read_to_end(peer) == b""


@both_loops
def test_a_datagram_may_be_answered_later(uvloop: bool, notes: Notes, log: Log) -> None:
    bell = Bell()

    class Answering(Handler):
        async def on_message(self, message: bytes) -> AsyncIterator[Any]:
            if message == b"wait":
                notes.write("waits")
                await bell.wait()
            if message == b"boom":
                raise RuntimeError("boom")
            yield message
            yield Reply(b"and that was it", close=True)

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    with running(Answering, "aio", "udp", uvloop=uvloop) as up, raw_connection(up) as peer:
        peer.send(b"wait")
        assert notes.next() == "waits"
        peer.send(b"hello")
        assert [peer.recv(100), peer.recv(100)] == [b"hello", b"and that was it"]
        assert notes.next() == "close reply"
        peer.send(b"boom")
        assert notes.next() == "close error"
        log.expect("RuntimeError: boom")
        bell.ring()
        assert [peer.recv(100), peer.recv(100)] == [b"wait", b"and that was it"]
    assert up.report is not None
    assert (up.report.served, up.report.cut, log.tracebacks) == (3, 0, 1)


@both_loops
def test_a_datagram_that_is_never_answered_is_cut(uvloop: bool, notes: Notes) -> None:
    class Slow(Handler):
        async def on_message(self, message: bytes) -> Any:
            notes.write("begun")
            await asyncio.sleep(DEADLINE)

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    with (
        running(Slow, "aio", "udp", drain=0.05, uvloop=uvloop) as up,
        raw_connection(up) as peer,
    ):
        peer.send(b"hello")
        assert notes.next() == "begun"
    assert notes.next() == "close cut"
    assert up.report is not None
    assert up.report[:3] == (1, 0, 1)


@both_loops
def test_what_a_handler_left_running_ends_with_the_server(uvloop: bool, notes: Notes) -> None:
    left: list[Any] = []

    async def forgotten() -> None:
        try:
            await asyncio.sleep(DEADLINE)
        finally:
            notes.write("ended")

    async def answer(message: bytes) -> bytes:
        left.append(asyncio.get_running_loop().create_task(forgotten()))
        await asyncio.sleep(0)
        return message

    with running(answer, "aio", uvloop=uvloop) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
    assert notes.next() == "ended"
    assert left[0].cancelled()


# ------------------------------------------------------------------ and besides


@both_loops
def test_close_from_a_coroutine_is_refused_in_a_sentence(uvloop: bool) -> None:
    caught: list[str] = []
    here: list[AioServer] = []

    async def close(message: bytes) -> bytes:
        try:
            here[0].close()
        except RuntimeError as error:
            caught.append(str(error))
        return message

    with running(close, "aio", uvloop=uvloop) as up, raw_connection(up) as peer:
        assert isinstance(up.server, AioServer)
        here.append(up.server)
        assert ask(peer, b"hello") == b"hello"
    assert "call stop()" in caught[0]


@both_loops
def test_handle_request_takes_one_and_serves_it_to_its_end(uvloop: bool, notes: Notes) -> None:
    with AioServer("tcp://127.0.0.1:0", noting(notes), uvloop=uvloop) as server:
        server.timeout = DEADLINE
        with raw_connection(server) as first, raw_connection(server) as second:
            first.sendall(b"one\n")
            second.sendall(b"two\n")
            for peer in (first, second):
                thread = threading.Thread(target=server.handle_request)
                thread.start()
                read_line(peer)
                assert notes.next() == "open"
                peer.shutdown(socket.SHUT_WR)
                thread.join(DEADLINE)
                assert not thread.is_alive()
                assert notes.next() == "close peer"
                assert notes.so_far() == []


@both_loops
def test_a_timeout_of_handle_request_is_for_waiting_only(uvloop: bool) -> None:
    calls: list[str] = []

    class Own(AioServer):
        timeout = 0.05

        def handle_timeout(self) -> None:
            calls.append("timeout")

    async def slow(message: bytes) -> bytes:
        await asyncio.sleep(0.2)
        return message

    with Own("tcp://127.0.0.1:0", slow, uvloop=uvloop) as server, raw_connection(server) as peer:
        peer.sendall(b"hello\n")
        peer.shutdown(socket.SHUT_WR)
        server.handle_request()
        assert read_to_end(peer) == b"hello\n"
        assert calls == []


@both_loops
def test_who_never_reads_costs_bounded_memory(uvloop: bool) -> None:
    # Much is asked for and nothing read: reading stops when write_buffer is reached.
    with (
        running("echo", "aio", write_buffer=10_000, uvloop=uvloop) as up,
        raw_connection(up, deadline=0.3) as peer,
    ):
        flood = iter(lambda: peer.sendall(b"x" * 100_000), "never")
        with pytest.raises(TimeoutError):
            list(flood)
        assert up.server is not None
        (connection,) = up.server._life.open.values()
        talk: Any = connection.conversation
        assert talk._transport.get_write_buffer_size() <= 10_000 + 65_536


@both_loops
def test_a_server_of_another_process_leaves_the_loop_alone(uvloop: bool) -> None:
    with AioServer("tcp://127.0.0.1:0", echo, uvloop=uvloop) as server:
        pid = os.fork()
        if pid == 0:
            server._adopt()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with raw_connection(server) as peer:
            assert ask(peer, b"hello") == b"hello"
        server.stop()
        thread.join(DEADLINE)


@pytest.mark.slow
@both_loops
def test_idle_connections_are_closed_together_and_at_once(uvloop: bool) -> None:
    count = 200
    with contextlib.ExitStack() as stack:
        with running(silent, "aio", uvloop=uvloop) as up:
            peers = [stack.enter_context(raw_connection(up)) for _ in range(count)]
            server = up.server
            assert server is not None
            eventually(lambda: len(server._life.open) == count)
            # Quiet for longer than drain_quiet.
            threading.Event().wait(0.2)
            began = time.monotonic()
            server.stop()
            for peer in peers:
                assert read_to_end(peer) == b""
            # Many times what it takes.
            assert time.monotonic() - began < 2
        assert up.report is not None
        assert up.report[:3] == (count, count, 0)


def test_the_log_of_a_server_is_its_own(tmp_path: Any) -> None:
    # A task that nobody looks at, of a handler's own making.
    async def fail() -> None:
        raise RuntimeError("nobody looks")

    async def answer(message: bytes) -> bytes:
        asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(0.01)
        return message

    with logged(tmp_path / "log") as log:
        with running(answer, "aio") as up, raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        assert "ERROR Task exception was never retrieved" in log.text
        assert "RuntimeError: nobody looks" in log.text


# What is raised in the callback of a weak reference is printed and forgotten, and
# asyncio has such callbacks for each task.
@both_loops
def test_ctrl_c_in_a_place_where_nothing_can_be_raised_ends_it_all_the_same(uvloop: bool) -> None:
    class Thing:
        pass

    def forget(message: bytes) -> bytes:
        thing = Thing()
        _ = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
        del thing
        return message

    def work(told: Notes) -> None:
        sys.unraisablehook = lambda _: None
        server = AioServer("tcp://127.0.0.1:0", forget, uvloop=uvloop)
        told.write(str(server.address))
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            told.write("interrupted")
        told.write(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        told.write(server.close().cut)

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\n")
        assert child.notes.take(3) == ["interrupted", "True", "0"]
        assert child.wait() == 0


# It may come while the accept loop is not in asyncio's.
@both_loops
def test_ctrl_c_is_heard_once(uvloop: bool) -> None:
    class Interrupted(AioServer):
        def service_actions(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def work(told: Notes) -> None:
        server = Interrupted("tcp://127.0.0.1:0", echo, uvloop=uvloop)
        try:
            server.serve_forever(0.01)
        except KeyboardInterrupt:
            told.write("interrupted")
        told.write(server.close().cut)

    with forked(work) as child:
        assert child.notes.take(2) == ["interrupted", "0"]
        assert child.wait() == 0
