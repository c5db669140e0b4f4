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

import logging
import os
import signal
import socketserver
import threading
import time
from typing import Any, ClassVar, NoReturn

from .apart import keep_apart
from .hosting import Hosting, own_loop
from .life import Connection, Report
from .rows import CUT, FINISH, ORDER
from .tending import LOOK, counted
from .wake import NUDGE, RELOAD, STOP

__all__ = ["GRACE", "UNSAID", "Lifecycle", "SecondSignal"]

logger = logging.getLogger("echoframe.server")

# What is cut gets so long to notice.
GRACE = 1.0
# The stdlib's, and no other 0.5: an object of its own.
UNSAID = float("0.5")


class SecondSignal(BaseException):
    """Ends a conversation that runs in the main thread, where a signal handler can."""


# What need not be called: the stdlib's do nothing, or what is done here anyway.
_NO_ACTIONS = (
    socketserver.BaseServer.service_actions,
    socketserver.ForkingMixIn.service_actions,
)


class Lifecycle(Hosting):
    """stop, drain, cut and limits for any socketserver server. Put it first.

    Callers:      serve_forever, stop, close, run, shutdown, server_close,
                  handle_request, report; also as a context manager
    Models:       replace process_request, and _carry and _between where the
                  conversation runs in another process
    Settings:     class attributes; see settings.py for units and reasons
    """

    # How the last close() went.
    report: Report | None = None
    # The second signal, if run() was ended by one.
    cut_by: int = 0

    # Those that run() takes.
    _signals: ClassVar[tuple[int, ...]] = (signal.SIGINT, signal.SIGTERM)

    # ------------------------------------------------------------ for callers

    def serve_forever(self, poll_interval: float = UNSAID) -> None:
        """Accept connections until stop() or shutdown(), then return.

        `poll_interval` matters only to a subclass that replaces
        service_actions(): it is called at least that often. Otherwise a server
        looks up once when it has become idle, and does not wake again.
        """
        keep_apart(self)
        own = own_loop(type(self)) if self._runs_own_loop else None
        if own is None:
            self._serve_forever(poll_interval)
        elif poll_interval is UNSAID:
            # It may have no such argument, or another default.
            own.serve_forever(self)
        else:
            own.serve_forever(self, poll_interval)

    # One that a program has behind the mix-in; it comes back if it calls the stdlib's.
    _runs_own_loop = True

    def _serve_forever(self, poll_interval: float) -> None:
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
            self._rest()

    def _serves(self) -> None:
        """From here on connections are accepted. May be extended, and called again."""

    def stop(self) -> None:
        """Accept no more connections and let serve_forever() return.

        Starts the drain; close() waits for it and cuts what is left. Before
        serving, it makes the next serve_forever() return at once.

        Threads: may be called from any thread, from a handler, from a signal
        handler, and from a forked child, where it stops the parent. Calling it
        again is harmless.
        """
        self._stop()

    # What happens here goes by names that no program has: its own stop() may well call
    # shutdown() and server_close().

    def _stop(self) -> None:
        # Nothing here may take a lock: a signal handler may have interrupted
        # whoever holds it.
        life = self._life
        if life.pid != os.getpid():
            life.wake.set(STOP)
            return
        if not life.draining:
            life.at_stop = list(life.open.values())
            life.stopped = time.monotonic()
            deadline = life.stopped + self.drain_timeout
            if not life.cutting:
                life.deadline = deadline
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
        return self._close_once(drain)

    def _close_once(self, drain: float | None = None) -> Report:
        life = self._life
        if life.pid != os.getpid():
            # A forked child has copies of the listeners, and nothing else of ours.
            self._close_listeners()
            return Report(0, 0, 0, (), 0.0)
        if self._in_a_handler():
            raise RuntimeError(
                "close() waits for all conversations, so a handler cannot call it; call stop()"
            )
        # Somebody else may be at it already: then this is to wait for them.
        with life.closer:
            if life.report is None:
                life.report = self._close_patiently(drain)
                if self.report is None:
                    # Unless the program means something else by it.
                    self.report = life.report
                if life.impatient:
                    raise KeyboardInterrupt
            return life.report

    def _close_patiently(self, drain: float | None) -> Report:
        try:
            return self._close(drain)
        except KeyboardInterrupt:
            # Whoever waits does so no longer: it is what a second signal to run() is.
            self._life.impatient = True
            return self._close(0)

    def _in_a_handler(self) -> bool:
        me = threading.get_ident()
        return any(connection.thread == me for connection in self._life.open.copy().values())

    def run(self) -> Report:
        """serve_forever() until SIGINT or SIGTERM, then close().

        The first signal stops and drains, a second one cuts. Where conversations run in
        the main thread it takes SIGURG too, unless the program has, to get that thread
        out of a call in which it has missed one of them.

        Errors: RuntimeError outside the main thread, where Python handles no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "run() handles signals, which only the main thread can; "
                "use serve_forever() and close()"
            )
        life = self._life
        self._adopt()
        before = {number: signal.signal(number, self._on_signal) for number in self._taken()}
        life.runs = True
        # The kernel may hand a signal to any thread. Python runs the handler in this
        # one, which may be asleep, so somebody must wake it.
        wakeup = signal.set_wakeup_fd(life.wake.written_to, warn_on_full_buffer=False)
        try:
            try:
                self.serve_forever()
            except SecondSignal:
                pass
            self.server_close()
            return self._close_once()
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
        keep_apart(self)
        life = self._life
        life.stop_requested = True
        self._wake()
        if life.serving not in (None, threading.get_ident()):
            life.ended.wait()

    def server_close(self) -> None:
        """The same as close(); on a server that was never used, its socket alone.

        Some programs do that to put another socket in its place. And where the program does
        not wait for its handlers (daemon_threads, or block_on_close is false), they have the
        drain time behind this: it returns when nobody can connect any more and nobody idle
        is left.
        """
        keep_apart(self)
        if "_life" not in vars(self):
            self._close_listeners()
        elif self._leaves_handlers:
            self._close_behind()
        else:
            self._close_once()

    # server_close() is not to wait for conversations.
    _leaves_handlers = False

    def _close_behind(self) -> None:
        life = self._life
        self._stop()
        closing = threading.Thread(target=self._close_once, name="echoframe-close", daemon=True)
        try:
            closing.start()
        except RuntimeError:
            # No threads any more: the interpreter is about to end, perhaps.
            self._close_once(0)
            return
        closing.join(LOOK)
        while closing.is_alive() and not (life.unlistened and self._is_left_to_finish()):
            closing.join(LOOK / 5)

    def _is_left_to_finish(self) -> bool:
        """Those that are still open have something to do, or are deaf."""
        life, late = self._life, time.monotonic() - self._life.stopped > self.drain_quiet + 4 * LOOK
        open_ones = life.open.copy().values()
        return bool(open_ones) and all(late or one.ordered == FINISH for one in open_ones)

    def handle_request(self) -> None:
        """Serve one connection, or call handle_timeout() after `timeout` seconds."""
        keep_apart(self)
        life = self._life
        if life.closed:
            return
        patience = self.socket.gettimeout() or None
        own: float | None = self.timeout
        if own is not None:
            patience = own if patience is None else min(own, patience)
        deadline = None if patience is None else time.monotonic() + patience
        if not life.taking_turns.acquire(timeout=-1 if patience is None else patience):
            self.handle_timeout()
            return
        try:
            self._handle_one(deadline)
        finally:
            life.taking_turns.release()

    def _handle_one(self, deadline: float | None) -> None:
        life = self._life
        self._adopt()
        # Whoever closes it meanwhile waits until the listener is looked at no more.
        life.handling = threading.get_ident()
        life.ended.clear()
        try:
            came = self._accept_loop(once=True, deadline=deadline)
        finally:
            life.handling = None
            life.ended.set()
        if not came and not life.stop_requested:
            self.handle_timeout()
        life.stop_requested = False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        # By the name that programs extend.
        self.server_close()

    # ---------------------------------------------------------------- closing

    def _close(self, drain: float | None) -> Report:
        life = self._life
        began = time.monotonic()
        self._stop()
        if drain is not None:
            life.deadline = began + drain
            self._wake()
        # On single the serving thread may be in a conversation; the keeper ends that.
        mine = threading.get_ident() in (life.serving, life.handling)
        while not mine and not life.ended.wait(LOOK):
            if time.monotonic() > life.deadline + GRACE:
                logger.warning("serve_forever() has not returned; going on without it")
                break
        self._listen_to([])
        if "_turnstile" in vars(self):
            self._turnstile.end(life.watch)
        self._stop_listening()
        life.unlistened = True
        self._see_them_out()
        self._close_listeners()
        return self._finish(began)

    def _see_them_out(self) -> None:
        life = self._life
        due, cutting = 0.0, False
        while life.open:
            if time.monotonic() >= due or cutting != life.cutting:
                # Not whenever one of them ends: this looks at all of them.
                due, cutting = time.monotonic() + LOOK, life.cutting
                self._tend()
            if life.cutting or time.monotonic() >= life.deadline:
                life.cutting = True
                if time.monotonic() >= life.deadline + GRACE and self._give_up():
                    break
            pause = self._between()
            if life.strays:
                self._look_for_strays()
            if life.open:
                life.watch.wait(LOOK if pause is None else min(pause, LOOK))

    def _give_up(self) -> bool:
        """What was cut does not end. Say so; True is "leave it behind"."""
        names = [self._name(connection) for connection in self._life.open.copy().values()]
        logger.warning(
            "%s not returned since being cut: %s",
            counted(len(names), "handler has", "handlers have"),
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
        life.closed = True
        # Before the wake-up descriptor, which somebody may still be waiting for.
        life.watch.close()
        if not life.runs:
            life.wake.close()
        who = [
            (self._name(connection), "cut" if _was_cut(connection) else "finished")
            for connection in life.at_stop
        ]
        cut = sum(how == "cut" for _, how in who)
        report = Report(life.served, len(who) - cut, cut, tuple(who), time.monotonic() - began)
        life.at_stop = []
        if not life.open:
            life.rows.close()
        return report

    def _taken(self) -> tuple[int, ...]:
        """The signals that run() takes. May be extended."""
        return self._signals

    def _on_signal(self, number: int, frame: object) -> None:
        life = self._life
        if number == NUDGE:
            # All others that had come were handled before this one.
            life.missed = 0.0
            if not life.overdue:
                return
        else:
            life.handled += 1
        if number == signal.SIGHUP:
            # Not here: whatever this has interrupted may hold what a log needs.
            life.wake.set(RELOAD)
            return
        if not life.signalled and not life.overdue:
            life.signalled = number
            self._stop()
            if life.missed and not life.cutting:
                # Whatever kept this thread, the time that a drain has began with the signal.
                life.deadline = min(life.deadline, life.missed + self.drain_timeout)
            return
        life.cutting = True
        if not life.overdue:
            self.cut_by = number
            # It may have come upon the first one, in the middle of this. But the keeper's
            # own signal must not wake the keeper, who would send the next one.
            self._stop()
        life.deadline = time.monotonic()
        me = threading.get_ident()
        for connection in life.open.copy().values():
            if connection.thread == me:
                self._interrupt(connection)

    def _interrupt(self, connection: Connection) -> NoReturn:
        # The conversation has this very thread, and may be deaf to its socket: whatever
        # it does ends here. If that does not end it, its order is still to come.
        connection.interrupted = True
        self._life.rows.cells[connection.row + ORDER] = CUT
        raise SecondSignal


def _was_cut(connection: Connection) -> bool:
    return connection.ordered == CUT or connection.interrupted
