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
from collections.abc import Callable
from itertools import chain
from typing import Any

from ..framing import CHUNK, RawFraming
from ..handlers import EchoHandler, Handler, replies
from ..session import Session
from .kernel import wait_until_sent
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
    loose_row,
)

__all__ = ["DONE", "READ", "WRITE", "Conversation", "answer_datagram", "drop_rest", "rehearse"]

READ = "read"
WRITE = "write"
DONE = "done"

# One write of a large reply: so much may pass before the row shows progress.
SLICE = 256 * 1024

# Enough for Python to have settled on how to run each line.
REHEARSALS = 16

logger = logging.getLogger("echoframe.server")


class Conversation:
    """A session on a stream socket.

    `cells` and `row` are where it counts, and where it finds out why its input
    ended. `deadline` is a time.monotonic() by which step() wants to be called
    again even if nothing happens, or None.
    """

    deadline: float | None = None
    # What is being sent.
    _out: bytes | memoryview = b""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        cells: Cells,
        row: int = 0,
        *,
        linger_timeout: float = 1.0,
    ) -> None:
        self.session = session
        self._sock = sock
        self._cells = cells
        self._row = row
        self._linger = linger_timeout
        self._stage: Callable[[], str] = self._open

    def step(self) -> str:
        """Go on until there is something to wait for: READ, WRITE, or DONE.

        Errors: what the handler raised, once everything before it was sent. The
        conversation is over then.
        """
        try:
            return self._stage()
        except OSError as error:
            if error is self.session.failure:
                # The handler's own, and no word about this socket.
                raise
            if isinstance(error, BlockingIOError):
                return WRITE if self._out else READ
            return self._lost(error)

    def run(self) -> None:
        """Take all steps, on a blocking socket.

        Errors: what the handler raised.
        """
        try:
            while self.step() is not DONE:
                pass
        finally:
            if self._stage is not _finished:
                # For what no step has seen to: SystemExit in a handler, and the like.
                self._done(REASONS[self._cells[self._row + ORDER]] or "error")
            # What was raised knows the way it came, and that leads through here: a
            # cycle for each handler that raises.
            self.session.failure = None

    # ---------------------------------------------------------------- stages

    def _open(self) -> str:
        self._stage = self._talk
        self._out = self.session.open()
        return self._talk()

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
        return self._hang_up()

    def _hang_up(self) -> str:
        session = self.session
        reason = session.reason
        if reason == "peer" or not self._cells[self._row + SENT]:
            # The peer has ended its side too, or nothing was said that could be lost.
            return self._done()
        order = self._cells[self._row + ORDER]
        if order > DRAIN:
            return self._done()
        if order == DRAIN:
            # The reading side is shut, so nothing can be read any more, and once we
            # have said that we are done, the kernel answers each late byte with a
            # reset. What was said must have arrived by then.
            wait_until_sent(self._sock, self._linger)
            return self._done()
        # Bytes that arrive after close(), or lie unread before it, make the kernel
        # send a reset, and a reset can overtake the last reply. So say that we are
        # done, and wait for the peer to say so too.
        self._cells[self._row + LINGERING] = 1
        self._shut()
        self.deadline = time.monotonic() + self._linger
        self._stage = self._listen_on
        return self._listen_on()

    def _listen_on(self) -> str:
        assert self.deadline is not None  # set in _hang_up()
        drop_rest(self._sock, self.deadline)
        return self._done()

    # --------------------------------------------------------------- the end

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer has gone; recv() will say so.
            pass

    def _lost(self, error: OSError) -> str:
        reason = REASONS[self._cells[self._row + ORDER]]
        if not reason and not self._cells[self._row + LINGERING]:
            reason = "lost"
            logger.debug("peer vanished: %s", error)
        return self._done(reason or "reply")

    def _done(self, reason: str = "peer") -> str:
        self._out = b""
        self._stage = _finished
        session = self.session
        session.close(reason)
        failure = session.failure
        if session.reason == "protocol":
            logger.info("peer broke the protocol: %s", failure)
        elif failure is not None:
            raise failure
        return DONE


def _finished() -> str:
    return DONE


def rehearse() -> None:
    """Hold a few conversations with ourselves, so that Python's caches know how they go."""
    for _ in range(REHEARSALS):
        try:
            near, far = socket.socketpair()
        except OSError:
            # Out of descriptors: then without.
            return
        with near, far:
            far.sendall(b"1, 2, 3")
            far.shutdown(socket.SHUT_WR)
            Conversation(near, Session(EchoHandler(), RawFraming()), loose_row()).run()


def drop_rest(sock: socket.socket, deadline: float) -> None:
    """Read, and drop, until the peer ends its input or the deadline passes.

    Errors: OSError when the peer is gone or the deadline passes while it waits;
    BlockingIOError when there is nothing to read from a non-blocking socket now.
    """
    blocking = sock.gettimeout() != 0
    while (left := deadline - time.monotonic()) > 0:
        if blocking:
            sock.settimeout(left)
        if not sock.recv(CHUNK):
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
                _send_datagram(sock, data, client_address)
            if close:
                reason = "reply"
                break
        else:
            reason = "peer"
    finally:
        handler.on_close(reason)


def _send_datagram(sock: socket.socket, data: bytes, client_address: Any) -> None:
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
