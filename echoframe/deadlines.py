"""Seconds as people give them, and milliseconds as poll() wants them."""

from __future__ import annotations

import math
import time

from .errors import SettingError

__all__ = ["checked_seconds", "milliseconds"]

# A day. Whoever waits longer has no deadline, and poll() counts milliseconds in 32 bits.
LONGEST_TIMEOUT = 86400.0


def checked_seconds(timeout: float, name: str = "timeout") -> float:
    """Give a timeout that can be kept. Errors: SettingError for any other, by that name."""
    if not (0 < timeout <= LONGEST_TIMEOUT):
        raise SettingError(
            f"{name}={timeout!r}: seconds, more than 0 and at most {LONGEST_TIMEOUT:,.0f}"
        )
    return float(timeout)


def milliseconds(deadline: float) -> int:
    """How long it is until a deadline of time.monotonic(); never negative."""
    # Rounded up: a poll that ends a little early would find the deadline not passed yet.
    return max(0, math.ceil((deadline - time.monotonic()) * 1000))
