"""fork: a process for every connection.

    accept ─► process: converse ─► exit
    accept ─► process: converse ─► exit
    accept ─► …

At once       as many conversations as max_connections allows
Memory        a copy: what a handler changes is lost with its process
A slow peer   keeps its own process and delays nobody
Stopping      conversations get the drain time, then their processes are signalled
Replaces      process_request
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import socketserver
import time
from contextlib import suppress
from typing import Any, NoReturn
from weakref import WeakSet

from ..handlers import EchoHandler
from .base import Server
from .children import be_told_of_end, ended, flush, kill, leave
from .lazy import lazy
from .life import Connection, obey
from .lifecycle import GRACE, UNSAID, Lifecycle
from .rows import CUT, DRAIN, FINISH, ORDER, TIMEOUT, WANTED
from .tending import LOOK, LOOKS
from .watch import Watch

__all__ = ["ForkServer", "ForkingMixIn"]

# How soon the accept loop looks for the dead after a fork, and how often when
# nothing happens (seconds).
NAP = 0.01
SOMETIMES = 1.0

# Enough for Python to have settled on how to run each line.
REHEARSALS = 16

_OURS = (signal.SIGTERM, signal.SIGINT)

# Another name may stand there later: a program's, or ours.
_STANDARD = socketserver.ForkingMixIn


class ForkingMixIn(Lifecycle, _STANDARD):
    """The standard mix-in, without its waits; for any socketserver server.

    `max_children` is the stdlib's name for max_connections, and is obeyed where a
    program sets it.
    """

    # A process costs about twice what a thread does.
    max_connections = 500
    # The accept loop does it: a thread in the parent would be forked in mid-step.
    keeps_time = False

    def _permits(self) -> int:
        defines = next(cls for cls in type(self).__mro__ if "max_children" in vars(cls))
        if defines is not _STANDARD or "max_children" in vars(self):
            return self.max_children
        return self.max_connections

    def serve_forever(self, poll_interval: float = UNSAID) -> None:
        rehearse()
        # What is here now stays: to look at it again would only copy it.
        frozen = gc.get_freeze_count()
        gc.freeze()
        try:
            super().serve_forever(poll_interval)
        finally:
            if not frozen:
                gc.unfreeze()

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._connection_of(request, client_address)
        life = self._life
        if not life.begun:
            # Or the child would write what waits in this buffer a second time. Between
            # the forks of a batch runs nothing that could write.
            flush()
        life.forked = connection
        # run()'s signal handlers raise nothing here, and know a child when they are
        # in one. Other people's must neither come between a fork and its place in the
        # table, nor run in a child that has none of its own yet.
        foreign = not life.runs
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS) if foreign else None
        try:
            pid = os.fork()
            if pid == 0:
                self._converse_and_exit(connection, before)
            connection.pid = pid
            connection.away = True
            life.begun.append(connection)
        except OSError as error:
            self._starve("starting processes", error)
            self.shutdown_request(request)
        finally:
            if before is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not life.taken:
            self._settle()

    def _settle(self) -> None:
        """Enter among the children those of a batch, and let go of their sockets."""
        # Behind the last fork, and not behind each: what is written to between two
        # forks is copied once more.
        begun = self._life.begun
        while begun:
            connection = begun[-1]
            self._forked_children[connection.pid] = connection
            self._nap = NAP
            try:
                self.close_request(connection.request)
            except Exception:
                self.handle_error(connection.request, connection.client_address)
            # From here on it is the child's; only its end is waited for.
            connection.closing = False
            begun.pop()

    @property
    def active_children(self) -> set[int]:  # type: ignore[override]  # an attribute in socketserver
        """The processes that are still there."""
        begun = {connection.pid for connection in self._life.begun}
        return begun.union(self._forked_children)

    # Of a pipe that ends with this process, for its children.
    _lifeline = (-1, -1)

    def _new_watch(self) -> Watch:
        # With what wakes it, while there are descriptors; and a new one in each process.
        self._end_workers()
        with suppress(OSError):
            self._lifeline = os.pipe()
        return super()._new_watch()

    def _end_workers(self) -> None:
        lifeline, self._lifeline = self._lifeline, (-1, -1)
        for number in lifeline:
            if number >= 0:
                os.close(number)

    # How long the accept loop may sleep while there are children, and when it must
    # look at the deadlines.
    _nap = NAP
    _tend_at = 0.0
    _asked = 0.0

    @lazy
    def _forked_children(self) -> dict[int, Connection]:
        return {}

    # --------------------------------------------------------- in the child

    def _converse_and_exit(self, connection: Connection, before: set[Any] | None) -> NoReturn:
        status = 1
        try:
            if before is not None:
                for number in _OURS:
                    signal.signal(number, self._on_signal)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._hold_on()
            self._converse_in_child(connection)
            status = 0
        finally:
            # Also for what is no Exception, and whatever happens here: a child never
            # returns into the parent's code.
            try:
                flush()
                if self._life.rows.cells[WANTED]:
                    self._life.wake.set()
            finally:
                leave(status)

    def _hold_on(self) -> None:
        # Nobody ever writes into it: its end is the end of the parent.
        read, write = self._lifeline
        if read < 0:
            return
        os.close(write)
        be_told_of_end(read, signal.SIGTERM)
        if self._is_alone():
            os.kill(os.getpid(), signal.SIGTERM)

    def _is_alone(self) -> bool:
        return os.getppid() != self._life.pid

    def _converse_in_child(self, connection: Connection) -> None:
        self._close_in_child(connection)
        # Only the child has the socket, and only the socket can tell whether a
        # handler class is in the middle of something.
        if self.protocol is None:
            # The parent knows how old it is.
            self.total_timeout = 0.0
            if self._patience():
                self._look_at_itself(connection)
        try:
            self.finish_request(connection.request, connection.client_address)
        except Exception:
            self.handle_error(connection.request, connection.client_address)
            raise
        finally:
            # If that is all, its exit does it.
            if not self._ends_plainly:
                self.shutdown_request(connection.request)

    def _on_signal(self, number: int, frame: object) -> None:
        if os.getpid() == self._life.pid:
            super()._on_signal(number, frame)
        elif number == signal.SIGTERM:
            assert self._life.forked is not None  # set before the fork
            self._obey_order(self._life.forked)
        # SIGINT does nothing in a child: the terminal sends it to everybody, and only
        # the parent decides. (A handler and not SIG_IGN, which programs that are
        # started here would inherit.)

    def _obey_order(self, connection: Connection) -> None:
        order = self._life.rows.cells[connection.row + ORDER]
        if self._is_alone():
            self._end_alone(connection)
            return
        obey(connection, order or FINISH)
        if order == 0 or (order == FINISH and self.protocol is None):
            # Nobody else will notice when it has gone quiet: either it is a handler
            # class, or the signal did not come from the parent.
            self._life.draining = True
            self._look_at_itself(connection)

    def _on_alarm(self, *_: object) -> None:
        connection = self._life.forked
        assert connection is not None  # set before the fork
        if self._is_alone():
            self._end_alone(connection)
        else:
            self._look_at_itself(connection)

    def _end_alone(self, connection: Connection) -> None:
        # The parent was killed, and nobody keeps this one's deadlines any more. So it ends
        # as if that had been told to stop, with the same time for it.
        life, now = self._life, time.monotonic()
        if not life.deadline:
            life.draining, life.deadline = True, now + self.drain_timeout
            obey(connection, FINISH)
        silence, _, idle = self._look_at(connection, now)
        if now >= life.deadline + GRACE:
            leave(1)
        elif now >= life.deadline:
            self._order_itself(connection, CUT)
        elif idle and silence >= self.drain_quiet:
            self._order_itself(connection, DRAIN)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, LOOK)

    def _look_at_itself(self, connection: Connection) -> None:
        now = time.monotonic()
        patience = self._patience()
        if patience:
            self._notice_standstill(now, patience)
        silence, waiting, idle = self._look_at(connection, now)
        if self._life.draining:
            order, pause = DRAIN, self.drain_quiet - silence
            due = idle and pause <= 0
        else:
            order, pause = TIMEOUT, patience / LOOKS
            due = self._has_passed(connection, now, silence, waiting)
        if due:
            self._order_itself(connection, order)
        else:
            pause = max(pause, LOOK)
            self._life.look_due = now + pause
            signal.signal(signal.SIGALRM, self._on_alarm)
            signal.setitimer(signal.ITIMER_REAL, pause)

    def _order_itself(self, connection: Connection, order: int) -> None:
        # The one kind of order that is not the parent's, who knows nothing of it.
        if connection.ordered < order:
            self._life.rows.cells[connection.row + ORDER] = connection.ordered = order
            obey(connection, order)

    # -------------------------------------------------------- in the parent

    def _carry(self, connection: Connection, order: int) -> None:
        if connection.pid:
            kill(connection.pid, signal.SIGTERM)

    def _look_at(self, connection: Connection, now: float) -> tuple[float, bool, bool]:
        if connection.pid and self.protocol is None:
            return 0.0, False, False
        return super()._look_at(connection, now)

    def _hear(self, said: bytes) -> None:
        super()._hear(said)
        # A child that says goodbye is gone a moment later.
        self._nap = NAP

    def _between(self) -> float | None:
        # Only if the last of a batch was refused, or something came between.
        self._settle()
        if not self._forked_children:
            return None
        self.collect_children()
        # Who has reason to wait for a row asks to be woken by the child that gives
        # it back. Otherwise the dead are collected in passing: to wake for each of
        # them would cost a switch of processes for each connection.
        life = self._life
        life.rows.wanted = not life.rows.free or life.draining
        now = time.monotonic()
        if now >= self._tend_at:
            # Often, since the parent has no sockets to ask: what it has not seen
            # going quiet by the time of a stop, the stop must wait for.
            self._tend_at = now + min(self._tend() or SOMETIMES, SOMETIMES)
        self._nap = min(self._nap * 2, SOMETIMES)
        return min(self._nap, max(self._tend_at - now, 0.0))

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap our own children that have ended, and no others. Never blocks."""
        while self._forked_children:
            try:
                # Only a look: it may be somebody else's child.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                found = None
            if found is None or found.si_pid not in self._forked_children:
                # Nothing to see. But somebody else's may stand in front of ours; and
                # of a program that ignores SIGCHLD, or waits for every child there is,
                # the dead are gone already. So ask for each, now and then.
                urgent = found is not None or self._life.rows.wanted
                now = time.monotonic()
                if now >= self._asked + (LOOK if urgent else SOMETIMES):
                    self._asked = now
                    for pid in self.active_children:
                        if ended(pid) is not None:
                            self._bury(pid)
                return
            os.waitpid(found.si_pid, 0)
            self._bury(found.si_pid)

    def _bury(self, pid: int) -> None:
        self._release(self._forked_children.pop(pid))

    def _give_up(self) -> bool:
        for pid in self.active_children:
            kill(pid, signal.SIGKILL)
        self.collect_children()
        return time.monotonic() > self._life.deadline + 2 * GRACE


# The mix-in stands first: its process_request() is what this model replaces.
class ForkServer(ForkingMixIn, Server):
    """Serve each connection in a process of its own."""

    model = "fork"
    at_once = "max_connections"
    memory = "a copy"
    forks = True
    # After a fork each page that the parent writes to is copied, so the less it does
    # between two forks, the less they cost.
    batch = 16

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        # Made here, or each child would make its own.
        _ = self._only_parents, self._ends_plainly, self._is_straight, self._make_session
        super().serve_forever(poll_interval)

    def _batch(self) -> int:
        # Others may write to stdout between two forks, or wrap a socket into what the
        # other children cannot close.
        kind = type(self)
        ours = ForkingMixIn.process_request, Server.verify_request
        return super()._batch() if (kind.process_request, kind.verify_request) == ours else 1


def rehearse() -> None:
    """Hold a few conversations with ourselves, so that Python's caches know how they go.

    What they learn in a child is lost with it.
    """
    try:
        with ForkServer("127.0.0.1", EchoHandler, bind_and_activate=False) as server:
            for _ in range(REHEARSALS):
                _rehearse_once(server)
    except OSError:
        # Out of descriptors: then without.
        pass


def _rehearse_once(server: ForkServer) -> None:
    life = server._life
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"1, 2, 3")
        far.shutdown(socket.SHUT_WR)
        connection = life.open[id(near)] = Connection(near, "", life.rows.take(), None)
        server._converse_in_child(connection)
        server._give_back(connection)
    # In each child, Python's own modules go through sets of this kind.
    list(WeakSet((server,)))
