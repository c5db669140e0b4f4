"""pool: a fixed number of threads behind a bounded queue.

    accept ─► queue ─► worker: step ─► parked until the peer speaks ─► queue …
    accept ─► queue ─► worker: step ─► done
    accept ─► …

At once       as many conversations as max_connections allows; as many steps as threads
Memory        shared: handlers see the same objects, so guard what changes
A slow peer   is parked and keeps no thread; a slow handler keeps one
Stopping      conversations get the drain time, then their sockets are shut
Replaces      process_request
"""

from __future__ import annotations

import os
import socket
import threading
import time
from socketserver import TCPServer
from typing import Any

from .base import Server
from .kernel import received, shut
from .lazy import lazy
from .life import Connection
from .rows import CUT, DRAIN, LINGERING, ORDER, TIMEOUT
from .settings import SETTINGS
from .steps import AGAIN, DONE, HOLD, READ, Goodbye, Handshake, Steps
from .tending import LOOK
from .threaded import STANDARD, Threaded, Threads
from .turns import Turns
from .watch import READABLE, WRITABLE
from .workers import Workers

__all__ = ["PoolMixIn", "PoolServer"]

# So long (seconds) the accept loop rests behind those whom it has let in. Each time it
# wakes it takes the interpreter from the workers, and gives it back; so whoever comes
# within a moment comes in together, which is worth a tenth of what short connections cost.
NAP = 0.0001
# How many connections are accepted before the first of their conversations begins.
BATCH = 64


class PoolMixIn(Threaded):
    """A fixed number of threads instead of one for each; for any socketserver server.

    A conversation of messages keeps no thread while it waits for its peer, and neither do
    http.server's handlers between two requests, if handle() and finish() are the stdlib's. Any
    other handler class keeps its thread from the first byte to the last, and so does whatever
    goes through a process_request_thread(), a shutdown_request() or a finish_request() that a
    program has replaced (if that does more than make a handler): it may hold things that belong
    to the thread. A handler of http.server's kind waits for its next request for
    keep_alive_timeout, and if it keeps a thread, only while nobody needs that.
    """

    threads: int = SETTINGS["threads"].default
    queue_size: int = SETTINGS["queue_size"].default
    keep_alive_timeout: float = SETTINGS["keep_alive_timeout"].default

    @property
    def parks_requests(self) -> bool:
        """Its handlers need no thread while they wait for a request: they are http.server's,
        and neither they nor the server have methods of their own around that.
        """
        kind = vars(self).get("RequestHandlerClass")
        return self._parts_turns and self._knows(kind)[1]

    def resize(self, threads: int) -> None:
        """Let there be so many threads from now on.

        Those that are too many end when they have nothing to do.

        Threads: may be called from any thread, and from a handler.
        Errors: SettingError for a number that cannot be.
        """
        self.threads = SETTINGS["threads"].check(threads)
        self._pool_threads.resize()

    def _arrive(self, listener: Any) -> None:
        try:
            # Before those are let in who could leave no descriptor for it.
            _ = self._pool_threads
        except OSError as error:
            self._starve("starting threads", error)
            return
        super()._arrive(listener)
        if self._life.batch > 1:
            time.sleep(NAP)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._connection_of(request, client_address)
        connection.polled = self._parks(connection)
        connection.keeps_worker = not connection.polled and not isinstance(request, tuple)
        try:
            workers = self._pool_threads
            # With nothing between the two where Ctrl-C could come.
            connection.away = True
            workers.ready.append(connection)
            workers.announce()
        except BaseException as error:
            expected = isinstance(error, OSError | RuntimeError | MemoryError)
            if connection.away and not workers.take_back(connection):
                # A worker has it, whatever came between.
                if expected:
                    return
                raise
            connection.away = False
            if not expected:
                raise
            self._starve("starting threads", error)
            self.shutdown_request(request)

    def _parks(self, connection: Connection) -> bool:
        if not isinstance(connection.request, socket.socket):
            return False
        if self._parks_messages:
            return True
        if self._shakes_first(connection):
            # A silent peer may park in its handshake, whatever becomes of it.
            return True
        # Who has not asked for anything yet needs no thread, whatever its handler does then.
        connection.conversation = self._turns_of(connection)
        return connection.conversation is not None

    def _shakes_first(self, connection: Connection) -> bool:
        if connection.shaken or not hasattr(connection.request, "do_handshake"):
            return False
        return isinstance(self, Server) or self._shakes_later

    @lazy
    def _parks_messages(self) -> bool:
        cls = type(self)
        ours = (
            cls.process_request_thread is STANDARD.process_request_thread
            and cls.finish_request is Server.finish_request
        )
        return ours and getattr(self, "protocol", None) is not None

    @lazy
    def _parts_turns(self) -> bool:
        cls = type(self)
        plain = (
            cls.process_request_thread is STANDARD.process_request_thread,
            cls.shutdown_request in (TCPServer.shutdown_request, Server.shutdown_request),
            cls.finish_request in (TCPServer.finish_request, Server.finish_request)
            or _only_makes_handlers(cls.finish_request),
        )
        return all(plain)

    @lazy
    def _threads(self) -> Threads:
        # Not made for being looked at, perhaps by a server that is closed.
        return Threads(lambda: self._pool_threads.crew if "_pool_threads" in vars(self) else ())

    @lazy
    def _pool_threads(self) -> Workers:
        life = self._life
        return Workers(self, self._step, life.wake.set, lambda: life.serving is not None)

    def _adopt(self) -> None:
        if self._life.pid != os.getpid():
            workers = vars(self).pop("_pool_threads", None)
            if workers is not None:
                # Its threads are another process's.
                workers.forget()
        super()._adopt()

    def _has_room(self) -> bool:
        # They are made when there is somebody to serve: making them takes descriptors.
        workers, coming = vars(self).get("_pool_threads"), len(self._life.taken)
        if not self._life.rows.free:
            return False
        return coming < self.queue_size if workers is None else workers.has_room(coming)

    def _rest(self) -> None:
        super()._rest()
        if "_pool_threads" in vars(self):
            self._pool_threads.rest()

    def _end_workers(self) -> None:
        if "_pool_threads" in vars(self):
            self._pool_threads.close({one.thread for one in self._life.open.copy().values()})

    def _batch(self) -> int:
        # On a server of the program's: whoever comes is only put into the queue.
        own = type(self).get_request is TCPServer.get_request
        return BATCH if own else super()._batch()

    def _between(self) -> float | None:
        pause = super()._between()
        workers = vars(self).get("_pool_threads")
        if workers is None or not (self._known_kinds and self._life.open) or workers.has_idle:
            return pause
        # Those who hold a thread may come to wait, and others to want it, at any moment.
        wanting = workers.wanting
        if wanting:
            self._call_idle_in(wanting)
        return LOOK if pause is None else min(pause, LOOK)

    def _call_idle_in(self, count: int) -> None:
        """End so many of those that keep a worker and wait for a request, or in one's head."""
        life, long_ago = self._life, time.monotonic() - self.drain_quiet
        with life.lock:
            idle = [
                (connection.conversation.since, connection.row, connection)
                for connection in life.open.values()
                if isinstance(connection.conversation, Turns)
                and connection.conversation.keeps_waiting(long_ago)
                and connection.ordered < DRAIN
            ]
            for _, _, connection in sorted(idle)[:count]:
                self._order(connection, DRAIN)

    # ------------------------------------------------------------- in a worker

    def _step(self, connection: Connection) -> None:
        connection.thread = threading.get_ident()
        if not connection.polled:
            self._hold(connection)
            return
        steps: Any = connection.conversation
        over = True
        try:
            if steps is None:
                steps = connection.conversation = self._first_steps(connection)
            while True:
                if connection.ordered > connection.obeyed:
                    connection.obeyed = connection.ordered
                    steps.obey()
                want = steps.step()
                if want is DONE:
                    break
                if want is AGAIN or want is HOLD:
                    over, connection.thread = False, None
                    if want is HOLD:
                        self._poll_no_more(connection)
                        connection.polled, connection.keeps_worker = False, True
                    self._pool_threads.put(connection)
                    break
                if self._park(connection, steps, want):
                    over = False
                    break
        except Exception:
            self.handle_error(connection.request, connection.client_address)
        finally:
            if over:
                self._finish_steps(connection)

    def _hold(self, connection: Connection) -> None:
        try:
            self._hold_conversation(connection)
        finally:
            if connection.polled:
                # All that is left is to say goodbye.
                self._step(connection)
            else:
                self._release(connection)

    def _first_steps(self, connection: Connection) -> Steps:
        server: Any = self
        connection.request.setblocking(False)
        if self._parks_messages:
            steps: Steps = server._conversation(connection.request, connection)
        else:
            steps = self._handshake(connection.request, connection)
        return steps

    def _park(self, connection: Connection, steps: Steps | Turns, want: str) -> bool:
        """Let it wait for its peer; False when it has to take another step now."""
        ends = connection.ordered >= DRAIN and want is READ
        if ends and not self._life.rows.cells[connection.row + LINGERING]:
            # It had not begun when it was ordered to end.
            return False
        deadline = steps.deadline
        if deadline is not None:
            alarm = connection.alarm
            if alarm is None or alarm.when > deadline:
                self._set_alarm(connection, deadline)
        events = READABLE if want is READ else WRITABLE
        if events != connection.events and not self._wait_for(connection, events):
            return False
        workers, number = self._pool_threads, connection.number
        connection.thread = None
        workers.parked[number] = connection
        # From here on it may be somebody else's. Looked at behind the parking: who gives
        # an order, rings, or finds it ready, finds it parked as well, or is found here.
        due = connection.ordered > connection.obeyed
        if deadline is not None and time.monotonic() >= deadline:
            due = True
        if due or number in workers.disarmed:
            return self._look_again(connection, due)
        return True

    def _wait_for(self, connection: Connection, events: int) -> bool:
        number, known = connection.number, connection.number >= 0
        if not known:
            number = connection.number = connection.request.fileno()
        try:
            self._pool_threads.wait_for(number, events, known)
        except (OSError, ValueError) as error:
            # The poller takes no more, or was closed long ago.
            self._starve("waiting for peers", error)
            connection.ordered = self._life.rows.cells[connection.row + ORDER] = CUT
            return False
        connection.events = events
        return True

    def _look_again(self, connection: Connection, due: bool) -> bool:
        workers, number = self._pool_threads, connection.number
        # Nobody closes what is parked without this lock.
        with self._life.lock:
            if workers.parked.get(number) is not connection:
                return True
            if not due:
                workers.wait_again(number, connection.events)
                return True
            mine = workers.parked.pop(number, None)
        if mine is not connection:
            return True
        connection.thread = threading.get_ident()
        return False

    def _finish_steps(self, connection: Connection) -> None:
        steps: Any = connection.conversation
        if steps is not None:
            steps.abandon()
        self._poll_no_more(connection)
        request = connection.request
        if isinstance(steps, Handshake) and steps.failure is None and connection.ordered < DRAIN:
            request.setblocking(True)
            connection.conversation, connection.shaken = None, True
            connection.greeted = received(request)
            connection.polled = self._parks(connection)
            connection.keeps_worker = not connection.polled
            self._pool_threads.put(connection)
            return
        if self._ends_plainly:
            connection.thread = None
            self._end(connection)
            return
        try:
            if isinstance(steps, Goodbye):
                self.close_request(request)
            else:
                self.shutdown_request(request)
        finally:
            connection.thread = None
            self._release(connection)

    def _poll_no_more(self, connection: Connection) -> None:
        if connection.number >= 0:
            self._pool_threads.wait_no_more(connection.number)
            connection.number, connection.events = -1, 0

    def _say_goodbye(self, request: Any, connection: Connection | None) -> bool:
        # Called by shutdown_request(), behind a handler class.
        server: Any = super()
        if connection is None or not connection.keeps_worker:
            return bool(server._say_goodbye(request, connection))
        goodbye = server._goodbye(request, connection)
        if goodbye is None:
            return True
        request.setblocking(False)
        connection.conversation = goodbye
        connection.polled, connection.keeps_worker = True, False
        return False

    # ------------------------------------------------------- deadlines and orders

    def _carry(self, connection: Connection, order: int) -> None:
        if not connection.polled or _is_in_a_head(connection):
            super()._carry(connection, order)
            return
        if order >= TIMEOUT:
            try:
                shut(connection.request, socket.SHUT_RDWR)
            except OSError:
                # It has gone already.
                pass
        # A worker that has it at this moment finds the order when it wants to park it.
        self._pool_threads.claim(connection.number, connection)

    def _ring(self, connection: Connection) -> None:
        self._pool_threads.claim(connection.number, connection)


def _is_in_a_head(connection: Connection) -> bool:
    turns = connection.conversation
    return isinstance(turns, Turns) and turns.reads_head


def _only_makes_handlers(hook: Any) -> bool:
    # With more arguments, say. If it calls the one behind it, or has a try or a with, it
    # does something around a conversation, and later requests would be outside.
    code = getattr(hook, "__code__", None)
    names = getattr(code, "co_names", ())
    return "RequestHandlerClass" in names and not getattr(code, "co_exceptiontable", True)


# The mix-in stands first: its process_request() is what this model replaces.
class PoolServer(PoolMixIn, Server):
    """Serve all connections with a fixed number of threads."""

    model = "pool"
    at_once = "max_connections"
    # As in thread: a handler that never returns must not keep the program from ending.
    daemon_threads = True
    # To wake a worker costs about what an accept does.
    batch = BATCH
