"""Deadlines: who has been silent for too long, and what a drain has to end.

Nothing here is done for each message and no clock is read for one: now and then
the rows are looked at, and a row that has not changed since the last look has
been silent since then. An order is written into the row and then carried to the
conversation, which ends itself.
"""

from __future__ import annotations

import heapq
import logging
import math
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from ..handlers import Protocol
from .kernel import quiet_for
from .lazy import lazy
from .life import Connection, Life, obey
from .rows import CUT, DRAIN, FINISH, LINGERING, ORDER, RECEIVED, SENT, SETTLED, TIMEOUT, UNFINISHED
from .settings import with_settings
from .wake import RELOAD, STOP
from .watch import Watch

__all__ = ["LOOK", "Tending"]

logger = logging.getLogger("echoframe.server")

# How often a drain looks at the rows.
LOOK = 0.05
# A stop that takes longer says what it waits for.
PATIENCE = 0.5
# A connection is looked at so many times within its idle_timeout, and may live by
# that part longer than it should.
LOOKS = 8

# A mix-in has no base; the type checker may know what it will be mixed into.
if TYPE_CHECKING:
    from socketserver import BaseServer as _Base
else:
    _Base = object


@with_settings
class Tending(_Base):
    """What a server knows of its connections, and the orders that they get."""

    max_connections: int
    backlog: int
    max_message: int
    write_buffer: int
    # Off, unless a program asks for it: on a server of somebody else's, silence may
    # be part of the conversation. Ours sets it.
    idle_timeout: float = 0.0
    handshake_timeout: float
    drain_timeout: float
    drain_quiet: float
    linger_timeout: float

    # The server's that this is mixed into.
    socket: Any

    # What answers messages; None where a handler class reads its socket itself.
    protocol: Protocol | None = None

    @lazy
    def _life(self) -> Life:
        return Life(self._permits, self._woken, self._new_watch)

    def _new_watch(self) -> Watch:
        return Watch()

    def _permits(self) -> int:
        return self.max_connections

    def _woken(self) -> None:
        self._hear(self._life.wake.clear())

    def _hear(self, said: bytes) -> None:
        """What came by the wake-up descriptor; may be extended."""
        if STOP in said:
            self.stop()
        if RELOAD in said:
            # Nothing that can be read anew, on a server that has no such method.
            getattr(self, "reload", bool)()

    def stop(self) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        life = self._life
        life.wake.set()
        keeper = life.keeper
        if keeper is not None:
            keeper.wake.set()

    def _tend(self) -> float | None:
        """Give the orders that are due; in how many seconds to look again."""
        life = self._life
        with life.lock:
            now = time.monotonic()
            if self.idle_timeout:
                self._notice_standstill(now)
            if life.draining:
                pause = self._tend_to_all(now)
            else:
                pause = self._tend_to_the_quiet(now) if self.idle_timeout else None
            due = life.alarms and self._alarm(now)
            if due:
                pause = due if pause is None else min(pause, due)
            life.look_due = math.inf if pause is None else now + pause
        return pause

    def _notice_standstill(self, now: float) -> None:
        # Somebody has stopped this process (SIGSTOP, Ctrl-Z), or it was kept from running:
        # that was not the peers' silence, and what they said meanwhile is still unread.
        life = self._life
        late = now - life.look_due
        if late > max(self.idle_timeout / LOOKS, LOOK):
            life.back = now
            for connection in list(life.open.values()):
                connection.since = min(connection.since + late, now)

    def _tend_to_all(self, now: float) -> float | None:
        life = self._life
        connections = list(life.open.values())
        cut = life.cutting or now >= life.deadline
        for connection in connections:
            if connection.closing or connection.ordered >= (CUT if cut else TIMEOUT):
                continue
            if cut:
                self._order(connection, CUT)
                continue
            silence, waiting, idle = self._look_at(connection, now)
            if idle and silence >= self.drain_quiet:
                if connection.ordered < DRAIN:
                    self._order(connection, DRAIN)
            elif connection.ordered < FINISH:
                # What is idle will be ended as soon as that is certain, and
                # needs to be told only if it goes on talking after all.
                if not idle or (connection.watched and silence == 0):
                    self._order(connection, FINISH)
                connection.watched = True
            elif self.idle_timeout and waiting and silence >= self.idle_timeout:
                self._order(connection, TIMEOUT)
        if not connections:
            return None
        if not life.told and life.stopped + PATIENCE < now < life.deadline - 1:
            life.told = True
            logger.info(
                "Waiting up to %.0f s for %s; a second signal cuts",
                life.deadline - now,
                counted(len(connections), "conversation"),
            )
        return LOOK

    def _tend_to_the_quiet(self, now: float) -> float | None:
        # The table is in the order of the next look: the first ones are due, and go
        # to its end. So a look costs what is due and not what is open.
        life = self._life
        interval = max(self.idle_timeout / LOOKS, 0.01)
        due = now - interval
        first = self._next_to_look_at()
        if first is None:
            return None
        if first.looked <= due:
            for key, connection in list(life.open.items()):
                if connection.looked > due:
                    break
                connection.looked = now
                life.open[key] = life.open.pop(key)
                if connection.closing or connection.ordered >= TIMEOUT:
                    continue
                silence, waiting, _ = self._look_at(connection, now)
                if waiting and silence >= self.idle_timeout:
                    self._order(connection, TIMEOUT)
            first = self._next_to_look_at() or first
        # Not for each of them alone.
        return max(first.looked + interval - now, interval / LOOKS)

    def _next_to_look_at(self) -> Connection | None:
        connections = self._life.open.values()
        try:
            return next(iter(connections), None)
        except RuntimeError:
            # Somebody was accepted in between: to make a list is one step for Python.
            return next(iter(list(connections)), None)

    def _set_alarm(self, connection: Connection, when: float) -> None:
        """Have a conversation of a poller's called at its deadline."""
        life = self._life
        with life.lock:
            first = not life.alarms or when < life.alarms[0][0]
            heapq.heappush(life.alarms, (when, id(connection), connection))
        if first and life.keeper is not None:
            life.keeper.wake.set()

    def _alarm(self, now: float) -> float | None:
        alarms = self._life.alarms
        while alarms and alarms[0][0] <= now:
            connection = heapq.heappop(alarms)[2]
            if self._life.open.get(id(connection.request)) is connection:
                self._ring(connection)
        return alarms[0][0] - now if alarms else None

    def _ring(self, connection: Connection) -> None:
        """A deadline of its conversation may have passed. Called with the lock held."""

    def _look_at(self, connection: Connection, now: float) -> tuple[float, bool, bool]:
        """For how long a connection has been silent, whether it waits for its peer, and
        whether nothing at all is left to do there."""
        life, conversation = self._life, connection.conversation
        if conversation is None and not connection.pid:
            # A handler class, or a conversation that has not begun. Where the kernel
            # does not say, its age stands for its silence, but only for a drain:
            # nobody is cut for being old.
            quiet = quiet_for(connection.request)
            if quiet is None:
                return now - connection.since, False, True
            return min(quiet, now - life.back), True, True
        cells, row = life.rows.cells, connection.row
        if connection.polled and conversation is not None:
            # It is in this process, and counts where that costs least.
            cells[row + RECEIVED], cells[row + SENT] = conversation.received, conversation.sent
        seen = (cells[row + RECEIVED], cells[row + SETTLED], cells[row + SENT])
        if seen != connection.seen:
            # Since the last look, which may be long ago; the kernel may know better.
            connection.seen = seen
            connection.since = now - min(quiet_for(connection.request) or 0.0, now - life.back)
        if connection.polled:
            # Only who converses here can tell; what it writes into the row is less.
            waiting = connection.thread is None and conversation is not None and conversation.waits
            unfinished = conversation.unfinished if conversation is not None else 0
        else:
            waiting, unfinished = seen[0] == seen[1], cells[row + UNFINISHED]
        waiting = waiting and not cells[row + LINGERING]
        return now - connection.since, waiting, waiting and not unfinished

    def _order(self, connection: Connection, order: int) -> None:
        connection.ordered = order
        # The reason first, so that whoever finds the input ended can tell why. A second
        # signal writes here as well, and takes no lock: its order is the strictest.
        cells, cell = self._life.rows.cells, connection.row + ORDER
        if cells[cell] < order:
            cells[cell] = order
        self._carry(connection, order)

    def _carry(self, connection: Connection, order: int) -> None:
        """Make a conversation notice its order. Called with the lock held."""
        obey(connection, order)
        main = threading.main_thread().ident
        if order == CUT and connection.thread == main and self._life.runs and main:
            # It may be deaf to its socket, and only a signal reaches the main thread.
            self._life.overdue = True
            signal.pthread_kill(main, signal.SIGTERM)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things, as people say it."""
    return f"{number} {one if number == 1 else many or one + 's'}"
