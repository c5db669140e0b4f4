"""thread: a thread for every connection.

    accept ─► thread: converse ─► done
    accept ─► thread: converse ─► done
    accept ─► …

At once       as many conversations as max_connections allows
Memory        shared: handlers see the same objects, so guard what changes
A slow peer   keeps its own thread and delays nobody
Stopping      conversations get the drain time, then their sockets are shut
Replaces      process_request
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

from .base import Server
from .door import is_crowd
from .lazy import lazy
from .life import Connection
from .threaded import Threaded, Threads

__all__ = ["ThreadServer", "ThreadingMixIn"]

# To start a thread costs several times what a short conversation does, so one that
# has finished waits this long (seconds) for the next connection.
KEEP = 0.5


class ThreadingMixIn(Threaded):
    """The standard mix-in, bounded and joined with a deadline; for any socketserver server."""

    def _arrive(self, listener: Any) -> None:
        if is_crowd(self._life.open):
            with self._life.door:
                super()._arrive(listener)
        else:
            super()._arrive(listener)

    def process_request(self, request: Any, client_address: Any) -> None:
        connection = self._connection_of(request, client_address)
        try:
            self._run_in_a_thread(connection)
        except (RuntimeError, MemoryError) as error:
            self._starve("starting threads", error)
            self.shutdown_request(request)

    def _run_in_a_thread(self, connection: Connection) -> None:
        for door in self._life.door.shut:
            door.expect(connection.row)
        thread = self._idle_thread() or _Thread(self)
        try:
            # With nothing between the two where Ctrl-C could come.
            connection.away = True
            thread.given.put(connection)
            if thread.ident is None:
                thread.start()
        except BaseException:
            # No thread, or Ctrl-C in between.
            connection.away = not thread.is_let_go()
            raise

    def _idle_thread(self) -> _Thread | None:
        idle = self._idle_threads
        # The one that finished last, whose memory is still warm.
        while idle:
            thread = idle.pop()
            if thread.daemon == self.daemon_threads:
                return thread
            thread.given.put(None)
        return None

    @lazy
    def _idle_threads(self) -> list[_Thread]:
        return []

    @lazy
    def _live_threads(self) -> set[_Thread]:
        return set()

    @lazy
    def _threads(self) -> Threads:
        return Threads(lambda: self._live_threads)

    def _end_workers(self) -> None:
        self._idle_threads.clear()
        stuck = {connection.thread for connection in self._life.open.copy().values()}
        for thread in self._live_threads.copy():
            if thread.ident not in stuck:
                thread.given.put(None)
                thread.join()


class _Thread(threading.Thread):
    """Holds one conversation, and the next one if it comes soon."""

    def __init__(self, server: ThreadingMixIn) -> None:
        super().__init__(name="echoframe-conversation", daemon=server.daemon_threads)
        self._server = server
        # Its next conversation; None ends it.
        self.given: SimpleQueue[Connection | None] = SimpleQueue()

    def is_let_go(self) -> bool:
        """Take back what it was given, and end it; False if it has begun with that."""
        try:
            self.given.get_nowait()
        except Empty:
            return False
        self.given.put(None)
        return True

    def run(self) -> None:
        live = self._server._live_threads
        live.add(self)
        try:
            connection = self.given.get()
            while connection is not None:
                self._converse(connection)
                connection = self._wait_a_moment()
        finally:
            live.discard(self)

    def _converse(self, connection: Connection) -> None:
        connection.thread = self.ident
        try:
            self._server._hold_conversation(connection)
        finally:
            for door in self._server._life.door.shut:
                door.forget(connection.row)
            self._server._release(connection)

    def _wait_a_moment(self) -> Connection | None:
        idle = self._server._idle_threads
        idle.append(self)
        # Looked at behind the append: a stop either sees this thread, or is seen.
        if not self._server._life.draining:
            try:
                return self.given.get(timeout=KEEP)
            except Empty:
                pass
        try:
            idle.remove(self)
        except ValueError:
            # Somebody has taken it from the list to give it something.
            return self.given.get()
        return None


# The mix-in stands first: its process_request() is what this model replaces.
class ThreadServer(ThreadingMixIn, Server):
    """Serve each connection in a thread of its own."""

    model = "thread"
    at_once = "max_connections"
    # A handler that never returns must not keep the program from ending: close()
    # has waited for it long enough.
    daemon_threads = True
    # A thread that is started takes the interpreter from the one that accepts, so all
    # who are here are let in first.
    batch = 64
