"""stop, drain, cut, limits and the table of open connections: a mix-in.

Lifecycle has no __init__ and goes in front of any socketserver server. It owns
serve_forever() and with it shutdown(): whoever replaces one must replace both.

What it promises, whatever the model:
  * A connection that was accepted has a row and holds one of max_connections
    permits, and gives both back once, when its conversation is over.
  * stop() is noticed at once, and may be called from anywhere.
  * close() ends within the drain time: conversations finish what they are doing,
    idle ones end, and what is left at the deadline is cut.

What a model decides: where a conversation runs (process_request), who keeps the
deadlines (keeps_time), and how an order reaches a conversation (_carry).
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from .kernel import quiet_for
from .lazy import lazy
from .life import Connection, Keeper, Life, Report, obey
from .rows import (
    CUT,
    DRAIN,
    FINISH,
    LINGERING,
    ORDER,
    RECEIVED,
    SENT,
    SETTLED,
    TIMEOUT,
    UNFINISHED,
)
from .settings import with_settings
from .wake import STOP, Wake

__all__ = ["Lifecycle"]

logger = logging.getLogger("echoframe.server")

# Out of descriptors, memory or processes: so long until the next try.
REST = 0.1
# How often a drain looks at the rows.
LOOK = 0.05
# A stop that takes longer says what it waits for.
PATIENCE = 0.5
# What is cut gets so long to notice.
GRACE = 1.0

# What accept() says when this machine, or this listener, is at its end. Anything
# else is about the one connection.
_STARVED = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOTSOCK,
}


class _SecondSignal(BaseException):
    """Ends a conversation that runs in the main thread, where a signal handler can."""


# What need not be called: the stdlib's do nothing, or what is done here anyway.
_NO_ACTIONS = (
    socketserver.BaseServer.service_actions,
    socketserver.ForkingMixIn.service_actions,
)

# A mix-in has no base; the type checker may know what it will be mixed into.
if TYPE_CHECKING:
    from socketserver import BaseServer as _Base
else:
    _Base = object


@with_settings
class Lifecycle(_Base):
    """stop, drain, cut and limits for any socketserver server. Put it first.

    Callers:      serve_forever, stop, close, run, shutdown, server_close,
                  handle_request, report; also as a context manager
    Models:       replace process_request, and _carry and _between where the
                  conversation runs in another process
    Settings:     class attributes; see settings.py for units and reasons
    """

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

    # A thread of our own watches the deadlines, started with the first connection.
    # A model that must not have one does it in its accept loop.
    keeps_time: ClassVar[bool] = True

    # How the last close() went.
    report: Report | None = None
    # The second signal, if run() was ended by one.
    cut_by: int = 0

    # The server's that this is mixed into.
    socket: Any

    @lazy
    def _life(self) -> Life:
        return Life(self._permits)

    def _permits(self) -> int:
        return self.max_connections

    # ------------------------------------------------------------ for callers

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept connections until stop() or shutdown(), then return.

        `poll_interval` matters only to a subclass that replaces
        service_actions(): it is called at least that often. Otherwise an idle
        server does not wake at all.
        """
        life = self._life
        if life.closed:
            return
        self._adopt()
        life.serving = threading.get_ident()
        life.ended.clear()
        try:
            if not life.stop_requested:
                life.draining = False
                calls = type(self).service_actions not in _NO_ACTIONS
                self._accept_loop(poll_interval if calls else None)
        finally:
            life.stop_requested = False
            life.serving = None
            life.ended.set()

    def stop(self) -> None:
        """Accept no more connections and let serve_forever() return.

        Starts the drain; close() waits for it and cuts what is left. Before
        serving, it makes the next serve_forever() return at once.

        Threads: may be called from any thread, from a handler, from a signal
        handler, and from a forked child, where it stops the parent. Calling it
        again is harmless.
        """
        # Nothing here may take a lock: a signal handler may have interrupted
        # whoever holds it.
        life = self._life
        if life.pid != os.getpid():
            life.wake.set(STOP)
            return
        if not life.draining:
            life.at_stop = list(life.open.values())
            life.stopped = time.monotonic()
            life.deadline = life.stopped + self.drain_timeout
            life.draining = True
        life.stop_requested = True
        self._wake()

    def close(self, drain: float | None = None) -> Report:
        """Stop, drain, cut, wait, release: everything is over when this returns.

        `drain` is the time conversations get to finish, in seconds; None is
        drain_timeout, 0 cuts at once.

        Errors: RuntimeError when called from a handler, which would wait for
        itself; call stop() there.
        """
        life = self._life
        if life.pid != os.getpid():
            # A forked child has copies of the listeners, and nothing else of ours.
            self._close_listeners()
            return Report(0, 0, 0, (), 0.0)
        me = threading.get_ident()
        if any(connection.thread == me for connection in life.open.copy().values()):
            raise RuntimeError(
                "close() waits for all conversations, so a handler cannot call it; call stop()"
            )
        # Somebody else may be at it already: then this is to wait for them.
        with life.closer:
            if self.report is None:
                self.report = self._close(drain)
            return self.report

    def run(self) -> Report:
        """serve_forever() until SIGINT or SIGTERM, then close().

        The first signal stops and drains, a second one cuts.

        Errors: RuntimeError outside the main thread, where Python handles no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "run() handles signals, which only the main thread can; "
                "use serve_forever() and close()"
            )
        life = self._life
        self._adopt()
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        life.runs = True
        # The kernel may hand a signal to any thread. Python runs the handler in this
        # one, which may be asleep, so somebody must wake it.
        wakeup = signal.set_wakeup_fd(life.wake.written_to, warn_on_full_buffer=False)
        try:
            try:
                self.serve_forever()
            except _SecondSignal:
                pass
            self.server_close()
            return self.close()
        finally:
            life.runs = False
            signal.set_wakeup_fd(wakeup)
            if life.closed:
                life.wake.close()
            for number, handler in before.items():
                # None is a handler that was not made in Python; it cannot be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def shutdown(self) -> None:
        """Stop accepting and wait for serve_forever() to return; conversations go on.

        Returns at once when called from the serving thread, or when nobody serves.
        """
        life = self._life
        life.stop_requested = True
        self._wake()
        if life.serving not in (None, threading.get_ident()):
            life.ended.wait()

    def server_close(self) -> None:
        """The same as close()."""
        self.close()

    def handle_request(self) -> None:
        """Serve one connection, or call handle_timeout() after `timeout` seconds."""
        life = self._life
        if life.closed:
            return
        patience = self.socket.gettimeout() or None
        own: float | None = self.timeout
        if own is not None:
            patience = own if patience is None else min(own, patience)
        deadline = None if patience is None else time.monotonic() + patience
        self._adopt()
        if not self._accept_loop(once=True, deadline=deadline) and not life.stop_requested:
            self.handle_timeout()
        life.stop_requested = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        # By the name that programs extend.
        self.server_close()

    # ------------------------------------------------------------- accepting

    def _adopt(self) -> None:
        """This process serves, although another one may have made the server (a daemon's)."""
        life = self._life
        if life.pid != os.getpid():
            life.pid = os.getpid()
            # The other one has the same pipe, and may read from it.
            life.wake = Wake()

    def _listeners(self) -> list[Any]:
        return [self]

    def _stop_listening(self) -> None:
        # A datagram socket is also the way out for what is still being answered.
        if getattr(self, "socket_type", None) != socket.SOCK_DGRAM:
            self._close_listeners()

    def _close_listeners(self) -> None:
        super().server_close()

    def _close_in_child(self, connection: Connection) -> None:
        """Let go of what only the accepting process needs."""
        if not isinstance(connection.request, tuple):
            self.socket.close()

    def _accept_loop(
        self,
        poll_interval: float | None = None,
        once: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """Serve until stop is requested, or once, or until the deadline; True if it was once."""
        life = self._life
        free = life.rows.free
        watch = select.poll()
        watch.register(life.wake, select.POLLIN)
        woken = life.wake.fileno()
        watched: dict[int, Any] = {}
        batch = 1 if once else self._batch()
        while not life.stop_requested:
            pause = _sooner(self._between(), poll_interval)
            resting = 0.0
            if life.rest_until or deadline is not None:
                now = time.monotonic()
                resting = max(life.rest_until - now, 0.0)
                life.rest_until = life.rest_until if resting else 0.0
                pause = _sooner(pause, resting or None)
                if deadline is not None:
                    if now >= deadline:
                        return False
                    pause = _sooner(pause, deadline - now)
            # In the kernel's backlog a connection waits at nobody's cost, so there
            # it stays while there is no room for it.
            life.rows.wanted = not free
            # Asked anew each time, because a program may replace its socket.
            listeners = self._listeners() if free and not resting else []
            if [listener.fileno() for listener in listeners] != list(watched):
                for number in watched:
                    watch.unregister(number)
                watched = {listener.fileno(): listener for listener in listeners}
                for number in watched:
                    watch.register(number, select.POLLIN)
            for number, _ in watch.poll(None if pause is None else pause * 1000):
                if number == woken:
                    self._hear(life.wake.clear())
                elif free and not life.stop_requested:
                    life.ready = watched[number]
                    # All that are here first, then one after the other.
                    while len(life.taken) < batch and free and self._accept():
                        pass
                    try:
                        while life.taken:
                            self._begin(life.taken.pop(0))
                    finally:
                        self._let_all_go()
                    if once:
                        return True
            if poll_interval is not None:
                self.service_actions()
        return False

    def _let_all_go(self) -> None:
        # What was accepted and will never begin, since something has ended the loop.
        taken = self._life.taken
        while taken:
            connection = taken.pop()
            self.shutdown_request(connection.request)
            self._release(connection)

    def _batch(self) -> int:
        """How many connections to accept before the first of their conversations begins."""
        # A get_request() that is not ours may wait for what it takes.
        return 1

    def _handle_request_noblock(self) -> None:
        if self._accept():
            self._begin(self._life.taken.pop())

    # The stdlib's moments in the stdlib's order; what is ours is the row.

    def _accept(self) -> bool:
        try:
            request, client_address = self.get_request()
        except BlockingIOError:
            # Somebody else took it, or it went away.
            return False
        except OSError as error:
            if error.errno in _STARVED:
                self._starve("accepting", error)
            else:
                logger.debug("a connection was lost before it was accepted: %s", error)
            return False
        self._life.taken.append(self._take(request, client_address))
        return True

    def _begin(self, connection: Connection) -> None:
        request, client_address = connection.request, connection.client_address
        self._life.beginning = connection
        try:
            if self.verify_request(request, client_address):
                self.process_request(request, client_address)
            else:
                self.shutdown_request(request)
        except Exception:
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        except BaseException:
            if not connection.away:
                self.shutdown_request(request)
            raise
        finally:
            self._life.beginning = None
            if not connection.away:
                self._release(connection)

    def _take(self, request: Any, client_address: Any) -> Connection:
        life = self._life
        connection = Connection(request, client_address, life.rows.take(), life.ready)
        life.open[id(request)] = connection
        keeper = life.keeper
        if keeper is None:
            if self.keeps_time:
                self._start_keeper()
        elif keeper.asleep and self.idle_timeout:
            keeper.wake.set()
        if logger.isEnabledFor(logging.INFO):
            self._name(connection)
            self._log_accepted(connection)
        return connection

    def _start_keeper(self) -> None:
        keeper = None
        try:
            keeper = Keeper(self._tend)
            keeper.start()
        except (OSError, RuntimeError) as error:
            # No descriptor, no thread: the next connection tries again.
            if keeper is not None:
                keeper.wake.close()
            self._starve("watching deadlines", error)
        else:
            self._life.keeper = keeper

    def _connection_of(self, request: Any, client_address: Any) -> Connection:
        """The connection of a request that process_request() was given."""
        life = self._life
        connection = life.open.get(id(request))
        if connection is None:
            connection = life.beginning
            if connection is None:
                # A program that accepts by itself.
                return self._take(request, client_address)
            # A program that has wrapped its request.
            del life.open[id(connection.request)]
            connection.request = request
            life.open[id(request)] = connection
        return connection

    def _release(self, connection: Connection) -> None:
        """Give the row and the permit back; called once, by the frame that ran it."""
        life = self._life
        with life.lock:
            if life.open.get(id(connection.request)) is not connection:
                return
            del life.open[id(connection.request)]
            life.rows.give_back(connection.row)
            life.served += 1
        if life.rows.wanted or (life.draining and not life.open):
            life.wake.set()
        if logger.isEnabledFor(logging.INFO):
            self._log_closed(connection)

    def _starve(self, doing: str, error: BaseException) -> None:
        """The machine is at its end: say so at most once a second, rest, go on."""
        life = self._life
        now = time.monotonic()
        life.rest_until = now + REST
        if now - life.complained >= 1.0:
            life.complained = now
            logger.warning(
                "resting before %s: %s (%d connections are open)", doing, error, len(life.open)
            )

    def close_request(self, request: Any) -> None:
        """Release the connection's socket. May be extended; call super()."""
        self._let_go(request)
        super().close_request(request)

    def _let_go(self, request: Any) -> None:
        life = self._life
        with life.lock:
            connection = life.open.get(id(request))
            if connection is not None:
                connection.closing = True

    # -------------------------------------------------------- what a log says

    def _name(self, connection: Connection) -> str:
        if not connection.name:
            connection.name = self._peer_name(connection)
        return connection.name

    def _peer_name(self, connection: Connection) -> str:
        match connection.client_address:
            case (str(host), int(port), *_):
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            case other:
                return str(other)

    def _log_accepted(self, connection: Connection) -> None:
        logger.info("Accepted connection from %s", connection.name)

    def _log_closed(self, connection: Connection) -> None:
        logger.info("Connection to client closed")

    # ------------------------------------------------------------- deadlines

    def _between(self) -> float | None:
        """Between two looks at the listeners; may be extended.

        Gives the seconds until it wants to be called again, None for "whenever".
        """
        return None

    def _hear(self, said: bytes) -> None:
        """What came by the wake-up descriptor; may be extended."""
        if STOP in said:
            self.stop()

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
            connections = list(life.open.values())
            now = time.monotonic()
            cut = life.cutting or (life.draining and now >= life.deadline)
            for connection in connections:
                if connection.closing or connection.ordered >= (CUT if cut else TIMEOUT):
                    continue
                if cut:
                    self._order(connection, CUT)
                    continue
                silence, waiting, idle = self._look_at(connection, now)
                if life.draining and idle and silence >= self.drain_quiet:
                    if connection.ordered < DRAIN:
                        self._order(connection, DRAIN)
                elif life.draining and connection.ordered < FINISH:
                    # What is idle will be ended as soon as that is certain, and
                    # needs to be told only if it goes on talking after all.
                    if not idle or (connection.watched and silence == 0):
                        self._order(connection, FINISH)
                    connection.watched = True
                elif self.idle_timeout and waiting and silence >= self.idle_timeout:
                    self._order(connection, TIMEOUT)
        if not connections:
            return None
        if life.draining:
            if not life.told and life.stopped + PATIENCE < now < life.deadline - 1:
                life.told = True
                logger.info(
                    "Waiting up to %.0f s for %s; a second signal cuts",
                    life.deadline - now,
                    _counted(len(connections), "conversation"),
                )
            return LOOK
        # The rows are looked at now and then and no clock is read for a message,
        # so a connection may live an eighth longer than it should.
        return max(self.idle_timeout / 8, 0.01) if self.idle_timeout else None

    def _look_at(self, connection: Connection, now: float) -> tuple[float, bool, bool]:
        """For how long a connection has been silent, whether it waits for its peer, and
        whether nothing at all is left to do there."""
        if connection.conversation is None and connection.pid is None:
            # A handler class, or a conversation that has not begun. Where the kernel
            # does not say, its age stands for its silence, but only for a drain:
            # nobody is cut for being old.
            quiet = quiet_for(connection.request)
            if quiet is None:
                return now - connection.since, False, True
            return quiet, True, True
        cells, row = self._life.rows.cells, connection.row
        seen = (cells[row + RECEIVED], cells[row + SETTLED], cells[row + SENT])
        if seen != connection.seen:
            # Since the last look, which may be long ago; the kernel may know better.
            connection.seen = seen
            connection.since = now - (quiet_for(connection.request) or 0.0)
        waiting = seen[0] == seen[1] and not cells[row + LINGERING]
        return now - connection.since, waiting, waiting and not cells[row + UNFINISHED]

    def _order(self, connection: Connection, order: int) -> None:
        # The reason first, so that whoever finds the input ended can tell why.
        connection.ordered = order
        self._life.rows.cells[connection.row + ORDER] = order
        self._carry(connection, order)

    def _carry(self, connection: Connection, order: int) -> None:
        """Make a conversation notice its order. Called with the lock held."""
        obey(connection, order)
        main = threading.main_thread().ident
        if order == CUT and connection.thread == main and self._life.runs and main:
            # It may be deaf to its socket, and only a signal reaches the main thread.
            self._life.overdue = True
            signal.pthread_kill(main, signal.SIGTERM)

    # ---------------------------------------------------------------- closing

    def _close(self, drain: float | None) -> Report:
        life = self._life
        began = time.monotonic()
        self.stop()
        if drain is not None:
            life.deadline = began + drain
            self._wake()
        # On single the serving thread may be in a conversation; the keeper ends that.
        while not life.ended.wait(LOOK) and life.serving != threading.get_ident():
            if time.monotonic() > life.deadline + GRACE:
                logger.warning("serve_forever() has not returned; going on without it")
                break
        self._stop_listening()
        self._see_them_out()
        self._close_listeners()
        return self._finish(began)

    def _see_them_out(self) -> None:
        life = self._life
        watch = select.poll()
        watch.register(life.wake, select.POLLIN)
        while life.open:
            self._tend()
            if life.cutting or time.monotonic() >= life.deadline:
                life.cutting = True
                if time.monotonic() >= life.deadline + GRACE and self._give_up():
                    break
            pause = self._between()
            pause = LOOK if pause is None else min(pause, LOOK)
            if life.open and watch.poll(pause * 1000):
                self._hear(life.wake.clear())

    def _give_up(self) -> bool:
        """What was cut does not end. Say so; True is "leave it behind"."""
        names = [self._name(connection) for connection in self._life.open.copy().values()]
        logger.warning(
            "%s not returned since being cut: %s",
            _counted(len(names), "handler has", "handlers have"),
            ", ".join(names[:10]),
        )
        return True

    def _end_workers(self) -> None:
        """Nothing is left to do: let go of what was kept for more. May be extended."""

    def _finish(self, began: float) -> Report:
        life = self._life
        self._end_workers()
        keeper, life.keeper = life.keeper, None
        if keeper is not None:
            keeper.end()
        if not life.runs:
            life.wake.close()
        who = [
            (self._name(connection), "cut" if connection.ordered == CUT else "finished")
            for connection in life.at_stop
        ]
        cut = sum(how == "cut" for _, how in who)
        self.report = Report(life.served, len(who) - cut, cut, tuple(who), time.monotonic() - began)
        life.closed = True
        life.at_stop = []
        if not life.open:
            life.rows.close()
        return self.report

    def _on_signal(self, number: int, frame: object) -> None:
        life = self._life
        if not life.signalled and not life.overdue:
            life.signalled = number
            self.stop()
            return
        if not life.overdue:
            self.cut_by = number
        life.cutting = True
        life.deadline = time.monotonic()
        self._wake()
        me = threading.get_ident()
        for connection in life.open.copy().values():
            if connection.thread == me:
                # The conversation has this very thread, and may be deaf to its socket.
                connection.ordered = life.rows.cells[connection.row + ORDER] = CUT
                raise _SecondSignal


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or (other is not None and other < one):
        return other
    return one


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
