"""Numbers as people read them."""

from __future__ import annotations

import pytest

from echoframe.compare.units import (
    brief,
    clean,
    count,
    duration,
    few,
    listed,
    plainly,
    share,
    size,
    times,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (0.9996, "1.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (123.4, "123"),
        (999.6, "1,000"),
        (1234, "1,230"),
        (1_234_567, "1,230,000"),
        (-12.34, "-12.3"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert few(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (12.3e-9, "12.3 ns"),
        (85e-6, "85.0 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.42, "420 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (7200, "7,200 s"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.50 KiB"), (20 * 2**20, "20.0 MiB"), (2**31, "2.00 GiB")],
)
def test_sizes(amount: float, text: str) -> None:
    assert size(amount) == text


def test_as_one_would_say_it() -> None:
    assert [brief(value) for value in (0.05, 0.0503, 1.0, 0.0003)] == [
        "50 ms",
        "50.3 ms",
        "1 s",
        "300 µs",
    ]
    assert [share(value) for value in (0, 0.004, 0.03, 1)] == ["0 %", "0.4 %", "3 %", "100 %"]
    assert [times(value) for value in (1.04, 1.07, 1.9, 9.96, 1234)] == [
        "1.04",
        "1.07",
        "1.9",
        "10",
        "1,234",
    ]
    assert [count(1, "client"), count(1000, "client")] == ["1 client", "1,000 clients"]
    assert count(2, "reply", "replies") == "2 replies"
    assert [listed("a"), listed("ab"), listed("abc", "or")] == ["a", "a and b", "a, b or c"]


def test_nothing_steers_a_terminal_and_ascii_is_as_long() -> None:
    assert clean("a\x1b[2J\nb\x9b") == "a\\x1b[2J b\\x9b"
    text = "5 µs ±3 % ×2 ≥1 – · … ██▌ │ ─┼ →"
    assert plainly(text).isascii()
    assert len(plainly(text)) == len(text)
