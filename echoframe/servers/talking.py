"""A conversation as asyncio wants it: the session's bytes to and from a transport.

What single and thread do in a loop of their own (conversation.py), with the same
moments: greet, read and answer, say what is left, part, linger, be done. Here the
loop calls, and nothing waits.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from errno import ETIMEDOUT
from typing import TYPE_CHECKING, Any

from ..framing import CHUNK
from ..handlers import Handler, replies
from ..session import AwaitingSession
from ..transports.tls import explain
from .datagrams import send_datagram
from .kernel import reset_on_close, unread, unsent
from .life import Connection
from .rows import CUT, DRAIN, LINGERING, ORDER, REASONS, TIMEOUT
from .taking import Taking
from .tending import LOOK

if TYPE_CHECKING:
    import asyncio

    from .base import Server

__all__ = ["Errand", "Talk"]

logger = logging.getLogger("echoframe.server")

# So long until a conversation that was told to end, and found something to do, is
# looked at again.
SOON = 0.02


class Talk:
    """A session on one of asyncio's transports: what asyncio calls a protocol.

    Threads: all of this runs in the loop's.
    """

    # How it begins; on the class, because most of it never changes.

    _transport: Any = None
    # So much waits to be sent that resume_writing() will say when it is less.
    _full = False
    # Reading is paused.
    _deaf = False
    # The peer has ended its input.
    _heard_all = False
    # Everything is said; or the transport is no more.
    _parting = False
    _gone = False
    _failure: BaseException | None = None
    # Awaits what the handler answers; set when there is room again for more of it.
    _task: asyncio.Task[None] | None = None
    _room: asyncio.Future[None] | None = None
    _timer: Any = None
    _watchdog: Any = None
    received = 0
    sent = 0
    # Makes the transport, over TLS with the handshake.
    connecting: asyncio.Task[Any] | None = None

    def __init__(
        self,
        server: Server,
        connection: Connection,
        session: AwaitingSession,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.session = session
        self.connection = connection
        self._server = server
        self._loop = loop
        self._cells = server._life.rows.cells

    # ------------------------------------------------------ called by asyncio

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._write: Callable[[bytes], None] = transport.write
        transport.set_write_buffer_limits(high=self._server.write_buffer)
        if hasattr(transport, "max_size"):
            # asyncio makes room for 256 KiB before each read, which can cost several times
            # what a short message does, depending on what the allocator finds.
            transport.max_size = CHUNK
        self.connection.encryption = transport.get_extra_info("ssl_object")
        if self._cells[self.connection.row + ORDER] > DRAIN:
            self.obey()
            return
        out = self.session.open()
        if out:
            self._say(out)
        if self.session.busy:
            self._settle()

    def data_received(self, data: bytes) -> None:
        session = self.session
        self.received += len(data)
        out = session.feed(data)
        if out:
            self.sent += len(out)
            self._write(out)
        if session.busy:
            self._settle()

    def eof_received(self) -> bool:
        self._heard_all = True
        if self._parting:
            return False
        if not self._is_announced():
            # Anybody on the way may have cut the line: what has come may not be all.
            self._failure = ConnectionAbortedError("without the closing word of TLS")
            return False
        self._say(self.session.end())
        self._settle()
        # Over TLS both sides end together, and it is no use to ask for anything else.
        return not self._gone and self.connection.encryption is None

    def pause_writing(self) -> None:
        self._full = True
        self.watch_writing()
        if not self.session.closing:
            # Who does not read is not read from.
            self._listen(False)

    def watch_writing(self) -> None:
        """Cut the connection if its peer takes nothing for too long from now on."""
        limit = self._server.write_timeout
        if limit and self._watchdog is None and not self._gone:
            self._look(Taking(self.connection.request, limit))

    def _look(self, taking: Taking) -> None:
        self._watchdog = None
        lingers = self._cells[self.connection.row + LINGERING]
        if self._gone or lingers or not self.writes:
            return
        given = self.sent - int(self._transport.get_write_buffer_size())
        pause = taking.look(self._loop.time(), given)
        if pause:
            self._watchdog = self._loop.call_later(pause, self._look, taking)
            return
        connection = self.connection
        self._log_cut()
        self._cells[connection.row + ORDER] = connection.ordered = TIMEOUT
        self.session.end(self._ordered)
        with suppress(OSError):
            reset_on_close(connection.request)
        self._transport.abort()

    def _log_cut(self) -> None:
        server = self._server
        name = server._name(self.connection)
        logger.info("Cut %s: write_timeout (%g s)", name, server.write_timeout)

    def resume_writing(self) -> None:
        self._full = False
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
        elif self.session.busy:
            self._go_on()
        else:
            self._listen()

    def connection_lost(self, error: BaseException | None) -> None:
        self._gone = True
        self._failure = error or self._failure
        for timer in (self._timer, self._watchdog):
            if timer is not None:
                timer.cancel()
        if error is None and self.connection.encryption is not None:
            self._hear_the_rest()
        if self._task is None:
            self._finish()
            return
        self.session.end(self._ordered or "lost")
        self._task.cancel()

    def connected(self, task: asyncio.Task[Any]) -> None:
        """The transport is there; or there will be none."""
        self.connecting = None
        error = None if task.cancelled() else task.exception()
        if self._transport is None:
            self._gone = True
            if error is not None:
                if isinstance(error, ConnectionAbortedError) and error.errno is None:
                    # How asyncio says that there was no time left.
                    error = TimeoutError(*error.args)
                logger.info("no handshake: %s", explain(error))
            self._finish()

    def _hear_the_rest(self) -> None:
        # uvloop drops what it has not decrypted when the line is cut, and it decrypts
        # nothing while reading is paused: the peer's closing word may be among that.
        if not (self._heard_all or self.session.closing or self._ordered) and self._is_announced():
            self.session.end()

    def _is_announced(self) -> bool:
        # asyncio calls eof_received() for either end of a connection over TLS; only what
        # encrypts knows whether the peer has said so itself.
        encryption = self.connection.encryption
        if encryption is None:
            return True
        import ssl

        try:
            return not encryption.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    # ----------------------------------------------------- called by the server

    @property
    def waits(self) -> bool:
        """It is the peer's turn: nothing is left to answer, or to send."""
        return self._transport is None or not (self.session.busy or self.writes)

    @property
    def writes(self) -> bool:
        """Something waits to be sent."""
        transport = self._transport
        if transport is None:
            return False
        if transport.get_write_buffer_size():
            return True
        # What is encrypted waits with another transport, which only the kernel knows of.
        return self.connection.encryption is not None and bool(unsent(self.connection.request))

    @property
    def unfinished(self) -> int:
        """Bytes of a message whose end is still to come."""
        return self.session.framing.unfinished

    def obey(self) -> None:
        """Carry out the order that stands in the row."""
        if self._gone:
            return
        order = self._cells[self.connection.row + ORDER]
        self.session.drain()
        if order < DRAIN or (order == DRAIN and self._parting):
            return
        if self._transport is None:
            if self.connecting is not None:
                self.connecting.cancel()
        elif order > DRAIN:
            self.session.end(self._ordered)
            self._transport.abort()
        elif self.waits and not unread(self.connection.request):
            self.session.end(self._ordered)
            self._settle()
        else:
            # It was idle when the order was given, and has found something to do.
            self._loop.call_later(SOON, self.obey)

    # ------------------------------------------------------------- to be said

    def _say(self, out: bytes) -> None:
        if out and not self._gone:
            self.sent += len(out)
            self._write(out)

    def _settle(self) -> None:
        # What comes next, after something was said.
        session = self.session
        if self._gone:
            return
        if not session.busy:
            self._listen(not self._full)
        elif session.closing:
            if self._task is None:
                self._part()
        else:
            # The next message is not for now.
            self._listen(False)
            if session.pending:
                # Not at once: others are waiting, and this may have no end.
                if not self._full and self._task is None:
                    self._loop.call_soon(self._go_on)
            elif self._task is None:
                self._task = self._loop.create_task(self._answer())
                self._task.add_done_callback(self._answered)

    def _go_on(self) -> None:
        if self.session.pending and not self._full:
            self._say(self.session.more())
        self._settle()

    def _listen(self, wanted: bool = True) -> None:
        # After its end there is nothing to read, and asking would bring the end again.
        if wanted is self._deaf and not self._heard_all:
            self._deaf = not wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --------------------------------------------------------- to be awaited

    async def _answer(self) -> None:
        session = self.session
        while session.awaiting is not None and not session.closing:
            async with aclosing(_each(session.awaiting)) as answers:
                async for answer in answers:
                    if not await self._offer(session.resume(answer)):
                        return
            await self._offer(session.resumed())

    async def _offer(self, out: bytes) -> bool:
        # What comes of an answer is asked for as fast as the peer reads; False if
        # nothing more is.
        self._say(out)
        session = self.session
        while not session.closing and (self._full or session.pending):
            self._room = self._loop.create_future()
            if not self._full:
                # The others' turn.
                self._loop.call_soon(self.resume_writing)
            await self._room
            self._room = None
            if session.pending:
                self._say(session.more())
        return not session.closing

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = self._room = None
        if task.cancelled():
            if not self._gone:
                self.session.failed(RuntimeError("the handler has cancelled itself"))
        else:
            error = task.exception()
            if isinstance(error, Exception):
                self.session.failed(error)
            elif error is not None and not self._gone:
                self._transport.abort()
        if self._gone:
            self._finish()
        else:
            self._settle()

    # ---------------------------------------------------------------- the end

    @property
    def _ordered(self) -> str:
        return REASONS[self._cells[self.connection.row + ORDER]]

    def _part(self) -> None:
        transport = self._transport
        if self._parting:
            return
        # From now on it is full as long as anything at all is left to be sent.
        # (Over TLS, asyncio counts "full" from the limit itself on.)
        transport.set_write_buffer_limits(high=0 if self.connection.encryption is None else 1)
        if self._full:
            return
        self._parting = True
        cells, request = self._cells, self.connection.request
        drained = cells[self.connection.row + ORDER] == DRAIN
        if (
            self._heard_all
            or not self.sent
            or (drained and not (unsent(request) or unread(request)))
            or not transport.can_write_eof()
        ):
            transport.close()
            if drained:
                # Over TLS it would wait for a word of the peer's.
                self._timer = self._loop.call_later(LOOK, transport.abort)
        else:
            self._linger()

    def _linger(self) -> None:
        # See conversation.py: a reset must not overtake the last reply.
        transport = self._transport
        self._cells[self.connection.row + LINGERING] = 1
        try:
            transport.write_eof()
        except OSError:
            # The peer has gone.
            transport.abort()
            return
        self._timer = self._loop.call_later(self._server.linger_timeout, transport.abort)
        self._listen()

    def _finish(self) -> None:
        server, connection, session = self._server, self.connection, self.session
        error, self._failure = self._failure, None
        reason = self._ordered
        if error is not None and not reason and not self._cells[connection.row + LINGERING]:
            reason = "lost"
            if server.write_timeout and getattr(error, "errno", None) == ETIMEDOUT:
                reason = "timeout"
                self._log_cut()
            else:
                logger.debug("peer vanished: %s", error)
        connection.conversation = None
        try:
            if self._transport is not None:
                session.close(reason or "lost")
                self._report()
        finally:
            try:
                server.shutdown_request(connection.request)
            finally:
                server._release(connection)

    def _report(self) -> None:
        session, connection = self.session, self.connection
        failure, session.failure = session.failure, None
        if session.reason == "protocol":
            logger.info("peer broke the protocol: %s", failure)
        elif failure is not None:
            try:
                raise failure
            except Exception:
                self._server.handle_error(connection.request, connection.client_address)
            finally:
                # It knows the way it came, which leads through here.
                del failure


class Errand:
    """The answer to a datagram that has to be awaited."""

    waits = False
    unfinished = 0

    received = 0
    sent = 0

    def __init__(
        self,
        server: Server,
        connection: Connection,
        handler: Handler,
        trace: Callable[[bytes], None] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._server = server
        self._connection = connection
        self._task = loop.create_task(self._run(handler, trace))
        self._task.add_done_callback(self._done)

    def obey(self) -> None:
        if self._connection.ordered == CUT:
            self._task.cancel()

    async def _run(self, handler: Handler, trace: Callable[[bytes], None] | None) -> None:
        message, sock = self._connection.request
        reason = "error"
        try:
            if trace is not None:
                trace(message)
            reason = "peer"
            for ask in (handler.on_open, lambda: handler.on_message(message)):
                async with aclosing(_each(ask())) as answers:
                    async for answer in answers:
                        for data, close in replies(answer):
                            if data is not None:
                                send_datagram(sock, data, self._connection.client_address)
                            if close:
                                reason = "reply"
                                return
        except BaseException:
            cells = self._server._life.rows.cells
            reason = REASONS[cells[self._connection.row + ORDER]] or "error"
            raise
        finally:
            handler.on_close(reason)

    def _done(self, task: asyncio.Task[None]) -> None:
        connection = self._connection
        connection.conversation = None
        error = None if task.cancelled() else task.exception()
        try:
            if isinstance(error, Exception):
                try:
                    raise error
                except Exception:
                    self._server.handle_error(connection.request, connection.client_address)
        finally:
            try:
                self._server.shutdown_request(connection.request)
            finally:
                self._server._release(connection)


async def _each(answer: Any) -> AsyncGenerator[Any, None]:
    """Give, one after the other, the plain answers that an asynchronous one stands for."""
    if hasattr(type(answer), "__await__"):
        answer = await answer
    if not hasattr(type(answer), "__aiter__"):
        yield answer
        return
    items = aiter(answer)
    try:
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
