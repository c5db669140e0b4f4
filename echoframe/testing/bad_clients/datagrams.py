"""Bad clients of udp."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from .animal import DATAGRAMS, animal
from .leash import Leash

__all__ = ["ANIMALS"]

# What IPv4 leaves of 65,535 bytes behind its own header and that of udp.
LONGEST = 65_507


@animal(
    DATAGRAMS,
    "sends fifty times as many datagrams as fast as it can, and reads no reply",
    "loses some, and answers again when the storm is over",
)
def storm(leash: Leash) -> Iterator[None]:
    peer = leash.bare(small=True)
    for _ in leash.times(5):
        peer.say(repeat(leash.message, 10 * leash.many))
        yield


@animal(
    DATAGRAMS,
    "sends messages that are cut off, at each byte",
    "should take each for the whole message that it is not, or ignore it",
)
def truncated(leash: Leash) -> Iterator[None]:
    message = leash.message[:100]
    leash.bare().say(message[:end] for end in range(1, len(message)))
    yield


@animal(
    DATAGRAMS,
    "sends datagrams with nothing in them, many of them",
    "answers or ignores them, and takes none for an end",
)
def empty(leash: Leash) -> Iterator[None]:
    leash.bare().say(repeat(b"", leash.many))
    yield


@animal(
    DATAGRAMS,
    "sends the longest datagrams that there are",
    "answers or drops them",
)
def oversized(leash: Leash) -> Iterator[None]:
    leash.bare().say(repeat(b"x" * LONGEST, leash.few))
    yield


@animal(
    DATAGRAMS,
    "asks and is gone before the reply, so that the system says that nobody is there",
    "takes that for the affair of one peer",
)
def gone(leash: Leash) -> Iterator[None]:
    for _ in leash.times(leash.few):
        peer = leash.bare()
        peer.say(leash.message)
        peer.close()
    yield


ANIMALS = (storm, truncated, empty, oversized, gone)
