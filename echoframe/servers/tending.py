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
from .kernel import quiet_for, received, unread
from .lazy import lazy
from .life import Alarm, Connection, Life, obey
from .rows import CUT, DRAIN, FINISH, LINGERING, ORDER, RECEIVED, SENT, SETTLED, TIMEOUT, UNFINISHED
from .settings import with_settings
from .wake import NUDGE, RELOAD, STOP
from .watch import Watch

__all__ = ["LOOK", "LOOKS", "Tending"]

logger = logging.getLogger("echoframe.server")

# How often a drain looks at the rows.
LOOK = 0.05
# A stop that takes longer says what it waits for.
PATIENCE = 0.5
# A connection is looked at so many times within the shortest of its limits, and may live
# by that part longer than it should.
LOOKS = 8
# So many alarms of nobody may lie in the heap besides.
SPARE = 64

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
    overload: str
    max_per_peer: int
    allow: Any
    deny: Any
    max_message: int
    write_buffer: int
    handshake_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    write_timeout: float
    total_timeout: float
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
        life = self._life
        self._hear(life.wake.clear())
        # Who polls has handled what has come.
        life.heard = life.handled

    def _hear(self, said: bytes) -> None:
        """What came by the wake-up descriptor; may be extended."""
        if STOP in said:
            self._stop()
        if RELOAD in said:
            # Nothing that can be read anew, on a server that has no such method.
            getattr(self, "reload", bool)()

    def _stop(self) -> None:
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
            patience = self._patience()
            if patience:
                self._notice_standstill(now, patience)
            if life.draining:
                pause = self._tend_to_all(now)
            else:
                pause = self._tend_to_the_quiet(now, patience) if patience else None
            due = life.alarms and self._alarm(now)
            if due:
                pause = due if pause is None else min(pause, due)
            life.look_due = math.inf if pause is None else now + pause
        return pause

    def _notice_standstill(self, now: float, patience: float) -> None:
        # Somebody has stopped this process (SIGSTOP, Ctrl-Z), or it was kept from running:
        # that was not the peers' silence, and what they said meanwhile is still unread.
        life = self._life
        late = now - life.look_due
        if late > max(patience / LOOKS, LOOK):
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
            else:
                self._keep_limits(connection, now, silence, waiting)
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

    def _patience(self) -> float:
        """The shortest of the limits for which connections are looked at; 0 is none."""
        limits = self.idle_timeout, self.first_byte_timeout, self.total_timeout
        return min((limit for limit in limits if limit), default=0.0)

    def _tend_to_the_quiet(self, now: float, patience: float) -> float | None:
        # The table is in the order of the next look: the first ones are due, and go
        # to its end. So a look costs what is due and not what is open.
        life = self._life
        interval = max(patience / LOOKS, 0.01)
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
                self._keep_limits(connection, now, silence, waiting)
            first = self._next_to_look_at() or first
        # Not for each of them alone.
        return max(first.looked + interval - now, interval / LOOKS)

    def _keep_limits(
        self, connection: Connection, now: float, silence: float, waiting: bool
    ) -> None:
        if self._has_passed(connection, now, silence, waiting):
            self._order(connection, TIMEOUT)

    def _has_passed(
        self, connection: Connection, now: float, silence: float, waiting: bool
    ) -> bool:
        """A connection has passed one of its limits, and the log says so."""
        passed = self._passed(connection, now, silence, waiting)
        if passed:
            logger.info("Cut %s: %s (%g s)", self._name(connection), passed, getattr(self, passed))
        return bool(passed)

    def _passed(self, connection: Connection, now: float, silence: float, waiting: bool) -> str:
        """Name the limit that a connection has passed; empty is none."""
        if self.total_timeout and now - connection.began >= self.total_timeout:
            return "total_timeout"
        if not waiting or unread(connection.request):
            # What it has said may lie here because we have stood still ourselves.
            return ""
        if self.idle_timeout and silence >= self.idle_timeout:
            return "idle_timeout"
        # Who is being told something all the time may well be silent.
        if self.first_byte_timeout and silence >= self.first_byte_timeout:
            return "" if self._was_heard(connection) else "first_byte_timeout"
        return ""

    def _was_heard(self, connection: Connection) -> bool:
        if connection.conversation is None and not connection.pid:
            return received(connection.request) > connection.greeted
        return connection.seen[0] > 0

    def _name(self, connection: Connection) -> str:
        raise NotImplementedError

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
            if connection.alarm is not None:
                if connection.alarm.when <= when:
                    # It rings for that one first: no more than one for each connection,
                    # however often its deadline moves.
                    return
                connection.alarm.connection = None
            first = not life.alarms or when < life.alarms[0].when
            self._push_alarm(connection, when)
        if first and life.keeper is not None:
            life.keeper.wake.set()

    def _push_alarm(self, connection: Connection, when: float) -> None:
        connection.alarm = Alarm(when, connection)
        life = self._life
        alarms = life.alarms
        if len(alarms) > SPARE + 2 * len(life.open):
            # Most are of connections that are over, and would lie there until their time.
            alarms[:] = [alarm for alarm in alarms if alarm.connection is not None]
            heapq.heapify(alarms)
        heapq.heappush(alarms, connection.alarm)

    def _alarm(self, now: float) -> float | None:
        alarms = self._life.alarms
        # Of nobody: whoever comes would find that somebody watches, and not until when.
        while alarms and (alarms[0].when <= now or alarms[0].connection is None):
            connection = heapq.heappop(alarms).connection
            if connection is None:
                continue
            connection.alarm = None
            deadline = getattr(connection.conversation, "deadline", None)
            if deadline is not None and deadline > now:
                self._push_alarm(connection, deadline)
            elif deadline is not None:
                self._ring(connection)
        return alarms[0].when - now if alarms else None

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
        if order == CUT and self._life.runs and connection.thread == threading.main_thread().ident:
            # It may be deaf to its socket, and only a signal reaches the main thread.
            self._life.overdue = True
            self._nudge()

    def _nudge(self) -> None:
        """Have the main thread handle the signals that have come, and leave what is overdue."""
        main = threading.main_thread().ident
        if main is not None:
            # Where the program has taken it, only the rude one is left.
            signal.pthread_kill(main, NUDGE if self._takes_nudges() else signal.SIGTERM)

    def _takes_nudges(self) -> bool:
        return signal.getsignal(NUDGE) == self._on_signal

    def _on_signal(self, number: int, frame: Any) -> None:
        raise NotImplementedError


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things, as people say it."""
    return f"{number} {one if number == 1 else many or one + 's'}"
