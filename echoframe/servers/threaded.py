"""What thread and pool share: conversations that have threads of this process."""

from __future__ import annotations

import math
import socket
import socketserver
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, overload

from .kernel import quiet_for, unread
from .lazy import lazy
from .life import Connection
from .lifecycle import Lifecycle
from .turns import Turns, answers_requests, gives_way, here, reads_from_file

__all__ = ["STANDARD", "Threaded"]

# Another name may stand there later: a program's, or ours.
STANDARD = socketserver.ThreadingMixIn


class _HandlerClass:
    """What a program has given as such; but in a thread that holds turns, what takes them."""

    @overload
    def __get__(self, server: None, owner: type) -> _HandlerClass: ...

    @overload
    def __get__(self, server: Threaded, owner: type) -> Any: ...

    def __get__(self, server: Threaded | None, owner: type) -> Any:
        if server is None:
            return self
        try:
            kind = vars(server)["RequestHandlerClass"]
        except KeyError:
            # Of a class behind this one, if a program has it there.
            return getattr(super(Threaded, server), "RequestHandlerClass")  # noqa: B009
        turns: Turns | None = getattr(here, "turns", None)
        return kind if turns is None else turns.stand_in(kind)

    def __set__(self, server: Threaded, kind: Any) -> None:
        vars(server)["RequestHandlerClass"] = kind


class Threaded(Lifecycle, STANDARD):
    """A mix-in whose conversations run in threads."""

    RequestHandlerClass: Any = _HandlerClass()

    @lazy
    def _threads(self) -> Threads:
        """The stdlib's list, for programs that look at it. Models replace it."""
        return Threads(tuple)

    @lazy
    def _known_kinds(self) -> dict[Any, tuple[bool, bool, bool]]:
        return {}

    def _knows(self, kind: Any) -> tuple[bool, bool, bool]:
        """Tell whether handlers of a class answer requests, part in between, and read as ever."""
        try:
            found = self._known_kinds.get(kind)
        except TypeError:
            # It has no hash, and so is no class.
            return False, False, False
        if found is None:
            found = (answers_requests(kind), gives_way(kind), reads_from_file(kind))
            self._known_kinds[kind] = found
        return found

    def _turns_of(self, connection: Connection) -> Turns | None:
        """Give what knows of the requests of a connection, where its handler answers some."""
        kind = vars(self).get("RequestHandlerClass")
        # What only behaves like a socket need not know all that a turn asks it.
        if kind is None or not isinstance(connection.request, socket.socket):
            return None
        answers, parts, reads = self._knows(kind)
        if not answers:
            return None
        return Turns(
            lambda turns: self._begin_turns(connection, turns),
            connection,
            getattr(self, "keep_alive_timeout", 0.0),
            parts and self._parts_turns,
            reads,
        )

    # The thread may do something else while a handler waits for a request.
    _parts_turns = False

    @property
    def _leaves_handlers(self) -> bool:  # type: ignore[override]  # an attribute elsewhere
        return self.is_hosted and self._may_be_left

    @property
    def _may_be_left(self) -> bool:
        # Nobody expects that handlers are waited for.
        return self.daemon_threads or not self.block_on_close

    def _begin_turns(self, connection: Connection, turns: Turns) -> None:
        here.turns = turns
        try:
            self.finish_request(connection.request, connection.client_address)
        finally:
            here.turns = None

    def _hold_conversation(self, connection: Connection) -> None:
        """All of it, in this thread."""
        if not self._opens(connection):
            self.shutdown_request(connection.request)
            return
        turns: Any = connection.conversation or self._turns_of(connection)
        if turns is not None:
            turns.parts = False
            connection.conversation = turns
        here.turns = turns
        try:
            self.process_request_thread(connection.request, connection.client_address)
        finally:
            here.turns = None

    def _look_at(self, connection: Connection, now: float) -> tuple[float, bool, bool]:
        turns = connection.conversation
        if not isinstance(turns, Turns):
            return super()._look_at(connection, now)
        if not turns.is_idle():
            # In a request: it is for the limits alone to end it, if it waits for its peer.
            waited = now - turns.reads_since()
            quiet = quiet_for(connection.request) or 0.0
            return max(min(quiet, waited), 0.0), waited > 0, False
        # Nor their idle clients.
        at_once = self._life.draining and self._may_be_left
        silence = math.inf if at_once else now - turns.since
        return silence, True, not unread(connection.request)

    def _was_heard(self, connection: Connection) -> bool:
        turns = connection.conversation
        if isinstance(turns, Turns):
            return turns.was_heard()
        return super()._was_heard(connection)


class Threads:
    """What the stdlib has as a list: our threads, and those that a program starts its way."""

    def __init__(self, ours: Callable[[], Collection[threading.Thread]]) -> None:
        self._ours = ours
        self._others: list[threading.Thread] = []

    def append(self, thread: threading.Thread) -> None:
        # It is appended before it is started.
        self._others = [one for one in self._others if one.is_alive() or one.ident is None]
        self._others.append(thread)

    def __iter__(self) -> Iterator[threading.Thread]:
        return iter([*tuple(self._ours()), *(one for one in self._others if one.is_alive())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def join(self) -> None:
        """Nothing: close() waits for conversations, and not for ever."""
