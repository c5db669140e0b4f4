"""What every model owes, over every transport it claims.

Handlers may run in another process here, so what they see goes through notes and
gates, and what is logged through a file.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from echoframe.handlers import Answer, CommandHandler, Handler, Reply
from echoframe.servers import MODELS
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    HAS_IPV6,
    Gate,
    Log,
    Notes,
    ask,
    close_now,
    crash_on,
    echo,
    never_ending,
    noting,
    one_worker,
    pump,
    raw_connection,
    read_exactly,
    read_line,
    read_to_end,
    reset,
    silent,
    slow,
)

IPV6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
STREAMS = ["tcp", pytest.param("tcp6", marks=IPV6), "unix", "abstract"]

every_model = pytest.mark.parametrize("model", MODELS)
every_model_at_once = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].at_once != "1"]
)
every_stream = pytest.mark.parametrize("transport", STREAMS)
# Only there does a connection break off without an end.
every_tcp = pytest.mark.parametrize("transport", STREAMS[:2])


# ---------------------------------------------------------------------- talking


@every_stream
@every_model
def test_a_message_is_answered_and_so_is_the_next_one(model: str, transport: str) -> None:
    with running(echo, model, transport) as up, raw_connection(up) as peer:
        assert ask(peer, b"one") == b"one"
        assert ask(peer, b"two") == b"two"


@every_stream
@every_model
def test_a_message_in_three_packets_is_one_message(
    model: str, transport: str, notes: Notes
) -> None:
    def count(message: bytes) -> bytes:
        notes.write("message")
        return message

    with running(count, model, transport) as up, raw_connection(up) as peer:
        for piece in (b"he", b"ll", b"o\n"):
            peer.sendall(piece)
        assert read_line(peer) == b"hello\n"
        assert ask(peer, b"end") == b"end"
        assert notes.so_far() == ["message", "message"]


@every_stream
@every_model
def test_two_messages_in_one_packet_are_answered_in_order(model: str, transport: str) -> None:
    with running(echo, model, transport) as up, raw_connection(up) as peer:
        peer.sendall(b"one\ntwo\r\n")
        assert read_line(peer) == b"one\n"
        assert read_line(peer) == b"two\r\n"


@every_stream
@every_model
def test_a_message_over_the_limit_costs_only_that_connection(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with running(noting(notes), model, transport, max_message=100) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"first\nsecond\n" + b"x" * 101 + b"\nfourth\n")
            assert read_to_end(peer) == b"first\nsecond\n"
        assert notes.take(2) == ["open", "close protocol"]
        with raw_connection(up) as peer:
            assert ask(peer, b"x" * 100) == b"x" * 100
        log.expect("INFO peer broke the protocol: a message is longer than 100 bytes (max_message)")
        assert log.tracebacks == 0


@every_stream
@every_model
def test_a_peer_that_leaves_in_mid_message_costs_nothing(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with running(noting(notes), model, transport) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"unfini")
        assert notes.take(2) == ["open", "close peer"]
        with raw_connection(up) as peer:
            assert ask(peer, b"still there?") == b"still there?"
    assert log.tracebacks == 0


@every_tcp
@every_model
def test_a_reset_in_mid_message_is_a_debug_line(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with running(noting(notes), model, transport) as up:
        peer = raw_connection(up)
        peer.sendall(b"whole\nunfini")
        assert notes.next() == "open"
        assert read_line(peer) == b"whole\n"
        reset(peer)
        assert notes.next() == "close lost"
        log.expect("DEBUG peer vanished: ")
        with raw_connection(up) as peer:
            assert ask(peer, b"still there?") == b"still there?"
    assert log.tracebacks == 0


@every_stream
@every_model
def test_a_peer_that_vanishes_while_it_is_answered_leaves_no_traceback(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with running(noting(notes, never_ending), model, transport) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"go on\n")
            assert peer.recv(5) == b"go on"
        assert notes.take(2) == ["open", "close lost"]
    assert log.tracebacks == 0


@every_stream
@every_model
def test_a_crashing_handler_costs_only_its_own_connection(
    model: str, transport: str, log: Log
) -> None:
    with running(crash_on(b"boom"), model, transport) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"before\nboom\nbehind\n")
            assert read_to_end(peer) == b"before\n"
        with raw_connection(up) as peer:
            assert ask(peer, b"still there?") == b"still there?"
    assert log.tracebacks == 1
    assert "RuntimeError: crashed on boom" in log.text
    assert "ERROR the handler raised; the connection from " in log.text


# BlockingIOError and the like are what the server itself meets on its sockets; here
# they come from a handler that talks to somebody else.
@pytest.mark.parametrize(
    "error", [BlockingIOError, ConnectionResetError, BrokenPipeError, TimeoutError, StopIteration]
)
@every_model
def test_what_a_handler_raises_is_never_taken_for_the_peers(
    model: str, error: type[Exception], log: Log
) -> None:
    def handler(message: bytes) -> bytes:
        raise error("mine")

    with running(handler, model) as up, raw_connection(up) as peer:
        peer.sendall(b"boom\n")
        assert read_to_end(peer) == b""
    assert log.tracebacks >= 1
    assert f"{error.__name__}: mine" in log.text


@every_model
def test_an_error_in_a_greeting_or_a_farewell_costs_only_that_connection(
    model: str, log: Log
) -> None:
    class Rude(Handler):
        def on_open(self) -> Answer:
            raise RuntimeError("no welcome")

        def on_message(self, message: bytes) -> Answer:
            raise AssertionError

        def on_close(self, reason: str) -> None:
            raise RuntimeError("no farewell")

    class Sad(Rude):
        def on_open(self) -> Answer:
            return b"welcome"

        def on_message(self, message: bytes) -> Answer:
            return Reply(b"bye", close=True)

    with running(Rude, model) as up, raw_connection(up) as peer:
        assert read_to_end(peer) == b""
    assert log.tracebacks == 1
    assert "RuntimeError: no welcome" in log.text
    with running(Sad, model) as up, raw_connection(up) as peer:
        assert peer.recv(7) == b"welcome"
        peer.sendall(b"hm\n")
        assert read_to_end(peer) in (b"bye\n", b"\nbye\n")
    assert "RuntimeError: no farewell" in log.text


@every_model
def test_a_silent_peer_delays_others_only_where_the_model_says_so(model: str, notes: Notes) -> None:
    with running(noting(notes), model) as up:
        mute = raw_connection(up)
        assert notes.next() == "open"
        with raw_connection(up) as peer:
            if MODELS[model].at_once == "1":
                peer.sendall(b"hello\n")
                mute.close()
                # The others' turn comes when it has left, and not before.
                assert notes.take(2) == ["close peer", "open"]
                assert read_line(peer) == b"hello\n"
            else:
                assert ask(peer, b"hello") == b"hello"
                mute.close()


# --------------------------------------------------------------- echo, command


@pytest.mark.long
@every_stream
@every_model
def test_echo_returns_everything_after_a_half_close(model: str, transport: str) -> None:
    data = os.urandom(1 << 20) * 16
    with running("echo", model, transport) as up, raw_connection(up) as peer:
        assert pump(peer, data) == data


@every_stream
@every_model
def test_command_serves_programs_without_line_ends(model: str, transport: str) -> None:
    with running("command", model, transport) as up, raw_connection(up) as peer:
        for _ in range(3):
            peer.sendall(b"hello")
            assert peer.recv(1024) == b"accepted"
        peer.sendall(b"CLOSE")
        assert read_to_end(peer) == b"closed"


@every_stream
@every_model
def test_command_serves_people_at_nc_and_telnet(model: str, transport: str) -> None:
    with running("command", model, transport) as up:
        for end in (b"\r\n", b"\n"):
            with raw_connection(up) as peer:
                peer.sendall(b"hi" + end + b"CLOSE" + end)
                assert read_to_end(peer) == b"accepted" + end + b"closed" + end


@every_model
def test_a_command_of_ones_own_is_a_method(model: str) -> None:
    class Clock(CommandHandler):
        def on_open(self) -> Answer:
            return "welcome"

    with running(Clock, model) as up, raw_connection(up) as peer:
        assert peer.recv(1024) == b"welcome"
        peer.sendall(b"close")
        assert read_to_end(peer) == b"closed"


# ------------------------------------------------------------- the last words


# Without lingering (linger_timeout=0) what was not read, and what comes later, is
# answered by a reset. On a unix socket reading fails with ECONNRESET then; on Linux's
# tcp the end that we sent first protects the reader, but writing fails.
@every_stream
@every_model
def test_closed_arrives_although_much_is_sent_behind_close(model: str, transport: str) -> None:
    with (
        running("command", model, transport, framing="line") as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"close\n" + b"x" * 200_000)
        assert read_line(peer) == b"closed\n"
        for _ in range(20):
            peer.sendall(b"x" * 10_000)
        assert read_to_end(peer) == b""


# Without lingering most of the input is unread when the socket is closed. The reset
# throws away what has not left the send buffer: less than the whole arrives, and then
# ECONNRESET.
@every_stream
@every_model
def test_a_large_last_reply_arrives_whole_although_input_was_left(
    model: str, transport: str
) -> None:
    words = os.urandom(1 << 16) * 64

    def last(message: bytes) -> Reply:
        return Reply(words, close=True)

    with running(last, model, transport) as up, raw_connection(up) as peer:
        assert pump(peer, b"go\n" + b"left\n" * 100_000, half_close=False) == words + b"\n"


@every_model
def test_a_peer_that_never_ends_its_side_is_left_after_the_linger_timeout(
    model: str, notes: Notes
) -> None:
    with running(close_now, model, linger_timeout=0.05) as up, raw_connection(up) as peer:
        peer.sendall(b"go\n")
        assert read_to_end(peer) == b""
        # Only when the server has closed its side altogether does writing fail.
        flood = iter(lambda: peer.sendall(b"x" * 65536), "never")
        with pytest.raises(ConnectionError):
            list(flood)


@pytest.mark.long
@every_stream
@every_model
def test_an_iterable_is_pulled_only_as_fast_as_the_peer_reads(
    model: str, transport: str, notes: Notes
) -> None:
    piece = b"x" * 65_536
    # Far more than the buffers of two sockets and of the session hold.
    many = 640

    def answer(message: bytes) -> Iterator[bytes]:
        for number in range(many):
            # Some more are pulled than written down: once for each MiB.
            if number % 16 == 0:
                notes.write(number)
            yield piece

    with running(answer, model, transport, framing="raw") as up, raw_connection(up) as peer:
        peer.sendall(b"go")
        readable, _, _ = select.select([peer], [], [], DEADLINE)
        assert readable
        pulled = 0
        # It stands still when nothing is written down for a while.
        with contextlib.suppress(AssertionError):
            while True:
                pulled = int(notes.next(0.1))
        assert pulled < many / 2
        assert len(read_exactly(peer, many * len(piece))) == many * len(piece)
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b""


# ----------------------------------------------------- what the handler is told


@pytest.mark.long
@every_stream
@every_model
def test_the_handler_is_told_why_the_conversation_ended(
    model: str, transport: str, notes: Notes
) -> None:
    def answer(message: bytes) -> Answer:
        if message == b"boom":
            raise RuntimeError("boom")
        return Reply(message, close=message == b"bye")

    def ended_by(last: bytes) -> str:
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
            peer.sendall(last)
            if last:
                read_to_end(peer)
            else:
                peer.shutdown(socket.SHUT_WR)
                assert read_to_end(peer) == b""
        return notes.take(2)[1]

    with running(noting(notes, answer), model, transport, max_message=1000) as up:
        assert ended_by(b"") == "close peer"
        assert ended_by(b"bye\n") == "close reply"
        assert ended_by(b"boom\n") == "close error"
        assert ended_by(b"x" * 2000) == "close protocol"
        mute = raw_connection(up)
        assert ask(mute, b"hello") == b"hello"
        notes.next()
    with mute:
        assert read_to_end(mute) == b""
        assert notes.next() == "close drain"


@every_model
def test_the_handler_is_told_that_it_was_cut(model: str, notes: Notes) -> None:
    with running(noting(notes), model, drain=0.0) as up:
        peer = raw_connection(up)
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"unfinished")
    with peer:
        assert read_to_end(peer) == b""
    assert notes.take(2) == ["open", "close cut"]


@every_model
def test_the_handler_is_told_about_silence(model: str, notes: Notes) -> None:
    with running(noting(notes), model, idle_timeout=0.1) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"
        assert read_to_end(peer) == b""
        assert notes.take(2) == ["open", "close timeout"]


@every_stream
@every_model
def test_the_handler_knows_its_peer(model: str, transport: str) -> None:
    class Facts(Handler):
        def on_message(self, message: bytes) -> Answer:
            return f"{self.peer.remote} {self.peer.local} {self.peer.transport}"

    with running(Facts, model, transport) as up, raw_connection(up) as peer:
        remote, local, scheme = ask(peer, b"who?").decode().rsplit(" ", 2)
        assert scheme == up.address.scheme
        assert local == up.address.name
        if scheme == "tcp":
            host, port = peer.getsockname()[:2]
            assert remote == (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        else:
            assert remote == f"process {os.getpid()}"


@every_model
def test_there_is_one_handler_for_each_conversation(model: str) -> None:
    class Counting(Handler):
        def __init__(self) -> None:
            self.seen = 0

        def on_message(self, message: bytes) -> Answer:
            self.seen += 1
            return str(self.seen)

    with running(Counting, model) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert [ask(peer, b"?"), ask(peer, b"?")] == [b"1", b"2"]


@every_model
def test_messages_are_logged_as_text_that_no_terminal_obeys(model: str, log: Log) -> None:
    with running("command", model, log_messages=True) as up, raw_connection(up) as peer:
        host, port = peer.getsockname()
        peer.sendall("grüß\x1b[2J\xff".encode() + b"\xfe")
        assert peer.recv(1024) == b"accepted"
        peer.sendall(b"close")
        assert read_to_end(peer) == b"closed"
    lines = [line for line in log.text.splitlines() if line.startswith("INFO ")]
    # Where it is not the highest already, that is said once in each process.
    lines = [line for line in lines if "limit of open descriptors" not in line]
    assert lines == [
        f"INFO Listening on 127.0.0.1:{up.address.port}",
        f"INFO Accepted connection from {host}:{port}",
        "INFO Received: grüß\\x1b[2Jÿ\\xfe",
        "INFO Received: close",
        "INFO Connection to client closed",
    ]


# ------------------------------------------------------------------------- udp


@every_model
def test_a_datagram_is_a_message(model: str) -> None:
    with running(echo, model, "udp") as up, raw_connection(up) as peer:
        for message in (b"hello", b"two\nlines\n", b"", b"x" * 60_000):
            peer.send(message)
            assert peer.recv(65535) == message


@every_model
def test_a_datagram_may_have_several_replies_or_none(model: str) -> None:
    def answer(message: bytes) -> Answer:
        if message == b"quiet":
            return None
        return [message, Reply(b"two"), None, "three"]

    with running(answer, model, "udp") as up, raw_connection(up) as peer:
        peer.send(b"quiet")
        peer.send(b"one")
        # On fork the answers of two datagrams may pass each other; there is but one.
        assert [peer.recv(100) for _ in range(3)] == [b"one", b"two", b"three"]


@every_model
def test_a_reply_too_large_for_a_datagram_is_logged_and_not_cut(model: str, log: Log) -> None:
    def answer(message: bytes) -> Iterator[bytes]:
        yield b"x" * 70_000
        yield b"small"

    with running(answer, model, "udp") as up, raw_connection(up) as peer:
        peer.send(b"go")
        assert peer.recv(65535) == b"small"
    assert "WARNING a reply of 70000 bytes does not fit into a datagram" in log.text
    assert log.tracebacks == 0


@every_model
def test_a_datagram_over_the_limit_is_dropped_and_logged(model: str, log: Log) -> None:
    with running(echo, model, "udp", max_message=100) as up, raw_connection(up) as peer:
        peer.send(b"x" * 101)
        log.expect("INFO dropped a datagram of 101 bytes: longer than 100 (max_message)")
        peer.send(b"x" * 100)
        assert peer.recv(1000) == b"x" * 100


@every_model
def test_close_in_a_datagram_is_answered_and_ends_nothing(model: str) -> None:
    with running("command", model, "udp") as up, raw_connection(up) as peer:
        for message, reply in ((b"hi", b"accepted"), (b"close", b"closed"), (b"hi", b"accepted")):
            peer.send(message)
            assert peer.recv(100) == reply


@every_model
def test_a_crash_on_a_datagram_costs_only_its_reply(model: str, log: Log) -> None:
    with running(crash_on(b"boom"), model, "udp") as up, raw_connection(up) as peer:
        peer.send(b"boom")
        log.expect("RuntimeError: crashed on boom")
        peer.send(b"still there?")
        assert peer.recv(100) == b"still there?"
        name = "{}:{}".format(*peer.getsockname())
    assert log.tracebacks == 1
    assert f"the connection from {name} is closed" in log.text


@every_model
def test_each_datagram_has_a_handler_of_its_own(model: str, notes: Notes) -> None:
    class Facts(Handler):
        def on_open(self) -> Answer:
            notes.write("open")
            return b"welcome"

        def on_message(self, message: bytes) -> Answer:
            return Reply(f"{self.peer.remote} {self.peer.local} {self.peer.transport}", close=True)

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    with running(Facts, model, "udp") as up, raw_connection(up) as peer:
        host, port = peer.getsockname()
        for _ in range(2):
            peer.send(b"who?")
            assert peer.recv(100) == b"welcome"
            assert peer.recv(100).decode() == f"{host}:{port} {up.address.name} udp"
            assert notes.take(2) == ["open", "close reply"]


@every_model
def test_datagrams_that_have_arrived_are_answered_before_the_end(model: str, gate: Gate) -> None:
    with running(slow(gate), model, "udp") as up:
        peer = raw_connection(up)
        peer.send(b"one")
        gate.open()
        assert peer.recv(100) == b"one"
        peer.send(b"two")
        assert peer.recv(100) == b"two"
    peer.close()
    assert up.report is not None
    assert (up.report.served, up.report.cut) == (2, 0)


# ------------------------------------------------------------- many at once


class Crowd:
    """Many bare peers in one thread."""

    def __init__(self, up: Any, count: int) -> None:
        self.where = (up.address.host, up.address.port)
        self.socks = [socket.socket() for _ in range(count)]
        for sock in self.socks:
            sock.setblocking(False)
            sock.connect_ex(self.where)

    def ask(self) -> int:
        """Everybody says something; give how many were answered and have left."""
        poll = select.poll()
        waiting = {sock.fileno(): sock for sock in self.socks}
        for number in waiting:
            poll.register(number, select.POLLOUT)
        answered = 0
        while waiting:
            ready = poll.poll(DEADLINE * 1000)
            if not ready:
                break
            for number, events in ready:
                sock = waiting[number]
                if events == select.POLLOUT:
                    sock.sendall(b"hello\n")
                    poll.modify(number, select.POLLIN)
                    continue
                answered += sock.recv(100) == b"hello\n"
                poll.unregister(number)
                del waiting[number]
                sock.close()
        return answered

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


@pytest.mark.slow
@pytest.mark.parametrize("count", [50, 150])
@every_model
def test_all_who_come_in_the_same_instant_are_served(model: str, count: int) -> None:
    with running(echo, model) as up, contextlib.closing(Crowd(up, count)) as crowd:
        assert crowd.ask() == count
    assert up.report is not None
    assert up.report.served == count


@every_model_at_once
def test_who_comes_when_all_places_are_taken_waits_and_is_served(model: str, notes: Notes) -> None:
    with running(noting(notes), model, max_connections=2, **one_worker(model)) as up:
        first, second, third = (raw_connection(up) for _ in range(3))
        with first, second, third:
            third.sendall(b"me too\n")
            assert ask(first, b"one") == b"one"
            assert ask(second, b"two") == b"two"
            assert notes.take(2) == ["open", "open"]
            first.close()
            # In this order: its place had to come free.
            assert notes.take(2) == ["close peer", "open"]
            assert read_line(third) == b"me too\n"


@every_model_at_once
def test_forty_conversations_are_open_at_once(model: str) -> None:
    with running(echo, model) as up, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(raw_connection(up)) for _ in range(40)]
        for peer in peers:
            assert ask(peer, b"hello") == b"hello"
        for peer in peers:
            assert ask(peer, b"still here") == b"still here"


@every_model_at_once
def test_a_silent_connection_is_ended_and_a_busy_one_is_not(model: str) -> None:
    with (
        running(echo, model, idle_timeout=0.2) as up,
        raw_connection(up) as mute,
        raw_connection(up) as busy,
    ):
        while not select.select([mute], [], [], 0)[0]:
            assert ask(busy, b"hello") == b"hello"
        assert mute.recv(1) == b""
        assert ask(busy, b"still here") == b"still here"


@pytest.mark.long
@every_model
def test_a_handler_that_takes_its_time_is_not_idle(model: str, gate: Gate, notes: Notes) -> None:
    def nap(message: bytes) -> bytes:
        # Many times as long as a peer may be silent.
        gate.wait(0.4)
        return message

    with running(nap, model, idle_timeout=0.1) as up, raw_connection(up) as peer:
        assert ask(peer, b"hello") == b"hello"


@every_model
def test_a_handler_that_never_answers_holds_nothing_up(model: str) -> None:
    with running(silent, model) as up, raw_connection(up) as peer:
        peer.sendall(b"anybody?\n")
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b""
