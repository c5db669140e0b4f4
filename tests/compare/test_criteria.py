"""--fail-if: what it takes, what it finds, and what it says if it cannot."""

from __future__ import annotations

import pytest

from echoframe.compare.criteria import check, parse
from echoframe.compare.result import Cell, Result
from echoframe.errors import SettingError

from .samples import ECHO, WAIT, crowd, five, result

MADE = result(
    Cell("loop", "echo", 50, five(20_000, latency=1e-3, memory=20 * 2**20)),
    Cell("fork", "echo", 50, five(5_000, latency=9e-3, memory=80 * 2**20, errors={"reset": 1})),
    Cell("loop", "echo", 500, five(15_000, latency=5e-3)),
    crowd("loop", 1),
    tasks=[ECHO, WAIT],
)


def failing(text: str, baseline: Result | None = None, made: Result = MADE) -> list[str]:
    """Which cells fail, in short."""
    return [one.partition(":")[0] for one in check(made, parse(text), baseline)]


LOOP, FORK, MANY = (
    "echo/loop with 50 connections",
    "echo/fork with 50 connections",
    "echo/loop with 500 connections",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("p99>5ms", [FORK, MANY]),
        ("p99 > 0.005 s", [FORK, MANY]),
        ("p99>5000us", [FORK, MANY]),
        ("p99>20ms", []),
        ("throughput<10k", [FORK]),
        ("throughput<=20000", [LOOP, FORK, MANY]),
        ("throughput>=20_000".replace("_", ""), [LOOP]),
        ("echo/loop:throughput<18k", [MANY]),
        ("echo/loop/50:throughput<18k", []),
        ("*/*/500:throughput<18k", [MANY]),
        ("fork/loop:p50>1s".replace("fork", "echo"), []),
        ("memory>50MiB", [FORK]),
        ("errors>0", [FORK]),
        ("finished>0.3s", ["wait/loop with 20 connections"]),
    ],
)
def test_what_fails(text: str, found: list[str]) -> None:
    assert failing(text) == found


def test_a_failure_is_told_with_both_values() -> None:
    assert check(MADE, parse("echo/fork:throughput<10k")) == [
        "echo/fork with 50 connections: throughput is 5,000, which is less than 10,000"
    ]


BEFORE = result(
    Cell("loop", "echo", 50, five(20_000, latency=1e-3)),
    Cell("fork", "echo", 50, five(10_000, latency=9e-3)),
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("throughput<0.9*baseline", [FORK]),
        ("throughput<baseline*0.9", [FORK]),
        ("throughput < 0.4 * baseline", []),
        ("throughput<-10%", [FORK]),
        ("throughput<-60%", []),
        ("p99>+20%", []),
        ("p99>=baseline", [LOOP, FORK]),
    ],
)
def test_what_has_become_worse_than_the_baseline(text: str, found: list[str]) -> None:
    assert failing(text, BEFORE) == found


def test_the_baselines_value_is_told() -> None:
    assert check(MADE, parse("echo/fork:throughput<0.9*baseline"), BEFORE) == [
        "echo/fork with 50 connections: throughput is 5,000, which is less than 9,000, "
        "0.90 times the baseline's 10,000"
    ]


def test_a_server_that_was_not_measured_fails() -> None:
    made = result(
        Cell("loop", "echo", 50, five(10)), Cell("fork", "echo", 50, failure="it has died")
    )
    assert check(made, parse("p99>50s")) == [
        "echo/fork with 50 connections: no p99, since it failed: it has died"
    ]
    # Nor had it been before: that is no change.
    assert failing("p99>2*baseline", made, made) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["''", "write it as 'p99>50ms'"]),
        ("p99", ["'p99'", "write it as"]),
        ("p99>", ["'p99>'", "write it as"]),
        ("p99=5ms", ["'p99=5ms'", "write it as"]),
        ("p98>5ms", ["'p98'", "did you mean", "'p99'"]),
        ("p99>5", ["'5' has no unit", "ms"]),
        ("p99>5kg", ["'kg'", "us"]),
        ("throughput<5ms", ["throughput is a number without a unit", "100k"]),
        ("p99>fast", ["'fast'", "write it as"]),
        ("p99>nan", ["'nan'"]),
        ("p99>1e3ms", ["'1e3ms' is no value"]),
        ("a/b/c/d:p99>5ms", ["'a/b/c/d'"]),
        ("echo//5:p99>5ms", ["'echo//5'"]),
        ("echo/loop/many:p99>5ms", ["'many' is no number of connections"]),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_the_value(text: str, said: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        parse(text)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ecoh:p99>5ms", ["'ecoh:p99>5ms' is about nothing", "workloads: echo, wait"]),
        ("echo/aio:p99>5ms", ["about nothing", "subjects: loop, fork"]),
        ("echo/loop/7:p99>5ms", ["about nothing"]),
        ("wait:p99>5ms", ["cannot be told", "too few messages for a p99"]),
        ("cpu>5s", ["cannot be told", "pip install 'echoframe[sys]'"]),
        ("p99>2*baseline", ["add --baseline FILE"]),
    ],
)
def test_what_is_about_nothing_is_a_sentence_with_the_way_out(text: str, said: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        check(MADE, parse(text))
    for part in said:
        assert part in str(caught.value)


def test_psutil_is_missed_only_where_it_is_missing() -> None:
    made = result(Cell("loop", "echo", 50, five(1)))
    made.environment["psutil"] = "7.0"
    with pytest.raises(SettingError, match="no workload that is meant has a memory"):
        check(made, parse("memory>1MiB"))
    made.kind, made.environment["psutil"] = "bench", None
    with pytest.raises(SettingError, match="memory is not seen of a server that runs elsewhere"):
        check(made, parse("memory>1MiB"))


def test_a_baseline_of_something_else_is_said() -> None:
    other = result(Cell("aio", "echo", 50, five(1)))
    with pytest.raises(SettingError, match="the baseline has no throughput of the same"):
        check(MADE, parse("throughput<baseline"), other)
