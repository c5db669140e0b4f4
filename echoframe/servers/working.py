"""What a server is in a worker process: it accepts and converses, and does as it is told.

The copy that the supervisor forked has a Post. Everything here asks for it first, and
without one is what Lifecycle does. What the supervisor does stands in prefork.py.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import Any

from .crew import CUT, DRAIN, OURS, PAUSE, Post
from .hosting import own_loop
from .life import Connection, Report
from .lifecycle import UNSAID, Lifecycle, SecondSignal
from .settings import SETTINGS
from .wake import NUDGE, STOP

__all__ = ["SHUTDOWN", "Working"]

# What a worker, or a child of any process of ours, asks the supervisor for; see wake.py.
SHUTDOWN = b"d"


class Working(Lifecycle):
    """The worker's side of PreforkMixIn."""

    max_requests: int = SETTINGS["max_requests"].default
    max_requests_jitter: int = SETTINGS["max_requests_jitter"].default

    _signals = OURS

    # Set in workers.
    _post: Post | None = None
    # The class that a worker's copy of the server gets; None is the one it has.
    _inner: type[Any] | None = None
    _poll_interval = UNSAID
    # After so many connections, another worker may come.
    _enough = 0

    def _work(self, post: Post) -> None:
        self._post = post
        if self._inner is not None:
            self.__class__ = self._inner
        # Its own: rows, wake-up descriptor and counters.
        vars(self).pop("_life")
        life = self._life
        life.runs = True
        for number in self._taken():
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(life.wake.written_to, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, post.blocked)
        # What is here now stays: to look at it again would only copy it.
        gc.freeze()
        post.hold_on(self.drain_timeout)
        if self.max_requests:
            dice = int.from_bytes(os.urandom(8), "big")
            self._enough = self.max_requests + dice % (self.max_requests_jitter + 1)
        try:
            self._serve(post)
        except SecondSignal:
            pass
        # Not server_close(): what a program does there is for once.
        post.report(super()._close_once())

    def _serve(self, post: Post) -> None:
        if own_loop(type(self)) is not None:
            # Perhaps it accepts by itself, and we never hear of it.
            post.ready()
        super().serve_forever(self._poll_interval)

    @property
    def _runs_own_loop(self) -> bool:  # type: ignore[override]  # an attribute of all others
        # The supervisor has workers for that.
        return self._post is not None

    # ------------------------------------------------------------ what it is told

    def _woken(self) -> None:
        super()._woken()
        if self._post is not None:
            # Asks for signals, as every change of a mask does. Python 3.13 does not do so by
            # itself in what was forked by another thread than the main one. Behind the
            # clearing: what came before that is seen here, and what comes now wakes again.
            signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def _on_signal(self, number: int, frame: object) -> None:
        if self._post is None or number == NUDGE:
            super()._on_signal(number, frame)
            return
        self._life.handled += 1
        if number == signal.SIGTERM:
            self._obey(self._post, frame)
        # The others do nothing in a worker: a terminal sends them to everybody, and
        # only the supervisor decides. (A handler and not SIG_IGN, which programs that
        # are started here would inherit.)

    def _obey(self, post: Post, frame: object) -> None:
        life, order, deadline = self._life, post.order, post.deadline
        if order != post.obeyed and order < DRAIN:
            # The accept loop will see which.
            post.obeyed = order
            self._wake()
            return
        post.has_room(False)
        super()._stop()
        # For an accept loop of the stdlib's.
        self._BaseServer__shutdown_request = True
        if order >= DRAIN:
            life.deadline = deadline
        else:
            # From somebody else, and for this worker alone.
            post.full()
        if order == CUT or life.overdue:
            life.signalled = signal.SIGTERM
            super()._on_signal(signal.SIGTERM, frame)
        self._wake()

    # -------------------------------------------------------------- what it tells

    def stop(self) -> None:
        """Accept no more connections, in any worker, and let serve_forever() return.

        Otherwise as Lifecycle.stop().
        """
        self._stop()

    def _stop(self) -> None:
        if self._post is None or self._life.draining:
            super()._stop()
        else:
            self._post.ask(STOP)

    def shutdown(self) -> None:
        """Accept no more connections, in any worker; conversations go on."""
        if self._post is None:
            super().shutdown()
        else:
            self._post.ask(SHUTDOWN)

    def _close(self, drain: float | None) -> Report:
        if self._post is not None:
            # This worker only.
            super()._stop()
        return super()._close(drain)

    def _accept_loop(
        self,
        poll_interval: float | None = None,
        once: bool = False,
        deadline: float | None = None,
    ) -> bool:
        if self._post is not None:
            self._post.ready()
        return super()._accept_loop(poll_interval, once, deadline)

    def _has_room(self) -> bool:
        post = self._post
        if post is None:
            return super()._has_room()
        room = post.order != PAUSE and super()._has_room()
        if self.overload != "wait":
            post.has_room(room)
        return room

    def _is_full(self) -> bool:
        # Whoever comes to one listener for all is turned away if all are full.
        if not super()._is_full():
            return False
        post = None if getattr(self, "reuse_port", False) else self._post
        return post is None or not post.others_have_room()

    def _take(self, request: Any, client_address: Any) -> Connection:
        connection = super()._take(request, client_address)
        if self._post is not None:
            self._post.accepted()
        return connection

    def _released(self) -> None:
        super()._released()
        if self._post is not None:
            served = self._life.served
            self._post.served(served)
            if self._enough and served >= self._enough:
                self._post.full()
