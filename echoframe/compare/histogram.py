"""A histogram of times: small, exact to one percent, and two of them can be added.

Times are nanoseconds. Up to 128 each has a bucket of its own; above that every power of
two is cut into 64, so that a bucket is at most 1.6 % wide, and its middle is at most
0.8 % away from what was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

__all__ = ["Histogram"]

# How many buckets each power of two has, as a power of two.
BITS = 6
STEPS = 1 << BITS

# The bucket behind all that are used: 2**63 nanoseconds are 292 years.
LAST = 64 * STEPS

# Behind a percentile must be so many slower ones, or it is one outlier's story.
BEHIND = 10


def _bucket(nanoseconds: int) -> int:
    if nanoseconds < 2 * STEPS:
        return max(nanoseconds, 0)
    shift = nanoseconds.bit_length() - BITS - 1
    return shift * STEPS + (nanoseconds >> shift)


def _bounds(bucket: int) -> tuple[int, int]:
    if bucket < 2 * STEPS:
        return bucket, bucket + 1
    shift, rest = divmod(bucket - STEPS, STEPS)
    return (rest + STEPS) << shift, (rest + STEPS + 1) << shift


class Histogram:
    """How many times fell where. `total` is how many, `longest` the longest, in seconds."""

    def __init__(self, counts: Iterable[tuple[int, int]] = (), longest: float = 0.0) -> None:
        self._counts: Counter[int] = Counter(dict(counts))
        self.total = self._counts.total()
        self.longest = longest

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Histogram:
        """Count times."""
        counts: Counter[int] = Counter()
        longest = 0.0
        for one in seconds:
            counts[_bucket(int(one * 1e9))] += 1
            if one > longest:
                longest = one
        return cls(counts.items(), longest)

    def __add__(self, other: Histogram) -> Histogram:
        both = self._counts + other._counts
        return Histogram(both.items(), max(self.longest, other.longest))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._counts == other._counts and self.longest == other.longest

    __hash__ = None  # type: ignore[assignment]  # it can be added to, as a list can

    def percentile(self, percent: float) -> float | None:
        """Give the time that so many percent stayed under, in seconds.

        None if too few were counted for that: behind it must be ten that took longer.
        """
        # Rounded: a thousandth of 10,000 is ten, and in floats a little less.
        if round(self.total * (100 - percent) / 100, 6) < BEHIND:
            return None
        wanted = self.total * percent / 100
        seen = 0
        for bucket, count in sorted(self._counts.items()):
            seen += count
            if seen >= wanted:
                low, high = _bounds(bucket)
                return min((low + high - 1) / 2e9, self.longest)
        return None

    @property
    def mean(self) -> float | None:
        """The mean, in seconds; None of nothing."""
        if not self.total:
            return None
        return sum(sum(_bounds(one)) * n for one, n in self._counts.items()) / 2e9 / self.total

    def __iter__(self) -> Iterator[tuple[float, float, int]]:
        """Give (from, to, how many), times in seconds, the shortest first."""
        for bucket, count in sorted(self._counts.items()):
            low, high = _bounds(bucket)
            yield low / 1e9, high / 1e9, count

    def to_json(self) -> dict[str, object]:
        """Give it as plain data."""
        return {"longest": self.longest, "counts": sorted(self._counts.items())}

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Histogram:
        """Read what to_json() gave."""
        counts: Iterable[tuple[int, int]] = data["counts"]  # type: ignore[assignment]  # see to_json
        longest: float = data["longest"]  # type: ignore[assignment]  # see to_json
        # A bucket of years would be a number of many pages.
        if not all(0 <= bucket < LAST and count >= 0 for bucket, count in counts) or longest < 0:
            raise ValueError("a histogram counts what cannot be")
        return cls([(bucket, count) for bucket, count in counts], longest)
