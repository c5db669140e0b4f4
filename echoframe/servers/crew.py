"""The workers of prefork: started, watched, renewed and replaced by their supervisor.

What a worker serves is not known here; that is working.py's. The two sides tell each
other numbers in a row of a shared mapping, one writer for each cell, and peers' names,
which have no fixed length, through a pipe. The supervisor sleeps until it is woken,
and starts no thread.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import WorkersFailed
from .children import ended, flush, handle_of, kill, leave, words_for
from .life import Life, Report
from .lifecycle import GRACE
from .rows import CELLS, HIGHEST, Rows
from .tending import counted

__all__ = ["CUT", "DRAIN", "OURS", "PAUSE", "Crew", "Post"]

logger = logging.getLogger("echoframe.server")

# The cells of a worker's row. The first two are the supervisor's to write.
(
    ORDER,  # what it shall do, below
    DEADLINE,  # until when a drain may last: nanoseconds of time.monotonic()
    READY,  # 1 once it serves
    FULL,  # 1 once another one should take its place
    ACCEPTED,  # connections
    SERVED,  # the same, when they are over
    ROOM,  # 1 while it takes more
) = range(7)

# Orders. A SIGTERM says that there is one; without one, it means drain.
SERVE = 1  # accept, after a pause
PAUSE = 2  # accept no more, and go on with what there is
DRAIN = 3
CUT = 4

# Enough for every worker of a large machine, and as many again that still drain.
ROWS = 4096
# A worker that ends so soon (seconds) has failed; another one comes at once, the next
# a moment later, and then later each time.
YOUNG = 5.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# So many failures in a row, and nobody was ever served: it will not get better.
FAILURES = 5
# A worker that does not serve by then (seconds) never will, and would hold up the others.
PUNCTUAL = 30.0
# What was told to end, and has not by so long after its deadline, is killed.
PATIENCE = 2 * GRACE
# Where no descriptor tells of a worker's end, it is looked for so often.
SOMETIMES = 1.0
# No room, no memory: so long until the next try.
REST = 0.1

# Descriptors that are kept for each worker to begin with, also where they have run out.
SPARE = 4

# Held back while a process is forked; a worker has its own way with them.
OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Worker:
    """A worker, as its supervisor knows it."""

    # When it must have ended, once it was told to.
    deadline: float | None = None
    killed = False

    def __init__(self, pid: int, row: int, slot: Slot, generation: int) -> None:
        self.pid = pid
        self.row = row
        self.slot = slot
        self.generation = generation
        self.born = time.monotonic()
        self.handle = handle_of(pid)
        # Who was there when its drain began: (name, "finished" or "cut").
        self.who: list[tuple[str, str]] = []


class Slot:
    """A place in the crew, with the worker that has it and the one that will."""

    worker: Worker | None = None
    coming: Worker | None = None
    # Not before this may another one be started.
    not_before = 0.0
    # Workers that ended soon, in a row; and those of them that had served nobody.
    failed = 0
    useless = 0

    def __init__(self, number: int) -> None:
        self.number = number


class Crew:
    """The workers of one server, and what they have done."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.slots: list[Slot] = []
        self.workers: dict[int, Worker] = {}
        # Of those that have ended: all that was served, and who was there when the
        # server stopped.
        self.served = 0
        self.cut = 0
        self.who: list[tuple[str, str]] = []
        self.rows = Rows(ROWS)
        self.lifeline = self.names = (-1, -1)
        self.spare: list[int] = []
        try:
            # Nobody ever writes into it: its end is the end of the supervisor.
            self.lifeline = os.pipe()
            self.names = os.pipe()
            self.spare += [os.dup(self.lifeline[0]) for _ in range(SPARE)]
        except OSError:
            self.close()
            raise
        os.set_blocking(self.names[0], False)
        self._rest = b""
        self._generation = 0
        self.life: Life
        self._heard = -1
        self._work: Callable[[Post], None]
        self._starve: Callable[[str, BaseException], None]

    def attend(
        self,
        life: Life,
        size: int,
        work: Callable[[Post], None],
        starve: Callable[[str, BaseException], None],
    ) -> None:
        """Serve, or serve again after a pause. `work` is what a worker does."""
        self.life, self._work, self._starve = life, work, starve
        if self._heard != self.names[0]:
            self._heard = self.names[0]
            life.watch.add(self.names[0], self._hear)
        self.slots = self.slots or [Slot(number) for number in range(size)]
        self.order_all(SERVE)

    @property
    def is_complete(self) -> bool:
        """Every place has a worker that serves."""
        return all(slot.worker is not None for slot in self.slots)

    def close(self) -> None:
        """Let go of everything. Harmless when called again."""
        _close(*self.lifeline, *self.names, *self.spare)
        self.lifeline = self.names = (-1, -1)
        self.spare = []
        self.rows.close()

    # ------------------------------------------------------------ looking after

    def look(self, drain_timeout: float) -> float | None:
        """See that everybody is there; in how many seconds to look again.

        Errors: WorkersFailed when workers end as soon as they are started.
        """
        pause = self.bury()
        now = time.monotonic()
        for slot in self.slots:
            if slot.coming is not None and self._tells(slot.coming, READY):
                self._change_over(slot, now + drain_timeout)
        for slot in self.slots:
            if slot.coming is None and (slot.worker is None or self._wants_another(slot.worker)):
                if now >= slot.not_before:
                    self._start(slot, now)
                if slot.coming is None:
                    pause = min(max(slot.not_before - now, 0.01), pause or LONGEST_PAUSE)
            if slot.coming is not None:
                pause = min(pause or PUNCTUAL, PUNCTUAL)
        return pause

    def bury(self) -> float | None:
        """Wait for those that have ended, and kill who should have."""
        now = time.monotonic()
        pauses = []
        for worker in list(self.workers.values()):
            code = ended(worker.pid)
            if code is not None:
                self._bury(worker, code, now)
                continue
            if worker.handle is None:
                pauses.append(SOMETIMES)
            if worker.killed:
                continue
            if worker.deadline is not None:
                due, fault = worker.deadline + PATIENCE, "has not ended"
            elif worker.slot.coming is worker and not self._tells(worker, READY):
                due, fault = worker.born + PUNCTUAL, f"does not serve after {PUNCTUAL:g} s"
            else:
                continue
            if now >= due:
                logger.warning("worker %d %s; killing it", worker.pid, fault)
                worker.killed = True
                kill(worker.pid, signal.SIGKILL)
            else:
                pauses.append(due - now)
        return min(pauses, default=None)

    def renew(self) -> None:
        """Have a new worker take the place of each, one after the other. From any thread."""
        self._generation += 1

    def order_all(self, order: int, deadline: float = 0.0) -> None:
        """Tell every worker. A deadline is a time.monotonic()."""
        for worker in self.workers.values():
            # Who is on the way out does not come back.
            if order >= DRAIN or worker.deadline is None:
                self._order(worker, order, deadline)

    def _order(self, worker: Worker, order: int, deadline: float) -> None:
        if order >= DRAIN:
            if worker.deadline is not None:
                deadline = min(deadline, worker.deadline)
            worker.deadline = deadline
        cells, row = self.rows.cells, worker.row
        cells[row + DEADLINE] = int(deadline * 1e9)
        cells[row + ORDER] = order
        kill(worker.pid, signal.SIGTERM)

    def _tells(self, worker: Worker, cell: int) -> int:
        return self.rows.cells[worker.row + cell]

    def _wants_another(self, worker: Worker) -> bool:
        if worker.generation == self._generation and not self._tells(worker, FULL):
            return False
        # One after the other: the machine need not hold two crews.
        return not any(slot.worker is not None and slot.coming is not None for slot in self.slots)

    def _change_over(self, slot: Slot, deadline: float) -> None:
        old, slot.worker, slot.coming = slot.worker, slot.coming, None
        if old is not None and slot.worker is not None:
            logger.info("worker %d takes the place of worker %d", slot.worker.pid, old.pid)
            self._order(old, DRAIN, deadline)

    # ------------------------------------------------------------------- births

    def _start(self, slot: Slot, now: float) -> None:
        slot.not_before = now + REST
        if not self.rows.free:
            return
        row = self.rows.take()
        # Until it says otherwise itself: it will take some.
        self.rows.cells[row + ROOM] = 1
        self.rows.cells[HIGHEST] = max(self.rows.cells[HIGHEST], row)
        # Or the worker would write what waits in this buffer a second time.
        flush()
        # None may come between a fork and its place in the table, nor to a worker
        # that has no handlers of its own yet.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
        try:
            pid = os.fork()
            if pid == 0:
                self._work_and_exit(slot, row, before)
            slot.coming = worker = Worker(pid, row, slot, self._generation)
            self.workers[pid] = worker
            if worker.handle is not None:
                # To be woken is enough: all of them are looked at then.
                self.life.watch.add(worker.handle, _nothing)
        except OSError as error:
            self.rows.cells[row + ROOM] = 0
            self.rows.give_back(row)
            self._starve("starting workers", error)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _work_and_exit(self, slot: Slot, row: int, before: set[Any]) -> NoReturn:
        status = 1
        try:
            self._work(Post(self, slot.number, row, before))
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else bool(leaving.code)
        except BaseException:
            logger.exception("worker %d failed", os.getpid())
        finally:
            # A worker never returns into the supervisor's code, nor does its atexit.
            try:
                flush()
            finally:
                leave(status & 0xFF)

    # ------------------------------------------------------------------- deaths

    def _bury(self, worker: Worker, code: int, now: float) -> None:
        # What it said last is still on the way.
        self._hear()
        del self.workers[worker.pid]
        if worker.handle is not None:
            self.life.watch.remove(worker.handle)
            os.close(worker.handle)
        slot = worker.slot
        renewing = slot.coming is worker and slot.worker is not None
        slot.worker = None if slot.worker is worker else slot.worker
        slot.coming = None if slot.coming is worker else slot.coming
        accepted, served = self._tells(worker, ACCEPTED), self._tells(worker, SERVED)
        told = worker.deadline is not None or (code == 0 and self._tells(worker, FULL))
        self.rows.cells[worker.row + ROOM] = 0
        self.rows.give_back(worker.row)
        self.served += served
        cut = sum(how == "cut" for _, how in worker.who)
        if self.life.draining:
            self.who += worker.who
            # Whoever was with a worker that could not say so has no name.
            self.cut += accepted - served if code else 0
        elif cut:
            logger.warning("worker %d cut %s", worker.pid, counted(cut, "conversation"))
        if told or self.life.draining:
            logger.debug("worker %d %s", worker.pid, words_for(code))
            return
        self._fail(slot, now, now - worker.born < YOUNG, bool(accepted))
        if renewing:
            # Whoever is full asks again; nobody asks again for what was to be reloaded.
            for other in self.slots:
                if other.worker is not None:
                    other.worker.generation = self._generation
            what = " before it served, so the old one stays"
        elif slot.not_before > now:
            what = f", and another one starts in {slot.not_before - now:.1f} s"
        else:
            what = ", and another one starts"
        logger.warning("worker %d %s%s", worker.pid, words_for(code), what)
        useful = any(now - one.born >= YOUNG for one in self.workers.values()) or any(
            self._tells(one, ACCEPTED) for one in self.workers.values()
        )
        if slot.useless >= FAILURES and not useful:
            raise WorkersFailed(
                f"workers end as soon as they are started: {slot.useless} in a row, "
                f"and the last one {words_for(code)}; the log before this says why"
            )

    def _fail(self, slot: Slot, now: float, young: bool, served: bool) -> None:
        slot.failed = slot.failed + 1 if young else 1
        slot.useless = slot.useless + 1 if young and not served else 0
        slot.not_before = now
        if slot.failed > 1:
            slot.not_before += min(FIRST_PAUSE * 2 ** (slot.failed - 2), LONGEST_PAUSE)

    def _hear(self) -> None:
        try:
            # More than a pipe holds.
            said = os.read(self.names[0], 1 << 20)
        except BlockingIOError:
            return
        import json

        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            pid, name, how = json.loads(line)
            if pid in self.workers:
                self.workers[pid].who.append((name, how))


class Post:
    """A worker's side: what it is told, and what it tells."""

    def __init__(self, crew: Crew, number: int, row: int, before: set[Any]) -> None:
        # Its slot's.
        self.number = number
        # The signals that were blocked when it was forked.
        self.blocked = before
        self.supervisor = crew.pid
        self._wake = crew.life.wake
        self._cells, self._row = crew.rows.cells, row
        self._lifeline, self._names = crew.lifeline[0], crew.names[1]
        self._accepted = 0
        # The last order that was carried out.
        self.obeyed = 0
        # What only the supervisor holds. Above all its end of the lifeline.
        _close(crew.lifeline[1], crew.names[0], *crew.spare)
        _close(*(worker.handle for worker in crew.workers.values()))
        crew.life.watch.close()

    @property
    def order(self) -> int:
        return self._cells[self._row + ORDER]

    @property
    def deadline(self) -> float:
        return self._cells[self._row + DEADLINE] / 1e9

    def ask(self, what: bytes) -> None:
        """Ask the supervisor for something. From any thread, signal handler or child."""
        self._wake.set(what)

    def ready(self) -> None:
        """Tell that from here on it serves."""
        self._tell(READY)

    def full(self) -> None:
        """Ask for another worker in this one's place."""
        self._tell(FULL)

    def _tell(self, cell: int) -> None:
        if not self._cells[self._row + cell]:
            self._cells[self._row + cell] = 1
            self._wake.set()

    def accepted(self) -> None:
        self._accepted += 1
        self._cells[self._row + ACCEPTED] = self._accepted

    def served(self, count: int) -> None:
        self._cells[self._row + SERVED] = count

    def has_room(self, room: bool) -> None:
        """Tell the others whether this one takes more connections."""
        self._cells[self._row + ROOM] = room

    def others_have_room(self) -> bool:
        rows = range(CELLS, self._cells[HIGHEST] + 1, CELLS)
        return any(self._cells[row + ROOM] for row in rows if row != self._row)

    def report(self, report: Report) -> None:
        """Tell how it ended."""
        import json

        self.served(report.served)
        for name, how in report.who:
            line = json.dumps([os.getpid(), name[:500], how])
            try:
                # One write of a short line is never mixed with another's.
                os.write(self._names, line.encode() + b"\n")
            except OSError:
                # The supervisor has gone: nobody is left to tell.
                return

    def hold_on(self, patience: float) -> None:
        """From now on, end when the supervisor does: drain, but no longer than `patience`."""
        threading.Thread(
            target=self._hold_on, args=(patience,), name="echoframe-lifeline", daemon=True
        ).start()

    def _hold_on(self, patience: float) -> None:
        # They are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
        os.read(self._lifeline, 1)
        logger.warning("the supervisor has gone, so worker %d drains and ends", os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience + PATIENCE)
        os._exit(1)


def _close(*numbers: int | None) -> None:
    for number in numbers:
        if number is not None and number >= 0:
            os.close(number)


def _nothing() -> None:
    pass
