"""What the models with one thread for everybody share.

Conversations go on only while that thread serves: so a stop is followed by the drain
in serve_forever() itself, handle_request() serves until somebody has been served, and
a handler that is deaf keeps even the deadlines waiting.
"""

from __future__ import annotations

import time
from typing import Any

from .base import Server
from .descriptors import room_for_connections
from .tending import LOOK

__all__ = ["OneThreadServer"]


class OneThreadServer(Server):
    """A server whose conversations all run in the thread that serves."""

    at_once = "max_connections"
    runs_handler_classes = False
    only_while_serving = True
    unused_hooks = ("finish_request", "process_request_thread")
    # That thread looks at the deadlines itself.
    keeps_time = False
    batch = 128
    _parks_messages = True
    # As many as there are descriptors, and known when the server is made.
    max_connections = 0

    # How many had been served, and were open, when handle_request() began.
    _before: tuple[int, int] | None = None
    # When the keeper last sent its signal.
    _rung = 0.0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.max_connections = self.max_connections or room_for_connections()

    def _is_running(self) -> bool:
        """A thread is in the middle of somebody's turn. Must be replaced."""
        raise NotImplementedError

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        life = self._life
        try:
            super().serve_forever(poll_interval)
        finally:
            if life.closed:
                # A handler had this thread for so long that close() went on without it.
                self._see_them_out()
                life.watch.close()

    def handle_request(self) -> None:
        """Serve until one conversation has ended, or call handle_timeout()."""
        self._before = (self._life.served, len(self._life.open))
        try:
            super().handle_request()
        finally:
            self._before = None

    def _was_once(self, before: int) -> bool:
        return self._before is None or self._life.served > self._before[0]

    def _waits_for_one(self) -> bool:
        return self._before is None or len(self._life.open) <= self._before[1]

    def _has_room(self) -> bool:
        if self._before is not None and not self._waits_for_one():
            return False
        return bool(self._life.rows.free)

    def _accept_loop(self, *arguments: Any, **keywords: Any) -> bool:
        once = super()._accept_loop(*arguments, **keywords)
        if self._life.draining:
            # Whoever is still here ends now; later there might be no thread for it.
            self._listen_to([])
            super()._see_them_out()
        return once

    def _arrive(self, listener: Any) -> None:
        super()._arrive(listener)
        if self._life.runs and self._life.keeper is None:
            self._start_keeper()

    def _hear_of_signals(self) -> None:
        super()._hear_of_signals()
        # It was meant for the thread that serves, which has still to look up.
        self._life.wake.set()

    def _keep(self) -> float | None:
        # The loop keeps the deadlines, but for this one: nothing but a signal gets
        # the main thread out of a handler that is deaf.
        life = self._life
        if not life.draining:
            return None
        now = time.monotonic()
        left = max(life.deadline + LOOK, self._rung + 2 * LOOK) - now
        if left > 0:
            return left
        life.overdue, self._rung = True, now
        self._nudge()
        return 2 * LOOK

    def _on_signal(self, number: int, frame: Any) -> None:
        super()._on_signal(number, frame)
        if not self._life.cutting:
            return
        talks = {id(one.conversation): one for one in self._life.open.copy().values()}
        while frame is not None:
            connection = talks.get(id(frame.f_locals.get("self")))
            if connection is not None and connection.conversation is not None:
                self._interrupt(connection)
            frame = frame.f_back

    def _see_them_out(self) -> None:
        if self._is_running():
            self._give_up()
        else:
            super()._see_them_out()

    def _give_up(self) -> bool:
        if not self._is_running():
            # They were told a moment ago, and hear of it only now.
            self._between()
            self._life.watch.wait(LOOK)
        return not self._life.open or super()._give_up()
