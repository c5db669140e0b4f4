from __future__ import annotations

import random

import pytest

from echoframe.compare.figures import Spread, differ, figures
from echoframe.compare.histogram import Histogram
from echoframe.compare.result import Cell, Round


def cell(*rounds: Round, connections: int = 10) -> Cell:
    return Cell("thread", "echo", connections, list(rounds))


def test_a_figure_is_the_median_with_its_spread() -> None:
    found = figures(cell(Round(2.0, 200), Round(1.0, 300), Round(1.0, 50)))
    assert found.per_second == Spread(100.0, 50.0, 300.0)
    assert found.per_second.width == 2.5
    assert found.messages == 550


def test_percentiles_are_of_all_rounds_together() -> None:
    # Neither round alone has ten that took longer than 99 of 100.
    rounds = [Round(1.0, 600, Histogram.of([0.001] * 594 + [0.1] * 6)) for _ in range(2)]
    found = figures(cell(*rounds))
    assert set(found.latency) == {50.0, 90.0, 99.0}
    assert found.latency[50.0].median == pytest.approx(0.001, rel=0.01)
    assert found.longest == pytest.approx(0.1)


def test_what_one_round_does_not_know_nobody_knows() -> None:
    found = figures(cell(Round(1.0, 100, cpu=0.5), Round(1.0, 100)))
    assert found.cpu is None
    assert figures(cell(Round(1.0, 100, cpu=0.5))).cpu == Spread(5.0, 5.0, 5.0)


def test_memory_is_of_those_who_were_served() -> None:
    one = Round(1.0, 100, memory=3000, memory_before=1000, memory_kind="PSS", unserved=2)
    found = figures(cell(one))
    assert found.memory_each == 250.0
    assert found.memory_kind == "PSS"
    assert found.unserved == 2
    # Of a few, it would be what a server needs whoever comes.
    one.unserved = 9
    assert figures(cell(one)).memory_each is None


def test_errors_are_added_up() -> None:
    one, other = Round(1.0, 1, errors={"reset": 2, "wrong": 1}), Round(1.0, 1, errors={"reset": 3})
    assert figures(cell(one, other)).errors == {"reset": 5, "wrong": 1}


def test_no_rounds_no_figures() -> None:
    found = figures(cell())
    assert (found.per_second, found.latency, found.longest, found.unserved) == (None, {}, None, 0)
    assert found.memory_each is None


# ------------------------------------------------------------------- differences


def test_what_lies_apart_differs() -> None:
    assert differ([100.0, 101.0, 99.0], [150.0, 149.0, 151.0])
    assert differ([100.0, 101.0, 99.0, 98.0, 102.0], [108.0, 109.0, 110.0, 111.0, 112.0])


def test_what_is_mixed_does_not() -> None:
    assert not differ([100.0, 160.0, 99.0], [150.0, 101.0, 151.0])
    assert not differ([100.0, 120.0, 99.0, 98.0, 130.0], [108.0, 109.0, 95.0, 125.0, 112.0])


def test_a_small_difference_is_none() -> None:
    assert not differ([100.0, 100.1, 99.9], [104.0, 104.1, 103.9])
    assert not differ([100.0] * 6, [103.0] * 6)


def test_of_one_round_nothing_can_be_said() -> None:
    assert not differ([100.0], [500.0])
    assert not differ([], [500.0])


@pytest.mark.parametrize("rounds", [3, 5, 12])
def test_two_runs_of_the_same_hardly_ever_differ(rounds: int) -> None:
    chance = random.Random(rounds)

    def run() -> list[float]:
        return [chance.gauss(100_000, 6_000) for _ in range(rounds)]

    assert sum(differ(run(), run()) for _ in range(300)) <= 15
