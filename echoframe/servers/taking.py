"""Whether a peer takes what is sent to it, for write_timeout."""

from __future__ import annotations

from typing import Any

from .kernel import progress

__all__ = ["Taking"]

# So many looks in the time that a peer may take nothing.
LOOKS = 8


class Taking:
    """Looks now and then at what a peer has taken, while something waits to be sent.

    By what its kernel has acknowledged, and not by there being room for more: much may be
    read until there is.
    """

    def __init__(self, request: Any, limit: float) -> None:
        self._request = request
        self._limit = limit
        self._mark: object = None
        # When there last was progress.
        self._since = 0.0

    def look(self, now: float, given: int) -> float:
        """In how many seconds to look again; 0 if the peer has taken nothing for too long.

        `given` is how many bytes the kernel was given for it.
        """
        mark, all_taken = progress(self._request, given)
        if mark != self._mark or all_taken:
            # What it has not been given it could not take.
            self._mark, self._since = mark, now
        left = self._since + self._limit - now
        return max(min(left, self._limit / LOOKS), 0.0)
