"""What a server knows of itself while it lives: its state, its open connections, its keeper."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from .door import Door
from .kernel import shut
from .lazy import lazy
from .rows import DRAIN, FINISH, Rows
from .wake import Wake
from .watch import Watch

__all__ = ["Alarm", "Connection", "Keeper", "Life", "Report", "obey"]

logger = logging.getLogger("echoframe.server")


# So long (seconds) a thread is given to hear what is meant for it.
OVERHEARS = 0.05
# A keeper that nobody needs ends after this (seconds).
KEEP = 0.5


class Report(NamedTuple):
    """How a stop went."""

    # Conversations that were served, in all.
    served: int
    # Open when the stop began, and ended by themselves or because they were idle.
    finished: int
    # Still open at the deadline.
    cut: int
    # The peers of the two above, as (name, "finished" or "cut").
    who: tuple[tuple[str, str], ...]
    # From the beginning of close() to its end.
    seconds: float


class Talking(Protocol):
    """What a conversation tells, and is told, about its end."""

    @property
    def waits(self) -> bool: ...

    @property
    def unfinished(self) -> int: ...

    # Bytes so far, where the row does not have them.
    received: int
    sent: int

    def obey(self) -> None: ...


class Connection:
    """An open connection, as the process that accepted it knows it."""

    # What is the same for most of them stands on the class, so that a short
    # conversation does not pay for it.
    name = ""
    # Its handler class was let loose on it.
    talked = False
    # Where it runs: set by the model.
    thread: int | None = None
    # Set where a message handler's conversation runs in this process.
    conversation: Talking | None = None
    # What knows of its TLS, where the request itself does not.
    encryption: Any = None
    # The strictest order it was given.
    ordered = 0
    # Bytes that came before the handler class was let loose on it.
    greeted = 0
    # Its handshake is over.
    shaken = False
    # As what its peer is counted, where the number from one is limited.
    key: Any = None
    # A second signal came upon it.
    interrupted = False
    # Somebody who polls calls the steps of its conversation.
    polled = False
    # Its descriptor, once somebody polls it, and for what; the order that its
    # conversation knows of; the alarm that is set for its deadline.
    number = -1
    events = 0
    obeyed = 0
    alarm: Alarm | None = None
    # It will keep the thread that takes it.
    keeps_worker = False
    # A drain has looked at it before.
    watched = False
    # What the row said at the last look, and since when it has said so.
    seen = (0, 0, 0)

    def __init__(self, request: Any, client_address: Any, row: int, listener: Any) -> None:
        self.request = request
        self.client_address = client_address
        self.row = row
        # The one it came from.
        self.listener = listener
        # When it came, and was last looked at, for the deadlines.
        self.began = self.since = self.looked = time.monotonic()
        # Not on the class: fork writes these between two forks, where an attribute
        # that is new costs several pages.
        # The process that it runs in.
        self.pid = 0
        # Its conversation was handed to another thread or process, which will release it.
        self.away = False
        # Its socket is being closed: nobody may shut it any more, since its number may
        # be another connection's by then.
        self.closing = False


class Alarm:
    """When somebody who polls is to look at a conversation; of nobody, if that has changed."""

    def __init__(self, when: float, connection: Connection) -> None:
        self.when = when
        self.connection: Connection | None = connection

    def __lt__(self, other: Alarm) -> bool:
        return self.when < other.when


class Life:
    """What Lifecycle keeps for one server."""

    # The flags and moments of a server that has not been asked to stop.
    stop_requested = False
    draining = False
    stopped = 0.0
    deadline = 0.0
    # The log has said what a stop waits for; a conversation in the main thread is cut.
    told = False
    overdue = False
    cutting = False
    closed = False
    # Its listeners are closed, or will not be heard any more.
    unlistened = False
    # Ctrl-C came while it was closed.
    impatient = False
    # The thread that is in serve_forever(), or in handle_request().
    serving: int | None = None
    handling: int | None = None
    # The listener that is ready, for get_request().
    ready: Any = None
    # When the deadlines are to be looked at next, and when somebody did again after this
    # process had stood still.
    look_due = math.inf
    back = 0.0
    rest_until = 0.0
    complained = 0.0
    served = 0
    # In run(): the signal handlers are ours. The first signal that came.
    runs = False
    signalled = 0
    # How many signals were handled, and how many the wake-up descriptor has told of; and when
    # one came that may have been missed.
    handled = 0
    heard = 0
    missed = 0.0
    # The connection for which this process was forked, if it was.
    forked: Connection | None = None
    # How the close() went.
    report: Report | None = None
    keeper: Keeper | None = None

    # How many connections to accept before the first of their conversations begins,
    # and how often there were some.
    batch = 1
    arrivals = 0

    def __init__(
        self,
        permits: Callable[[], int],
        woken: Callable[[], object],
        make_watch: Callable[[], Watch],
    ) -> None:
        self.pid = os.getpid()
        self._permits = permits
        self._woken = woken
        self._make_watch = make_watch
        # By the identity of the request, since a datagram's is a plain tuple.
        self.open: dict[int, Connection] = {}
        # Held for moments: while a socket is shut or let go, and while the table changes.
        self.lock = threading.Lock()
        self.new_watch()
        # Set unless somebody is in serve_forever().
        self.ended = threading.Event()
        self.ended.set()
        # Deadlines of conversations that somebody polls, as a heap.
        self.alarms: list[Alarm] = []
        self.door = Door()
        # Accepted, and about to begin; the one that is beginning now, and in which thread.
        self.taken: deque[Connection] = deque()
        self.beginning: Connection | None = None
        self.begins_in: int | None = None
        # Those that a program has taken away, and when they are looked at next.
        self.strays: list[Connection] = []
        self.strays_due = 0.0
        # Given to processes, and still to be entered among the children.
        self.begun: deque[Connection] = deque()
        # Held by whoever closes the server; and while it is in handle_request().
        self.closer = threading.RLock()
        self.taking_turns = threading.RLock()
        # Who was there when the stop began.
        self.at_stop: list[Connection] = []

    def new_watch(self) -> None:
        """Have a wake-up descriptor and a watch that no other process has."""
        self.wake = Wake()
        self.watch = self._make_watch()
        self.watch.add(self.wake.fileno(), self._woken)
        # The descriptors of the listeners that it watches.
        self.listened: list[int] = []

    @lazy
    def rows(self) -> Rows:
        # Not before the server serves: until then a program may set its limit.
        return Rows(self._permits())


def obey(connection: Connection, order: int) -> None:
    """Carry out an order in the process that holds the conversation."""
    conversation = connection.conversation
    if conversation is not None:
        conversation.obey()
    if order == FINISH or connection.closing or isinstance(connection.request, tuple):
        return
    try:
        shut(connection.request, socket.SHUT_RD if order == DRAIN else socket.SHUT_RDWR)
    except (OSError, AttributeError):
        # Gone already, or no socket at all.
        pass


class Keeper(threading.Thread):
    """Keeps the deadlines of one server; sleeps as long as there are none."""

    def __init__(
        self,
        tend: Callable[[], float | None],
        spare: Callable[[Keeper | None], bool],
        others: Mapping[int, Callable[[], object]],
    ) -> None:
        super().__init__(name="echoframe-keeper", daemon=True)
        self.wake = Wake()
        # Whether nobody needs it; with itself as what is asked, whether it is let go.
        self._spare = spare
        # Descriptors that are somebody else's, who may be busy; what is not heard there
        # is heard here, by calling these.
        self._others = others
        # Nothing to do until somebody wakes it.
        self.asleep = False
        self._tend = tend
        self._over = False

    def run(self) -> None:
        # The kernel may give a second signal to any thread that takes it, and then
        # it does not interrupt what the main thread waits in.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        watch = select.poll()
        watch.register(self.wake, select.POLLIN)
        for number in self._others:
            watch.register(number, select.POLLIN)
        while not self._over:
            # Before it looks: whoever comes while it looks must wake it again.
            self.asleep = True
            try:
                pause = self._tend()
            except Exception:
                # A hook of the program's, perhaps. The other deadlines must be kept.
                logger.exception("a deadline could not be kept")
                pause = 1.0
            if pause is not None:
                self.asleep = False
            elif self._spare(None):
                pause = KEEP
            heard = watch.poll(None if pause is None else pause * 1000)
            if not heard and self.asleep and pause == KEEP and self._spare(self):
                self.wake.close()
                return
            for number, _ in heard:
                if number == self.wake.fileno():
                    self.wake.clear()
                else:
                    self._overhear(number)

    def _overhear(self, other: int) -> None:
        # It is for another thread, unless that does not come to it.
        mine, others = select.poll(), select.poll()
        mine.register(self.wake, select.POLLIN)
        others.register(other, select.POLLIN)
        if not mine.poll(OVERHEARS * 1000) and others.poll(0):
            self._others[other]()

    def end(self) -> None:
        self._over = True
        self.wake.set()
        self.join()
        self.wake.close()
