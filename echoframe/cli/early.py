"""SIGINT and SIGTERM before the server listens to them itself, and after it is done.

Server.run() has its own handlers. Until then a signal must end what is being
started as if it had come a moment later, and when it is over it must not matter.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

__all__ = ["EarlySignals", "Interrupted", "signals"]


class Interrupted(BaseException):
    """A signal came while code was running that might take long."""


class EarlySignals:
    """The process's two signal handlers while `serve` is on its way.

    A signal is remembered in `arrived`. It also calls `stop`, where that is set,
    and raises Interrupted while `raises` is true.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.raises = False
        self.stop: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals. Only in the main thread."""
        self.arrived = 0
        self.raises = False
        self.stop = None
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Give them back, if they were taken."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _on_signal(self, number: int, frame: object) -> None:
        self.arrived = number
        if self.stop is not None:
            self.stop()
        elif self.raises:
            raise Interrupted


# A process has one set of signal handlers.
signals = EarlySignals()
