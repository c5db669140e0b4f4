"""What people read, worked out from a result: medians with their spread, and differences.

Every figure is the median of its rounds, with the lowest and the highest beside it.
Percentiles of latency are taken from all rounds together; their spread is that of the
rounds' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from .histogram import Histogram
from .result import Cell, Round

__all__ = ["FAR", "FEW", "Figures", "Spread", "differ", "figures"]

# With fewer rounds than this, a verdict is an indication.
FEW = 5
# A difference that is smaller is none worth talking about, whatever the rounds say:
# with few rounds, and with many.
SMALL_OF_FEW, SMALL = 0.10, 0.05
# Medians that lie so far apart are not called equal, however mixed the rounds are.
FAR = 1.25
# As likely as this, rounds that differ so much come from servers that do not. Seven
# models are 21 pairs, so that one in 20 would be found each time.
CHANCE = 0.02

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Spread:
    """A median, and between what it is one."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | int | None]) -> Spread | None:
        """Give that of some values; None if one of them is not known."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(median(known), min(known), max(known))

    @property
    def width(self) -> float:
        """How far it is from the lowest to the highest, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True)
class Figures:
    """What one cell says."""

    # Messages (or, with a connection for each, connections) a second.
    per_second: Spread | None
    # Seconds by percentile: 50.0, 90.0, 99.0, 99.9. Those that too few messages were
    # measured for are not there.
    latency: dict[float, Spread]
    longest: float | None
    # All rounds together.
    histogram: Histogram
    # Until the last of a crowd was served.
    finished: Spread | None
    messages: int
    errors: dict[str, int]
    # The median of the rounds'.
    unserved: int
    fairness: Spread | None
    # Seconds of CPU for 1,000 messages.
    cpu: Spread | None
    # Context switches for 1,000 messages.
    switches: Spread | None
    threads: int | None
    processes: int | None
    descriptors: int | None
    memory: int | None
    memory_kind: str
    # What each connection added to it.
    memory_each: float | None
    # In how many rounds the generator was at its end.
    bound: int
    # The most that other programs took of the cores in a round.
    others: float | None


def figures(cell: Cell) -> Figures:
    """Work out what a cell says."""
    rounds = cell.rounds
    histogram = sum((one.latency for one in rounds), Histogram())
    errors: Counter[str] = Counter()
    for one in rounds:
        errors.update(one.errors)
    return Figures(
        per_second=Spread.of([_rate(one) for one in rounds]),
        latency=_latency(rounds, histogram),
        longest=histogram.longest if histogram.total else None,
        histogram=histogram,
        finished=Spread.of([one.seconds for one in rounds]),
        messages=sum(one.messages for one in rounds),
        errors=dict(errors),
        unserved=round(median([one.unserved for one in rounds])) if rounds else 0,
        fairness=Spread.of([one.fairness for one in rounds]),
        cpu=Spread.of([_per_1000(one.cpu, one) for one in rounds]),
        switches=Spread.of([_per_1000(one.switches, one) for one in rounds]),
        threads=_typical([one.threads for one in rounds]),
        processes=_typical([one.processes for one in rounds]),
        descriptors=_typical([one.descriptors for one in rounds]),
        memory=_typical([one.memory for one in rounds]),
        memory_kind=rounds[0].memory_kind if rounds else "",
        memory_each=_memory_each(cell),
        bound=sum(one.bound for one in rounds),
        others=max((one.others for one in rounds if one.others is not None), default=None),
    )


def _rate(one: Round) -> float:
    return one.messages / one.seconds if one.seconds else 0.0


def _per_1000(amount: float | None, one: Round) -> float | None:
    return None if amount is None or not one.messages else amount * 1000 / one.messages


def _typical(values: list[int | None]) -> int | None:
    spread = Spread.of(values)
    return None if spread is None else round(spread.median)


def _latency(rounds: Sequence[Round], together: Histogram) -> dict[float, Spread]:
    found = {}
    for percent in PERCENTILES:
        middle = together.percentile(percent)
        if middle is not None:
            own = [one.latency.percentile(percent) for one in rounds]
            known = [middle, *(value for value in own if value is not None)]
            found[percent] = Spread(middle, min(known), max(known))
    return found


def _memory_each(cell: Cell) -> float | None:
    # Of the first round: later ones find memory that an earlier one has left behind.
    for one in cell.rounds[:1]:
        if one.memory is not None and one.memory_before is not None:
            served = cell.connections - one.unserved
            # Of a few, it would be what the server needs whoever comes.
            if served > one.unserved:
                return max((one.memory - one.memory_before) / served, 0.0)
    return None


def differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether the rounds of two servers show that they differ.

    Their medians must lie apart by more than is worth talking about, and the rounds
    must not be mixed as those of one server would be: with five rounds or more by the
    rank test of Mann and Whitney, with fewer by not overlapping at all.
    """
    if not one or not other:
        return False
    middle, against = median(one), median(other)
    few = min(len(one), len(other)) < FEW
    if abs(middle - against) <= (SMALL_OF_FEW if few else SMALL) * max(middle, against):
        return False
    if few:
        return min(len(one), len(other)) > 1 and (min(one) > max(other) or min(other) > max(one))
    return _chance(one, other) <= CHANCE


def _chance(one: Sequence[float], other: Sequence[float]) -> float:
    """Give how likely ranks are that lie apart at least so much, if nothing differs."""
    count, total = len(one), len(one) + len(other)
    if total > 20:
        return _chance_of_many(one, other)
    ranks = _ranks([*one, *other])
    expected = sum(ranks) * count / total
    seen = abs(sum(ranks[:count]) - expected)
    sums = [abs(sum(some) - expected) for some in combinations(ranks, count)]
    # What differs by rounding only is equal.
    return sum(value >= seen - 1e-9 for value in sums) / len(sums)


def _chance_of_many(one: Sequence[float], other: Sequence[float]) -> float:
    from statistics import NormalDist

    n, m = len(one), len(other)
    ranks = _ranks([*one, *other])
    u = sum(ranks[:n]) - n * (n + 1) / 2
    deviation = (n * m * (n + m + 1) / 12) ** 0.5
    return 2 * (1 - NormalDist().cdf(abs(u - n * m / 2) / deviation))


def _ranks(values: Sequence[float]) -> list[float]:
    # Equal values share the mean of their ranks.
    order = sorted(values)
    first = {value: at for at, value in reversed(list(enumerate(order, 1)))}
    return [first[value] + (order.count(value) - 1) / 2 for value in values]
