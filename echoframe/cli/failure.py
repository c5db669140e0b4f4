"""What ends a command early: a sentence for stderr and an exit code."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CannotStart", "CommandFailed", "UsageError", "near"]


class CommandFailed(Exception):
    """It was asked for rightly, and did not work."""

    code = 1


class UsageError(CommandFailed):
    """It cannot work as it was asked for."""

    code = 2


class CannotStart(CommandFailed):
    """A server that this machine does not let start."""

    code = 3


def near(unknown: str, known: Iterable[str]) -> str:
    """A question that names what may have been meant, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(unknown, list(known), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(found)}? " if found else ""
