"""A session on a stream socket, step by step: what is read is answered, and sent.

A blocking socket has its thread to itself, and _talk() is the loop. On a
non-blocking one each step reads once, or writes once, and gives way to the others.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..framing import CHUNK, RawFraming
from ..handlers import Answer, Handler, Peer
from ..session import Session
from .door import Door
from .kernel import unread
from .rows import DRAIN, ORDER, REASONS, RECEIVED, SENT, SETTLED, UNFINISHED, Cells
from .steps import DONE, READ, WRITE, Steps, TookNothing, finished

__all__ = ["Conversation", "StraightConversation"]

# One write of a large reply: so much may pass before the row shows progress.
SLICE = 256 * 1024

logger = logging.getLogger("echoframe.server")


class Conversation(Steps):
    """A session on a stream socket."""

    # There is something to do before the peer has said anything.
    speaks_first = False
    # It was told to end, and reads only what has arrived.
    _leaves = False
    # Whose it is, for whoever polls.
    owner: Any = None
    # Who is there, for the log; a function that answers is not told.
    peer: Peer | None = None
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
        write_timeout: float = 0.0,
    ) -> None:
        self.session = session
        super().__init__(sock, cells, row, linger_timeout, handshake_timeout, write_timeout)
        self.speaks_first = self._secure or type(session.handler).on_open is not Handler.on_open

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
            cells[row + UNFINISHED] = self.unfinished
            cells[row + SENT] = self.sent
            cells[row + SETTLED] = self.received
            if self.door and self.received:
                for one in self.door:
                    one.pass_by(row)
        super()._wait_for(want)

    def abandon(self) -> None:
        if self.stage is not finished:
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
        order = self._cells[self._row + ORDER]
        if order <= DRAIN:
            # Not at a stricter one, which is no end of its own choice.
            self._drain()
        if self._polls:
            # The thread that waits for the socket looks at the row itself.
            return
        if order >= DRAIN:
            stage = self.stage
            reads = stage == self._reading()
            self._leaves = True
            if reads:
                self.stage = self._last_turns
            elif (
                order > DRAIN
                and self._sock.gettimeout() == 0
                and stage not in (self._shake, self._begin, finished)
            ):
                # It need not come to a read, nor to a wait: a peer that takes all of an
                # answer without end would keep it going for ever.
                self.stage = self._break_off

    def _drain(self) -> None:
        self.session.drain()

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
        feed, framing = session.feed, session.framing
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
                        if gone < SLICE and self._stands_still():
                            raise TookNothing
                        continue
                    # Out of sight while it waits: this may have been a large reply.
                    out = b""
                if session.busy:
                    if session.closing:
                        break
                    out = session.more()
                    continue
                if leaves_rests:
                    # First: who sees that all is settled must see what is left of it.
                    cells[row + UNFINISHED] = framing.unfinished
                cells[cell_settled] = received
                if door and received:
                    for one in door:
                        one.pass_by(row)
                data = recv(CHUNK)
                if data:
                    received += len(data)
                    cells[cell_received] = received
                    out = feed(data)
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
                if self._takes_nothing():
                    raise TookNothing
                return WRITE
            self._out = b""
        if session.pending:
            # Not at once: somebody else may be waiting, and this may have no end. Nor ever,
            # where that was all that the kernel keeps for a peer who does not read.
            if self._takes_nothing():
                raise TookNothing
            return WRITE
        if self._taking is not None:
            self._taking = self.deadline = None
        if session.closing:
            return self._part()
        self.stage = self._reading()
        # Who leaves does not wait for a peer that may say nothing any more.
        return WRITE if self._leaves else READ

    def _reading(self) -> Callable[[], str]:
        return self._last_turns if self._leaves else self._turn

    # --------------------------------------------------------------- the end

    def _cut_off(self) -> str:
        peer = self.peer
        who = "a peer" if peer is None else peer.remote
        logger.info("Cut %s: write_timeout (%g s)", who, self._write_timeout)
        return super()._cut_off()

    def _leave(self, reason: str) -> str:
        if self._out or self.stage == self._shake:
            return self._done(reason)
        self.session.end(reason)
        return self._part()

    def _part(self) -> str:
        # The peer has ended its side too, or nothing was said that could be lost.
        return self._hang_up(self.session.reason == "peer" or not self._has_spoken)

    @property
    def _has_spoken(self) -> bool:
        # On a socket that blocks, only the row knows.
        return bool(self.sent or self._cells[self._row + SENT])

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


class StraightConversation(Conversation):
    """One with nothing between what arrives and the handler.

    A chunk is a message, and a reply that is bytes goes out as it is. So there is one
    short way that is gone for every message, decided once; the session is made when
    something else has to be done, which for most never happens.
    """

    _made: Session | None = None

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        make_session: Callable[[Handler, Callable[[bytes], Answer]], Session],
        cells: Cells,
        row: int,
        linger_timeout: float,
        write_timeout: float,
    ) -> None:
        # All of it, and not super's: nothing is said twice for each connection.
        self._sock = sock
        self._cells = cells
        self._row = row
        self._linger = linger_timeout
        self._write_timeout = write_timeout
        self._handler = handler
        self._answer = handler.on_message
        self._make_session = make_session
        blocks = sock.gettimeout() != 0
        self.stage = self._talk if blocks else self._turn
        if type(handler).on_open is not Handler.on_open:
            self.speaks_first = True
            self.stage = self._begin

    @property
    def session(self) -> Session:  # type: ignore[override]  # made when asked for
        if self._made is None:
            # What answers has been asked for once, as a session does: a handler that
            # puts something else there meanwhile must not be found out by how it answers.
            self._made = self._make_session(self._handler, self._answer)
        return self._made

    @property
    def waits(self) -> bool:
        return self._made is None or super().waits

    @property
    def unfinished(self) -> int:
        return 0 if self._made is None else super().unfinished

    def refused(self, error: OSError) -> str:
        if self._made is None:
            return Steps.refused(self, error)
        return super().refused(error)

    def abandon(self) -> None:
        if self.stage is not finished or self._made is not None:
            super().abandon()

    def _drain(self) -> None:
        # Between chunks there is no boundary to end at.
        pass

    def _talk(self) -> str:
        if self._out or self._made is not None:
            return super()._talk()
        # Super's loop, without what cannot happen here.
        sock, answer_to, door = self._sock, self._answer, self.door
        recv, send = sock.recv, sock.send
        cells, row = self._cells, self._row
        cell_received, cell_settled = row + RECEIVED, row + SETTLED
        received = sent = 0
        try:
            while True:
                cells[cell_settled] = received
                if door and received:
                    for one in door:
                        one.pass_by(row)
                data = recv(CHUNK)
                if not data:
                    break
                received += len(data)
                cells[cell_received] = received
                try:
                    answer = answer_to(data)
                except Exception as error:
                    self._out = self.session.failed(error)
                    break
                if answer.__class__ is not bytes or len(answer) > SLICE:
                    self._out = self.session.answered(answer)
                    break
                gone = send(answer) if answer else 0
                sent += gone
                if gone < len(answer):
                    self._out = memoryview(answer)[gone:]
                    if self._stands_still():
                        raise TookNothing
                    break
        finally:
            cells[row + SENT] = sent
        if not data:
            return self._end_of_input()
        return super()._talk()

    def _turn(self) -> str:
        data = self._sock.recv(CHUNK)
        if not data:
            return self._end_of_input()
        self.received += len(data)
        try:
            answer = self._answer(data)
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
        if self._made is None:
            if self._cells[self._row + ORDER] < DRAIN:
                # The peer's own end: FINISH is no reason to end it ourselves.
                return self._done()
            if not self._tells_why:
                return self._hang_up(not self._has_spoken)
        return super()._end_of_input()

    @property
    def _tells_why(self) -> bool:
        return type(self._handler).on_close is not Handler.on_close

    def _done(self, reason: str = "peer") -> str:
        if self._made is not None or self._tells_why:
            return super()._done(reason)
        # There is nobody who would want to know.
        self.stage = finished
        return DONE
