from __future__ import annotations

import random
from itertools import pairwise

import pytest

from echoframe.compare.histogram import Histogram


def test_percentiles_are_right_to_one_percent() -> None:
    chance = random.Random(1)
    times = sorted(chance.lognormvariate(-8, 1) for _ in range(20_000))
    counted = Histogram.of(times)
    for percent in (50.0, 90.0, 99.0, 99.9):
        exact = times[int(len(times) * percent / 100)]
        found = counted.percentile(percent)
        assert found == pytest.approx(exact, rel=0.02)
    assert counted.longest == pytest.approx(times[-1], rel=1e-6)
    assert counted.mean == pytest.approx(sum(times) / len(times), rel=0.01)


@pytest.mark.parametrize(
    ("percent", "enough"), [(50.0, 20), (90.0, 100), (99.0, 1000), (99.9, 10_000)]
)
def test_a_percentile_needs_ten_behind_it(percent: float, enough: int) -> None:
    assert Histogram.of([0.001] * enough).percentile(percent) == pytest.approx(0.001, rel=0.01)
    assert Histogram.of([0.001] * (enough - 1)).percentile(percent) is None


def test_adding_is_counting_together() -> None:
    one, other = [0.001, 0.002, 0.5], [0.002, 3e-9]
    both = Histogram.of(one) + Histogram.of(other)
    assert both == Histogram.of(one + other)
    assert both.total == 5
    assert both.longest == 0.5


def test_of_nothing_there_is_nothing() -> None:
    empty = Histogram()
    assert (empty.total, empty.longest, empty.mean, list(empty)) == (0, 0.0, None, [])
    assert empty.percentile(50) is None
    assert Histogram.of([0.1]) + empty == Histogram.of([0.1])


def test_buckets_lie_side_by_side_and_are_narrow() -> None:
    counted = list(Histogram.of(one / 1e9 for one in range(1, 100_000, 7)))
    assert sum(count for _, _, count in counted) == len(range(1, 100_000, 7))
    for (low, high, _), (following, _, _) in pairwise(counted):
        assert high <= following * (1 + 1e-9)
        assert high - low <= max(low * 0.016, 1.01e-9)


def test_it_comes_back_from_plain_data() -> None:
    counted = Histogram.of([0.001, 0.02, 0.3])
    assert Histogram.from_json(counted.to_json()) == counted
