"""Threads that share one queue, and one poller for what waits: who does what, and when.

    quick    leader: poll ─► step, step, step ─► poll …      the others sleep
    stuck    leader: step ……… ; the deputy leads in its place
    slow     leader: poll ─► wakes a worker for each that is ready, and one to poll

To hand something to another thread costs more than a short answer does, since one
interpreter lock passes between them. So the worker that polls (it leads) also takes
the steps of all that it found ready. When it does not get on, the deputy leads in its
place; when that happens again and again, whoever is ready gets a worker at once.
Nothing here knows what a step is.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from .wake import Wake
from .watch import ONCE, READABLE, one_shot_poller

__all__ = ["Worker", "Workers"]

logger = logging.getLogger("echoframe.server")

# How often the deputy looks at the leader, while there is something to do (seconds); and
# while things move, since each look takes the interpreter from whoever moves them.
PULSE = 0.001
CALM = 0.004
# Fewer steps in a pulse than these, and somebody should help.
FEW = 8
# After so many looks at one and the same step, whatever the processor does.
STUCK = 5
# Two stalls within this time are a habit, and so long everybody gets a worker (seconds).
MEMORY = 0.05
# A worker that must not keep the program alive by waiting, or for which nobody has a use
# any more, ends after this (seconds).
KEEP = 0.5


# All there are in this process.
_crews: WeakSet[Workers] = WeakSet()


def _end_in_child() -> None:
    # A handler has forked. Its thread is the only one there, and goes no further than that:
    # who is parked or queued is the parent's, and so is what the poller tells.
    for workers in list(_crews):
        workers.closed, workers._lock = True, threading.Lock()


os.register_at_fork(after_in_child=_end_in_child)


class Owner(Protocol):
    """What says how many workers there may be. Read anew each time."""

    threads: int
    queue_size: int
    daemon_threads: bool


class Item(Protocol):
    """What steps are taken for."""

    # Its step may take as long as it likes: nobody should wait for it.
    @property
    def keeps_worker(self) -> bool: ...

    # What it is polled for.
    @property
    def events(self) -> int: ...


class Workers:
    """A crew of threads, started when there is something for them to do.

    `step(item)` is called for everything that was put() or is ready, `room()`
    when the queue has a place again, if has_room() said that it had none, and while
    `needed()` is true workers that may wait do so.

    Threads: everything may be called from any thread.
    """

    closed = False

    def __init__(
        self,
        owner: Owner,
        step: Callable[[Any], object],
        room: Callable[[], object],
        needed: Callable[[], bool],
    ) -> None:
        # Who waits for a worker. Who waits for its peer is in `parked`, by descriptor:
        # whoever takes it out of there owns it. What is ready and not there, because a
        # worker has it, is polled no more until that worker has parked it: it looks
        # into `disarmed` behind that. So who is quick costs no call but the read.
        self.ready: deque[Any] = deque()
        self.parked: dict[int, Any] = {}
        self.disarmed: dict[int, bool] = {}
        self.crew: set[Worker] = set()
        self._owner, self._step, self._room, self._needed = owner, step, room, needed
        self._idle: list[Worker] = []
        # Held for moments: while roles are given, and while the crew changes.
        self._lock = threading.Lock()
        self._leader: Worker | None = None
        self._deputy: Worker | None = None
        # The leader is in the poller; somebody has called it from there.
        self._polling = self._called = False
        # How often somebody has polled, and how many steps were begun: the deputy sees
        # by them whether things move.
        self._rounds = self._steps = 0
        self._slow = self._full = False
        self._slow_until = self._stalled = -MEMORY
        self._wake = Wake()
        self._bell = self._wake.fileno()
        try:
            self._poller = one_shot_poller()
            self._poller.register(self._wake.fileno(), READABLE)
        except BaseException:
            self._wake.close()
            raise
        _crews.add(self)

    # -------------------------------------------------------------- for the owner

    def put(self, item: Item) -> None:
        """Have a step taken, by the next worker that comes to it.

        Errors: RuntimeError or MemoryError when there is no worker, and none can be
        started. Then, and after an interrupt, take_back() tells whose it is.
        """
        self.ready.append(item)
        self.announce()

    def announce(self) -> None:
        """The second half of put(): something was appended to `ready`."""
        if self._polling:
            if not self._called:
                self._called = True
                self._wake.set()
        elif self._leader is None:
            self._rouse(1)

    def take_back(self, item: Item) -> bool:
        """Undo put(); False when a worker has it already."""
        try:
            self.ready.remove(item)
        except ValueError:
            return False
        return True

    def wait_for(self, number: int, events: int, known: bool) -> None:
        """Have the descriptor polled; `known` is "not for the first time".

        Only by whoever owns what is parked there.
        Errors: OSError or ValueError when it cannot be polled.
        """
        if known:
            self._poller.modify(number, events)
        else:
            # Whoever had this number before is gone.
            self.disarmed.pop(number, None)
            self._poller.register(number, events)

    def wait_again(self, number: int, events: int) -> None:
        """The same, for what was found ready while nobody had parked it."""
        self.disarmed.pop(number, None)
        try:
            self._poller.modify(number, events)
        except (OSError, ValueError):
            # Closed meanwhile.
            pass

    def wait_no_more(self, number: int) -> None:
        """Have the descriptor polled no more. Called before it is closed, by its owner."""
        # Closing alone might not do: a child of the program's may have the socket too.
        try:
            self._poller.unregister(number)
        except (OSError, ValueError):
            # Its handler has closed it.
            pass
        self.disarmed.pop(number, None)

    def claim(self, number: int, wanted: Item) -> None:
        """Put what is parked there now, if it is that."""
        # Its number may be another one's by now, who has nothing to do.
        item = self.parked.pop(number, None) if self.parked.get(number) is wanted else None
        if item is not None:
            try:
                self.put(item)
            except BaseException:
                if self.take_back(item):
                    self.parked[number] = item
                raise

    def has_room(self, coming: int = 0) -> bool:
        """The queue will be shorter than it may be, with so many more in it."""
        self._full = True
        # Two threads at work share one interpreter lock, and fight for it. So nobody is
        # accepted while the leader takes steps: it calls when it is done, or stuck.
        working = self._leader is not None and not self._polling
        self._full = working or len(self.ready) + coming >= self._owner.queue_size
        return not self._full

    def resize(self) -> None:
        """Notice that the number of workers there may be has changed."""
        surplus = len(self.crew) - self._owner.threads
        # At least one: the leader may be stuck, and nobody have been there to watch it.
        self._rouse(len(self._idle) if surplus > 0 else max(1, len(self.ready)))

    @property
    def has_idle(self) -> bool:
        """Somebody rests, or could be started."""
        return bool(self._idle) or len(self.crew) < self._owner.threads

    @property
    def wanting(self) -> int:
        """How many workers are needed that are not there: for steps, or else to poll."""
        if self.has_idle:
            return 0
        # Nor is anybody accepted while the last of them takes a step.
        waiting = bool(self.parked) or self._full
        return len(self.ready) or int(waiting and self._unwatched)

    def rest(self) -> None:
        """Notice that `needed` has changed."""
        self._wake.set()
        self._rouse_idle(len(self._idle))

    def close(self, stuck: set[int | None]) -> None:
        """End all workers, and wait for them but for those who are `stuck`."""
        with self._lock:
            self.closed = True
            crew = list(self.crew)
        self._wake.set()
        for worker in crew:
            worker.call()
        for worker in crew:
            # One whose start was interrupted has no number, and nothing to wait for.
            if worker.ident and worker.ident not in stuck:
                worker.join()
        self._poller.close()
        self._wake.close()

    def forget(self) -> None:
        """In a forked child: let go of what is the other process's."""
        self.closed = True
        self._poller.close()
        self._wake.close()

    # ---------------------------------------------------------- what a worker does

    def work(self, me: Worker) -> None:
        """Do whatever there is to do, until this worker is not needed any more."""
        try:
            # Who was started to lead asks for a deputy before its first step.
            goes_on = self._leader is not me or self._role(me)(me)
            while goes_on and not self.closed:
                self._drain(me)
                goes_on = not self.closed and self._role(me)(me)
        finally:
            self._leave(me)

    def _drain(self, me: Worker) -> None:
        ready, step = self.ready, self._step
        if self._unwatched and self._leader not in (None, me) and not self._slow:
            # That comes first: whoever helps may get stuck as well.
            return
        # What is put meanwhile comes behind those who are ready in the poller.
        for _ in range(len(ready)):
            try:
                item = ready.popleft()
            except IndexError:
                # Somebody else was faster.
                return
            self._steps += 1
            if item.keeps_worker:
                self._resign(me, 1)
            step(item)
            if self.closed:
                return

    def _role(self, me: Worker) -> Callable[[Worker], bool]:
        with self._lock:
            if self._leader is None:
                self._leader = me
            if self._leader is me:
                # From here on, and until it has polled, nobody takes the lead away.
                self._polling = True
                self._rounds += 1
                return self._lead
            if self._unwatched:
                self._deputy = me
            return self._watch if self._deputy is me else self._rest

    @property
    def _unwatched(self) -> bool:
        # Somebody leads (or is about to), and may get stuck.
        return self._deputy is None and not self._polling

    def _lead(self, me: Worker) -> bool:
        # A conversation that waits for its peer must be kept, as a thread of its own
        # would keep it; when there is none, nothing must keep the program.
        pause = None if self._may_wait(me) or self.parked else KEEP
        if self._full and self.has_room():
            self._room()
        # Looked at behind _polling: a put() is either seen here, or calls.
        if self.ready or self.closed:
            pause = 0
        events = self._poller.poll(pause, self._owner.queue_size)
        self._polling = False
        take, append = self.parked.pop, self.ready.append
        for number, _ in events:
            item = take(number, None)
            if item is not None:
                append(item)
            elif number != self._bell:
                self._disarm(number)
            else:
                # In this order: who puts from here on calls, or comes before the drain.
                self._wake.clear()
                self._called = False
        if not self.ready:
            return bool(events) or pause != KEEP
        if self._slow:
            now = time.monotonic()
            if now < self._slow_until:
                # One for each, and one to poll meanwhile.
                self._resign(me, len(self.ready))
                return True
            self._slow, self._stalled = False, now
        if self._deputy is None:
            self._rouse(1)
        return True

    def _disarm(self, number: int) -> None:
        try:
            # "Once" also silences what is always told, such as a reset.
            self._poller.modify(number, ONCE)
        except (OSError, ValueError):
            # Closed meanwhile.
            return
        # Behind it: whoever asks again, or has this number next, may have come between,
        # and would not know that it was silenced.
        self.disarmed[number] = True
        item = self.parked.get(number)
        if item is not None:
            # Parked meanwhile, and perhaps too early to have seen this.
            self.wait_again(number, item.events)

    def _watch(self, me: Worker) -> bool:
        stuck, pulse = 0, PULSE
        while not self.closed:
            rounds, steps = self._rounds, self._steps
            then, used = time.monotonic(), time.process_time()
            me.called.acquire(timeout=pulse)
            with self._lock:
                if self._leader is not None and not self._polling:
                    if rounds != self._rounds or self._steps - steps >= FEW * pulse / PULSE:
                        stuck, pulse = 0, min(pulse * 2, CALM)
                        continue
                    pulse = PULSE
                    stuck = 0 if steps != self._steps else stuck + 1
                    # Where the processor has been busy all the time, another worker
                    # would only be one more that waits for it.
                    busy = time.process_time() - used > (time.monotonic() - then) / 2
                    if busy and stuck < STUCK:
                        continue
                    self._leader, self._deputy = me, None
                elif rounds != self._rounds:
                    stuck = 0
                    continue
                else:
                    # Nobody to watch. When there is, the leader calls somebody again.
                    self._deputy = None
                    return True
            self._take_over()
            return True
        return False

    def _take_over(self) -> None:
        now = time.monotonic()
        self._slow = now < self._stalled + MEMORY
        self._slow_until = now + MEMORY
        self._stalled = now
        # The next step may be as long as the one before; this time too somebody watches.
        self._rouse(len(self.ready) if self._slow else 1)
        if not self.has_idle:
            # Nobody watches this one: the owner may know whom it can do without.
            self._room()

    def _resign(self, me: Worker, wanted: int) -> None:
        with self._lock:
            if self._leader is me:
                self._leader = None
        if self.ready or self._leader is None:
            self._rouse(wanted)
        if self._leader is None and not self.has_idle:
            self._room()

    def _rest(self, me: Worker) -> bool:
        self._idle.append(me)
        needed = True
        # Looked at behind the append: who wants somebody finds this one, or is seen.
        if not (self.ready or self._leader is None or self.closed):
            needed = len(self.crew) <= self._owner.threads
            if needed:
                needed = me.called.acquire(timeout=-1 if self._may_wait(me) else KEEP)
                if needed:
                    return True
        try:
            self._idle.remove(me)
        except ValueError:
            # Called just now.
            me.called.acquire()
            return True
        return needed

    def _may_wait(self, me: Worker) -> bool:
        return me.daemon and self._needed()

    # ------------------------------------------------------------------- the crew

    def _rouse_idle(self, count: int) -> None:
        for _ in range(count):
            try:
                self._idle.pop().call()
            except IndexError:
                return

    def _rouse(self, count: int) -> None:
        for _ in range(count):
            try:
                self._idle.pop().call()
            except IndexError:
                try:
                    if not self._start():
                        return
                except (RuntimeError, MemoryError) as error:
                    if not self.crew:
                        raise
                    # Those who are there will do it, later.
                    logger.debug("no further worker: %s", error)
                    return

    def _start(self) -> bool:
        with self._lock:
            if self.closed or len(self.crew) >= self._owner.threads:
                return False
            worker = Worker(self, self._owner.daemon_threads)
            leads = self._leader is None
            self.crew.add(worker)
            if leads:
                self._leader = worker
            try:
                worker.start()
            except (RuntimeError, MemoryError):
                self.crew.discard(worker)
                if leads:
                    self._leader = None
                raise
        return True

    def _leave(self, me: Worker) -> None:
        with self._lock:
            self.crew.discard(me)
            if self._leader is me:
                self._leader, self._polling = None, False
            if self._deputy is me:
                self._deputy = None
        if self._leader is None and (self.ready or self.parked):
            self._rouse(1)


class Worker(threading.Thread):
    """One of the crew."""

    def __init__(self, workers: Workers, daemon: bool) -> None:
        super().__init__(name="echoframe-worker", daemon=daemon)
        self._workers = workers
        # Released by whoever wants this worker to wake.
        self.called = threading.Lock()
        self.called.acquire()

    def call(self) -> None:
        """Wake it. Harmless when it was called already."""
        try:
            self.called.release()
        except RuntimeError:
            pass

    def run(self) -> None:
        self._workers.work(self)
