"""loop: one thread serves whoever is ready.

    wait for whoever is ready ─► one step of each of them ─► wait …

At once       as many conversations as there are descriptors
Memory        shared: handlers see the same objects, and one at a time
A slow peer   delays nobody; a handler that waits delays everybody
Stopping      conversations get the drain time, then their sockets are shut
Replaces      process_request, and what waits for the listeners
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .conversation import Conversation
from .life import Connection
from .onethread import OneThreadServer
from .steps import DONE, WRITE
from .watch import READABLE, WRITABLE, Watch

__all__ = ["LoopServer"]


class LoopServer(OneThreadServer):
    """Serve everybody in one thread that never waits for anybody alone.

    A conversation goes on only while somebody is in serve_forever(), handle_request()
    or close(); so after stop(), serve_forever() returns when the drain is over.
    """

    model = "loop"

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._connection_of(request, client_address)
        if isinstance(request, tuple):
            self._converse(request, client_address, connection)
            return
        request.setblocking(False)
        conversation = self._conversation(request, connection)
        connection.conversation = conversation
        conversation.owner = connection
        watch = self._watch
        number = connection.number = request.fileno()
        # This may fail, and then nobody else gives the row back.
        watch.poll_for(number, conversation)
        connection.polled = connection.away = True
        if conversation.speaks_first:
            watch.step(number)

    def _new_watch(self) -> Watch:
        return _LoopWatch(self._news)

    @property
    def _watch(self) -> _LoopWatch:
        return self._life.watch  # type: ignore[return-value]  # made above

    def _news(self, conversation: Conversation, want: str, error: Exception | None) -> None:
        """A conversation waits for something else than before, or is over."""
        connection: Connection = conversation.owner
        request = connection.request
        if want is not DONE:
            conversation.wanted = want
            if conversation.deadline is not None:
                self._set_alarm(connection, conversation.deadline)
            self._watch.change(connection.number, WRITABLE if want is WRITE else READABLE)
            return
        try:
            if error is not None:
                self.handle_error(request, connection.client_address)
        finally:
            self._watch.forget(connection.number)
            if self._ends_plainly:
                self._end(connection)
            else:
                try:
                    self.shutdown_request(request)
                finally:
                    self._release(connection)

    # -------------------------------------------------------------- deadlines

    def _between(self) -> float | None:
        pause = self._tend()
        watch = self._watch
        while watch.ordered:
            connection = watch.ordered.pop()
            watch.step(connection.number)
            deadline = getattr(connection.conversation, "deadline", None)
            if deadline is not None:
                # Its alarm has rung, and it has got on.
                self._set_alarm(connection, deadline)
                pause = self._tend()
        return pause

    def _carry(self, connection: Connection, order: int) -> None:
        if connection.conversation is not None:
            connection.conversation.obey()
            self._ring(connection)

    def _ring(self, connection: Connection) -> None:
        # Not now: it may end at once, and whoever calls here holds the lock.
        self._watch.ordered.append(connection)

    def _in_a_handler(self) -> bool:
        return self._watch.thread == threading.get_ident()

    def _is_running(self) -> bool:
        return self._watch.thread is not None


class _LoopWatch(Watch):
    """A watch that takes the steps of conversations itself: one call less for each message."""

    def __init__(self, news: Callable[[Conversation, str, Exception | None], None]) -> None:
        super().__init__(many=True)
        self._news = news
        self._talks: dict[int, Conversation] = {}
        # Who has an order to carry out, or a deadline that has passed.
        self.ordered: list[Connection] = []
        # Nothing has happened but messages and their answers.
        self._calm = True
        # Whose turn it is, is decided in this thread.
        self.thread: int | None = None
        self._close_poller, self.close = self.close, self._close

    def _close(self) -> None:
        # A handler that close() did not wait for still has its thread, which sees the
        # others out when it returns, and closes this then.
        if self.thread in (None, threading.get_ident()):
            self._close_poller()
        else:
            self._calm = False

    def poll_for(self, number: int, conversation: Conversation) -> None:
        self._poller.register(number, READABLE)
        self._talks[number] = conversation

    def forget(self, number: int) -> None:
        # Closing alone might not do: a child of the program's may have the socket too.
        del self._talks[number]
        self._poller.unregister(number)

    def step(self, number: int) -> None:
        if number in self._talks:
            self._step_all([(number, READABLE)])

    def wait(self, pause: float | None) -> bool:
        until = None if pause is None else time.monotonic() + pause
        self._calm = True
        while True:
            ready = self._ready(pause)
            self._step_all(ready)
            # Who is answered and listens again changes nothing for the accept loop.
            if not (self._calm and ready):
                return bool(ready)
            if until is not None:
                pause = until - time.monotonic()
                if pause <= 0:
                    return True

    def _step_all(self, ready: list[tuple[int, int]]) -> None:
        before, self.thread = self.thread, threading.get_ident()
        try:
            self._step_each(ready)
        finally:
            self.thread = before

    def _step_each(self, ready: list[tuple[int, int]]) -> None:
        talks, calls = self._talks, self.calls
        for number, _ in ready:
            talk = talks.get(number)
            if talk is not None:
                try:
                    want = talk.stage()
                except BaseException as error:
                    self._failed(talk, error)
                else:
                    if want is not talk.wanted:
                        self._calm = False
                        self._news(talk, want, None)
            elif number in calls:
                self._calm = False
                calls[number]()

    def _failed(self, talk: Conversation, error: BaseException) -> None:
        # Called where the error is being handled, which handle_error() may rely on.
        self._calm = False
        if isinstance(error, OSError):
            try:
                want = talk.refused(error)
            except Exception as raised:
                talk.abandon()
                self._news(talk, DONE, raised)
            else:
                if want is not talk.wanted:
                    self._news(talk, want, None)
            return
        talk.abandon()
        if isinstance(error, Exception):
            self._news(talk, DONE, error)
        else:
            # What ends the program, or the handler that kept it from ending.
            self._news(talk, DONE, None)
            raise error
