"""One conversation without its socket: bytes in, bytes out, and whether to hang up.

Rule 1: nothing here knows about sockets, threads or time.
Rule 2: answers come in the order of the messages, and none is begun while more
        than write_buffer bytes of earlier ones wait to be sent.
Rule 3: an error never loses the answers before it. It is kept in `failure` and
        the session closes; whoever drives the session sends what is left and
        then deals with it.

How to drive one, whatever the model:

    out = session.open()
    loop:
        send out, all of it
        if session.busy:
            if session.pending:   out = session.more(); continue
            else:                 break, since session.closing
        read
        out = session.feed(data), or session.end() at the end of input
    session.close(reason)

A handler that answers asynchronously needs an AwaitingSession, which says what
there is to await; nothing here awaits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .errors import ProtocolError
from .framing import CHUNK, Framing, RawFraming
from .handlers.base import Answer, Handler, is_asynchronous, replies

__all__ = ["WRITE_BUFFER", "AwaitingSession", "Session", "takes_chunks"]

# What may wait to be sent before the next message is answered: enough for a full
# socket buffer to be refilled in one go, and all that a peer who never reads costs.
WRITE_BUFFER = 256 * 1024


class Session:
    """A framing and a handler, talking to one peer.

    `trace`, if given, is called with each message before it is answered. `on_message`
    answers instead of the handler's.

    feed(data) takes what arrived and gives what to send.

    `straight` is there when nothing stands between what arrives and the handler: a
    chunk is a message, and a reply that is bytes goes out as it is. It is decided once
    for each session, and feed() goes that way then. Whoever asks the handler without
    feed() hands an answer of any other kind to answered(), and what is raised to failed().
    """

    # How a session begins. On the class, because most never change it, and a
    # server that sees ten thousand connections a second makes as many sessions.

    # Nothing more will be said: hang up once everything is sent.
    closing = False
    # There is more to say than was given out: call more() once that is sent.
    pending = False
    # What the handler raised, or the peer's ProtocolError.
    failure: Exception | None = None
    # Why the session ends, for on_close(); None while it goes on.
    reason: str | None = None
    draining = False
    _ended = False
    _source: Iterator[tuple[bytes | None, bool]] | None = None
    # How an answer is understood.
    _replies = staticmethod(replies)

    def __init__(
        self,
        handler: Handler,
        framing: Framing,
        *,
        write_buffer: int = WRITE_BUFFER,
        trace: Callable[[bytes], None] | None = None,
        on_message: Callable[[bytes], Answer] | None = None,
    ) -> None:
        self.handler = handler
        self.framing = framing
        # Reading is not what comes next: pending or closing. One thing to look at
        # for each message, and on the instance, where Python finds it fastest.
        self.busy = False
        self._bound = write_buffer
        if on_message is None:
            on_message = handler.on_message
        if trace is not None:
            on_message = _traced(on_message, trace)
        self._on_message = on_message
        self.straight: Callable[[bytes], Answer] | None = (
            on_message if takes_chunks(framing) else None
        )

    # ------------------------------------------------------------- the ways in

    def open(self) -> bytes:
        """Begin: give the handler's greeting, or nothing."""
        if type(self.handler).on_open is Handler.on_open:
            return b""
        try:
            self._source = self._replies(self.handler.on_open())
        except Exception as error:
            return self.failed(error)
        return self.more()

    def answered(self, answer: Answer) -> bytes:
        """Give what to send for an answer that a straight call has given."""
        self._source = self._replies(answer)
        return self.more()

    def failed(self, error: Exception) -> bytes:
        """The handler has raised this: the session ends."""
        self.failure = error
        self._hang_up("error")
        return b""

    def feed(self, data: bytes) -> bytes:
        """Take what arrived and give what to send."""
        if self.closing:
            # Whatever still arrives is not answered.
            if self._on_message is _closed:
                raise RuntimeError("this session is closed")
            return b""
        straight = self.straight
        if straight is not None and not self.busy and len(data) <= CHUNK:
            try:
                answer = straight(data)
            except Exception as error:
                return self.failed(error)
            return answer if answer.__class__ is bytes else self.answered(answer)
        self.framing.feed(data)
        if self.pending:
            return b""
        return self.more()

    def end(self, reason: str = "peer") -> bytes:
        """No more input will come. Give what is still to be sent.

        `peer` is the peer's own end of input: an unfinished message is answered
        where the framing allows it. For any other reason it is dropped; half a
        message must never be carried out.
        """
        if reason == "peer":
            self._ended = True
            if self.pending:
                return b""
            if self.framing.unfinished:
                return self.more()
        self._hang_up(reason)
        return b""

    def drain(self) -> None:
        """End as soon as every complete message that has arrived is answered.

        A conversation without boundaries between messages goes on; whoever drives
        it ends it when it has been quiet. May be called while feed() runs.
        """
        self.draining = True

    # ------------------------------------------------------------ the way out

    def more(self) -> bytes:
        """Give the next piece of what there is to say.

        At most write_buffer bytes and the reply that passes it; `pending` says
        whether there is more.
        """
        out: list[bytes] = []
        size = 0
        self.pending = False
        # Somebody may ask once more behind the end.
        self.busy = self.closing
        try:
            while size < self._bound:
                piece = self._next_piece()
                if piece is None:
                    return b"".join(out) if len(out) != 1 else out[0]
                out.append(piece)
                size += len(piece)
            self.busy = True
            self.pending = not self.closing
        except Exception as error:
            self.failed(error)
        return b"".join(out) if len(out) != 1 else out[0]

    def _next_piece(self) -> bytes | None:
        # The next wrapped reply, or None when it takes more input to have one.
        while not self.closing:
            source = self._source
            if source is None:
                message = self._next_message()
                if message is None:
                    return None
                answer = self._on_message(message)
                if answer.__class__ is bytes:
                    return self.framing.wrap(answer)
                self._source = source = self._replies(answer)
            for data, close in source:
                if close:
                    self._hang_up("reply")
                if data is not None:
                    return self.framing.wrap(data)
            self._source = None
        return None

    def _next_message(self) -> bytes | None:
        framing = self.framing
        try:
            message = framing.next()
            if message is None and self._ended:
                message = framing.end()
                if message is None:
                    self._hang_up("peer")
        except ProtocolError as error:
            # Nobody's mistake here, so nobody needs to see the way it came; and that
            # leads through this session, a cycle for each peer that breaks the rules.
            error.__traceback__ = None
            self.failure = error
            self._hang_up("protocol")
            return None
        ends = self.draining and message is None and framing.has_boundaries
        if ends and not framing.unfinished:
            self._hang_up("drain")
        return message

    # ----------------------------------------------------------------- the end

    def _hang_up(self, reason: str) -> None:
        self.busy = self.closing = True
        self.pending = False
        if self.reason is None:
            self.reason = reason

    def close(self, reason: str) -> None:
        """The conversation is over: tell the handler. Harmless when repeated.

        `reason` counts only if the session has not found one itself. What on_close()
        raises is kept in `failure`, unless something else went wrong before.
        """
        if self._on_message is _closed:
            return
        # What a handler holds on to may lead back here: without it this is freed at
        # once, and the garbage collector has nothing to look for.
        self._on_message = self.straight = _closed
        self.busy = self.closing = True
        self.pending = False
        if self.reason is None:
            self.reason = reason
        source, self._source = self._source, None
        handler = self.handler
        try:
            try:
                if source is not None:
                    source.close()  # type: ignore[attr-defined]  # replies() is a generator
            finally:
                if type(handler).on_close is not Handler.on_close:
                    handler.on_close(self.reason)
        except Exception as error:
            if self.failure is None:
                self.failure = error


class AwaitingSession(Session):
    """A session whose handler may also answer asynchronously.

    Such an answer is kept in `awaiting`, and the session is busy; whoever drives it
    awaits that answer, gives what comes of it to resume(), piece by piece and each
    as a plain answer, and at the end calls resumed(). What the handler raises
    meanwhile goes to failed().
    """

    # What has to be awaited, or iterated asynchronously; None while there is nothing.
    awaiting: Any = None

    def _replies(self, answer: Answer) -> Iterator[tuple[bytes | None, bool]]:
        if is_asynchronous(answer):
            self.awaiting = answer
            return replies(None)
        return replies(answer)

    def resume(self, answer: Answer) -> bytes:
        """Take a piece of what was awaited; give what to send, as feed() does."""
        self._source = replies(answer)
        return self.more()

    def resumed(self) -> bytes:
        """Nothing more comes of what was awaited; give what comes behind it."""
        self.awaiting = None
        return self.more()

    def failed(self, error: Exception) -> bytes:
        self.awaiting = None
        return super().failed(error)

    def end(self, reason: str = "peer") -> bytes:
        if reason == "peer" and self.awaiting is not None:
            self._ended = True
            return b""
        return super().end(reason)

    def more(self) -> bytes:
        out = super().more()
        if self.awaiting is not None:
            self.busy = True
        return out

    def _next_message(self) -> bytes | None:
        return None if self.awaiting is not None else super()._next_message()


def takes_chunks(framing: Framing) -> bool:
    """Tell whether each chunk that arrives is a message, and its answer goes out as it is."""
    # A chunk is never longer than CHUNK, so it cannot be too long either.
    return framing.__class__ is RawFraming and framing.max_message >= CHUNK


def _closed(data: bytes) -> bytes:
    raise RuntimeError("this session is closed")


def _traced(
    on_message: Callable[[bytes], Answer], trace: Callable[[bytes], None]
) -> Callable[[bytes], Answer]:
    def traced(message: bytes) -> Answer:
        trace(message)
        return on_message(message)

    return traced
