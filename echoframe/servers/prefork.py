"""prefork: a fixed number of processes accept from one listener, and are looked after.

    supervisor ─► worker: accept ─► converse …
               ─► worker: accept ─► converse …
               ─► …

At once       in each worker as many conversations as its inner model allows
Memory        a copy for each worker: what one changes, the others do not see
A slow peer   delays whom it would delay in the inner model, in one worker
Stopping      workers get the drain time, then cut; who has not ended is killed
Replaces      the accept loop, by one that looks after workers
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from ..errors import SettingError, WorkersFailed
from ..transports import Listener, ListenOptions, bind
from .apart import keep_apart
from .base import Server
from .crew import CUT, DRAIN, PAUSE, Crew, Post
from .lazy import lazy
from .life import Report
from .lifecycle import UNSAID
from .privileges import explained
from .settings import SETTINGS
from .wake import RELOAD
from .working import SHUTDOWN, Working

__all__ = ["PreforkMixIn", "PreforkServer"]

logger = logging.getLogger("echoframe.server")


class PreforkMixIn(Working):
    """Worker processes, each with the whole server in it; for any socketserver server.

    Every hook runs in the workers, and so does the program's own serve_forever().
    Limits are each worker's own. stop(), shutdown() and reload() may be called in a
    worker too, and mean the whole server.
    """

    workers: int = SETTINGS["workers"].default

    # Called first by reload(). It checks what can be checked, and gives what changes the
    # server then, so that new workers are different. If it raises, nothing happens.
    refresh: Callable[[], Callable[[], object]] | None = None

    @lazy
    def _crew(self) -> Crew:
        return Crew()

    @property
    def active_children(self) -> set[int]:
        """The processes of the workers."""
        return set(self._crew.workers)

    def serve_forever(self, poll_interval: float = UNSAID) -> None:
        """Start the workers and look after them until stop() or shutdown().

        Errors: WorkersFailed when they end as soon as they are started.
        """
        keep_apart(self)
        self._poll_interval = poll_interval
        super().serve_forever(poll_interval)

    def reload(self) -> bool:
        """Renew the workers one by one, each ready before its predecessor drains.

        What can be checked is checked first; if that fails, the log says so, nothing
        changes, and the answer is False. SIGHUP does the same under run().

        Threads: may be called from any thread, and in a worker.
        """
        if self._post is not None:
            self._post.ask(RELOAD)
            return True
        try:
            change = _nothing if self.refresh is None else self.refresh()
        except Exception as error:
            logger.error("everything stays as it was: %s", explained(error))
            return False
        # Certificates, where the server has any.
        again = getattr(super(), "reload", None)
        if again is not None and not again():
            return False
        change()
        self._crew.renew()
        self._life.wake.set()
        return True

    def _adopt(self) -> None:
        if self._life.pid != os.getpid():
            # Its lifeline would be held by two.
            self._crew.close()
            vars(self).pop("_crew")
        super()._adopt()

    def _accept_loop(
        self,
        poll_interval: float | None = None,
        once: bool = False,
        deadline: float | None = None,
    ) -> bool:
        if once or self._post is not None:
            return super()._accept_loop(poll_interval, once, deadline)
        life, crew = self._life, self._crew
        # Several are told of the same connection, and whoever comes too late must not
        # wait for the next one.
        self.socket.setblocking(False)
        crew.attend(life, self.workers or _cores(), self._work, self._starve)
        try:
            self._look_after_workers()
        except WorkersFailed:
            self._stop()
            raise
        finally:
            crew.order_all(DRAIN if life.draining else PAUSE, life.deadline)
        return False

    def _look_after_workers(self) -> None:
        life, crew = self._life, self._crew
        while not life.stop_requested:
            pause = crew.look(self.drain_timeout)
            if crew.is_complete:
                self._serves()
            # Nobody is accepted here; but it may rest from hearing successors.
            self._listen_to([])
            rest = life.rest_until - time.monotonic()
            if rest > 0:
                pause = rest if pause is None else min(rest, pause)
            life.watch.wait(pause)

    def _hear(self, said: bytes) -> None:
        super()._hear(said)
        if SHUTDOWN in said:
            # From the thread that serves, it does not wait.
            self.shutdown()

    def _see_them_out(self) -> None:
        super()._see_them_out()
        if self._post is not None:
            return
        life, crew = self._life, self._crew
        crew.order_all(DRAIN, life.deadline)
        told = False
        while crew.workers:
            if life.cutting and not told:
                told = True
                crew.order_all(CUT, life.deadline)
            pause = crew.bury()
            if crew.workers:
                life.watch.wait(pause)

    def _finish(self, began: float) -> Report:
        report = super()._finish(began)
        if self._post is None:
            crew = self._crew
            who = (*report.who, *crew.who)
            cut = sum(how == "cut" for _, how in who)
            report = report._replace(
                served=report.served + crew.served,
                finished=len(who) - cut,
                cut=cut + crew.cut,
                who=who,
                seconds=time.monotonic() - began,
            )
            crew.close()
        return report


# The mix-in stands first: its accept loop is what this model replaces.
class PreforkServer(PreforkMixIn, Server):
    """Serve in worker processes, each of which is a server of another model.

    inner        a name in MODELS or a server class: what runs in each worker
    reuse_port   a listener for each worker (SO_REUSEPORT); the kernel shares
                 connections out, and who was given to a worker waits for that one

    What the inner model takes may be given too. Every limit is for one worker.
    """

    model = "prefork"
    at_once = "workers times inner"
    memory = "a copy per worker"
    forks = True
    inner: str | type[Server] = "pool"
    reuse_port: bool = False

    def __init__(
        self,
        *arguments: Any,
        inner: str | type[Server] | None = None,
        reuse_port: bool | None = None,
        **keywords: Any,
    ) -> None:
        if inner is not None:
            self.inner = inner
        if reuse_port is not None:
            self.reuse_port = reuse_port
        # The listeners of each worker but the first, where each has its own.
        self._shares: list[list[Listener]] = []
        outer = type(self)
        self._inner = _worker_class(outer, self.inner)
        # The supervisor's own, not what the inner model would have.
        life, crew = self._life, self._crew
        try:
            # What the inner model cannot do it refuses itself, and what it takes it gets.
            self.__class__ = self._inner
            super().__init__(*arguments, **keywords)
        except BaseException:
            crew.close()
            life.wake.close()
            raise
        finally:
            self.__class__ = outer

    def _model_in_words(self) -> str:
        from . import model_class

        return f"{model_class(self.inner).model!r} (inner of {self.model!r})"

    def server_bind(self) -> None:
        """Bind every listener, for every worker. May be extended; call super()."""
        super().server_bind()
        if not self.reuse_port:
            return
        options = self._listen_options()
        size = self.workers or _cores()
        shares: list[list[Listener]] = [[] for _ in range(size)]
        self.listeners, *self._shares = shares
        for place, group in zip(self._places, self._groups, strict=True):
            # What has no port is shared by all, and so is what was made to be alone.
            if place.scheme not in ("unix", "fd") and _may_have_others(group[0]):
                while len(group) < size:
                    group.append(bind(group[0].address, options))
            # Those of a predecessor that had more workers are looked after as well.
            for number in range(max(size, len(group))):
                shares[number % size].append(group[number % len(group)])

    def server_activate(self) -> None:
        """Start to take connections. May be extended; call super()."""
        super().server_activate()
        for listener in self._others():
            listener.transport.listen(listener.socket, self._listen_options())

    def _listen_options(self) -> ListenOptions:
        return super()._listen_options()._replace(reuse_port=self.reuse_port)

    def _others(self) -> list[Listener]:
        """The listeners of other workers alone."""
        every = [listener for share in self._shares for listener in share]
        return [listener for listener in every if listener not in self.listeners]

    def _stop_listening(self) -> None:
        super()._stop_listening()
        self._close_others()

    def _close_listeners(self) -> None:
        super()._close_listeners()
        self._close_others()

    def _close_others(self) -> None:
        for listener in self._others():
            listener.close()

    def _adopt(self) -> None:
        super()._adopt()
        if self._post is not None:
            for listener in self.listeners:
                # What was made for it is the supervisor's to remove.
                listener.owner = self._post.supervisor

    def _work(self, post: Post) -> None:
        # It is the supervisor's.
        self._leave_handover()
        shares = [self.listeners, *self._shares]
        if len(shares) > 1:
            mine = shares[post.number]
            self._shares = [share for share in shares if share is not mine]
            self.listeners = mine
            self.socket = mine[0].socket
            for listener in mine:
                if listener.tls is not None:
                    # These were left out by a reload().
                    listener.tls = self._context
            self._close_others()
        super()._work(post)


def _worker_class(outer: type[PreforkServer], inner: str | type[Server]) -> type[Any]:
    """Give what a worker is: the server as it is, with the inner model behind prefork."""
    from . import model_class

    kind = model_class(inner)
    if kind.forks:
        raise SettingError(
            f"inner is what runs in each worker, and {kind.model!r} starts processes itself; "
            "choose a model that does not"
        )
    return type(outer.__name__, (outer, kind), {"__module__": outer.__module__})


def _may_have_others(listener: Listener) -> bool:
    # One that was taken over may lack it.
    return bool(listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _nothing() -> None:
    pass


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        # Those that this process may use.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
