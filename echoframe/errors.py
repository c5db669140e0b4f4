"""What can go wrong, and whose fault it is.

Every error that echoframe raises on purpose is an EchoframeError and also the
built-in exception that fits it, so `except ValueError` and `except OSError` go
on working. The text is one sentence with the value in it and, where there is
one, the way out.

What does not belong here: "not enough bytes yet" and "the peer is done". Those
are values, not errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AddressError",
    "ConnectError",
    "ConnectionEnded",
    "EchoframeError",
    "ListenError",
    "ProtocolError",
    "RefusedError",
    "SettingError",
    "TimedOut",
    "TlsError",
    "UnknownHandler",
    "WorkersFailed",
    "suggest",
]


class EchoframeError(Exception):
    """The base of all of them."""


class AddressError(EchoframeError, ValueError):
    """An address that cannot be read, or that cannot be used here."""


class SettingError(EchoframeError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class UnknownHandler(EchoframeError, LookupError):
    """A handler, protocol or model name that nobody registered."""


class ProtocolError(EchoframeError):
    """The peer broke the rules of the framing; its connection ends, nothing else."""


class _SystemSentence(EchoframeError, OSError):
    # An OSError prints as "[Errno 98] ..."; ours is a sentence already, and
    # still carries the number for programs that look at it.
    def __init__(self, sentence: str, errno: int | None = None) -> None:
        super().__init__(errno, sentence)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own would hand (errno, sentence) back in that order.
        return type(self), (self.strerror, self.errno)


class ListenError(_SystemSentence):
    """An address at which this machine does not let us listen."""


class ConnectError(_SystemSentence, ConnectionError):
    """An address to which no connection could be made."""


class RefusedError(ConnectError, ConnectionRefusedError):
    """Nobody listens there."""


class TlsError(ConnectError):
    """Somebody is there, and no TLS connection with them came about."""


class ConnectionEnded(_SystemSentence, ConnectionError):
    """The peer ended the conversation before it answered."""


class WorkersFailed(EchoframeError, RuntimeError):
    """The processes of a server end as soon as they are started."""


class TimedOut(_SystemSentence, TimeoutError):
    """The deadline passed first."""


def suggest(unknown: str, known: Iterable[str], most: int | None = None) -> str:
    """The end of a sentence about an unknown name: near misses, then what is known.

    Of more than `most` only so many are told, the nearest first.
    """
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(unknown, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    if most is not None and len(names) > most:
        told = get_close_matches(unknown, names, n=most, cutoff=0.0)
        return f"{hint}known: {', '.join(told)} and {len(names) - len(told):,} more"
    return f"{hint}known: {', '.join(names) or 'none'}"
