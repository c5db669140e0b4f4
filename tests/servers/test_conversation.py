"""Conversations in steps, over a socket pair that never blocks: what a poller would see."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from echoframe.errors import ProtocolError
from echoframe.framing import Framing, LineFraming, RawFraming
from echoframe.handlers import Answer, Handler, Reply
from echoframe.handlers.base import FunctionHandler
from echoframe.servers.conversation import Conversation
from echoframe.servers.datagrams import answer_datagram
from echoframe.servers.kernel import unread
from echoframe.servers.rows import (
    CUT,
    DRAIN,
    LINGERING,
    ORDER,
    RECEIVED,
    SENT,
    SETTLED,
    TIMEOUT,
    loose_row,
)
from echoframe.servers.steps import DONE, READ, WRITE, drop_rest
from echoframe.session import Session

from ..helpers import close_now, crash_on, echo, read_to_end, silent


class Talk:
    """A conversation, its peer, and its row."""

    def __init__(self, handler: Any, framing: Framing | None = None, **settings: Any) -> None:
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.settimeout(5)
        self.cells = loose_row()
        opened = handler() if isinstance(handler, type) else FunctionHandler(handler)
        self.session = Session(opened, framing or LineFraming())
        self.conversation = Conversation(self.ours, self.session, self.cells, 0, **settings)
        self.step = self.conversation.step

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.peer.close()


class Told(Handler):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def on_message(self, message: bytes) -> Answer:
        return Reply(message, close=message == b"bye")

    def on_close(self, reason: str) -> None:
        self.reasons.append(reason)


def reasons(talk: Talk) -> list[str]:
    handler = talk.session.handler
    assert isinstance(handler, Told)
    return handler.reasons


def test_it_waits_for_input_answers_it_and_waits_again() -> None:
    with Talk(echo) as talk:
        assert talk.step() == READ
        talk.peer.sendall(b"hello\n")
        assert talk.step() == READ
        assert talk.peer.recv(100) == b"hello\n"
        assert talk.conversation.deadline is None


def test_a_step_without_news_changes_nothing() -> None:
    with Talk(echo) as talk:
        assert [talk.step(), talk.step(), talk.step()] == [READ, READ, READ]


def test_a_greeting_is_sent_before_anything_is_heard() -> None:
    class Polite(Told):
        def on_open(self) -> Answer:
            return b"welcome\n"

    with Talk(Polite) as talk:
        assert talk.step() == READ
        assert talk.peer.recv(100) == b"welcome\n\n"


def test_a_message_in_pieces_takes_a_step_for_each() -> None:
    with Talk(echo) as talk:
        for piece, unfinished in ((b"he", 2), (b"llo", 5)):
            talk.peer.sendall(piece)
            assert talk.step() == READ
            assert talk.conversation.unfinished == unfinished
        talk.peer.sendall(b"\n")
        assert talk.step() == READ
        assert talk.conversation.unfinished == 0
        assert talk.peer.recv(100) == b"hello\n"


def test_the_peers_end_is_the_end() -> None:
    with Talk(Told) as talk:
        talk.peer.sendall(b"one\nrest")
        talk.peer.shutdown(socket.SHUT_WR)
        # What arrived, and its end: two turns.
        assert [talk.step(), talk.step()] == [READ, DONE]
        assert reasons(talk) == ["peer"]
        assert talk.peer.recv(100) == b"one\nrest"


def test_a_step_is_one_read_however_much_is_there() -> None:
    with Talk(echo, RawFraming()) as talk:
        talk.peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                talk.peer.send(b"x" * 65536)
        assert talk.step() == READ
        assert talk.conversation.received <= 65536


def test_an_error_in_the_farewell_of_who_is_abandoned_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Leaving(Handler):
        def on_message(self, message: bytes) -> Answer:
            raise SystemExit

        def on_close(self, reason: str) -> None:
            raise ValueError("farewell")

    with Talk(Leaving) as talk:
        talk.peer.sendall(b"go\n")
        with pytest.raises(SystemExit):
            talk.step()
        talk.conversation.abandon()
        assert talk.step() == DONE
    assert "farewell" in caplog.text


def test_steps_behind_the_end_are_harmless() -> None:
    with Talk(Told) as talk:
        talk.peer.close()
        assert [talk.step(), talk.step()] == [DONE, DONE]
        assert reasons(talk) == ["peer"]


def test_what_does_not_fit_is_sent_in_further_steps() -> None:
    words = os.urandom(1 << 20)

    def answer(message: bytes) -> bytes:
        return words

    with Talk(answer, RawFraming()) as talk:
        talk.peer.sendall(b"go")
        assert talk.step() == WRITE
        assert talk.step() == WRITE
        got = b""
        while len(got) < len(words):
            got += talk.peer.recv(1 << 16)
            state = talk.step()
        assert got == words
        assert state == READ
        assert talk.conversation.sent == len(words)


def test_an_iterable_is_not_pulled_while_the_peer_does_not_read() -> None:
    pulled = 0

    def answer(message: bytes) -> Iterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x" * 65536

    with Talk(answer, RawFraming()) as talk:
        talk.peer.sendall(b"go")
        assert talk.step() == WRITE
        before = pulled
        assert before < 20
        assert talk.step() == WRITE
        assert pulled == before
        talk.peer.close()
        assert talk.step() == DONE


def test_the_row_counts_what_was_received_settled_and_sent() -> None:
    with Talk(lambda message: message * 2) as talk:
        talk.ours.setblocking(True)
        talk.peer.sendall(b"abc\nd")
        talk.peer.shutdown(socket.SHUT_WR)
        talk.conversation.run()
        assert talk.cells[RECEIVED] == talk.cells[SETTLED] == 5
        assert talk.cells[SENT] == 9


def test_what_never_blocks_counts_too_and_knows_by_itself_what_is_settled() -> None:
    with Talk(lambda message: message * 2) as talk:
        talk.peer.sendall(b"abc\nd")
        assert talk.step() == READ
        assert talk.conversation.received == 5
        assert talk.conversation.sent == 7
        assert talk.conversation.unfinished == 1
        assert talk.conversation.waits


def test_bytes_that_are_being_dealt_with_are_received_and_not_settled() -> None:
    seen = []

    def look(message: bytes) -> bytes:
        seen.append((talk.cells[RECEIVED], talk.cells[SETTLED]))
        if message == b"one":
            talk.peer.sendall(b"two\n")
            talk.peer.shutdown(socket.SHUT_WR)
        return message

    with Talk(look) as talk:
        talk.ours.setblocking(True)
        talk.peer.sendall(b"one\n")
        talk.conversation.run()
    assert seen == [(4, 0), (8, 4)]


# ------------------------------------------------------------------- lingering


def test_lingering_is_a_step_with_a_deadline() -> None:
    with Talk(Told, linger_timeout=30) as talk:
        talk.peer.sendall(b"bye\n" + b"x" * 1000)
        before = time.monotonic()
        assert talk.step() == READ
        assert talk.conversation.deadline is not None
        assert before + 30 <= talk.conversation.deadline <= time.monotonic() + 30
        assert talk.cells[LINGERING] == 1
        assert read_to_end(talk.peer) == b"bye\n"
        talk.peer.sendall(b"more")
        assert talk.step() == READ
        talk.peer.shutdown(socket.SHUT_WR)
        assert talk.step() == DONE
        assert reasons(talk) == ["reply"]


def test_who_floods_us_while_we_linger_gets_one_read_a_step() -> None:
    with Talk(Told, linger_timeout=30) as talk:
        talk.peer.sendall(b"bye\n")
        assert talk.step() == READ
        talk.peer.sendall(b"x" * 100_000)
        assert talk.step() == READ
        assert unread(talk.ours)


def test_lingering_ends_at_its_deadline() -> None:
    with Talk(Told, linger_timeout=0) as talk:
        talk.peer.sendall(b"bye\n")
        assert talk.step() == DONE
        assert reasons(talk) == ["reply"]


def test_a_peer_that_is_lost_while_we_linger_has_had_its_reply() -> None:
    with Talk(Told) as talk:
        talk.peer.sendall(b"bye\n")
        assert talk.step() == READ
        # With input unread: the other side gets a reset.
        talk.peer.close()
        assert talk.step() == DONE
        assert reasons(talk) == ["reply"]


def test_nothing_lingers_when_nothing_was_said() -> None:
    with Talk(close_now) as talk:
        talk.peer.sendall(b"go\n" + b"rest")
        assert talk.step() == DONE
        assert talk.conversation.deadline is None


def test_reading_the_rest_stops_at_the_deadline() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.settimeout(5)
        with pytest.raises(TimeoutError):
            drop_rest(ours, time.monotonic() + 0.01)
        peer.sendall(b"x" * 1000)
        drop_rest(ours, time.monotonic() - 1)
        peer.close()
        drop_rest(ours, time.monotonic() + 5)


# ---------------------------------------------------------------------- orders


@pytest.mark.parametrize(
    ("order", "reason"), [(DRAIN, "drain"), (TIMEOUT, "timeout"), (CUT, "cut")]
)
def test_an_end_that_we_made_is_not_the_peers(order: int, reason: str) -> None:
    with Talk(Told, linger_timeout=0) as talk:
        talk.step()
        talk.peer.sendall(b"one\nunfinished")
        talk.step()
        talk.cells[ORDER] = order
        talk.ours.shutdown(socket.SHUT_RD if order == DRAIN else socket.SHUT_RDWR)
        assert talk.step() == DONE
        assert reasons(talk) == [reason]
        # Half a message is never carried out.
        assert talk.peer.recv(100) == b"one\n"


def test_what_the_kernel_holds_is_answered_before_a_drain_ends() -> None:
    with Talk(Told, linger_timeout=0) as talk:
        talk.step()
        talk.peer.sendall(b"late\n")
        talk.cells[ORDER] = DRAIN
        talk.conversation.obey()
        assert talk.step() == DONE
        assert reasons(talk) == ["drain"]
        assert talk.peer.recv(100) == b"late\n"
        # Nothing is left that could be lost, so nothing is waited for.
        assert talk.cells[LINGERING] == 0


@pytest.mark.parametrize(
    ("order", "reason"), [(DRAIN, "drain"), (TIMEOUT, "timeout"), (CUT, "cut")]
)
def test_an_order_is_carried_out_by_the_next_step(order: int, reason: str) -> None:
    with Talk(Told) as talk:
        talk.step()
        talk.peer.sendall(b"unfinished")
        talk.step()
        talk.cells[ORDER] = order
        talk.conversation.obey()
        assert talk.step() == DONE
        assert reasons(talk) == [reason]


def test_who_sends_without_end_gets_no_turn_more_than_others_while_it_is_drained() -> None:
    with Talk(silent, RawFraming()) as talk:
        talk.step()
        talk.peer.sendall(b"x" * 70000)
        talk.cells[ORDER] = DRAIN
        talk.conversation.obey()
        assert talk.step() == WRITE
        assert talk.conversation.received == 65536
        talk.peer.sendall(b"x" * 65536)
        talk.cells[ORDER] = CUT
        talk.conversation.obey()
        assert talk.step() == DONE
        assert talk.conversation.received == 65536


def test_who_leaves_does_not_wait_behind_a_long_answer() -> None:
    with Talk(lambda message: b"x" * (1 << 20), RawFraming(), linger_timeout=0) as talk:
        talk.step()
        talk.peer.sendall(b"late\n")
        talk.cells[ORDER] = DRAIN
        talk.conversation.obey()
        talk.peer.setblocking(False)
        while (want := talk.step()) is WRITE:
            with contextlib.suppress(BlockingIOError):
                talk.peer.recv(1 << 20)
        assert want is DONE


@pytest.mark.parametrize(("order", "reason"), [(TIMEOUT, "timeout"), (CUT, "cut")])
def test_an_answer_without_end_can_be_cut_however_fast_its_peer_reads(
    order: int, reason: str
) -> None:
    class Endless(Told):
        def on_message(self, message: bytes) -> Answer:
            return itertools.repeat(b"x" * 1000)

    with Talk(Endless) as talk:
        talk.peer.sendall(b"go\n")
        assert talk.step() == WRITE
        talk.peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                talk.peer.recv(1 << 20)
        talk.cells[ORDER] = order
        talk.conversation.obey()
        assert talk.step() == DONE
        assert reasons(talk) == [reason]


def test_who_is_cut_is_not_reset_for_what_was_not_read() -> None:
    with Talk(Told) as talk:
        talk.step()
        talk.peer.sendall(b"unfinished")
        talk.cells[ORDER] = CUT
        talk.conversation.obey()
        assert talk.step() == DONE
        talk.ours.close()
        assert talk.peer.recv(1) == b""
        assert reasons(talk) == ["cut"]


def test_who_lingers_can_be_cut() -> None:
    with Talk(Told, linger_timeout=30) as talk:
        talk.peer.sendall(b"bye\n")
        assert talk.step() == READ
        talk.cells[ORDER] = CUT
        talk.conversation.obey()
        assert talk.step() == DONE
        assert reasons(talk) == ["reply"]


@pytest.mark.parametrize(("order", "reason"), [(TIMEOUT, "timeout"), (CUT, "cut")])
def test_who_does_not_read_can_be_cut(order: int, reason: str) -> None:
    class Flood(Told):
        def on_message(self, message: bytes) -> Answer:
            return b"x" * (1 << 20)

    with Talk(Flood) as talk:
        talk.peer.sendall(b"go\n")
        assert [talk.step(), talk.step()] == [WRITE, WRITE]
        talk.cells[ORDER] = order
        talk.conversation.obey()
        assert talk.step() == DONE
        assert reasons(talk) == [reason]


def test_a_session_that_drains_ends_behind_its_complete_messages() -> None:
    with Talk(Told) as talk:
        talk.step()
        talk.session.drain()
        talk.peer.sendall(b"one\ntwo\n")
        assert talk.step() == READ
        assert talk.cells[LINGERING] == 1
        assert read_to_end(talk.peer) == b"one\ntwo\n"
        talk.peer.close()
        assert talk.step() == DONE
        assert reasons(talk) == ["drain"]


# ---------------------------------------------------------------------- errors


def test_an_error_comes_out_behind_the_replies_before_it() -> None:
    with Talk(crash_on(b"boom"), linger_timeout=0) as talk:
        talk.peer.sendall(b"one\nboom\ntwo\n")
        with pytest.raises(RuntimeError, match="crashed on boom"):
            talk.step()
        assert talk.step() == DONE
        assert read_to_end(talk.peer) == b"one\n"


@pytest.mark.parametrize("error", [BlockingIOError, BrokenPipeError, TimeoutError, OSError])
def test_an_error_of_the_handlers_own_is_not_taken_for_the_sockets(
    error: type[OSError],
) -> None:
    def handler(message: bytes) -> bytes:
        raise error("mine")

    with Talk(handler) as talk:
        talk.peer.sendall(b"go\n")
        with pytest.raises(error, match="mine"):
            talk.step()


def test_a_broken_rule_is_an_info_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "echoframe.server")
    with Talk(Told, LineFraming(max_message=3), linger_timeout=0) as talk:
        talk.peer.sendall(b"one\ntoo long\n")
        assert talk.step() == DONE
        assert isinstance(talk.session.failure, ProtocolError)
        assert reasons(talk) == ["protocol"]
        assert read_to_end(talk.peer) == b"one\n"
    assert "peer broke the protocol: a message is longer than 3 bytes" in caplog.text


def test_a_lost_peer_is_a_debug_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "echoframe.server")
    with Talk(Told) as talk:
        talk.step()
        talk.peer.sendall(b"x\n")
        talk.step()
        # Unread input makes it a reset.
        talk.peer.close()
        assert talk.step() == DONE
        assert reasons(talk) == ["lost"]
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert caplog.records[0].exc_info is None


def test_run_takes_all_steps_on_a_blocking_socket() -> None:
    with Talk(Told) as talk:
        talk.ours.settimeout(None)
        talk.peer.sendall(b"one\nbye\n")
        talk.peer.shutdown(socket.SHUT_WR)
        talk.conversation.run()
        assert reasons(talk) == ["reply"]
        assert talk.peer.recv(100) == b"one\nbye\n"


def test_run_tells_the_handler_whatever_ends_it() -> None:
    class Leaving(Told):
        def on_message(self, message: bytes) -> Answer:
            raise SystemExit

    with Talk(Leaving) as talk:
        talk.ours.settimeout(None)
        talk.peer.sendall(b"go\n")
        with pytest.raises(SystemExit):
            talk.conversation.run()
        assert reasons(talk) == ["error"]


# ------------------------------------------------------------------- datagrams


@pytest.fixture
def mailbox() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def test_a_datagrams_conversation_is_opened_answered_and_closed(mailbox: socket.socket) -> None:
    class Polite(Told):
        def on_open(self) -> Answer:
            return "welcome"

    handler = Polite()
    traced: list[bytes] = []
    answer_datagram(handler, b"hello", mailbox, mailbox.getsockname(), traced.append)
    assert [mailbox.recv(100), mailbox.recv(100)] == [b"welcome", b"hello"]
    assert handler.reasons == ["peer"]
    assert traced == [b"hello"]
    answer_datagram(handler, b"bye", mailbox, mailbox.getsockname())
    assert handler.reasons == ["peer", "reply"]


def test_an_error_behind_a_datagram_comes_out_when_the_handler_was_told(
    mailbox: socket.socket,
) -> None:
    class Broken(Told):
        def on_message(self, message: bytes) -> Answer:
            raise RuntimeError("broken")

    handler = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        answer_datagram(handler, b"hello", mailbox, mailbox.getsockname())
    assert handler.reasons == ["error"]


def test_a_datagram_that_nobody_can_get_is_a_debug_line(
    mailbox: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "echoframe.server")
    answer_datagram(Told(), b"hello", mailbox, ("127.0.0.1", 0))
    assert "a datagram could not be sent" in caplog.text


def test_a_full_send_buffer_is_waited_for() -> None:
    class Full:
        tries = 0

        def fileno(self) -> int:
            return ours.fileno()

        def sendto(self, data: bytes, where: object) -> None:
            self.tries += 1
            if self.tries == 1:
                raise BlockingIOError

    ours, peer = socket.socketpair()
    full = Full()
    with ours, peer:
        answer_datagram(Told(), b"hello", full, None)  # type: ignore[arg-type]  # a fake
    assert full.tries == 2
