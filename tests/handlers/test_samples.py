from __future__ import annotations

import asyncio
import time

import pytest

from echoframe.handlers import async_wait, upper, wait, work


def test_upper_answers_in_capitals() -> None:
    assert upper(b"Hello \xff") == b"HELLO \xff"


@pytest.mark.parametrize(
    ("message", "milliseconds"),
    [
        (b"0", 0),
        (b"5", 5),
        (b" 5\r", 5),
        (b"0.5", 0.5),
        (b".5", 0.5),
        (b"5.", 5),
        (b"60000", 60_000),
        (b"99999999", 60_000),
        (b"", 50),
        (b".", 50),
        (b"-5", 50),
        (b"+5", 50),
        (b"1_0", 50),
        (b"1e3", 50),
        (b"nan", 50),
        (b"1.2.3", 50),
        (b"hello", 50),
        (b"9" * 21, 50),
        (b"9" * 100_000, 50),
        ("٣".encode(), 50),
    ],
)
def test_a_decimal_number_is_milliseconds_and_all_else_is_fifty(
    message: bytes, milliseconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert wait(message) == message
    assert slept == [milliseconds / 1000]


def test_work_uses_as_much_cpu_as_it_was_told() -> None:
    before = time.thread_time()
    assert work(b"20") == b"20"
    assert time.thread_time() - before >= 0.02


def test_async_wait_awaits_as_long_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(async_wait(b"20")) == b"20"
    assert slept == [0.02]
