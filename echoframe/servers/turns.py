"""http.server's handlers, one request at a time.

Such a handler spends most of its life waiting for the next request of a client that keeps
its connection. What stands here is put into the handler in the place of four of its
methods, so that whoever gives it a thread knows when it waits, and its client when it ends.

    parts   its handle() is the stdlib's: each call answers one request, and while the handler
            waits for the next one it has no thread at all
    stays   any other: the handler keeps its thread, and waits where it can be told to stop
"""

from __future__ import annotations

import functools
import math
import select
import socketserver
import threading
import time
from collections.abc import Callable
from io import BytesIO
from socket import SocketIO, socket
from typing import Any

from .kernel import hurry, quiet_for, received, unread
from .life import Connection
from .rows import DRAIN
from .standard import standard_classes
from .steps import AGAIN, DONE, HOLD, READ

__all__ = ["Turns", "answers_requests", "gives_way", "here", "reads_from_file"]

# Besides the stdlib's own: these do nothing else but to catch what it raises.
_PLAIN = {("werkzeug.serving", "WSGIRequestHandler.handle")}

# So long (seconds) the head of a request may stand still where others wait for a thread.
PATIENCE = 1.0

# No request has any of these headers.
_NOBODYS = object()

# What stands in a handler for its class's methods.
_HOOKS = ("handle", "handle_one_request", "end_headers", "finish")

# The turns for which a thread is about to make a handler.
here = threading.local()


class Turns:
    """One connection whose handler answers requests. For whoever polls, its steps."""

    # One of http.server's, from its first request to its last, and its class.
    handler: Any = None
    _kind: Any = None
    # It would answer one more, when that comes.
    goes_on = False
    # Those of the request before, while one is read by the stdlib's code.
    _old_headers: Any = _NOBODYS
    # Its rfile, and what is under that, if it is the stdlib's.
    _file: Any = None
    _input: _Input | None = None
    # What it writes leaves at once.
    _hurried = False
    # It is the peer's turn, and since when.
    waits = True
    # By when step() wants to be called, if nothing comes; and whether the handler says so.
    deadline: float | None = None
    _is_own = False
    # Requests that were begun, for whoever looks at how conversations get on.
    received = 0
    sent = 0
    unfinished = 0

    def __init__(
        self,
        begin: Callable[[Turns], object],
        connection: Connection,
        patience: float,
        parts: bool,
        reads_from_file: bool,
    ) -> None:
        # Makes the handler, which answers the first request at once.
        self._begin = begin
        self._connection = connection
        self._request = connection.request
        # Part of what is encrypted is nothing yet.
        self._encrypted = hasattr(connection.request, "pending")
        # Seconds to wait for a request, at most; 0 is for ever.
        self._patience = patience
        self.parts = parts
        self._reads_from_file = reads_from_file
        # The handler waits where it reads, which costs next to nothing. But OpenSSL answers an
        # end that it has read with an alert, and a drain shuts what is waited for there.
        self._waits_in_file = reads_from_file and not (patience or self._encrypted)
        # Whether somebody says when a request begins: the poller, or the handler. One that reads
        # it in a handle() of its own, as wsgiref's does, does not.
        self._tells = parts
        self.since = time.monotonic()

    def step(self) -> str:
        """Answer a request, if one has come; then READ, AGAIN if there is another, or DONE.

        HOLD, if the first has come and the handler will keep its thread.
        Errors: what the handler raised. It is over then.
        """
        handler, connection = self.handler, self._connection
        # Not only because something came: by an order, or by its deadline.
        called = (
            handler is None
            or self._encrypted
            or connection.ordered
            or (self.deadline is not None and time.monotonic() >= self.deadline)
        )
        if called and not self._has_come(handler):
            if self._is_to_end():
                self._end()
                return DONE
            return READ
        if not self.parts:
            return HOLD
        self.come()
        if handler is None:
            # Until it says so, it is not known to take turns; see _handle_one_request().
            connection.polled = False
            self._begin(self)
        else:
            try:
                self._handle()
            finally:
                if not self.goes_on:
                    self._end()
        if self.handler is None:
            return DONE
        if connection.ordered:
            # Told to, in between.
            self._end()
            return DONE
        self._wait()
        return AGAIN if self._holds_more(self.handler) else READ

    def _has_come(self, handler: Any) -> bool:
        """Tell whether something of the next request is here."""
        # The kernel is asked first: what it has stays there, for handlers that read from the
        # socket. But part of what is encrypted is nothing yet.
        if not self._encrypted:
            return self._kernel_has_more() or self._holds_more(handler)
        return self._holds_more(handler) or self._kernel_has_more()

    def _kernel_has_more(self) -> bool:
        if self._connection.ordered >= DRAIN:
            # We have shut it, perhaps, and then it is always ready.
            return unread(self._request) > 0
        return _is_ready(self._request, 0)

    def _is_to_end(self) -> bool:
        if self._connection.ordered >= DRAIN:
            return True
        if self.deadline is None:
            self._wait()
        if self.deadline is None or time.monotonic() < self.deadline:
            return False
        self._tell_of_timeout()
        return True

    def _tell_of_timeout(self) -> None:
        # As the stdlib's code does. But that somebody has not asked again is not the handler's
        # affair, if that is what we have said.
        if self.handler is not None and self._is_own:
            self.handler.log_error("Request timed out: %r", TimeoutError("timed out"))

    def _end(self) -> None:
        handler, self.goes_on = self.handler, False
        if handler is not None:
            self._let_go()
            handler.finish()

    def abandon(self) -> None:
        """Nobody will call step() again."""
        self._end()

    def obey(self) -> None:
        """Hear of an order. It is looked at between two requests."""

    def _wait(self) -> None:
        limit = self._patience
        own = 0.0 if self.handler is None else self._request.gettimeout() or 0.0
        self._is_own = own > 0 and not 0 < limit < own
        if self._is_own:
            limit = own
        self.since, self.waits = time.monotonic(), True
        self.deadline = self.since + limit if limit else None

    def come(self) -> None:
        self.waits, self.deadline = False, None
        self.received += 1

    def wait_in_file(self, now: float) -> None:
        """The handler is about to read the first of a request."""
        self.waits, self.since = True, now

    def reads_since(self) -> float:
        """Tell since when the handler waits for more of a request; infinity if it does not,
        and 0 if nobody knows.
        """
        # Its handler may let go of it meanwhile.
        raw = self._input
        return 0.0 if raw is None else raw.reads_since

    @property
    def was_cut_short(self) -> bool:
        """The peer has not ended its request: we do not hear the rest any more."""
        return self._connection.ordered >= DRAIN and not self.is_idle()

    def is_idle(self) -> bool:
        """Tell whether it is the peer's turn, to begin a request."""
        return self.waits and (self._tells or not self.was_heard())

    def was_heard(self) -> bool:
        """Tell whether the peer has ever begun a request."""
        if self._tells:
            return self.received > 0
        return received(self._request) > self._connection.greeted

    @property
    def reads_head(self) -> bool:
        """The head of a request has begun, and not ended."""
        if self.waits or self._old_headers is _NOBODYS:
            return False
        # It is the stdlib's parse_request() that ends it so.
        return getattr(self.handler, "headers", None) is self._old_headers

    def keeps_waiting(self, since: float) -> bool:
        """Tell whether it keeps a thread and waits: for a request that long, or in one's head."""
        if self.reads_head:
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
        if handler is None:
            # It has another socket, and was let go before it began.
            return
        self._file = self._input = None
        for name in _HOOKS:
            vars(handler).pop(name, None)

    def _handle(self) -> None:
        handler, self.goes_on = self.handler, False
        if not self._takes(handler):
            # It has another socket by now, about which nobody here can tell anything.
            self._let_go()
            handler.handle()
            return
        # One like wsgiref's never asks us for a request.
        self._know_file(getattr(handler, "rfile", None))
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
            # As at the end of what comes: a handle() of the program's own may look at either.
            handler.raw_requestline, handler.close_connection = b"", True
            return
        if self._reads_from_file:
            self._old_headers = getattr(handler, "headers", None)
        self._kind.handle_one_request(handler)
        if self.parts and not handler.close_connection and self._may_part(handler):
            # That ends the loop in handle().
            self.goes_on = handler.close_connection = True

    def _end_headers(self) -> None:
        handler = self.handler
        # A handle() of the program's own may never set it.
        if not getattr(handler, "close_connection", True):
            if not self._hurried:
                self._hurry()
            if self._connection.ordered and not _has_its_say(handler):
                # A client that knows sends its next request elsewhere, and does not lose it here.
                handler.send_header("Connection", "close")
        self._kind.end_headers(handler)

    def _hurry(self) -> None:
        # Only where the connection is kept. Its end sends what is left, in one piece with it.
        self._hurried = True
        hurry(self._request)

    def _finish(self) -> None:
        if not self.goes_on:
            self._kind.finish(self.handler)

    def _takes(self, handler: Any) -> bool:
        return handler.request is self._request and handler.connection is self._request

    def _wait_here(self, handler: Any) -> bool:
        """Wait in the handler's thread until a request comes; False when none will."""
        ordered = self._connection.ordered
        self._tells = True
        if self.received and not self._hurried:
            self._hurry()
        if ordered and (self.received or ordered >= DRAIN):
            return False
        try:
            # Who has put what it read in the place of its file finds the end of that, as ever;
            # and who has closed it, that.
            file = handler.rfile
            ended = isinstance(file, BytesIO) or getattr(file, "closed", False)
            if not (ended or self._holds_more(handler)):
                if self._waits_in_file and self._input is not None:
                    self._input.begins = True
                    return True
                self._wait()
                left = None if self.deadline is None else (self.deadline - self.since) * 1000
                if not _is_ready(self._request, left):
                    self._tell_of_timeout()
                    return False
                if self._connection.ordered >= DRAIN and not unread(self._request):
                    return False
        except (OSError, ValueError):
            # The handler has closed it; it will find that out as ever.
            pass
        self.come()
        return True

    def _know_file(self, file: Any) -> None:
        self._file, self._input = file, _input_under(file)
        if self._input is not None:
            self._input.turns = self

    def _holds_more(self, handler: Any) -> bool:
        """Tell whether something is here where no poller would see it."""
        if handler is None:
            return False
        file, request = handler.rfile, self._request
        if file is not self._file:
            self._know_file(file)
        raw = self._input
        if raw is None or handler.connection is not request:
            # Something of the program's.
            return _holds_or_gets_more(handler.connection, file)
        if raw is file:
            # With no buffer between.
            return bool(self._encrypted and request.pending())
        raw.asked = True
        try:
            return bool(file.peek(1) or (self._encrypted and request.pending()))
        except (OSError, ValueError):
            # It is broken or closed, which the next turn will find.
            return False
        finally:
            raw.asked = False

    def _may_part(self, handler: Any) -> bool:
        """Tell whether the handler can wait for its next request without a thread."""
        file, headers = handler.rfile, getattr(handler, "headers", None)
        if (
            self._takes(handler)
            and self._request.fileno() >= 0
            and not (file.closed or handler.wfile.closed)
            and (file is self._file or hasattr(file, "peek"))
            # From here on the bytes are somebody else's protocol.
            and (headers is None or headers.get("Upgrade") is None)
            and getattr(handler, "command", None) != "CONNECT"
        ):
            if not self._hurried:
                self._hurry()
            return True
        # Nor will it later. Nobody polls for it: it waits in its thread.
        self.parts = self._connection.polled = False
        return False


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
    if base is None or kind.handle_one_request is not base.handle_one_request:
        return False
    # One that parses by itself may never have headers, by which the end of a head is known.
    return bool(kind.parse_request is base.parse_request)


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


def _has_its_say(handler: Any) -> bool:
    """Tell whether nothing is to be added to a head about the connection."""
    lines = getattr(handler, "_headers_buffer", ())
    if lines and lines[0].partition(b" ")[2].startswith(b"1"):
        # What is said before the answer (100 Continue): that is still to come.
        return True
    return any(line.lower().startswith(b"connection:") for line in lines)


class _Input(SocketIO):
    """What is under a handler's rfile, which then can be asked what it has read already, and
    tells when somebody waits there, and when a request begins.
    """

    # The stdlib's; there is none when it is closed.
    _sock: socket | None
    _timeout_occurred: bool

    asked = False
    # Since when its handler has been waiting for the peer.
    reads_since = math.inf
    # What is read next is the first of a request.
    begins = False
    turns: Turns

    def readinto(self, buffer: Any) -> int | None:
        if self.asked:
            return None
        if self._timeout_occurred or self._sock is None:
            # It has something to say about that: of one with no buffer, nobody else has.
            return super().readinto(buffer)
        # What the stdlib's does, without asking first whether it is open and may be read.
        self.reads_since = now = time.monotonic()
        begins, self.begins = self.begins, False
        if begins:
            self.turns.wait_in_file(now)
        try:
            count = self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except TimeoutError:
            self._timeout_occurred = True
            raise
        finally:
            self.reads_since = math.inf
        if begins:
            self.turns.come()
        elif not count and self.turns.was_cut_short:
            # The end of what comes is none of the request's: half of one must not be carried out.
            raise TimeoutError("timed out")
        return count


def _input_under(file: Any) -> _Input | None:
    # Or itself, if it has no buffer.
    raw: Any = getattr(file, "raw", file)
    if type(raw) is SocketIO:
        # The stdlib's own, for each handler. In place, since its socket counts such files.
        raw.__class__ = _Input
    return raw if type(raw) is _Input else None


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
