"""The healthy client: it connects, says something, and must be answered in time."""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from ...address import Address
from ...client import Client
from ...deadlines import checked_seconds
from ...errors import ConnectionEnded, EchoframeError, SettingError, TimedOut

__all__ = ["Healthy"]

# Datagrams get lost where many arrive; it asks again after so many seconds, then after
# twice as many, and so on: a server that is merely behind gets no storm of these.
ASKS_AGAIN = 0.05

# So much of what was heard is told.
TOLD = 40


class Served(NamedTuple):
    """How a healthy client was served: in how many seconds, by whom, and what it was told."""

    seconds: float
    peer: Address
    heard: bytes


class Healthy(NamedTuple):
    """What a healthy client says, what it expects, and how long it waits.

    Animals say the same, or a half of it, since they cannot know the server's language.
    """

    say: bytes = b"hello\n"
    # What must be found in what comes back; b"" is any byte, or, in a visit, what came back
    # before the first animal if that was twice the same.
    expect: bytes = b""
    # It connects (and shakes hands) and expects nothing more.
    only_connect: bool = False
    # Seconds, from before it connects until it has its reply.
    within: float = 5.0
    # As for Client; encrypted, and nobody is verified.
    tls: Any = False

    def check(self, address: Address) -> None:
        """Errors: SettingError for what cannot work with this address."""
        checked_seconds(self.within, "within")
        if not self.say and not self.only_connect:
            raise SettingError("a healthy client has to say something, or to connect only")
        if self.tls is not False and address.scheme != "tls":
            raise SettingError(f"tls is for addresses that begin with tls://, not for {address}")
        if self.only_connect and address.scheme == "udp":
            raise SettingError(f"{address} knows no connections; say what its server answers")

    def ask(self, address: Address, context: Any = None, usual: bytes = b"") -> Served:
        """Be served, and tell how. `usual` is how the reply has to begin, if that is known.

        Errors: an EchoframeError that says why it was not served.
        """
        begun = time.monotonic()
        deadline = begun + self.within
        heard = b""
        tls = {} if context is None else {"tls": context}
        with Client(address, framing="raw", timeout=self.within, **tls) as client:
            if not self.only_connect:
                heard = self._talk(client, deadline, usual)
            return Served(time.monotonic() - begun, client.peer, heard)

    def _talk(self, client: Client, deadline: float, usual: bytes) -> bytes:
        heard = b""
        often = client.address.scheme == "udp"
        said = False
        pause = ASKS_AGAIN
        while not (self.answered(heard) and _begins(heard, usual)):
            if usual and not _begins(usual, heard):
                raise EchoframeError(f"it was told {_told(heard)} instead of {_told(usual)}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"no reply within {self.within:g} s{_after(heard)}")
            client.timeout = min(left, pause) if often else left
            try:
                if often or not said:
                    client.send(self.say)
                    said = True
                heard += client.receive()
            except TimedOut:
                pause *= 2
            except ConnectionEnded:
                raise ConnectionEnded(
                    f"the server hung up without a reply{_after(heard)}"
                ) from None
        return heard

    def answered(self, heard: bytes) -> bool:
        """What was heard is the reply."""
        return bool(heard) and self.expect in heard


def _after(heard: bytes) -> str:
    return f", but for {_told(heard)}" if heard else ""


def common(first: bytes, second: bytes) -> bytes:
    """What every reply begins with, after these two; b"" is anything."""
    # They may have come in pieces, of which only the first is known.
    short, long = sorted((first, second), key=len)
    return short if _begins(long, short) else b""


def _told(heard: bytes) -> str:
    return f"{heard[:TOLD]!r}{'...' if len(heard) > TOLD else ''}"


def _begins(reply: bytes, start: bytes) -> bool:
    return _plain(reply).startswith(_plain(start))


def _plain(reply: bytes) -> bytes:
    # The time of day and the number of a visitor differ each time.
    return re.sub(rb"[0-9]+", b"0", reply)
