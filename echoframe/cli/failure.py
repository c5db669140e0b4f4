"""What ends a command early: a sentence for stderr and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["FLAGS", "CannotStart", "CommandFailed", "UsageError", "in_flags", "near"]


class CommandFailed(Exception):
    """It was asked for rightly, and did not work."""

    code = 1


class UsageError(CommandFailed):
    """It cannot work as it was asked for."""

    code = 2


class CannotStart(CommandFailed):
    """A server that this machine does not let start."""

    code = 3


# Keywords that errors of the library name, and what says them here.
FLAGS = {
    "timeout": "--timeout",
    "tls": "--tls-ca",
    "tls,": "--tls-ca, --tls-insecure,",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "tls_ca": "--tls-ca",
    "tls_require_client_cert": "--tls-require-client-cert",
}


def in_flags(sentence: str, flags: Mapping[str, str] = FLAGS) -> str:
    """An error's sentence, with flags where it names keywords."""
    # Not in an address, nor in a path: that is quoted, and has its slashes and dots.
    return re.sub(
        r"(?<![\w./'\"-])(?:timeout(?==)|tls_\w+|tls(?==)|tls,)(?![\w./'\"-])",
        lambda found: flags.get(found[0], found[0]),
        sentence,
    )


def near(unknown: str, known: Iterable[str], cutoff: float = 0.6, before: str = "") -> str:
    """A question that names what may have been meant, or nothing; `before` begins each name."""
    from difflib import get_close_matches

    found = get_close_matches(unknown, list(known), n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(before + name for name in found)}? " if found else ""
