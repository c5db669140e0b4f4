from __future__ import annotations

import contextlib
import os
import resource
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from echoframe import Address, Handler, Reply
from echoframe.compare.figures import figures
from echoframe.compare.histogram import Histogram
from echoframe.compare.loaders import Loaders, LoadFailed
from echoframe.compare.plan import Exchange, Group, Plan, Tally
from echoframe.compare.result import Cell, Result, Round
from echoframe.compare.run import Order, _add_system, bench, compare, planned
from echoframe.compare.subjects import Sample, Server, SubjectFailed, psutil_or_none
from echoframe.errors import SettingError
from echoframe.servers import MODELS
from echoframe.testing import running
from tests.cli.programs import surroundings
from tests.helpers import DEADLINE, eventually, nothing_left_behind

HERE = "tests.compare.test_run"


class Greeting(Handler):
    def on_open(self) -> bytes:
        return b"welcome"

    def on_message(self, message: bytes) -> Reply:
        return Reply(b"you said " + message)


class Whole(socketserver.StreamRequestHandler):
    """A handler class, which reads and writes itself."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


async def awaiting(message: bytes) -> bytes:
    import asyncio

    await asyncio.sleep(0.005)
    return message


def crashes(message: bytes) -> bytes:
    os._exit(7)


def quietly(done: int, total: int, what: str) -> None:
    assert 0 < done <= total
    assert what


def measured(**order: Any) -> Result:
    given: dict[str, Any] = {"rounds": 1, "seconds": 0.05, **order}
    while True:
        with nothing_left_behind():
            result = compare(Order(**given), quietly)
        rounds = [one for found in result.cells for one in found.rounds]
        if all(one.messages or one.errors for one in rounds) or given["seconds"] > 2:
            return result
        # This machine stood still for so long.
        given["seconds"] *= 4


def cell(result: Result, subject: str) -> Cell:
    [found] = [one for one in result.cells if one.subject == subject]
    return found


def fault(words: str) -> str:
    return f"{sys.executable} -m tests.compare.faulty {words}"


# ------------------------------------------------------------------- all models


def test_every_model_is_measured_and_says_what_it_used() -> None:
    result = measured(workloads=["echo"], connections=[4])
    assert [one.subject for one in result.cells] == list(MODELS)
    assert result.complete
    for one in result.cells:
        assert not one.failure
        [found] = one.rounds
        assert found.messages > 0
        assert not found.errors
        assert found.unserved == (3 if one.subject == "single" else 0)
        assert one.ready is not None
        if psutil_or_none():
            assert found.cpu is not None
            assert found.cpu > 0
            assert found.memory is not None
            assert found.memory > 1_000_000
            assert found.threads is not None
            assert found.descriptors is not None
            assert found.processes == {"fork": 5, "prefork": 1 + (os.cpu_count() or 1)}.get(
                one.subject, 1
            )
    assert next(one.note for one in result.subjects if one.name == "aio").startswith("on ")


# Those that serve one after the other make a staircase, whose last step is as late as
# all waits together; the others are through when one is.
def test_a_crowd_shows_who_serves_together() -> None:
    result = measured(workloads=["wait"], connections=[6], settings={"workers": 2})
    for one in result.cells:
        [found] = one.rounds
        assert found.messages == 6
        people = one.timeline
        assert len(people) == 6
        for person in people:
            assert person.began is not None
            assert person.ended is not None
            assert person.replied is not None
            assert person.came <= person.began <= person.ended <= person.replied + 0.001
            assert person.ended - person.began >= 0.02
        stairs = one.subject in ("single", "loop", "aio")
        spans = sorted((person.began, person.ended) for person in people)
        together = any(
            following[0] < before[1]  # type: ignore[operator]  # see above
            for before, following in pairwise(spans)
        )
        assert together is not stairs
        if stairs:
            assert found.seconds >= 6 * 0.02


def test_async_wait_serves_together_on_aio_and_nowhere_else() -> None:
    result = measured(
        handler="async-wait", models=["loop", "aio"], workloads=["wait"], messages=(b"20",)
    )
    assert "async" in cell(result, "loop").failure
    [found] = cell(result, "aio").rounds
    assert found.messages == 20
    assert found.seconds < 20 * 0.02


@pytest.mark.parametrize("workload", ["idle", "mixed", "slow", "burst", "overload"])
def test_the_other_workloads(workload: str) -> None:
    # A hog on the loop has it for 50 ms, and nobody else meanwhile.
    seconds = 0.3 if workload == "mixed" else 0.05
    result = measured(workloads=[workload], models=["loop"], connections=[5], seconds=seconds)
    for one in result.cells:
        assert not one.failure
        [found] = one.rounds
        assert found.messages > 0
        assert not found.errors
        assert found.unserved == 0


def test_drain_tells_how_long_a_stop_takes() -> None:
    result = measured(workloads=["drain"], models=["thread"], connections=[3], rounds=2)
    one = cell(result, "thread")
    assert len(one.rounds) == 2
    assert one.stop is not None
    assert 0 < one.stop < DEADLINE


@pytest.mark.parametrize("transport", ["unix", "udp"])
def test_other_transports(transport: str) -> None:
    result = measured(
        workloads=["echo", "churn"], models=["pool"], connections=[3], transport=transport
    )
    for one in result.cells:
        assert not one.failure
        assert one.rounds[0].messages > 0
        assert not one.rounds[0].errors


def test_a_plan_and_two_processes_and_cores_of_their_own() -> None:
    result = measured(
        workloads=["echo"],
        models=["loop"],
        connections=[4],
        rate=500.0,
        seconds=0.2,
        processes=2,
        pin=len(os.sched_getaffinity(0)) > 1,
    )
    [found] = cell(result, "loop").rounds
    assert result.task("echo").rate == 500.0
    assert found.latency.total == found.from_send.total > 40
    assert len(result.cells) == 1


# ------------------------------------------------------------ a handler of one's own


def test_a_handler_of_ones_own_is_looked_at() -> None:
    result = measured(
        handler=f"{HERE}:awaiting", models=["aio"], workloads=["echo"], connections=[2]
    )
    assert cell(result, "aio").rounds[0].messages > 0
    facts = result.handler
    assert facts["asynchronous"]
    assert not facts["keeps_worker"]
    assert 0.004 < facts["wait"] < 0.05
    assert 0 < facts["cpu"] < 0.005


def test_a_handler_class_is_refused_where_it_cannot_run() -> None:
    result = measured(
        handler=f"{HERE}:Whole", models=["thread", "loop"], workloads=["echo"], connections=[2]
    )
    assert result.handler["keeps_worker"]
    assert cell(result, "thread").rounds[0].messages > 0
    assert "Whole" in cell(result, "loop").failure
    assert not cell(result, "loop").rounds


def test_a_handler_that_greets() -> None:
    result = measured(
        handler=f"{HERE}:Greeting", models=["thread"], workloads=["echo", "wait"], connections=[2]
    )
    for one in result.cells:
        assert one.rounds[0].messages > 0
        assert not one.rounds[0].errors


# --------------------------------------------------------------------- what fails


def test_a_server_that_dies_costs_its_own_rows() -> None:
    result = measured(
        models=["thread"],
        workloads=["echo", "churn"],
        connections=[2],
        rounds=2,
        against={"mortal": fault("die {port} --after 30")},
    )
    for one in result.cells:
        if one.subject == "thread":
            assert len(one.rounds) == 2
            assert not one.failure
        else:
            assert "exit code 1" in one.failure


def test_a_wrong_byte_is_caught() -> None:
    result = measured(
        models=[],
        workloads=["echo"],
        connections=[2],
        against={"wrong": fault("corrupt {port} --every 20000")},
        seconds=0.2,
    )
    assert cell(result, "wrong").rounds[0].errors["wrong"] > 0


def test_what_a_closed_loop_hides_an_open_one_shows() -> None:
    result = measured(
        models=[],
        workloads=["echo"],
        connections=[4],
        against={"stalls": fault("stall {port} --every 0.4 --length 0.2")},
        rate=1000.0,
        seconds=0.8,
    )
    found = figures(cell(result, "stalls"))
    [one] = cell(result, "stalls").rounds
    assert found.latency[90.0].median > 0.05
    hidden = one.from_send.percentile(90)
    assert hidden is not None
    assert hidden < 0.02


def test_a_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    result = measured(
        models=["thread"],
        workloads=["echo"],
        connections=[1],
        against={
            "nothing": "/no/such/program {port}",
            "missing": "{python} -c 'print(\"it needs glue\"); raise SystemExit(3)' {port}",
        },
    )
    assert cell(result, "nothing").failure == (
        "/no/such/program cannot be started: No such file or directory"
    )
    assert cell(result, "missing").failure == "it needs glue"
    assert cell(result, "thread").rounds


def test_a_handler_that_kills_its_server_is_no_secret() -> None:
    result = measured(
        handler=f"{HERE}:crashes", models=["loop"], workloads=["churn"], connections=[1]
    )
    assert cell(result, "loop").failure == "it has ended with exit code 7"


def test_when_the_time_is_up_what_there_is_is_kept() -> None:
    result = measured(models=["thread"], workloads=["echo"], connections=[1], budget=0.0)
    assert not result.complete
    assert cell(result, "thread").failure == "not measured: the time was up"


def test_an_interrupted_run_keeps_what_it_has() -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with nothing_left_behind():
            order = Order(
                models=["thread", "loop"],
                workloads=["echo"],
                rounds=3,
                seconds=0.05,
                connections=[1],
            )
            result = compare(order, interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not result.complete
    assert [len(one.rounds) for one in result.cells] == [1, 1]
    assert "interrupted" in result.remarks[0]


def takes_long(message: bytes) -> bytes:
    import time

    time.sleep(0.5)
    return message


@pytest.mark.slow
def test_a_handler_that_takes_longer_than_a_round_is_waited_for() -> None:
    order = Order(handler=f"{HERE}:takes_long", models=["thread"], budget=0.0, rounds=1)
    result = compare(order, quietly)
    assert not any("no reply" in one for one in result.remarks)
    assert result.handler["wait"] > 0.4


def prints(message: bytes, reply: bytes) -> bool:
    print("a reply")
    return True


def fails(message: bytes, reply: bytes) -> bool:
    raise LookupError("no such reply")


def test_a_check_may_print_and_what_it_raises_is_told() -> None:
    plan = Plan("", (Group(1, "talk", (Exchange(b"x", None),)),), 0.02, framing="raw")
    with running("echo", "thread") as up, Loaders() as loaders:
        plan = replace(plan, address=str(up.address))
        assert loaders.prepare(replace(plan, check=f"{HERE}:prints")) == 1
        loaders.go()
        assert loaders.tally().messages > 0
        loaders.done()
        with pytest.raises(LoadFailed, match="fails has raised LookupError"):
            loaders.prepare(replace(plan, check=f"{HERE}:fails"))


def test_cpu_of_replies_that_came_late_is_not_of_those_in_time() -> None:
    one = Round(1.0, 100, Histogram())
    tally = Tally(1.0, 100, Histogram.of([0.001] * 400), cpu=0.5, took=4.0)
    before, after = Sample(cpu=1.0, switches=0, busy=0.0), Sample(cpu=3.0, switches=80, busy=4.0)
    _add_system(one, before, before, after, tally, 1)
    assert (one.cpu, one.switches, one.others) == (0.5, 20, 0.0)


def test_what_is_left_out_is_told() -> None:
    order = Order(handler="upper", models=["loop"], against={"mine": "./mine {port}"})
    result = planned(order)
    assert [one.name for one in result.subjects] == ["loop"]
    assert result.remarks[0].startswith("mine stays out: it echoes, and what upper answers")
    assert result.remarks[1].startswith("work stays out: it would ask upper the same as echo")
    assert "work" not in [one.name for one in result.tasks]
    assert not planned(replace(order, handler=None)).remarks


def test_a_load_that_fails_costs_nothing_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(loaders: Loaders) -> int:
        if "tally" in vars(loaders):
            raise LoadFailed("it could not go on")
        loaders.tally = lambda: tally  # type: ignore[method-assign]
        return 1

    tally = Tally(1.0, 1)
    order = Order(models=["thread"], workloads=["echo"], rounds=2)
    monkeypatch.setattr("echoframe.compare.loaders.Loaders.go", once)
    monkeypatch.setattr("echoframe.compare.loaders.Loaders.prepare", lambda *_: 1)
    monkeypatch.setattr("echoframe.compare.loaders.Loaders.done", lambda *_: None)
    result = compare(order, quietly)
    assert not result.complete
    assert "it could not go on" in result.remarks[0]
    assert len(cell(result, "thread").rounds) == 1


def test_a_load_that_fails_at_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LoadFailed("it could not go on")

    monkeypatch.setattr("echoframe.compare.run._Run._measure_group", fail)
    with pytest.raises(LoadFailed, match="it could not go on"):
        compare(Order(models=["thread"], workloads=["echo"]), quietly)


def test_the_load_waits_as_long_as_a_round_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(b"x", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, hard))
    try:
        loaders = Loaders()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with running("echo", "thread") as up, loaders:
        group = Group(1, "talk", (exchange,))
        assert loaders.prepare(Plan(str(up.address), (group,), seconds=0.3)) == 1
        # Each client is a descriptor.
        assert resource.prlimit(loaders.pids[0], resource.RLIMIT_NOFILE) == (hard, hard)
        monkeypatch.setattr("echoframe.compare.loaders.PATIENCE", 0.25)
        loaders.go()
        assert loaders.tally().messages > 0


# --------------------------------------------------------------------------- bench


def test_bench_measures_what_runs_already() -> None:
    with running("upper", "thread") as up:
        order = Order(
            handler="upper", workloads=["echo"], connections=[1, 3], rounds=2, seconds=0.05
        )
        result = bench(str(up.address), order, lambda *_: None)
    assert result.kind == "bench"
    assert [one.connections for one in result.cells] == [1, 3]
    for one in result.cells:
        assert len(one.rounds) == 2
        assert all(found.messages > 0 and not found.errors for found in one.rounds)


def test_bench_needs_to_know_how_long_replies_are() -> None:
    with pytest.raises(SettingError, match="reply_size"):
        bench("127.0.0.1:1", Order(handler=f"{HERE}:NoSize", workloads=["echo"]), quietly)


class NoSize(Handler):
    framing = "raw"
    reply_size = staticmethod(lambda message: None)  # type: ignore[assignment]  # as told

    def on_message(self, message: bytes) -> bytes:
        return message


def by_word(message: bytes) -> bytes:
    import time

    time.sleep(0.02 if message == b"slow" else 0)
    return message


def test_a_handler_is_looked_at_with_the_words_it_will_hear() -> None:
    order = Order(handler=f"{HERE}:by_word", models=["thread"], budget=0.0, messages=(b"slow",))
    assert compare(order, quietly).handler["wait"] > 0.015


# ------------------------------------------------------------------------- a server


@contextlib.contextmanager
def server(**ours: Any) -> Iterator[Server]:
    told = {"handler": "echo", "model": "thread", "settings": {}, **ours}
    up = Server("tcp://127.0.0.1:0", ours=told)
    try:
        yield up
    finally:
        up.stop()


def test_a_server_that_is_stopped_tells_what_it_used() -> None:
    with server() as up:
        assert up.address.startswith("tcp://127.0.0.1:")
        assert not up.ended
        assert up.ready > 0
        taken = up.stop()
        assert taken is not None
        assert taken < DEADLINE
        assert up.cpu is not None
        assert up.ended


STUBBORN = """
import signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", {port})):
    signal.pause()
    signal.pause()
"""


def test_ctrl_c_while_a_server_is_stopped_leaves_no_server() -> None:
    up = Server("", command=shlex.join([sys.executable, "-c", STUBBORN]))
    pid = up.pid
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    up.tell()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            up.stop()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_setting_that_cannot_work_is_a_sentence() -> None:
    with (
        pytest.raises(SubjectFailed, match="max_connections"),
        server(settings={"max_connections": -5}),
    ):
        pass


def test_a_server_ends_with_whoever_measures() -> None:
    script = (
        "import os\n"
        "from echoframe.compare.subjects import Server\n"
        "told = {'handler': 'echo', 'model': 'fork', 'settings': {}}\n"
        "up = Server('tcp://127.0.0.1:0', ours=told)\n"
        "print(up.address, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=DEADLINE,
        check=False,
        env=surroundings(),
    )
    place = Address.parse(done.stdout.decode().strip())

    def gone() -> bool:
        with socket.socket() as peer:
            return peer.connect_ex((place.host, place.port)) != 0

    eventually(gone, "its end")
