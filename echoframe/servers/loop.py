"""loop: one thread serves whoever is ready.

    wait for whoever is ready ─► one step of that conversation ─► wait

At once       as many conversations as max_connections allows
Memory        shared: handlers see the same objects, and one at a time
A slow peer   costs its buffers, and delays nobody
Stopping      conversations get the drain time, then their sockets are shut
Replaces      process_request
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .base import Server
from .conversation import DONE, WRITE, Conversation
from .life import Connection
from .watch import READABLE, WRITABLE

__all__ = ["LoopServer"]


class LoopServer(Server):
    """Serve everybody in one thread that never waits for anybody alone.

    A handler that waits, or computes, delays all the others.
    """

    model = "loop"
    at_once = "max_connections"
    runs_handler_classes = False
    keeps_time = False
    batch = 64
    _watches_many = True

    def process_request(self, request: Any, client_address: Any) -> None:
        if isinstance(request, tuple):
            super().process_request(request, client_address)
            return
        connection = self._connection_of(request, client_address)
        request.setblocking(False)
        connection.polled = connection.away = True
        conversation = connection.conversation = self._conversation(request, connection)
        turn = partial(self._turn, connection, conversation)
        self._life.watch.add(request.fileno(), turn)
        if conversation.speaks_first:
            turn()

    def _turn(self, connection: Connection, conversation: Conversation) -> None:
        try:
            want = conversation.step()
        except Exception:
            self.handle_error(connection.request, connection.client_address)
            want = DONE
        except BaseException:
            self._end(connection)
            raise
        if want is not conversation.wanted:
            self._want(connection, conversation, want)

    def _want(self, connection: Connection, conversation: Conversation, want: str) -> None:
        if want is DONE:
            self._end(connection)
            return
        conversation.wanted = want
        if conversation.deadline is not None:
            self._set_alarm(connection, conversation.deadline)
        self._life.watch.change(
            connection.request.fileno(), WRITABLE if want is WRITE else READABLE
        )

    def _end(self, connection: Connection) -> None:
        if connection.conversation is not None:
            connection.conversation.abandon()
        self._life.watch.remove(connection.request.fileno())
        self.shutdown_request(connection.request)
        self._release(connection)

    # ------------------------------------------------------------- deadlines

    def _between(self) -> float | None:
        pause = self._tend()
        ordered, self._ordered = self._ordered, []
        for connection in ordered:
            call = self._life.watch.calls.get(connection.request.fileno())
            if call is not None:
                call()
        return pause if not ordered else 0.0

    _ordered: list[Connection] = []  # noqa: RUF012  # replaced, never changed

    def _carry(self, connection: Connection, order: int) -> None:
        # Not here: the lock is held, and a step may end the conversation.
        if connection.conversation is not None:
            connection.conversation.obey()
            self._ring(connection)

    def _ring(self, connection: Connection) -> None:
        self._ordered = [*self._ordered, connection]
