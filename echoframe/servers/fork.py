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

import os
import signal
import socketserver
import sys
import time
from typing import Any, NoReturn

from .base import Server
from .lifecycle import GRACE, LOOK, Connection, Lifecycle, obey
from .rows import DRAIN, FINISH, ORDER, TIMEOUT
from .wake import STOP, WAKE

__all__ = ["ForkServer", "ForkingMixIn"]

# A child that has said goodbye is gone within microseconds; one that was killed
# said nothing, and is looked for each second.
SOON = 0.005
SOMETIMES = 1.0

_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class ForkingMixIn(Lifecycle, socketserver.ForkingMixIn):
    """The standard mix-in, without its waits; for any socketserver server.

    `max_children` is the stdlib's name for max_connections, and is obeyed where a
    program sets it.
    """

    # A process costs about twice what a thread does.
    max_connections = 500
    # The accept loop does it: a thread in the parent would be forked in mid-step.
    keeps_time = False

    def _permits(self) -> int:
        if self.max_children != socketserver.ForkingMixIn.max_children:
            return self.max_children
        return self.max_connections

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._hand_over(request)
        # Or the child would write what waits in these buffers a second time.
        _flush()
        # A signal for the child must not meet the parent's handlers in it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
        try:
            pid = os.fork()
            if pid == 0:
                self._converse_and_exit(connection, before)
        except OSError as error:
            self._take_back(connection)
            self._starve("starting processes", error)
            self.shutdown_request(request)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        connection.pid = pid
        self._children[connection.row] = connection
        self.close_request(request)
        # From here on it is the child's; only its end is waited for.
        connection.closing = False

    @property
    def active_children(self) -> set[int]:  # type: ignore[override]  # an attribute in socketserver
        """The processes that are still there."""
        return {child.pid for child in self._children.values() if child.pid}

    @property
    def _children(self) -> dict[int, Connection]:
        return self.__dict__.setdefault("_children_", {})  # type: ignore[no-any-return]  # made here

    def _watches_itself(self) -> bool:
        # Only the child has the socket, and only the socket can tell whether a
        # handler class is in the middle of something.
        return getattr(self, "protocol", None) is None

    # --------------------------------------------------------- in the child

    def _converse_and_exit(self, connection: Connection, before: set[Any]) -> NoReturn:
        status = 1
        try:
            signal.signal(signal.SIGTERM, lambda *_: self._obey_order(connection))
            signal.signal(signal.SIGALRM, lambda *_: self._look_at_itself(connection))
            # The terminal sends SIGINT to everybody, and only the parent decides.
            # A handler and not SIG_IGN, which programs that are started here would
            # inherit.
            signal.signal(signal.SIGINT, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._close_in_child(connection)
            if self._watches_itself() and self.idle_timeout:
                signal.setitimer(signal.ITIMER_REAL, self.idle_timeout)
            try:
                self.finish_request(connection.request, connection.client_address)
                status = 0
            except Exception:
                self.handle_error(connection.request, connection.client_address)
            finally:
                self.shutdown_request(connection.request)
        finally:
            # Also for what is no Exception: a child never returns into the parent's
            # code.
            _flush()
            self._life.wake.set(connection.row)
            os._exit(status)

    def _obey_order(self, connection: Connection) -> None:
        order = self._life.rows.cells[connection.row + ORDER]
        obey(connection, order or FINISH)
        if order == 0 or (order == FINISH and self._watches_itself()):
            # Nobody else will notice when it has gone quiet: either it is a handler
            # class, or the signal did not come from the parent.
            self._life.draining = True
            self._look_at_itself(connection)

    def _look_at_itself(self, connection: Connection) -> None:
        silence, waiting, idle = self._look_at(connection, time.monotonic())
        if self._life.draining:
            patience, order, due = self.drain_quiet, DRAIN, idle
        else:
            patience, order, due = self.idle_timeout, TIMEOUT, waiting
        if due and silence >= patience:
            # The one order that is not the parent's, who knows nothing of it.
            self._life.rows.cells[connection.row + ORDER] = connection.ordered = order
            obey(connection, order)
        else:
            signal.setitimer(signal.ITIMER_REAL, max(patience - silence, LOOK))

    # -------------------------------------------------------- in the parent

    def _carry(self, connection: Connection, order: int) -> None:
        if connection.pid:
            # It cannot be another process by now: its number is free only when we
            # have waited for it.
            os.kill(connection.pid, signal.SIGTERM)

    def _look_at(self, connection: Connection, now: float) -> tuple[float, bool, bool]:
        if connection.pid and self._watches_itself():
            return 0.0, False, False
        return super()._look_at(connection, now)

    def _hear(self, records: list[int]) -> None:
        super()._hear(records)
        self._leaving.update(record for record in records if record not in (STOP, WAKE))

    @property
    def _leaving(self) -> set[int]:
        """The rows whose processes have said goodbye."""
        return self.__dict__.setdefault("_leaving_", set())  # type: ignore[no-any-return]  # made here

    def _between(self) -> float | None:
        children = self._children
        if not children:
            return None
        now = time.monotonic()
        times = self.__dict__.setdefault("_times_", [0.0, 0.0])
        if now >= times[0]:
            times[0] = now + SOMETIMES
            self.collect_children()
        else:
            for row in tuple(self._leaving):
                self._reap(row)
        if now >= times[1]:
            times[1] = now + (self._tend() or SOMETIMES)
        return SOON if self._leaving else max(min(times) - now, 0.0)

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap our own children that have ended, and no others. Never blocks."""
        for row in tuple(self._children):
            self._reap(row)

    def _reap(self, row: int) -> None:
        connection = self._children.get(row)
        if connection is None:
            self._leaving.discard(row)
            return
        assert connection.pid  # set before it became a child
        try:
            if os.waitpid(connection.pid, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            # The program waits for all its children, or ignores SIGCHLD.
            pass
        del self._children[row]
        self._leaving.discard(row)
        self._release(connection)

    def _give_up(self) -> bool:
        for pid in self.active_children:
            os.kill(pid, signal.SIGKILL)
        self.collect_children()
        return time.monotonic() > self._life.deadline + 2 * GRACE


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # None, closed, or its disk is full: not for a server to die of.
            pass


# The mix-in stands first: its process_request() is what this model replaces.
class ForkServer(ForkingMixIn, Server):
    """Serve each connection in a process of its own."""

    model = "fork"
    at_once = "max_connections"
    memory = "a copy"
    forks = True
