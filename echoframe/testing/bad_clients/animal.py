"""What an animal is: a generator that does one bad thing, and two sentences about it.

It yields where it is at its worst; a healthy client asks then, and must be served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .leash import Leash

__all__ = ["DATAGRAMS", "EVERYWHERE", "STREAMS", "Animal", "Behaviour", "animal"]

Behaviour = Callable[[Leash], Iterator[None]]

STREAMS = ("tcp", "tls", "unix")
DATAGRAMS = ("udp",)
EVERYWHERE = (*STREAMS, *DATAGRAMS)


class Animal(NamedTuple):
    """A bad client. `does` goes on after its name, `good` after "a good server".

    What `good` says a server should do is not looked at by the visit itself; the rest is.
    """

    name: str
    does: str
    good: str
    # The schemes of the addresses that it can visit.
    on: tuple[str, ...]
    behaviour: Behaviour


def animal(on: tuple[str, ...], does: str, good: str) -> Callable[[Behaviour], Animal]:
    """Make an animal of a generator function, which gives it its name."""

    def make(behaviour: Behaviour) -> Animal:
        # A Callable has no __name__ for type checkers; a function has.
        name = getattr(behaviour, "__name__", "animal").replace("_", "-")
        return Animal(name, does, good, on, behaviour)

    return make
