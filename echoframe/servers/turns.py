"""http.server's handlers, one request at a time.

Such a handler spends most of its life waiting for the next request of a client that keeps
its connection. What stands here goes in front of a program's handler class, so that
whoever gives it a thread knows when it waits.

    parts   its handle() is the stdlib's: each call answers one request, and while the handler
            waits for the next one it has no thread at all
    stays   any other: the handler keeps its thread, and waits where it can be told to stop
"""

from __future__ import annotations

import functools
import select
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .kernel import unread
from .life import Connection
from .rows import DRAIN, ORDER, Cells
from .steps import AGAIN, DONE, READ

__all__ = ["Turns", "gives_way", "here", "in_turns"]

# Besides the stdlib's own: these do nothing else but to catch what it raises.
_PLAIN = {("werkzeug.serving", "WSGIRequestHandler.handle")}

# What a handler finds in the thread in which it is made.
here = threading.local()

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler as _Handler
else:
    _Handler = object


class Turns:
    """One connection whose handler answers requests. For whoever polls, its steps."""

    # One of http.server's, from its first request to its last.
    handler: Any = None
    # It is the peer's turn, and since when.
    waits = True
    # By when step() wants to be called, if nothing comes.
    deadline: float | None = None
    # Requests that were begun, for whoever looks at how conversations get on.
    received = 0
    sent = 0
    unfinished = 0

    def __init__(
        self,
        begin: Callable[[], object],
        connection: Connection,
        cells: Cells,
        patience: float,
        parts: bool,
    ) -> None:
        # Makes the handler, which answers the first request at once.
        self._begin = begin
        self._connection = connection
        self._request = connection.request
        self._cells = cells
        # Seconds to wait for a request, at most; 0 is for ever.
        self._patience = patience
        self.parts = parts
        self.since = time.monotonic()

    def step(self) -> str:
        """Answer a request, if one has come; then READ, AGAIN if there is another, or DONE.

        Errors: what the handler raised. It is over then.
        """
        handler = self.handler
        if not ((handler is not None and _holds_more(handler)) or _is_ready(self._request, 0)):
            if self._is_to_end():
                self._end()
                return DONE
            return READ
        self._come()
        try:
            if handler is None:
                self._begin()
            else:
                handler.handle()
        finally:
            # It has finished itself if it was made just now, and is over already.
            if handler is not None and not handler.goes_on:
                self._end()
        if self.handler is None:
            return DONE
        if self._order:
            # Told to, in between.
            self._end()
            return DONE
        self._wait()
        return AGAIN if _holds_more(self.handler) else READ

    def _is_to_end(self) -> bool:
        if self._order >= DRAIN:
            return True
        if self.deadline is None:
            self._wait()
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _end(self) -> None:
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.goes_on = False
            handler.finish()

    def abandon(self) -> None:
        """Nobody will call step() again."""
        self._end()

    def obey(self) -> None:
        """Hear of an order that stands in the row; it is looked at between two requests."""

    @property
    def _order(self) -> int:
        return self._cells[self._connection.row + ORDER]

    def _wait(self) -> None:
        now = time.monotonic()
        own = None if self.handler is None else self._request.gettimeout()
        limits = [limit for limit in (own, self._patience) if limit]
        self.deadline = now + min(limits) if limits else None
        self.since, self.waits = now, True

    def _come(self) -> None:
        self.waits, self.deadline = False, None
        self.received += 1

    def keeps_waiting(self, since: float) -> bool:
        """Tell whether it keeps a thread, and has waited for a request that long."""
        return not self.parts and self.waits and self.since <= since

    # ----------------------------------------------------------- for the handler

    def takes(self, handler: Any) -> bool:
        """Tell whether a handler has this very socket, as it was accepted."""
        return handler.request is self._request and handler.connection is self._request

    def wait_here(self, handler: Any) -> bool:
        """Wait in the handler's thread until a request comes; False when none will."""
        order = self._order
        if order and (self.received or order >= DRAIN):
            return False
        try:
            if not (self.received and _holds_more(handler)):
                self._wait()
                left = None if self.deadline is None else (self.deadline - self.since) * 1000
                if not _is_ready(self._request, left):
                    handler.log_error("Request timed out: %r", TimeoutError("timed out"))
                    return False
                if self._order >= DRAIN and not unread(self._request):
                    return False
        except (OSError, ValueError):
            # The handler has closed it; it will find that out as ever.
            pass
        self._come()
        return True

    def may_part(self, handler: Any) -> bool:
        """Tell whether the handler can wait for its next request without a thread."""
        headers = getattr(handler, "headers", None)
        upgrades = headers is not None and headers.get("Upgrade") is not None
        self.parts = (
            self.takes(handler)
            and self._request.fileno() >= 0
            and not (handler.rfile.closed or handler.wfile.closed)
            and hasattr(handler.rfile, "peek")
            # From here on the bytes are somebody else's protocol.
            and not (upgrades or handler.command == "CONNECT")
        )
        if self.parts:
            self.handler = handler
        else:
            # Nor will it later. Nobody polls for it: it waits in its thread.
            self._connection.polled = False
        return self.parts


class InTurns(_Handler):
    """What stands in front of a program's handler class."""

    _turns: Turns | None = None
    # handle() has returned, and is to be called again for the next request.
    goes_on = False

    def handle(self) -> None:
        turns = self._turns
        if turns is None:
            turns = getattr(here, "turns", None)
            if turns is None or not turns.takes(self):
                super().handle()
                return
            self._turns = turns
        self.goes_on = False
        super().handle()
        if self.goes_on:
            self.close_connection = False

    def handle_one_request(self) -> None:
        turns = self._turns
        if turns is None:
            super().handle_one_request()
            return
        if not turns.parts and not turns.wait_here(self):
            self.close_connection = True
            return
        super().handle_one_request()
        if turns.parts and not self.close_connection and turns.may_part(self):
            # That ends the loop in handle().
            self.goes_on = self.close_connection = True

    def finish(self) -> None:
        if not self.goes_on:
            super().finish()


def in_turns(kind: Any) -> Any:
    """Give a handler class that answers in turns, where it is one of http.server's; else itself."""
    if isinstance(kind, functools.partial):
        return functools.partial(in_turns(kind.func), *kind.args, **kind.keywords)
    if not _answers_requests(kind):
        return kind
    same = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (InTurns, kind), same)


def gives_way(kind: Any) -> bool:
    """Tell whether handlers of a class can do without a thread between two requests."""
    while isinstance(kind, functools.partial):
        kind = kind.func
    if not _answers_requests(kind):
        return False
    web = sys.modules["http.server"].BaseHTTPRequestHandler
    name = (kind.handle.__module__, kind.handle.__qualname__)
    plain = kind.handle is web.handle or name in _PLAIN
    return plain and kind.finish is socketserver.StreamRequestHandler.finish


def _holds_more(handler: Any) -> bool:
    """Tell whether something of the next request is here; also where no poller would see it."""
    sock, file = handler.connection, handler.rfile
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0)
        # What was read along with the last one, or else what the encryption or the kernel has.
        return bool(file.peek(1)) if hasattr(file, "peek") else bool(sock.pending())
    except (OSError, AttributeError, ValueError):
        # Nothing. Or it is broken or closed, which the next turn will find.
        return False
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(timeout)


def _is_ready(request: Any, patience: float | None) -> bool:
    watch = select.poll()
    watch.register(request, select.POLLIN)
    return bool(watch.poll(patience))


def _answers_requests(kind: Any) -> bool:
    # Whoever has a subclass of it has imported it.
    web = sys.modules.get("http.server")
    return (
        web is not None and isinstance(kind, type) and issubclass(kind, web.BaseHTTPRequestHandler)
    )
