"""A conversation as steps, so that a model only decides who takes the next one.

step() goes on until it has to wait and says for what: READ, WRITE, or nothing any
more, DONE. On a blocking socket the waiting happens inside, so one step is the
whole conversation; on a non-blocking one, whoever polls calls again. What else
must happen between the bytes (a handshake, lingering behind the last reply) is a
step like the others, and no model knows of it.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable
from errno import ETIMEDOUT
from typing import Any

from ..deadlines import milliseconds
from ..framing import CHUNK
from ..transports.tls import explain
from .kernel import reset_on_close, sent_ago, shut, unread, unsent, wait_until_sent
from .rows import DRAIN, LINGERING, ORDER, REASONS, Cells
from .taking import Taking

__all__ = [
    "AGAIN",
    "DONE",
    "HOLD",
    "READ",
    "WRITE",
    "Goodbye",
    "Handshake",
    "Steps",
    "TookNothing",
    "drop_rest",
    "finished",
]

READ = "read"
WRITE = "write"
DONE = "done"
# It has something to do at once, but others come first.
AGAIN = "again"
# It needs a thread from here on.
HOLD = "hold"

logger = logging.getLogger("echoframe.server")

# To this the kernel's own counts of time are exact.
TICK = 0.01


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
    # While something waits to be sent.
    _taking: Taking | None = None

    def __init__(
        self,
        sock: socket.socket,
        cells: Cells,
        row: int,
        linger_timeout: float = 1.0,
        handshake_timeout: float = 10.0,
        write_timeout: float = 0.0,
    ) -> None:
        self._sock = sock
        self._cells = cells
        self._row = row
        self._linger = linger_timeout
        self._write_timeout = write_timeout
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
            # A socket that blocks has waited in send() for as long as it may.
            want = WRITE if self._out or self._sock.gettimeout() != 0 else READ
        else:
            want = _wanted(error) if self._secure else ""
            if not want:
                return self._lost(error)
        if want is WRITE:
            if self._is_not_read():
                return self._lost(TookNothing())
        elif self._taking is not None:
            # There was room for it, whatever it was.
            self._taking = self.deadline = None
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
            self._run()
        finally:
            self.abandon()

    def _run(self) -> None:
        while (want := self.step()) is not DONE:
            self._wait_for(want)

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

    def _is_not_read(self) -> bool:
        if self._sock.gettimeout() != 0:
            return True
        return self.stage != self._shake and self._takes_nothing()

    def _takes_nothing(self) -> bool:
        """Something waits for room; True if the peer has taken nothing for `write_timeout`."""
        if not self._write_timeout:
            return False
        now = time.monotonic()
        if self._taking is None:
            self._taking = Taking(self._sock, self._write_timeout)
        elif self.deadline is not None and now < self.deadline:
            return False
        pause = self._taking.look(now, self.sent)
        if self.deadline is None:
            self._set_deadline(now + pause)
        else:
            # The alarm finds it when it rings.
            self.deadline = now + pause
        return not pause

    def _stands_still(self) -> bool:
        """A send() that blocks took less than it was given: wait until there is room again.

        True if the peer takes nothing for `write_timeout`. The kernel's time for a send()
        began with the call, and not when the peer had last taken something.
        """
        if not self._write_timeout or self._sock.gettimeout() == 0:
            return False
        room = select.poll()
        room.register(self._sock, select.POLLOUT)
        while (quiet := sent_ago(self._sock)) is not None:
            left = self._write_timeout - quiet
            if left < TICK:
                return True
            if room.poll(left * 1000):
                break
        return False

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
        self._taking = None
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
        lingers = self._cells[self._row + LINGERING]
        # The kernel may be the one that says so.
        waited = isinstance(error, TookNothing) or error.errno == ETIMEDOUT
        if waited and self._write_timeout and not (reason or lingers):
            return self._cut_off()
        if reason == "drain" and self._secure and not lingers:
            # We have shut its reading side, and the encryption misses its goodbye.
            return self._leave(reason)
        if not reason and not lingers:
            reason = "lost"
            if self.stage == self._shake:
                logger.info("no handshake: %s", explain(error))
                reason = "timeout" if isinstance(error, TimeoutError) else "lost"
            else:
                logger.debug("peer vanished: %s", error)
        return self._done(reason or "reply")

    def _cut_off(self) -> str:
        try:
            # Or the kernel would go on trying, and keep it all for minutes.
            reset_on_close(self._sock)
        except OSError:
            pass
        return self._done("timeout")

    def _done(self, reason: str = "peer") -> str:
        self._out = b""
        self.deadline = None
        self.stage = finished
        return DONE


class TookNothing(TimeoutError):
    """A peer has not read what was sent to it, for too long."""


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


def finished() -> str:
    """The last stage, of what is over."""
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
