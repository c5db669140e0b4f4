"""The load generator: a process of its own, one epoll loop, no thread.

    python -m echoframe.compare.load        plans on stdin, tallies on stdout, pickled

A plan has two steps, so that whoever measures the server can look at it in between:

    plan   ─►  everybody connects and is served once  ─►  how many were
    go     ─►  measure for plan.seconds               ─►  Tally
    done   ─►  everybody leaves                       ─►  done

A closed loop asks when it has its reply, so a server that stalls is asked less, and the
stall hardly shows. A plan with a rate is an open loop: when messages are sent was decided
beforehand, and their latency counts from that moment, whoever was late.
"""

from __future__ import annotations

import gc
import heapq
import os
import pickle
import random
import select
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import count
from time import monotonic as clock
from typing import Any, BinaryIO

from ..address import Address
from ..framing import Framing, make_framing
from ..handlers import registry
from ..servers.descriptors import room_for_connections
from .clients import READ, Client, Target, kind_of
from .histogram import Histogram
from .plan import Plan, Tally
from .workload import CROWD, HOLD

__all__ = ["Load", "main"]

# How many of those that have never been served may be on their way in at once: more
# would be a test of the backlog.
ARRIVING = 128
# And so long may it take until everybody has been.
LONGEST = 8.0
# How often stuck clients are looked for.
LOOK = 0.05
# Before a planned moment the kernel's clock is too coarse, and the loop spins.
SPIN = 0.0005
# When a plan is kept, the next moment must not wait for all who are ready.
FEW = 16
# When nobody is told anything for so long, or for four times the longest latency, after a
# time in which there were replies, the server has hung.
SILENCE = 1.0
# A datagram that has no reply for so long was lost.
LOST = 1.0

Step = Callable[[Any], Any]


class Load:
    """A plan that is carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.target = Target(Address.parse(plan.address), plan.ca)
        self.epoll = select.epoll()
        self.errors: Counter[str] = Counter()
        # So many clients will do nothing more.
        self.through = 0
        self.stops = plan.stops
        self.planned = plan.rate is not None
        # Intended moments whose message nobody was free to send, and who is free.
        self.due: deque[float] = deque()
        self.free: deque[Client] = deque()
        self.framing: Callable[[], Framing] = make_framing(plan.framing)
        self.check = registry.resolve(plan.check) if plan.check else None
        self._steps: dict[int, Step] = {}
        self._timers: list[tuple[float, int, Step]] = []
        self._timer = 0
        self._gate: list[Client] = []
        # Not everybody has been served, and who has been waits for the others.
        self.preparing = False
        self.early: list[Client] = []
        self._looked = self._stopped = clock()
        self._patience = min(plan.patience, LOST) if self.target.datagrams else plan.patience
        self._lags: list[float] = []
        # Known before it begins: to think of them takes longer than many a reply.
        self._moments = _planned(plan)
        numbers = count(plan.first)
        self.clients = [
            Client(self, group, next(numbers)) for group in plan.groups for _ in range(group.count)
        ]
        self._measured = [client for client in self.clients if client.group.measured]
        self._visitors: list[Client] = []

    # -------------------------------------------------------- called by clients

    def watch(self, number: int, step: Step) -> None:
        """Take the next step when the descriptor can be read."""
        self._steps[number] = step
        self.epoll.register(number, READ)

    def forget(self, number: int) -> None:
        """Take no more steps for it."""
        if self._steps.pop(number, None) is not None:
            self.epoll.unregister(number)

    def wake_at(self, moment: float, step: Step) -> None:
        """Take the next step at a moment."""
        self._timer += 1
        heapq.heappush(self._timers, (moment, self._timer, step))

    def gate(self, client: Client) -> Iterator[None]:
        """Wait until the crowd is let go."""
        self._gate.append(client)
        yield

    # ------------------------------------------------------------ the two steps

    def prepare(self) -> int:
        """Connect everybody and let each be served once; how many were."""
        crowd = [client for client in self.clients if client.group.way == CROWD]
        coming = deque(client for client in self.clients if client.group.way != CROWD)
        for client in crowd:
            self._take(client.step, None)
        arriving: list[Client] = []
        served, since = -1, clock()
        end = since + LONGEST
        self.preparing = True
        while clock() < end:
            arriving = [one for one in arriving if not (one.served or one.through)]
            while coming and len(arriving) < ARRIVING:
                arriving.append(coming.popleft())
                self._take(arriving[-1].step, None)
            if not (coming or arriving):
                break
            self._turn(clock() + LOOK)
            now = clock()
            heard = sum(client.served for client in self.clients)
            if heard != served:
                served, since = heard, now
            elif now - since > self.plan.settle:
                # Whoever waits now waits in the server's backlog. The others come too.
                break
        self.preparing = False
        for client in [*self.early, *coming]:
            self._take(client.step, None)
        if not crowd:
            self._run(self.plan.warmup)
        self._stopped = clock()
        return sum(client.served for client in self.clients)

    def measure(self) -> Tally:
        """Measure for as long as the plan says."""
        plan = self.plan
        self._catch_up()
        for client in self.clients:
            del client.times[:], client.from_send[:]
        if any(client.group.way == HOLD for client in self._measured):
            self._visit()
        used = time.process_time()
        began = clock()
        if self._gate:
            self._let_go(began)
        elif plan.rate is not None:
            self._run_as_planned(began)
        else:
            self._run(plan.seconds)
        seconds = clock() - began
        cpu = (time.process_time() - used) / seconds
        tally = self._tally(began, seconds, cpu)
        if tally.messages and plan.rate is None and not plan.stops:
            kind = kind_of(TimeoutError(), self.target.datagrams)
            tally.errors += Counter({kind: self._hung(tally.latency.longest)})
        return tally

    def close(self) -> None:
        """Everybody leaves."""
        for client in self.clients + self._visitors:
            client.leave()
        self.epoll.close()

    def _tally(self, began: float, seconds: float, cpu: float) -> Tally:
        figures = self._visitors or self._measured
        lags = sorted(self._lags)
        messages = sum(len(client.times) for client in figures)
        took, busy = seconds, cpu
        if self.planned:
            # It spins, so that its CPU says nothing.
            busy = 1 - self._idle / self.plan.seconds
            # Replies that came after the time count for the latency, and not here.
            seconds = self.plan.seconds
            messages -= self._late
        return Tally(
            seconds,
            messages,
            Histogram.of(one for client in figures for one in client.times),
            Histogram.of(one for client in figures for one in client.from_send),
            self.errors.copy(),
            sum(not client.served for client in self._measured),
            [len(client.times) for client in self._measured],
            cpu,
            lags[len(lags) * 99 // 100] if lags else 0.0,
            [client.moment for client in self._measured if client.moment],
            began,
            busy,
            took,
        )

    def _hung(self, longest: float) -> int:
        # A server that has stopped answering would show what it did before and nothing
        # else: whether anybody still gets a reply is seen after the time, usually at once.
        waiting = [
            client
            for client in self._measured
            if client.served and not (client.resting or client.through)
        ]
        had = sum(len(client.times) for client in waiting), self.errors.total()
        end = clock() + max(SILENCE, 4 * longest)
        while waiting and clock() < end:
            self._turn(min(end, clock() + LOOK))
            if (sum(len(client.times) for client in waiting), self.errors.total()) != had:
                return 0
        return len(waiting)

    def _catch_up(self) -> None:
        # Since the preparations nobody has read here, and replies lie there that would
        # seem to have taken until now: each client reads its own first. Whose reply is
        # still to come by then waits for the server.
        end = 2 * clock() - self._stopped
        behind = [(client, len(client.times)) for client in self._measured]
        while clock() < end:
            behind = [
                (client, had)
                for client, had in behind
                if len(client.times) == had and not (client.resting or client.through)
            ]
            if not behind:
                break
            self._turn(end)

    def _visit(self) -> None:
        # How quickly one more is served, while so many stay.
        group = self._measured[0].group
        self._visitors = [Client(self, group.visitor(), 0)]
        self._take(self._visitors[0].step, None)

    # ---------------------------------------------------------------- the loop

    def _take(self, step: Step, what: Any) -> None:
        try:
            step(what)
        except StopIteration:
            # This one is through.
            pass

    def _run(self, seconds: float) -> None:
        end = clock() + seconds
        while clock() < end:
            self._turn(end)

    def _turn(self, end: float) -> None:
        """One look at who is ready, not longer than to the end."""
        steps, timers = self._steps, self._timers
        now = clock()
        while timers and timers[0][0] <= now:
            self._take(heapq.heappop(timers)[2], None)
        until = min(end, self._looked + self._patience)
        if timers:
            until = min(until, timers[0][0])
        ready = self.epoll.poll(max(until - clock(), 0.0))
        try:
            for number, _ in ready:
                steps[number](None)
        except (StopIteration, KeyError):
            # Somebody is through, or has left since. The rest is ready next time too.
            pass
        self._look_after(now)

    def _look_after(self, now: float) -> None:
        # No clock is read for a message: who has not come further since the last look
        # but one has been stuck for as long.
        if now - self._looked < self._patience:
            return
        self._looked = now
        for client in self.clients:
            if client.resting or client.through:
                client.progress = -1
                continue
            if client.progress == len(client.times) and (client.served or self.target.datagrams):
                client.progress = -1
                self._throw(client)
            else:
                client.progress = len(client.times)

    def _throw(self, client: Client) -> None:
        try:
            client.throw(TimeoutError())
        except StopIteration:
            pass

    def _let_go(self, began: float) -> None:
        # All at once; it is over when everybody has been served, or nobody was for long.
        gate, self._gate = self._gate, []
        for client in gate:
            self._take(client.step, None)
        seen, since = self.through, began
        everybody = seen - sum(client.through for client in gate) + len(gate)
        while self.through < everybody:
            self._turn(clock() + LOOK)
            now = clock()
            if self.through != seen:
                seen, since = self.through, now
            elif now - since > self.plan.patience:
                break

    _late = 0
    # Of a plan: so long nothing was to be sent and nothing had come.
    _idle = 0.0

    def _run_as_planned(self, began: float) -> None:
        self._keep(began)
        due = sum(len(client.times) for client in self._measured)
        # Those that are under way get their reply, and count with the time they take.
        end = clock() + self.plan.patience
        while clock() < end and (self.due or len(self.free) < len(self._measured)):
            before = len(self.free), len(self.due)
            self._turn(clock() + LOOK)
            if before == (len(self.free), len(self.due)) and all(
                client.resting or not client.served for client in self._measured
            ):
                break
        self._late = sum(len(client.times) for client in self._measured) - due
        # They would have taken longest of all, and a latency they have none.
        if self.due:
            self.errors["unsent"] += len(self.due)

    def _keep(self, began: float) -> None:
        poll, steps, free, lags = self.epoll.poll, self._steps, self.free, self._lags
        moments = self._moments
        at, last = 0, len(moments)
        while at < last:
            now = clock()
            if began + moments[at] <= now:
                upto = bisect_right(moments, now - began, at)
                # What rounding leaves over is due as well.
                for offset in moments[at : max(upto, at + 1)]:
                    intended = began + offset
                    if free:
                        self._take(free.popleft().step, intended)
                        lags.append(clock() - intended)
                    else:
                        self.due.append(intended)
                at = max(upto, at + 1)
                continue
            wait = began + moments[at] - now
            if self._timers:
                wait = min(wait, self._timers[0][0] - now)
            if wait > 2 * SPIN:
                # epoll's own time is in milliseconds.
                select.select([self.epoll], [], [], wait - SPIN)
            ready = poll(0, FEW)
            if not ready:
                self._idle += clock() - now
            try:
                for number, _ in ready:
                    steps[number](None)
            except (StopIteration, KeyError):
                pass
            if self._timers and self._timers[0][0] <= clock():
                self._take(heapq.heappop(self._timers)[2], None)
            if now - self._looked > 1.0:
                self._look_after(now)


def _planned(plan: Plan) -> list[float]:
    """When messages are to be sent, in seconds from the beginning.

    Poisson arrivals: independent people do not come at regular intervals.
    """
    moments: list[float] = []
    if plan.rate is not None:
        chance = random.Random(plan.seed)
        at = 0.0
        while (at := at + chance.expovariate(plan.rate)) < plan.seconds:
            moments.append(at)
    return moments


def main() -> None:
    """Carry out the plans that come in on stdin, until it ends."""
    source, sink = _own(0, os.O_RDONLY), _own(1, os.O_WRONLY)
    # A client is a descriptor.
    room_for_connections()
    # A pause of the collector's would be taken for one of the server's.
    gc.disable()
    gc.freeze()
    load: Load | None = None
    while (said := _hear(source)) is not None:
        try:
            if isinstance(said, Plan):
                load = Load(said)
                answer: Any = load.prepare()
            elif said == "go":
                assert load is not None
                answer = load.measure()
            else:
                if load is not None:
                    load.close()
                load = answer = None
                gc.collect()
        except Exception as error:
            answer = error
        if not _tell(sink, answer):
            break


def _own(number: int, flags: int) -> BinaryIO:
    # A check of the user's may print, or read: not in between.
    own = os.fdopen(os.dup(number), "rb" if number == 0 else "wb")
    nowhere = os.open(os.devnull, flags)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return own


def _hear(source: BinaryIO) -> Any:
    try:
        return pickle.load(source)
    except EOFError:
        return None


def _tell(sink: BinaryIO, what: Any) -> bool:
    """Say it; False if nobody hears it any more."""
    try:
        pickle.dump(what, sink)
        sink.flush()
    except BrokenPipeError:
        # The rest of it would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())
        return False
    return True


if __name__ == "__main__":
    main()
