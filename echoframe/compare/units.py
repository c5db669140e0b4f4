"""Numbers to words: three digits, a unit that fits, and nothing that a terminal could obey."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "brief",
    "clean",
    "count",
    "duration",
    "few",
    "listed",
    "plainly",
    "share",
    "size",
    "times",
]

# What only some terminals can show, and one character that stands for it anywhere, so
# that columns stay where they are.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("█▉▊▋▌▍", "#"),
        **dict.fromkeys("▎▏", " "),
        **dict(zip("µ±×≥–·…│─┼→", "u~x>-.~|-+>", strict=True)),
    }
)


def few(value: float) -> str:
    """Give three digits, as in 0.123, 1.23, 12.3, 123 and 123,000."""
    size = abs(value)
    for limit, places in ((0.9995, 3), (9.995, 2), (99.95, 1), (999.5, 0)):
        if size < limit:
            return f"{value:.{places}f}" if size else "0"
    digits = len(str(int(size))) - 3
    return f"{round(value, -digits):,.0f}"


def _scaled(value: float, *units: tuple[float, str]) -> str:
    # What would round up to a thousand is one of the next unit.
    fitting = (pair for pair in units if abs(value / pair[0]) < 999.5)
    factor, unit = next(fitting, units[-1])
    return f"{few(value / factor)} {unit}"


def duration(seconds: float) -> str:
    """A time, as in 850 ns, 85.0 µs, 1.20 ms, 420 ms and 3.00 s."""
    if not seconds:
        return "0 s"
    return _scaled(seconds, (1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def brief(seconds: float) -> str:
    """A time as one would say it, as in 50 ms."""
    return duration(seconds).replace(".00 ", " ").replace(".0 ", " ")


def size(amount: float) -> str:
    """A size, as in 512 B, 1.50 KiB and 20.0 MiB."""
    if abs(amount) < 1000:
        return f"{amount:.0f} B"
    return _scaled(amount, (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"))


def share(part: float) -> str:
    """A share, as in 3 % and 0.4 %."""
    percent = part * 100
    return f"{percent:.0f} %" if percent >= 0.95 or not percent else f"{percent:.1f} %"


def count(number: int, one: str, more: str = "") -> str:
    """So many of something, as in 1 client and 1,000 clients."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def times(ratio: float) -> str:
    """How many times as much: 1.07, 1.9, 13."""
    return f"{ratio:.2f}" if ratio < 1.095 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def listed(words: Iterable[str], last: str = "and") -> str:
    """A list in a sentence, as in a, b and c."""
    *most, end = list(words)
    return f"{', '.join(most)} {last} {end}" if most else end


def clean(text: str) -> str:
    """Give text of somebody else's on one line, without what a terminal would obey."""
    return "".join(map(_clean, text))


def _clean(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()


def plainly(text: str) -> str:
    """Give the same in ASCII, as far as it is ours, in as many characters."""
    return text.translate(_ASCII)
