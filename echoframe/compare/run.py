"""Workloads by subjects: who is measured when, and what comes of it.

All servers of a workload run at the same time, and in each round one after the other is
asked: so whatever else happens on the machine in a minute happens to all of them. Those
that are not asked sleep.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..errors import SettingError
from ..framing import make_framing
from ..handlers import Protocol, registry
from ..servers import MODELS, means_something, model_class
from ..servers.base import awaits
from ..session import Session
from ..version import VERSION
from .loaders import Loaders, LoadFailed
from .plan import Exchange, Group, Plan, Tally
from .result import Cell, Person, Result, Round, Subject, Task
from .subjects import Sample, Server, SubjectFailed, psutil_or_none
from .workload import DEFAULTS, HOLD, WORKLOADS, Workload

__all__ = ["AND_THEN_NO_MORE", "Order", "bench", "compare", "planned"]

# How a remark ends that says why the load came to an end.
AND_THEN_NO_MORE = "what was measured until then is here"
# Permits besides those that a workload needs.
SPARE = 100
BUSY = 0.93
# A handler may take so long for a message, and rounds last so many of them.
SLOWEST, MESSAGES = 2.0, 4

# What the built-in handlers answer.
REPLIES: dict[str, Callable[[bytes], bytes]] = {
    "echo": bytes,
    "wait": bytes,
    "work": bytes,
    "async-wait": bytes,
    "upper": bytes.upper,
    "command": lambda message: b"closed" if message.lower() == b"close" else b"accepted",
}

# Called with what is done, of how many, and what comes next.
Progress = Callable[[int, int, str], None]


@dataclass
class Order:
    """What is to be measured."""

    # The user's own; None: each workload's.
    handler: str | None = None
    models: Sequence[str] = tuple(MODELS)
    workloads: Sequence[str] = ()
    # Name to command, with {port} in it.
    against: dict[str, str] = field(default_factory=dict)
    # Numbers of clients, instead of the workloads' own; or each workload's axis of them.
    connections: Sequence[int] = ()
    axis: bool = False
    rounds: int = 3
    # Of each round, instead of the workloads' own.
    seconds: float | None = None
    rate: float | None = None
    # All of it, in seconds.
    budget: float | None = None
    pin: bool = False
    processes: int = 1
    transport: str = "tcp"
    tls_cert: str | None = None
    tls_key: str | None = None
    # Over TLS, whom the clients trust: see Plan.ca.
    tls_ca: str | None = ""
    framing: str | None = None
    messages: tuple[bytes, ...] = ()
    check: str | None = None
    pipeline: int = 1
    think: float = 0.0
    # Of the servers.
    settings: dict[str, Any] = field(default_factory=dict)
    command: str = "echoframe compare"


@dataclass
class Words:
    """What is said over a connection: messages to bytes, and what comes back."""

    exchanges: tuple[Exchange, ...]
    framing: str
    tagged: bool = False
    greetings: int = 0


def planned(order: Order, place: str = "") -> Result:
    """Give what would be measured, without a round: by compare, or by bench at a place.

    Errors: SettingError and UnknownHandler, as of compare().
    """
    if place:
        return _bench_of(place, order)
    run = _Run(order, lambda *_: None)
    run.lay_out()
    return run.laid_out


def compare(order: Order, progress: Progress) -> Result:
    """Measure, and give what there is, also after Ctrl-C: then it is not complete.

    Errors: SettingError and UnknownHandler for what cannot be measured at all, LoadFailed
    if the load could not be made before anything was.
    """
    return _Run(order, progress).result()


class _Run:
    def __init__(self, order: Order, progress: Progress) -> None:
        self._order = order
        self._progress = progress
        self._works = _workloads(order)
        self._began = time.monotonic()
        self._result = Result(
            "compare",
            datetime.now(UTC).isoformat(timespec="seconds"),
            order.command,
            VERSION,
            _environment(order),
        )
        self._cells: dict[tuple[str, str, int], Cell] = {}
        self._done = 0
        self._slots = 0
        self._server_cores: set[int] | None = None
        # Seconds that a message of the user's own handler takes.
        self._pace = 0.0
        self._folder = ""
        # By workload, whatever their number and whoever is asked: to find out whether
        # the handler greets, it is opened here.
        self._words: dict[str, Words] = {}
        # Handlers of which it is told what they raised.
        self._raised: set[str] = set()

    @property
    def laid_out(self) -> Result:
        """What is there so far."""
        return self._result

    def lay_out(self) -> None:
        """Make all that there is besides rounds. Errors: SettingError for what cannot be."""
        order, result = self._order, self._result
        for name in order.models:
            model_class(name)
            result.subjects.append(Subject(name, name, _command(order, name)))
        for name, command in order.against.items():
            if order.handler in (None, "echo"):
                result.subjects.append(Subject(name, None, command))
                continue
            result.remarks.append(
                f"{name} stays out: it echoes, and what {order.handler} answers it does not know"
            )
        for work in self._works:
            # What it would say can be said.
            self._words[work.name] = _words(order, self._handler(work), work)
            result.tasks.append(_task(work, order))
            for count in self._counts(work):
                for subject in result.subjects:
                    cell = Cell(subject.name, work.name, count)
                    if subject.model is None and self._handler(work) != "echo":
                        # Somebody else's server echoes, and nothing more is known of it.
                        continue
                    self._cells[subject.name, work.name, count] = cell
                    result.cells.append(cell)
        self._slots = len(result.cells) * order.rounds
        if order.handler is not None and not order.workloads:
            result.remarks.append(
                f"work stays out: it would ask {order.handler} the same as echo does; "
                "name it with --workload to have it"
            )

    def result(self) -> Result:
        order, result = self._order, self._result
        self.lay_out()
        try:
            with (
                tempfile.TemporaryDirectory(prefix="echoframe-") as self._folder,
                Loaders(order.processes) as loaders,
            ):
                self._pin(loaders)
                if order.handler is not None:
                    result.handler = self._look_at_handler(loaders, order.handler)
                for group in _groups(self._works, order):
                    self._measure_group(loaders, group)
        except KeyboardInterrupt:
            result.complete = False
            result.remarks.append("interrupted: what was measured until then is here")
        except LoadFailed as error:
            if not any(cell.rounds for cell in result.cells):
                raise
            result.complete = False
            result.remarks.append(f"{error}; {AND_THEN_NO_MORE}")
        for cell in result.cells:
            if not cell.rounds and not cell.failure:
                cell.failure = "not measured"
        return result

    # -------------------------------------------------------------- what it is of

    def _handler(self, work: Workload) -> str:
        return self._order.handler or work.handler

    def _counts(self, work: Workload) -> list[int]:
        return _counts(work, self._order)

    def _pin(self, loaders: Loaders) -> None:
        if not self._order.pin:
            return
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SettingError("--pin needs two cores, one for the servers and one for the load")
        # The load gets the last ones, and at most half of them.
        own = cores[-min(self._order.processes, len(cores) // 2) :]
        self._server_cores = set(cores) - set(own)
        for at, pid in enumerate(loaders.pids):
            os.sched_setaffinity(pid, {own[at % len(own)]})

    def _place(self, name: str) -> str:
        if self._order.transport == "unix":
            return f"unix://{self._folder}/{name}-{time.monotonic_ns()}"
        return f"{self._order.transport}://127.0.0.1:0"

    # -------------------------------------------------------------- the servers

    def _measure_group(self, loaders: Loaders, group: list[Workload]) -> None:
        servers: dict[str, Server] = {}
        try:
            for subject in self._result.subjects:
                cells = [
                    self._cells[key]
                    for work in group
                    for count in self._counts(work)
                    if (key := (subject.name, work.name, count)) in self._cells
                ]
                if not cells:
                    continue
                if self._late():
                    self._give_up(cells)
                    continue
                try:
                    servers[subject.name] = self._start(subject, group)
                except SubjectFailed as error:
                    self._fail(cells, str(error))
                    continue
                for cell in cells:
                    cell.ready = servers[subject.name].ready
            for work in group:
                for count in self._counts(work):
                    for _ in range(self._order.rounds):
                        self._measure_round(loaders, servers, work, count)
        finally:
            _stop(servers.values())
        for name, server in servers.items():
            self._note_raised(name, group, server.raised)

    def _note_raised(self, subject: str, group: list[Workload], raised: str) -> None:
        # Once of each handler: what it raises on one model it raises on all.
        names = [work.name for work in group]
        handler = self._handler(group[0])
        if not raised or handler in self._raised:
            return
        rounds = [
            one
            for cell in self._result.cells
            if cell.subject == subject and cell.task in names
            for one in cell.rounds
        ]
        if any(one.errors or not one.messages for one in rounds):
            self._raised.add(handler)
            self._result.remarks.append(f"{handler} raised {raised}")

    def _start(self, subject: Subject, group: list[Workload]) -> Server:
        if subject.model is None:
            assert subject.command is not None
            server = Server("", command=subject.command, cores=self._server_cores)
        else:
            ours = {
                "handler": self._handler(group[0]),
                "model": subject.model,
                "settings": self._settings(subject.model, group),
            }
            server = Server(
                self._place(subject.name),
                ours=ours,
                drawn=any(work.drawn for work in group),
                cores=self._server_cores,
            )
        if server.runs_on and not subject.note:
            subject.note = f"on {server.runs_on}"
        return server

    def _settings(self, model: str, group: list[Workload]) -> dict[str, Any]:
        order = self._order
        kind = model_class(model)
        needed = max(
            sum(one.count for one in work.with_connections(count).clients) + SPARE
            for work in group
            for count in self._counts(work)
        )
        settings: dict[str, Any] = {}
        if model not in ("single", "prefork"):
            settings["max_connections"] = max(needed, kind.max_connections)
        settings.update(group[0].settings)
        settings.update(
            {name: value for name, value in order.settings.items() if means_something(kind, name)}
        )
        if model == "single":
            settings.pop("max_connections", None)
        if order.framing is not None:
            settings["framing"] = order.framing
        if order.transport == "tls":
            settings.update(tls_cert=order.tls_cert, tls_key=order.tls_key)
        return settings

    # --------------------------------------------------------------- the rounds

    def _measure_round(
        self, loaders: Loaders, servers: dict[str, Server], work: Workload, count: int
    ) -> None:
        for subject in self._result.subjects:
            cell = self._cells.get((subject.name, work.name, count))
            if cell is None:
                continue
            self._done += 1
            if cell.failure or subject.name not in servers:
                continue
            if self._late():
                self._give_up([cell])
                continue
            self._progress(self._done, self._slots, f"{work.name} {subject.name} {count}")
            server = servers[subject.name]
            try:
                if work.stops and cell.rounds:
                    # The last round has ended it.
                    server = servers[subject.name] = self._start(subject, [work])
                self._measure(loaders, server, cell, work.with_connections(count))
            except (LoadFailed, SubjectFailed) as error:
                cell.failure = str(error)
                if isinstance(error, LoadFailed):
                    raise
            if server.ended and not work.stops:
                self._bury(servers.pop(subject.name), cell)

    def _bury(self, server: Server, cell: Cell) -> None:
        # What it was to serve later, it will not.
        cell.failure = server.why()
        server.stop()
        handler = self._result.task(cell.task).handler
        self._fail(
            [
                one
                for one in self._result.cells
                if one.subject == cell.subject
                and not one.rounds
                and self._result.task(one.task).handler == handler
            ],
            f"its server has died under {cell.task}: {cell.failure}",
        )

    def _measure(self, loaders: Loaders, server: Server, cell: Cell, work: Workload) -> None:
        plan = self._paced(_plan(self._order, server.address, work, self._words[work.name]))
        empty = server.sample(whole=True)
        # What was seen in earlier rounds is nobody's of this one.
        server.seen()
        loaders.prepare(plan)
        before = server.sample()
        loaders.go()
        if work.stops:
            time.sleep(plan.seconds / 2)
            cell.stop = server.stop()
            tally = loaders.tally()
            after = None
        else:
            tally = loaders.tally()
            after = server.sample(whole=True)
        one = _round(tally, work)
        if before is not None and after is not None and empty is not None:
            _add_system(one, empty, before, after, tally, loaders.count)
        if work.drawn and not cell.timeline:
            cell.timeline = _timeline(tally, server.seen())
        loaders.done()
        cell.rounds.append(one)

    def _paced(self, plan: Plan) -> Plan:
        # Of a handler that takes its time, a short round would see nothing.
        needed = MESSAGES * self._pace
        seconds = plan.seconds if self._order.seconds else max(plan.seconds, needed)
        return replace(plan, seconds=seconds, settle=max(plan.settle, needed))

    def _late(self) -> bool:
        budget = self._order.budget
        return budget is not None and time.monotonic() - self._began > budget

    def _give_up(self, cells: list[Cell]) -> None:
        self._result.complete = False
        self._fail([cell for cell in cells if not cell.rounds], "not measured: the time was up")

    def _fail(self, cells: list[Cell], why: str) -> None:
        for cell in cells:
            cell.failure = cell.failure or why

    # ------------------------------------------------------------- the handler

    def _look_at_handler(self, loaders: Loaders, handler: str) -> dict[str, Any]:
        """Find out what one message costs: how long it waits, and what it computes."""
        protocol = _protocol(handler)
        facts: dict[str, Any] = {"name": handler}
        facts["keeps_worker"] = protocol is None
        facts["asynchronous"] = protocol is not None and awaits(protocol)
        model = "aio" if facts["asynchronous"] else "single"
        [work] = _workloads(replace(self._order, workloads=["echo"], pipeline=1, think=0.0))
        work = replace(work.with_connections(1), seconds=0.2)
        try:
            server = self._start(Subject(model, model), [work])
        except SubjectFailed:
            # The rounds will say the same of each model.
            return facts
        try:
            words = _words(self._order, handler, work)
            # Once more with patience, if it takes its time.
            for seconds in (work.seconds, SLOWEST):
                plan = _plan(self._order, server.address, replace(work, seconds=seconds), words)
                loaders.prepare(replace(plan, settle=seconds))
                loaders.go()
                tally = loaders.tally()
                loaders.done()
                if tally.messages or tally.errors:
                    break
        finally:
            server.stop()
        if not tally.messages and not tally.errors:
            # To the rounds it will be somebody who never answers.
            self._result.remarks.append(
                f"{handler} gave a single client no reply within {tally.seconds:.1g} s; "
                "if it takes longer than that, measure longer, as with -d 5"
            )
        if tally.messages and server.cpu is not None and tally.latency.mean is not None:
            facts["cpu"] = min(server.cpu / tally.messages, tally.latency.mean)
            facts["wait"] = max(tally.latency.mean - facts["cpu"], 0.0)
            self._pace = tally.latency.mean
        return facts


def bench(place: str, order: Order, progress: Progress) -> Result:
    """Measure one server that runs already, wherever it is. Errors: LoadFailed, SettingError."""
    [work] = _workloads(order)
    words = _words(order, order.handler or work.handler, work)
    counts = _counts(work, order)
    result = _bench_of(place, order)
    try:
        with Loaders(order.processes) as loaders:
            for at, (count, cell) in enumerate(zip(counts, result.cells, strict=True)):
                plan = _plan(order, place, work.with_connections(count), words)
                for turn in range(order.rounds):
                    done, slots = at * order.rounds + turn, len(counts) * order.rounds
                    progress(done, slots, f"{place} {count}")
                    loaders.prepare(plan)
                    loaders.go()
                    cell.rounds.append(_round(loaders.tally(), work))
                    loaders.done()
    except KeyboardInterrupt:
        result.complete = False
        result.remarks.append("interrupted: what was measured until then is here")
    return result


# ------------------------------------------------------------------- the pieces


def _bench_of(place: str, order: Order) -> Result:
    [work] = _workloads(order)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    result = Result("bench", made, order.command, VERSION, _environment(order))
    result.subjects.append(Subject(place))
    result.tasks.append(_task(work, order))
    result.cells += [Cell(place, work.name, count) for count in _counts(work, order)]
    return result


def _stop(servers: Collection[Server]) -> None:
    with contextlib.ExitStack() as ends:
        # A Ctrl-C costs one of them its patience, and the others end all the same.
        for server in servers:
            ends.callback(server.stop)
        # Those that take long take it at the same time.
        for server in servers:
            server.tell()


def _workloads(order: Order) -> list[Workload]:
    names = list(order.workloads) or list(DEFAULTS)
    if not order.workloads and order.handler is not None:
        # The same handler as in the others, and with four clients nothing new.
        names.remove("work")
    found = []
    for name in dict.fromkeys(names):
        work = WORKLOADS[name]
        if order.messages:
            work = work.with_messages(order.messages)
        elif order.handler is not None and order.handler not in REPLIES:
            work = work.with_messages((b"hello",))
        if order.seconds is not None:
            work = replace(work, seconds=order.seconds)
        if order.pipeline > 1 or order.think:
            clients = tuple(
                replace(one, pipeline=order.pipeline, think=order.think) for one in work.clients
            )
            work = replace(work, clients=clients)
        found.append(work)
    return found


def _counts(work: Workload, order: Order) -> list[int]:
    axis = work.axis if order.axis else ()
    return sorted(set(order.connections or axis)) or [work.connections]


def _groups(works: list[Workload], order: Order) -> list[list[Workload]]:
    # Those whose servers are the same share them.
    groups: dict[Any, list[Workload]] = {}
    for work in works:
        alone = work.name if work.stops or work.drawn or work.settings else ""
        groups.setdefault((order.handler or work.handler, alone), []).append(work)
    return list(groups.values())


def _task(work: Workload, order: Order) -> Task:
    beside = [one for one in work.clients if not one.measured]
    ours = work.asked and order.handler in (None, work.handler) and not order.messages
    return Task(
        work.name,
        f"{work.what}, {work.asked}" if ours else work.what,
        order.handler or work.handler,
        work.way,
        order.rate,
        f"beside {sum(one.count for one in beside)} others" if beside else "",
        work.stops,
        next(one.stay for one in work.clients if one.measured),
    )


def _words(order: Order, handler: str, work: Workload) -> Words:
    protocol = _protocol(handler)
    framing = order.framing or (protocol.client_framing if protocol else "line")
    if order.transport == "udp":
        framing = "raw"
    reply = REPLIES.get(handler)
    make = make_framing(framing)
    wrap = make().wrap
    size = protocol.reply_size if protocol else None
    raw = not make().has_boundaries

    def exchange(message: bytes) -> Exchange:
        if not make().carries(message):
            raise SettingError(
                f"{message[:40]!r} is not one message with the framing {str(framing)!r}"
            )
        if not wrap(message):
            raise SettingError(f"an empty message is nothing with the framing {str(framing)!r}")
        known = None if reply is None or order.check else wrap(reply(message))
        if known is None and raw and size is not None and size(message) is None:
            raise SettingError(f"the reply_size of {message[:40]!r} is not known")
        return Exchange(wrap(message), known, message)

    exchanges = tuple(exchange(one) for group in work.clients for one in group.messages)
    shortest = min(len(one.out) for one in exchanges)
    return Words(
        exchanges,
        str(framing),
        tagged=handler == "echo" and raw and shortest >= 32 and not order.check,
        greetings=_greetings(protocol, framing),
    )


def _protocol(handler: str) -> Protocol | None:
    found = registry.resolve(handler)
    if isinstance(found, Protocol):
        return found
    if isinstance(found, type) and not hasattr(found, "on_message"):
        # A handler class of socketserver's: it reads and writes as it likes.
        return None
    return Protocol.of(found)


def _greetings(protocol: Protocol | None, framing: Any) -> int:
    """How many messages the server says before it is asked anything."""
    if protocol is None:
        return 0
    try:
        opened = Session(protocol.open(), make_framing(protocol.framing)())
        out = opened.open()
        opened.close("peer")
    except SettingError:
        raise
    except Exception:
        # It is the user's, and will raise in the servers too, where it is told.
        return 0
    read = make_framing(framing)()
    read.feed(out)
    count = 0
    while out and read.next() is not None:
        count += 1
    return count


def _plan(order: Order, address: str, work: Workload, words: Words) -> Plan:
    groups = []
    rest = list(words.exchanges)
    for one in work.clients:
        own, rest = rest[: len(one.messages)], rest[len(one.messages) :]
        groups.append(
            Group(
                one.count,
                one.way,
                tuple(own),
                one.pipeline,
                one.think,
                one.stay,
                one.measured,
                words.tagged and one.way != "sip",
            )
        )
    return Plan(
        address,
        tuple(groups),
        work.seconds,
        rate=order.rate,
        framing=words.framing,
        check=order.check,
        stops=work.stops,
        greetings=words.greetings,
        ca=order.tls_ca,
    )


def _round(tally: Tally, work: Workload) -> Round:
    each = tally.each
    squares = sum(one * one for one in each)
    return Round(
        tally.seconds,
        tally.messages,
        tally.latency,
        errors=dict(tally.errors),
        unserved=tally.unserved,
        # Jain's: how evenly the replies were spread over the clients.
        fairness=sum(each) ** 2 / (len(each) * squares) if squares else None,
        generator=tally.cpu,
        lag=tally.lag,
        from_send=tally.from_send,
        bound=_bound(tally, work),
    )


def _bound(tally: Tally, work: Workload) -> bool:
    if work.way == HOLD:
        return False
    if tally.busy > BUSY:
        return True
    if not tally.from_send.total:
        return False
    # A plan that is not kept says nothing of the server either.
    middle = tally.latency.percentile(50) or tally.latency.mean or 0.0
    return tally.lag > 0.001 and tally.lag > middle / 2


def _add_system(
    one: Round, empty: Sample, before: Sample, after: Sample, tally: Tally, processes: int
) -> None:
    cpu = max(after.cpu - before.cpu, 0.0)
    # Replies that came after the time took their part of it as well.
    share = tally.messages / tally.latency.total if tally.latency.total else 1.0
    one.cpu = cpu * share
    one.switches = round(max(after.switches - before.switches, 0) * share)
    one.threads, one.processes = after.threads, after.processes
    one.descriptors, one.memory = after.descriptors, after.memory
    one.memory_kind, one.memory_before = after.memory_kind, empty.memory
    if tally.took:
        mine = cpu + tally.cpu * processes * tally.took
        taken = (after.busy - before.busy - mine) / tally.took / (os.cpu_count() or 1)
        one.others = min(max(taken, 0.0), 1.0)


def _timeline(tally: Tally, seen: list[tuple[int, float, float]]) -> list[Person]:
    known = {port: (began, ended) for port, began, ended in seen}
    start = tally.began
    people = []
    for moment in tally.moments:
        began, ended = known.get(moment.port, (None, None))
        people.append(
            Person(
                moment.came - start,
                None if began is None else began - start,
                None if ended is None else ended - start,
                None if moment.replied is None else moment.replied - start,
            )
        )
    never = float("inf")
    people.sort(key=lambda one: (one.began or one.replied or never, one.replied or never))
    return people


def _command(order: Order, model: str) -> str:
    words = ["echoframe", "serve", order.handler or "HANDLER", "--model", model]
    return shlex.join(words)


def _environment(order: Order) -> dict[str, Any]:
    psutil = psutil_or_none()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "pinned": order.pin,
        "psutil": psutil.__version__ if psutil else None,
    }
    # What is as usual would only be in the way.
    if order.transport != "tcp":
        found["transport"] = order.transport
    if order.processes > 1:
        found["processes"] = order.processes
    return found
