"""One conversation as steps, so that a model only decides who takes the next one.

step() goes on until it has to wait and says for what: READ, WRITE, or nothing any
more, DONE. On a blocking socket the waiting happens inside, so one step is the
whole conversation; on a non-blocking one, whoever polls calls again. What else
must happen between the bytes (a greeting, lingering behind the last reply) is a
step like the others, and no model knows of it.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from ..deadlines import milliseconds
from ..framing import CHUNK, RawFraming
from ..handlers import Answer, Handler, replies
from ..session import Session
from ..transports.tls import explain
from .door import Door
from .kernel import shut, unread, unsent, wait_until_sent
from .rows import (
    DRAIN,
    LINGERING,
    ORDER,
    REASONS,
    RECEIVED,
    SENT,
    SETTLED,
    UNFINISHED,
    Cells,
)

__all__ = [
    "DONE",
    "READ",
    "WRITE",
    "Conversation",
    "Goodbye",
    "Handshake",
    "Steps",
    "answer_datagram",
    "drop_rest",
]

READ = "read"
WRITE = "write"
DONE = "done"

# One write of a large reply: so much may pass before the row shows progress.
SLICE = 256 * 1024

logger = logging.getLogger("echoframe.server")


class Steps:
    """What every conversation has: a handshake where its socket wants one, and a way to leave.

    `cells` and `row` are where it counts, and where it finds out why its input
    ended. `deadline` is a time.monotonic() by which step() wants to be called
    again even if nothing happens, or None.

    On a socket that does not block, step() returns when it would have to wait, and
    after one read or one write: whoever polls gives everybody a turn. An order is
    written into the row first; then step() carries it out.
    """

    deadline: float | None = None
    # What whoever polls for it is waiting for.
    wanted: str = READ
    # Bytes, on a socket that does not block; on others they stand in the row.
    received = 0
    sent = 0
    # What is being sent.
    _out: bytes | memoryview = b""
    # The peer is still to prove itself, and what is said to be encrypted.
    _secure = False
    # The socket blocks for whoever calls run(), and not in here.
    _polls = False

    def __init__(
        self,
        sock: socket.socket,
        cells: Cells,
        row: int,
        linger_timeout: float = 1.0,
        handshake_timeout: float = 10.0,
    ) -> None:
        self._sock = sock
        self._cells = cells
        self._row = row
        self._linger = linger_timeout
        if sock.__class__ is not socket.socket and hasattr(sock, "do_handshake"):
            self._secure = True
            self._patience = handshake_timeout
            self.stage: Callable[[], str] = self._shake
        else:
            self.stage = self._begin

    def step(self) -> str:
        """Go on until there is something to wait for: READ, WRITE, or DONE.

        Errors: what the handler raised, once everything before it was sent. The
        conversation is over then.
        """
        try:
            return self.stage()
        except OSError as error:
            return self.refused(error)

    def refused(self, error: OSError) -> str:
        """What a step gives that was met with this error. (Whoever has no time for step()
        calls `stage`, the bare step that is next, and this.)

        Errors: the same one, if it is the handler's.
        """
        if isinstance(error, BlockingIOError):
            want = WRITE if self._out else READ
        else:
            want = _wanted(error) if self._secure else ""
            if not want:
                return self._lost(error)
        order = self._cells[self._row + ORDER]
        if order < DRAIN or self._cells[self._row + LINGERING]:
            return want
        if order == DRAIN and not self.waits:
            # It was idle when the order was given, and has found something to do.
            return want
        return self._leave(self._ordered)

    @property
    def _ordered(self) -> str:
        """The reason in the row: why we end this ourselves. Empty while we do not."""
        return REASONS[self._cells[self._row + ORDER]]

    def run(self) -> None:
        """Take all steps, on a blocking socket.

        Errors: what the handler raised.
        """
        try:
            while (want := self.step()) is not DONE:
                self._wait_for(want)
        finally:
            self.abandon()

    def _wait_for(self, want: str) -> None:
        # Only encryption comes by here; see _go_unblocked().
        watch = select.poll()
        watch.register(self._sock, select.POLLIN if want is READ else select.POLLOUT)
        watch.poll(None if self.deadline is None else milliseconds(self.deadline))

    def abandon(self) -> None:
        """Nobody will call step() again. Harmless when it is over already; never raises."""

    def obey(self) -> None:
        """Hear of an order that stands in the row; the next step() carries it out."""

    @property
    def waits(self) -> bool:
        """It is the peer's turn: nothing is left to answer, or to send."""
        return not self._out

    @property
    def unfinished(self) -> int:
        """Bytes of a message whose end is still to come."""
        return 0

    # ------------------------------------------------------------- handshake

    def _shake(self) -> str:
        sock = self._sock
        blocks = sock.gettimeout() != 0
        now = time.monotonic()
        if self.deadline is None:
            self._set_deadline(now + self._patience)
            if blocks:
                sock.settimeout(self._patience)
        elif now >= self.deadline:
            raise TimeoutError(f"no handshake within {self._patience:g} s")
        sock.do_handshake()  # type: ignore[attr-defined]  # has one, or this is not called
        self.deadline = None
        self.stage = self._begin
        if blocks:
            self._go_unblocked()
        return self._begin()

    def _go_unblocked(self) -> None:
        # Waiting inside OpenSSL, it would find the end of input that an order makes of
        # the reading side, and tell the peer of an error. So the waiting is done outside.
        self._polls = True
        self._sock.setblocking(False)

    def _set_deadline(self, deadline: float) -> None:
        self.deadline = deadline
        # Whatever is wanted next is news to whoever polls: it comes with a deadline.
        self.wanted = ""

    def _begin(self) -> str:
        raise NotImplementedError

    # --------------------------------------------------------------- the end

    def _leave(self, reason: str) -> str:
        """End for a reason that the peer has not given."""
        return self._done(reason)

    def _hang_up(self, heard_all: bool) -> str:
        """Close, in such a way that what was said arrives."""
        order = self._cells[self._row + ORDER]
        if heard_all or order > DRAIN:
            if self._secure:
                self._shut()
            return self._done()
        sock = self._sock
        if order == DRAIN:
            blocks = self._polls or sock.gettimeout() != 0
            if blocks:
                # The reading side is shut, so nothing can be read any more, and once we
                # have said that we are done, the kernel answers each late byte with a
                # reset. What was said must have arrived by then.
                wait_until_sent(sock, self._linger)
            if blocks or not (unsent(sock) or unread(sock)):
                self._shut()
                return self._done()
        self._shut()
        return self._linger_on()

    def _linger_on(self) -> str:
        # Bytes that arrive after close(), or lie unread before it, make the kernel
        # send a reset, and a reset can overtake the last reply. So we have said that
        # we are done, and wait for the peer to say so too.
        self._cells[self._row + LINGERING] = 1
        self._set_deadline(time.monotonic() + self._linger)
        self.stage = self._listen_on
        return self._listen_on()

    def _listen_on(self) -> str:
        sock, deadline = self._sock, self.deadline
        assert deadline is not None  # set in _hang_up()
        if sock.gettimeout() != 0:
            drop_rest(sock, deadline)
        elif time.monotonic() < deadline and socket.socket.recv(sock, CHUNK):
            # Not all at once: this may have no end, and others are waiting.
            return READ
        return self._done()

    def _shut(self) -> None:
        sock = self._sock
        try:
            if self._secure:
                _end_encryption(sock)
            shut(sock, socket.SHUT_WR)
        except OSError:
            # The peer has gone; recv() will say so.
            pass

    def _lost(self, error: OSError) -> str:
        reason = self._ordered
        if reason == "drain" and self._secure and not self._cells[self._row + LINGERING]:
            # We have shut its reading side, and the encryption misses its goodbye.
            return self._leave(reason)
        if not reason and not self._cells[self._row + LINGERING]:
            reason = "lost"
            if self.deadline is not None:
                logger.info("no handshake: %s", explain(error))
                reason = "timeout" if isinstance(error, TimeoutError) else "lost"
            else:
                logger.debug("peer vanished: %s", error)
        return self._done(reason or "reply")

    def _done(self, reason: str = "peer") -> str:
        self._out = b""
        self.deadline = None
        self.stage = _finished
        return DONE


class Conversation(Steps):
    """A session on a stream socket."""

    _straight: Callable[[bytes], Answer] | None = None
    # It was told to end, and reads only what has arrived.
    _leaves = False
    # Whose it is, for whoever polls.
    owner: Any = None
    # Where it may have to wait between two messages, see door.py.
    door: Sequence[Door] = ()

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        cells: Cells,
        row: int = 0,
        linger_timeout: float = 1.0,
        handshake_timeout: float = 10.0,
    ) -> None:
        self.session = session
        super().__init__(sock, cells, row, linger_timeout, handshake_timeout)

    def refused(self, error: OSError) -> str:
        if error is self.session.failure:
            # The handler's own, and no word about this socket.
            raise error
        if self._out:
            # Reading goes on when that is sent.
            self.stage = self._go_on
        return super().refused(error)

    def _wait_for(self, want: str) -> None:
        if self.waits:
            # As in _talk(), for whoever looks at the row.
            cells, row = self._cells, self._row
            cells[row + SETTLED] = self.received
            cells[row + SENT] = self.sent
            cells[row + UNFINISHED] = self.unfinished
            if self.door and self.received:
                for one in self.door:
                    one.pass_by(row)
        super()._wait_for(want)

    def abandon(self) -> None:
        if self.stage is not _finished:
            # For what no step has seen to: SystemExit in a handler, and the like.
            try:
                self._done(self._ordered or "error")
            except Exception:
                # Whoever calls this has a socket to close and a row to give back.
                logger.exception("on_close() raised, behind what has ended its conversation")
        # What was raised knows the way it came, and that leads through here: a
        # cycle for each handler that raises.
        self.session.failure = None

    def obey(self) -> None:
        """Hear of an order that stands in the row; the next step() carries it out."""
        self.session.drain()
        if self._polls:
            # The thread that waits for the socket looks at the row itself.
            return
        order = self._cells[self._row + ORDER]
        if order >= DRAIN:
            stage = self.stage
            reads = stage == self._reading()
            self._leaves = True
            if reads:
                self.stage = self._last_turns
            elif (
                order > DRAIN
                and self._sock.gettimeout() == 0
                and stage not in (self._shake, self._begin, _finished)
            ):
                # It need not come to a read, nor to a wait: a peer that takes all of an
                # answer without end would keep it going for ever.
                self.stage = self._break_off

    @property
    def speaks_first(self) -> bool:
        """There is something to do before the peer has said anything."""
        return self._secure or type(self.session.handler).on_open is not Handler.on_open

    @property
    def waits(self) -> bool:
        return not self._out and not self.session.busy

    @property
    def unfinished(self) -> int:
        return self.session.framing.unfinished

    # ---------------------------------------------------------------- stages

    def _begin(self) -> str:
        if self._sock.gettimeout() != 0:
            self.stage = self._talk
            self._out = self.session.open()
            return self._talk()
        if not self._secure:
            # Encryption may want to read in order to write.
            self._straight = self.session.straight
        self._out = self.session.open()
        if self._out or self.session.busy:
            return self._go_on()
        self.stage = stage = self._reading()
        return stage()

    def _talk(self) -> str:
        # The one loop that runs for every message, so its names are local and the
        # row is written no more than it takes to see what goes on here.
        sock = self._sock
        recv, send = sock.recv, sock.send
        session = self.session
        feed, framing, straight = session.feed, session.framing, session.straight
        # Raw framing leaves nothing unfinished.
        leaves_rests = not isinstance(framing, RawFraming)
        cells, row = self._cells, self._row
        cell_received, cell_settled, cell_sent = row + RECEIVED, row + SETTLED, row + SENT
        received, sent = cells[cell_received], cells[cell_sent]
        out = self._out
        door = self.door
        try:
            while True:
                size = len(out)
                if size:
                    gone = send(out) if size <= SLICE else send(memoryview(out)[:SLICE])
                    sent += gone
                    if gone < size:
                        # Not for each reply, but a long one must be seen to move.
                        cells[cell_sent] = sent
                        out = memoryview(out)[gone:]
                        continue
                    # Out of sight while it waits: this may have been a large reply.
                    out = b""
                if session.busy:
                    if session.closing:
                        break
                    out = session.more()
                    continue
                cells[cell_settled] = received
                if leaves_rests:
                    cells[row + UNFINISHED] = framing.unfinished
                if door and received:
                    for one in door:
                        one.pass_by(row)
                data = recv(CHUNK)
                if data:
                    received += len(data)
                    cells[cell_received] = received
                    if straight is None:
                        out = feed(data)
                        continue
                    try:
                        answer = straight(data)
                    except Exception as error:
                        out = session.failed(error)
                        continue
                    out = answer if answer.__class__ is bytes else session.answered(answer)
                else:
                    out = session.end(REASONS[cells[row + ORDER]] or "peer")
        finally:
            self._out = out
            cells[cell_sent] = sent
        return self._part()

    def _turn(self) -> str:
        # The same on a socket that does not block: one read and what it brings.
        if self._polls and self._is_told_to_leave():
            return self._leave(self._ordered)
        data = self._sock.recv(CHUNK)
        if not data:
            return self._end_of_input()
        self.received += len(data)
        if self._polls:
            self._cells[self._row + RECEIVED] = self.received
        self._out = self.session.feed(data)
        return self._go_on() if self._out or self.session.busy else READ

    def _straight_turn(self) -> str:
        # And where nothing stands between the bytes and the handler: the one way that
        # is gone for every message, so nothing is written down that can be known later.
        data = self._sock.recv(CHUNK)
        if not data:
            return self._end_of_input()
        self.received += len(data)
        try:
            answer = self._straight(data)  # type: ignore[misc]  # there, or this is not called
        except Exception as error:
            self._out = self.session.failed(error)
            return self._go_on()
        if answer.__class__ is bytes and answer:
            try:
                gone = self._sock.send(answer)
            except BlockingIOError:
                gone = 0
            self.sent += gone
            if gone == len(answer):
                return READ
            self._out = memoryview(answer)[gone:]
        else:
            self._out = self.session.answered(answer)
        return self._go_on() if self._out or self.session.busy else READ

    def _end_of_input(self) -> str:
        session = self.session
        self._out = session.end(self._ordered or "peer")
        if session.reason == "peer" and not (self._out or self._secure):
            # Nothing is left to say, and nobody to say goodbye to.
            return self._done()
        return self._go_on()

    def _last_turns(self) -> str:
        # What the kernel holds is still read and answered; then it has nothing more. Not
        # all at once: somebody else may be waiting, and this may have no end.
        if self._cells[self._row + ORDER] > DRAIN:
            return self._break_off()
        want = self._turn()
        return WRITE if want is READ else want

    def _break_off(self) -> str:
        # What lies unread when it is closed would make the kernel send a reset.
        with suppress(OSError):
            socket.socket.recv(self._sock, CHUNK)
        return self._leave(self._ordered)

    def _is_told_to_leave(self) -> bool:
        return self._cells[self._row + ORDER] >= DRAIN and not unread(self._sock)

    def _go_on(self) -> str:
        # Send what there is, and say what there is to say, until it is the peer's turn.
        session = self.session
        self.stage = self._go_on
        out = self._out
        if not out and session.pending:
            self._out = out = session.more()
        if out:
            gone = self._sock.send(out)
            self.sent += gone
            if gone < len(out):
                self._out = memoryview(out)[gone:]
                return WRITE
            self._out = b""
        if session.pending:
            # Not at once: somebody else may be waiting, and this may have no end.
            return WRITE
        if session.closing:
            return self._part()
        self.stage = self._reading()
        # Who leaves does not wait for a peer that may say nothing any more.
        return WRITE if self._leaves else READ

    def _reading(self) -> Callable[[], str]:
        # Decided once, and not for each message.
        if self._leaves:
            return self._last_turns
        return self._turn if self._straight is None else self._straight_turn

    # --------------------------------------------------------------- the end

    def _leave(self, reason: str) -> str:
        if self._out or self.stage == self._shake:
            return self._done(reason)
        self.session.end(reason)
        return self._part()

    def _part(self) -> str:
        # The peer has ended its side too, or nothing was said that could be lost.
        return self._hang_up(
            self.session.reason == "peer" or not (self.sent or self._cells[self._row + SENT])
        )

    def _done(self, reason: str = "peer") -> str:
        begun = not self._secure or self.stage != self._shake
        super()._done()
        session = self.session
        if not begun:
            # Its handler has not been told of a beginning.
            return DONE
        session.close(reason)
        failure = session.failure
        if session.reason == "protocol":
            logger.info("peer broke the protocol: %s", failure)
        elif failure is not None:
            raise failure
        return DONE


class Handshake(Steps):
    """What comes before a handler that has its socket to itself, and that socket blocks."""

    # How it went; None is well.
    failure: OSError | None = None

    def _begin(self) -> str:
        return self._done()

    def _go_unblocked(self) -> None:
        self._sock.settimeout(None)

    def _lost(self, error: OSError) -> str:
        self.failure = error
        return super()._lost(error)


class Goodbye(Steps):
    """What comes behind a handler that had its socket to itself."""

    def __init__(self, sock: socket.socket, cells: Cells, row: int, linger_timeout: float) -> None:
        super().__init__(sock, cells, row, linger_timeout)
        self.stage = self._begin

    def _begin(self) -> str:
        sock = self._sock
        if self._cells[self._row + ORDER] >= DRAIN:
            # Its reading side is shut: there is nothing to wait for but that the
            # peer's kernel has it all.
            wait_until_sent(sock, self._linger)
        self._shut()
        return self._linger_on() if unread(sock) else self._done()


def _finished() -> str:
    return DONE


def _wanted(error: OSError) -> str:
    # What encryption waits for, which may be the other direction than one's own.
    import ssl

    if isinstance(error, ssl.SSLWantReadError):
        return READ
    return WRITE if isinstance(error, ssl.SSLWantWriteError) else ""


def _end_encryption(sock: Any) -> None:
    # Its goodbye is a message of its own. The peer's is not waited for.
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        sock.unwrap()
    except (OSError, ValueError):
        # It wants to wait, or never got as far as being encrypted.
        pass
    sock.settimeout(timeout)


def drop_rest(sock: socket.socket, deadline: float) -> None:
    """Read, and drop, until the peer ends its input or the deadline passes.

    Errors: OSError when the peer is gone or the deadline passes while it waits;
    BlockingIOError when there is nothing to read from a non-blocking socket now.
    """
    blocking = sock.gettimeout() != 0
    while (left := deadline - time.monotonic()) > 0:
        if blocking:
            sock.settimeout(left)
        # The plain one also where the socket is encrypted: this is for nobody to read.
        if not socket.socket.recv(sock, CHUNK):
            return


def answer_datagram(
    handler: Handler,
    message: bytes,
    sock: socket.socket,
    client_address: Any,
    trace: Callable[[bytes], None] | None = None,
) -> None:
    """A whole conversation over UDP: one message, any number of datagrams back.

    Errors: what the handler raised.
    """
    reason = "error"
    try:
        if trace is not None:
            trace(message)
        # One after the other: on_message() is called when the greeting is sent.
        answers = (ask() for ask in (handler.on_open, lambda: handler.on_message(message)))
        for data, close in chain.from_iterable(map(replies, answers)):
            if data is not None:
                send_datagram(sock, data, client_address)
            if close:
                reason = "reply"
                break
        else:
            reason = "peer"
    finally:
        handler.on_close(reason)


def send_datagram(sock: socket.socket, data: bytes, client_address: Any) -> None:
    try:
        try:
            sock.sendto(data, client_address)
        except BlockingIOError:
            # The socket is everybody's and does not block; its buffer empties fast.
            writable = select.poll()
            writable.register(sock, select.POLLOUT)
            writable.poll(1000)
            sock.sendto(data, client_address)
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            logger.warning("a reply of %d bytes does not fit into a datagram", len(data))
        else:
            # Datagrams may be lost anywhere on their way; this one was lost here.
            logger.debug("a datagram could not be sent: %s", error)
