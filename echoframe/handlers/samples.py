"""upper, wait, work and async-wait: the smallest handler, and what shows what a model is for.

The last three take a message that is a decimal number as milliseconds, and 50 for
any other. `wait` blocks on every model, since what happens then is the point;
`async-wait` is how it is meant to be done on aio, the only model that runs it.
"""

from __future__ import annotations

import time

__all__ = ["async_wait", "upper", "wait", "work"]

DEFAULT_MS = 50.0
# A minute: nobody compares models with more, and a peer's number must not keep a
# thread for a year.
LONGEST_MS = 60_000.0


def upper(message: bytes) -> bytes:
    """Answer in capitals."""
    return message.upper()


def wait(message: bytes) -> bytes:
    """Wait as many milliseconds as the message says, then send it back."""
    time.sleep(_milliseconds(message) / 1000)
    return message


async def async_wait(message: bytes) -> bytes:
    """Await as many milliseconds as the message says, then send it back (aio only)."""
    import asyncio

    await asyncio.sleep(_milliseconds(message) / 1000)
    return message


def work(message: bytes) -> bytes:
    """Compute for as many milliseconds of CPU as the message says, then send it back."""
    # The thread's own CPU time: on a busy machine the amount of work stays the
    # same, which is what makes models comparable.
    end = time.thread_time() + _milliseconds(message) / 1000
    while time.thread_time() < end:
        sum(range(500))
    return message


def _milliseconds(message: bytes) -> float:
    # As text, because float() of bytes would also take "1_0", "nan" and "1e9".
    text = message.strip()
    whole, _, fraction = text.partition(b".")
    if not (whole + fraction).isdigit() or len(text) > 20:
        return DEFAULT_MS
    return min(float(text), LONGEST_MS)
