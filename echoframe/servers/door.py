"""A door for those who come while everybody talks.

Threads that talk take the interpreter from each other at each read and each write,
and whoever accepts connections is one among them: behind five hundred who are busy
it waits for seconds, and so does each conversation that it begins. So, in a crowd,
the door is shut behind those who have just come: who talks already waits, between
two messages, until each newcomer has had its first answer or a moment has passed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["Door"]

# From so many conversations on it is a crowd.
CROWD = 64
# So long (seconds) one message is held back, at most.
HOLD = 0.02
# So long the door stays shut, at most, and so long it then stays open: newcomers that
# say nothing must not delay the others for ever.
SHUT = 0.25
OPEN = 0.25


class Door:
    """What conversations pass between two messages, while it is shut.

    `shut` holds it then, and nothing otherwise: one look at a list is all that an
    open door costs.
    """

    def __init__(self) -> None:
        self.shut: list[Door] = []
        self._lock = threading.Lock()
        # Held for moments: while it is shut, and while it is opened.
        self._hinge = threading.Lock()
        self._newcomers: set[int] = set()
        # Somebody is being let in; nobody knows how many more will be.
        self._busy = False
        self._until = self._rests = 0.0

    def __enter__(self) -> None:
        """Let newcomers in: shut the door, until the last of them has been answered."""
        now = time.monotonic()
        with self._hinge:
            if not self.shut and now >= self._rests:
                self._until = now + SHUT
                # A new one each time: the last one may still be in the hands of those
                # whom it has just released.
                self._lock = threading.Lock()
                self._lock.acquire()
                self._newcomers = set()
                self.shut.append(self)
        self._busy = True

    def __exit__(self, *error: object) -> None:
        self._busy = False
        if not self._newcomers:
            self._open()

    def expect(self, row: int) -> None:
        """A newcomer, known by its row."""
        self._newcomers.add(row)

    def forget(self, row: int) -> None:
        """A newcomer has had its answer, or has left."""
        self._newcomers.discard(row)
        if not self._newcomers and not self._busy:
            self._open()

    def pass_by(self, row: int) -> None:
        """Wait, unless this one is a newcomer's last obstacle. Called when it is shut."""
        lock = self._lock
        self.forget(row)
        if lock.acquire(timeout=HOLD):
            lock.release()
        elif (now := time.monotonic()) >= self._until:
            self._rests = now + OPEN
            self._open()

    def _open(self) -> None:
        with self._hinge:
            try:
                self.shut.remove(self)
            except ValueError:
                # Somebody else was faster.
                return
            self._lock.release()


def is_crowd(connections: Any) -> bool:
    """Tell whether so many talk that newcomers need a door."""
    return len(connections) >= CROWD
