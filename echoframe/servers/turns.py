"""http.server's handlers, one request at a time.

Such a handler spends most of its life waiting for the next request of a client that keeps
its connection. What stands here is put into the handler in the place of five of its
methods, so that whoever gives it a thread knows when it waits, and its client when it ends.

    parts   its handle() is the stdlib's: each call answers one request, and while the handler
            waits for the next one it has no thread at all
    stays   any other: the handler keeps its thread, and waits where it can be told to stop
"""

from __future__ import annotations

import functools
import select
import socketserver
import threading
import time
from collections.abc import Callable
from socket import SocketIO
from typing import Any

from .kernel import quiet_for, received, unread
from .life import Connection
from .rows import DRAIN, ORDER, Cells
from .standard import standard_classes
from .steps import AGAIN, DONE, HOLD, READ

__all__ = ["Turns", "answers_requests", "gives_way", "here", "reads_from_file"]

# Besides the stdlib's own: these do nothing else but to catch what it raises.
_PLAIN = {("werkzeug.serving", "WSGIRequestHandler.handle")}

# So long (seconds) the head of a request may stand still where others wait for a thread.
PATIENCE = 1.0

# What stands in a handler for its class's methods.
_HOOKS = ("handle", "handle_one_request", "parse_request", "end_headers", "finish")

# The turns for which a thread is about to make a handler.
here = threading.local()


class Turns:
    """One connection whose handler answers requests. For whoever polls, its steps."""

    # One of http.server's, from its first request to its last, and its class.
    handler: Any = None
    _kind: Any = None
    # It would answer one more, when that comes.
    goes_on = False
    # The head of a request has begun, and not ended.
    reads_head = False
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
        begin: Callable[[Turns], object],
        connection: Connection,
        cells: Cells,
        patience: float,
        parts: bool,
        reads_from_file: bool,
    ) -> None:
        # Makes the handler, which answers the first request at once.
        self._begin = begin
        self._connection = connection
        self._request = connection.request
        self._cells = cells
        # Seconds to wait for a request, at most; 0 is for ever.
        self._patience = patience
        self.parts = parts
        self._reads_from_file = reads_from_file
        # Whether somebody says when a request begins: the poller, or the handler. One that reads
        # it in a handle() of its own, as wsgiref's does, does not.
        self._tells = parts
        self.since = time.monotonic()

    def step(self) -> str:
        """Answer a request, if one has come; then READ, AGAIN if there is another, or DONE.

        HOLD, if the first has come and the handler will keep its thread.
        Errors: what the handler raised. It is over then.
        """
        handler = self.handler
        if not (self._was_called_by_poller or self._has_come(handler)):
            if self._is_to_end():
                self._end()
                return DONE
            return READ
        if not self.parts:
            return HOLD
        self.come()
        if handler is None:
            # Until it says so, it is not known to take turns; see _handle_one_request().
            self._connection.polled = False
            self._begin(self)
        else:
            try:
                self._handle()
            finally:
                if not self.goes_on:
                    self._end()
        if self.handler is None:
            return DONE
        if self._order:
            # Told to, in between.
            self._end()
            return DONE
        self._wait()
        return AGAIN if _holds_more(self.handler) else READ

    @property
    def _was_called_by_poller(self) -> bool:
        # Or by an order, or by its deadline. And encrypted bytes may be no request yet.
        if self.handler is None or self._order or hasattr(self._request, "pending"):
            return False
        return self.deadline is None or time.monotonic() < self.deadline

    def _has_come(self, handler: Any) -> bool:
        """Tell whether something of the next request is here."""
        # The kernel is asked first: what it has stays there, for handlers that read from the
        # socket. But part of what is encrypted is nothing yet.
        if not hasattr(self._request, "pending"):
            return _is_ready(self._request, 0) or (handler is not None and _holds_more(handler))
        return (handler is not None and _holds_more(handler)) or _is_ready(self._request, 0)

    def _is_to_end(self) -> bool:
        if self._order >= DRAIN:
            return True
        if self.deadline is None:
            self._wait()
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _end(self) -> None:
        handler, self.goes_on = self.handler, False
        if handler is not None:
            self._let_go()
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

    def come(self) -> None:
        self.waits, self.deadline = False, None
        self.received += 1

    def is_idle(self) -> bool:
        """Tell whether it is the peer's turn, to begin a request."""
        return self.waits and (self._tells or not self.was_heard())

    def was_heard(self) -> bool:
        """Tell whether the peer has ever begun a request."""
        if self._tells:
            return self.received > 0
        return received(self._request) > self._connection.greeted

    def keeps_waiting(self, since: float) -> bool:
        """Tell whether it keeps a thread and waits: for a request that long, or in one's head."""
        if self.reads_head and not self.waits:
            return (quiet_for(self._request) or 0.0) >= PATIENCE
        return (
            not (self.parts or self._connection.polled) and self.since <= since and self.is_idle()
        )

    # ----------------------------------------------------------- for the handler

    def stand_in(self, kind: Any) -> Any:
        """Give what makes a handler of this class, which then takes its turns here."""
        if self._kind is not None:
            # It is the program that makes another one.
            return kind
        if isinstance(kind, functools.partial):
            return functools.partial(self.stand_in(kind.func), *kind.args, **kind.keywords)
        return _StandIn(kind, self._make)

    def _make(self, kind: Any, *given: Any, **named: Any) -> Any:
        self._kind = kind
        handler = kind.__new__(kind, *given, **named)
        if not isinstance(handler, kind):
            return handler
        self.handler = handler
        # Into the handler, and not in a class in front of its own, to which it may write.
        ours = (
            self._handle,
            self._handle_one_request,
            self._parse_request,
            self._end_headers,
            self._finish,
        )
        vars(handler).update(zip(_HOOKS, ours, strict=True))
        try:
            handler.__init__(*given, **named)
        finally:
            if not self.goes_on:
                self._let_go()
        return handler

    def _let_go(self) -> None:
        # It knows us by these, and we know it: a cycle for each connection.
        handler, self.handler = self.handler, None
        for name in _HOOKS:
            vars(handler).pop(name, None)

    def _handle(self) -> None:
        handler, self.goes_on = self.handler, False
        if not self._takes(handler):
            # It has another socket by now, about which nobody here can tell anything.
            self._let_go()
            handler.handle()
            return
        try:
            self._kind.handle(handler)
        except BaseException:
            self.goes_on = False
            raise
        if self.goes_on:
            handler.close_connection = False

    def _handle_one_request(self) -> None:
        handler = self.handler
        self._connection.polled = self.parts
        if not self.parts and not self._wait_here(handler):
            handler.close_connection = True
            return
        # To its end by parse_request(), where it is the stdlib's code that reads it.
        self.reads_head = self._reads_from_file
        self._kind.handle_one_request(handler)
        if self.parts and not handler.close_connection and self._may_part(handler):
            # That ends the loop in handle().
            self.goes_on = handler.close_connection = True

    def _parse_request(self) -> Any:
        try:
            return self._kind.parse_request(self.handler)
        finally:
            self.reads_head = False

    def _end_headers(self) -> None:
        handler = self.handler
        if self._order and not (handler.close_connection or _names_connection(handler)):
            # A client that knows sends its next request elsewhere, and does not lose it here.
            handler.send_header("Connection", "close")
        self._kind.end_headers(handler)

    def _finish(self) -> None:
        if not self.goes_on:
            self._kind.finish(self.handler)

    def _takes(self, handler: Any) -> bool:
        return handler.request is self._request and handler.connection is self._request

    def _wait_here(self, handler: Any) -> bool:
        """Wait in the handler's thread until a request comes; False when none will."""
        self._tells = True
        order = self._order
        if order and (self.received or order >= DRAIN):
            return False
        try:
            if not _holds_more(handler):
                self._wait()
                if self.deadline is None and self._reads_from_file and _will_tell(handler, self):
                    # It waits where it reads. That costs nothing.
                    return True
                left = None if self.deadline is None else (self.deadline - self.since) * 1000
                if not _is_ready(self._request, left):
                    handler.log_error("Request timed out: %r", TimeoutError("timed out"))
                    return False
                if self._order >= DRAIN and not unread(self._request):
                    return False
        except (OSError, ValueError):
            # The handler has closed it; it will find that out as ever.
            pass
        self.come()
        return True

    def _may_part(self, handler: Any) -> bool:
        """Tell whether the handler can wait for its next request without a thread."""
        headers = getattr(handler, "headers", None)
        upgrades = headers is not None and headers.get("Upgrade") is not None
        self.parts = (
            self._takes(handler)
            and self._request.fileno() >= 0
            and not (handler.rfile.closed or handler.wfile.closed)
            and hasattr(handler.rfile, "peek")
            # From here on the bytes are somebody else's protocol.
            and not (upgrades or getattr(handler, "command", None) == "CONNECT")
        )
        if not self.parts:
            # Nor will it later. Nobody polls for it: it waits in its thread.
            self._connection.polled = False
        return self.parts


class _StandIn:
    """A handler class to whoever looks at it; and who calls it has a handler made for turns."""

    def __init__(self, kind: type[Any], make: Callable[..., Any]) -> None:
        vars(self).update(_kind=kind, _make=make, __bases__=(kind,))

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._make(self._kind, *given, **named)

    @property  # type: ignore[misc]  # a class, for isinstance()
    def __class__(self) -> Any:
        return type(self._kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._kind, name, value)

    def __eq__(self, other: object) -> bool:
        return bool(self._kind == other)

    def __hash__(self) -> int:
        return hash(self._kind)

    def __repr__(self) -> str:
        return repr(self._kind)


def answers_requests(kind: Any) -> bool:
    """Tell whether a class is one of http.server's handlers."""
    return _base_of(_class_of(kind)) is not None


def gives_way(kind: Any) -> bool:
    """Tell whether handlers of a class can do without a thread between two requests."""
    kind = _class_of(kind)
    base = _base_of(kind)
    if base is None:
        return False
    name = (kind.handle.__module__, kind.handle.__qualname__)
    plain = kind.handle is base.handle or name in _PLAIN
    return plain and kind.finish is socketserver.StreamRequestHandler.finish


def reads_from_file(kind: Any) -> bool:
    """Tell whether the requests of such handlers are read by the stdlib's code, from an rfile."""
    kind = _class_of(kind)
    base = _base_of(kind)
    return base is not None and kind.handle_one_request is base.handle_one_request


def _base_of(kind: Any) -> Any:
    # Not where something of the program's makes the handlers.
    if not isinstance(kind, type) or type(kind).__call__ is not type.__call__:
        return None
    known = standard_classes("http.server", "BaseHTTPRequestHandler")
    return next((base for base in known if issubclass(kind, base)), None)


def _class_of(kind: Any) -> Any:
    while isinstance(kind, functools.partial):
        kind = kind.func
    return kind


def _names_connection(handler: Any) -> bool:
    lines = getattr(handler, "_headers_buffer", ())
    return any(line.lower().startswith(b"connection:") for line in lines)


class _Input(SocketIO):
    """What is under a handler's rfile, which then can be asked what it has read already, and
    tells when a request begins.
    """

    asked = False
    turns: Turns | None = None

    def readinto(self, buffer: Any) -> int | None:
        if self.asked:
            return None
        count = super().readinto(buffer)
        if self.turns is not None:
            self.turns.come()
            self.turns = None
        return count


def _will_tell(handler: Any, turns: Turns) -> bool:
    raw: Any = getattr(handler.rfile, "raw", None)
    if type(raw) is not _Input:
        return False
    raw.turns = turns
    return True


def _holds_more(handler: Any) -> bool:
    """Tell whether something is here where no poller would see it."""
    sock, file = handler.connection, handler.rfile
    raw: Any = getattr(file, "raw", None)
    kind: type = type(raw)
    if kind is SocketIO:
        # The stdlib's own, for each handler. In place, since its socket counts such files.
        raw.__class__ = _Input
    elif kind is not _Input:
        # Something of the program's.
        return _holds_or_gets_more(sock, file)
    raw.asked = True
    try:
        return bool(file.peek(1)) or bool(hasattr(sock, "pending") and sock.pending())
    except (OSError, ValueError):
        # It is broken or closed, which the next turn will find.
        return False
    finally:
        raw.asked = False


def _holds_or_gets_more(sock: Any, file: Any) -> bool:
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
