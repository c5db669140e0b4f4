"""aio: asyncio's loop serves whoever is ready; uvloop's, where it is installed.

    the loop waits for whoever is ready ─► one call of that conversation ─► waits …

At once       as many conversations as there are descriptors
Memory        shared: handlers see the same objects, and one at a time
A slow peer   delays nobody; a handler that waits delays everybody, unless it awaits
Stopping      conversations get the drain time, then their transports are aborted
Replaces      process_request, and what waits for the listeners
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..session import AwaitingSession
from .base import awaits
from .life import Connection
from .lifecycle import GRACE, SecondSignal
from .onethread import OneThreadServer
from .talking import Errand, Talk
from .watch import Watch

if TYPE_CHECKING:
    import asyncio

__all__ = ["AioServer"]

logger = logging.getLogger("echoframe.server")


class AioServer(OneThreadServer):
    """Serve all connections in one thread, on asyncio's loop.

    uvloop   True is uvloop's loop, False is asyncio's own; None is uvloop's where it
             is installed

    Handlers may be asynchronous. A conversation goes on only while somebody is in
    serve_forever(), handle_request() or close(); so after stop(), serve_forever()
    returns when the drain is over.
    """

    model = "aio"
    runs_async_handlers = True
    encrypted_by_others = True
    uvloop: bool | None = None

    # There is nobody whose deadlines must be kept.
    _asleep = False

    def __init__(self, *arguments: Any, uvloop: bool | None = None, **keywords: Any) -> None:
        if uvloop is not None:
            self.uvloop = uvloop
        self.runs_on = self._choose_loop()
        super().__init__(*arguments, **keywords)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._connection_of(request, client_address)
        protocol = self.protocol
        assert protocol is not None  # handler classes are refused
        if not isinstance(request, tuple):
            self._begin_to_talk(connection, self._new_session(AwaitingSession, connection))
        elif awaits(protocol):
            if self._fits(request[0]):
                handler = self._open_handler(self._peer(connection))
                connection.conversation = Errand(
                    self, connection, handler, self._trace(), self._loop
                )
                connection.polled = connection.away = True
        else:
            self._converse(request, client_address, connection)

    def _begin_to_talk(self, connection: Connection, session: AwaitingSession) -> None:
        talk = Talk(self, connection, session, self._loop)
        # It has asyncio's methods, and not its class, which would have to be imported.
        made: Any = talk
        connection.request.setblocking(False)
        tls = None if connection.listener is None else connection.listener.tls
        limits = {
            "ssl_handshake_timeout": max(self.handshake_timeout, 0.001),
            "ssl_shutdown_timeout": max(self.linger_timeout, 0.001),
        }
        connecting = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: made, self._given(connection.request), ssl=tls, **(limits if tls else {})
            )
        )
        talk.connecting = connecting
        connecting.add_done_callback(talk.connected)
        connection.conversation = talk
        connection.polled = connection.away = True

    def _given(self, request: Any) -> Any:
        # uvloop closes the descriptor that it is given, and then whatever holds it,
        # unless that is a real socket, which it can make let go. By then the number
        # may be somebody else's; so it gets one of its own.
        if self.runs_on != "uvloop" or isinstance(request, socket.socket):
            return request
        return socket.socket(fileno=os.dup(request.fileno()))

    # ---------------------------------------------------------------- the loop

    def _choose_loop(self) -> str:
        if self.uvloop is False:
            return "asyncio"
        try:
            import uvloop  # noqa: F401  # only whether it is there
        except ImportError:
            if not self.uvloop:
                return "asyncio"
            raise SettingError(
                "uvloop is not installed: pip install 'echoframe[uvloop]', "
                "or leave uvloop out and be served by asyncio's own loop"
            ) from None
        return "uvloop"

    def _accept_loop(self, *arguments: Any, **keywords: Any) -> bool:
        with self._life.watch.hearing_ctrl_c():  # type: ignore[attr-defined]  # made below
            return super()._accept_loop(*arguments, **keywords)

    def _new_watch(self) -> Watch:
        if self.runs_on == "uvloop":
            import uvloop

            return _LoopWatch(uvloop.new_event_loop(), keeps=True)
        import asyncio

        return _LoopWatch(asyncio.SelectorEventLoop())

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        watch = self._life.watch
        assert isinstance(watch, _LoopWatch)  # made above
        return watch.loop

    # The accept loop is asyncio's, and looks up only when there is something new for it.

    def _arrive(self, listener: Any) -> None:
        super()._arrive(listener)
        life = self._life
        if self._asleep or life.rest_until or not self._has_room():
            self._loop.stop()

    def _released(self) -> None:
        super()._released()
        if self._before is not None:
            # handle_request() waits for it.
            self._loop.stop()

    def _woken(self) -> None:
        super()._woken()
        self._loop.stop()

    def _between(self) -> float | None:
        pause = None if self._life.draining else self._tend()
        self._asleep = pause is None
        return pause

    # -------------------------------------------------------------- deadlines

    def _carry(self, connection: Connection, order: int) -> None:
        conversation = connection.conversation
        if conversation is not None:
            # Not now: it may end at once, and whoever calls here holds the lock.
            self._loop.call_soon(conversation.obey)

    def _turn_away(self, *arguments: Any) -> None:
        super()._turn_away(*arguments)
        # Somebody is to be seen out, for a time that only the accept loop keeps.
        self._loop.stop()

    def _patience(self) -> float:
        # What is less than write_buffer is found when it is looked for.
        shortest = super()._patience()
        return min(shortest or self.write_timeout, self.write_timeout or shortest)

    def _passed(self, connection: Connection, now: float, silence: float, waiting: bool) -> str:
        talk = connection.conversation
        if not waiting and isinstance(talk, Talk) and talk.writes:
            # It has not said so itself: that is done only when its buffer is full.
            talk.watch_writing()
        return super()._passed(connection, now, silence, waiting)

    def _in_a_handler(self) -> bool:
        import asyncio

        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _is_running(self) -> bool:
        return self._loop.is_running()

    def _end_workers(self) -> None:
        loop = self._loop
        if loop.is_running() or loop.is_closed():
            return
        import asyncio

        # What handlers have started and left behind.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._complete(asyncio.wait(tasks, timeout=GRACE))
        self._complete(loop.shutdown_asyncgens())

    def _complete(self, work: Coroutine[Any, Any, Any]) -> None:
        loop = self._loop
        task = loop.create_task(work)
        task.add_done_callback(lambda _: loop.stop())
        # Not run_until_complete(), which fails if somebody else has stopped the loop.
        while not task.done():
            self._life.watch.wait(None)


class _LoopWatch(Watch):
    """The Watch of somebody who lives in an asyncio loop: wait() runs it until it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keeps: bool = False) -> None:
        self.loop = loop
        self.calls = {}
        self._pid = os.getpid()
        self._raised: BaseException | None = None
        self.close = self._close
        loop.set_exception_handler(lambda _, context: self._complain(context))
        # uvloop makes a pair of sockets whenever it begins to run, and must be able to.
        self._keeps = keeps
        self._kept = _two_descriptors() if keeps else []

    def add(self, number: int, call: Callable[[], object]) -> None:
        self.loop.add_reader(number, self._call, call)

    def remove(self, number: int) -> None:
        self.loop.remove_reader(number)

    def wait(self, pause: float | None) -> bool:
        loop = self.loop
        timer = None if pause is None else loop.call_later(pause, loop.stop)
        self._close_kept()
        told = _told_of_signals() if self._keeps else -1
        if told >= 0:
            # uvloop puts its own there as it begins to run, and nothing when it ends.
            loop.call_soon(_tell_of_signals, told)
        try:
            loop.run_forever()
        except BaseException:
            self._raised = None
            raise
        finally:
            if self._keeps:
                self._kept = _two_descriptors()
            if told >= 0:
                _tell_of_signals(told)
            if timer is not None:
                timer.cancel()
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return True

    @contextmanager
    def hearing_ctrl_c(self) -> Iterator[None]:
        """Have Ctrl-C end wait(), whatever it comes upon in there.

        asyncio knows its tasks by weak references, and what is raised while one of
        those is dropped is printed and forgotten.
        """
        default = signal.default_int_handler
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not default:
            yield
            return

        def hear(number: int, frame: Any) -> None:
            self._raised = KeyboardInterrupt()
            self.loop.call_soon_threadsafe(self.loop.stop)
            default(number, frame)

        signal.signal(signal.SIGINT, hear)
        try:
            yield
        except BaseException:
            # It has been heard, if it came: close() must not hear of it again.
            self._raised = None
            raise
        finally:
            if signal.getsignal(signal.SIGINT) is hear:
                signal.signal(signal.SIGINT, default)

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            # For whoever waits, and not for the loop to log.
            self._raised = error
            self.loop.stop()

    def _complain(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Exception):
            logger.error("%s", context["message"], exc_info=error)
        elif not isinstance(error, SecondSignal):
            # What ends a program (Ctrl-C in a handler) is not the loop's to keep.
            self._raised = error
            self.loop.stop()

    def _close_kept(self) -> None:
        while self._kept:
            os.close(self._kept.pop())

    def _close(self) -> None:
        if os.getpid() != self._pid:
            # Its poller is also the other process's, where closing would take things out of it.
            _left_alone.append(self.loop)
        elif self.loop.is_running():
            self.loop.call_soon_threadsafe(self.loop.stop)
        else:
            self._close_kept()
            self.loop.close()


def _told_of_signals() -> int:
    if threading.current_thread() is not threading.main_thread():
        return -1
    told = signal.set_wakeup_fd(-1)
    if told >= 0:
        _tell_of_signals(told)
    return told


def _tell_of_signals(number: int) -> None:
    signal.set_wakeup_fd(number, warn_on_full_buffer=False)


def _two_descriptors() -> list[int]:
    try:
        return list(os.pipe())
    except OSError:
        return []


# Loops of another process, from before a fork.
_left_alone: list[Any] = []
