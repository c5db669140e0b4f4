"""Who goes when, and what comes of it: a healthy client asks before, meanwhile and after."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...address import Address
from ...deadlines import checked_seconds
from ...errors import AddressError, EchoframeError, SettingError, suggest
from ...transports import transport_of
from ...transports.base import look_up
from . import datagrams, handshakes, streams
from .animal import Animal
from .healthy import Healthy
from .leash import Fault, Leash

__all__ = ["ZOO", "Visit", "release", "visits"]

# All animals by name, in the order in which they go.
ZOO: dict[str, Animal] = {
    each.name: each for each in (*streams.ANIMALS, *handshakes.ANIMALS, *datagrams.ANIMALS)
}

MOST = 100_000
MOST_MIB = 4096

MEANWHILE = "while it was there"


class Visit(NamedTuple):
    """What came of an animal's visit."""

    animal: str
    # "ok", "failed" or "skipped"
    verdict: str
    # What went wrong, or why it was skipped, in a sentence; of one that is ok, what else
    # there is to know.
    said: str
    # How often the healthy client asked, and the seconds of its slowest reply.
    asked: int
    slowest: float | None
    # How long all of it took.
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing went wrong."""
        return self.verdict != "failed"


def release(
    address: object,
    names: Iterable[str | Animal] | None = None,
    *,
    healthy: Healthy | None = None,
    many: int = 200,
    seconds: float = 10.0,
    pace: float = 1.0,
    mib: float = 64,
    during: bool = True,
    yes_it_is_my_server: bool = False,
) -> list[Visit]:
    """Let animals loose on a server, one after the other, and give what came of it.

    `names` is whom to release, by name or animals of one's own; None is all of the ZOO.
    The `healthy` client asks before them, while they are at their worst, and when they
    have left; with during=False not meanwhile, for a server that serves one at a time.

    `many` is how many connections a crowd has, `seconds` how long an animal may be at
    work, `pace` the seconds between the bytes of those who dawdle, `mib` what one of them
    sends at most. It takes no thread, and this process's limit of descriptors is raised for
    a crowd and put back.

    Errors: SettingError and AddressError for what cannot work; AddressError for a server
    that is not on this machine's loopback, unless it was said to be one's own; the
    healthy client's own error when it is not served before the first animal comes.
    """
    return list(
        visits(
            address,
            names,
            healthy=healthy,
            many=many,
            seconds=seconds,
            pace=pace,
            mib=mib,
            during=during,
            yes_it_is_my_server=yes_it_is_my_server,
        )
    )


def visits(
    address: object,
    names: Iterable[str | Animal] | None = None,
    *,
    healthy: Healthy | None = None,
    many: int = 200,
    seconds: float = 10.0,
    pace: float = 1.0,
    mib: float = 64,
    during: bool = True,
    yes_it_is_my_server: bool = False,
) -> Iterator[Visit]:
    """Give each visit as soon as it is over; all else is as of release()."""
    place = Address.parse(address)
    animals = [_found(name) for name in (ZOO.values() if names is None else names)]
    healthy = healthy or Healthy()
    healthy.check(place)
    checked_seconds(seconds, "seconds")
    for name, value, most in (("many", many, MOST), ("mib", mib, MOST_MIB), ("pace", pace, 3600)):
        if not 0 < value <= most:
            raise SettingError(f"{name} must be more than 0 and at most {most:,}, not {value!r}")
    if not yes_it_is_my_server:
        _check_loopback(place)
    leash = Leash(place, healthy, many, seconds, pace, mib)
    return _visits(leash, animals, during)


def _found(name: str | Animal) -> Animal:
    if isinstance(name, Animal):
        return name
    if name not in ZOO:
        raise SettingError(f"unknown animal {name!r}; {suggest(name, ZOO)}")
    return ZOO[name]


def _check_loopback(place: Address) -> None:
    transport = transport_of(place)
    if place.scheme == "unix" or not place.host:
        return
    from ipaddress import ip_address

    for entry in look_up(place, transport.kind, passive=False):
        host = ip_address(entry[4][0].partition("%")[0])
        host = getattr(host, "ipv4_mapped", None) or host
        if not host.is_loopback:
            raise AddressError(
                f"{place} is not a loopback address ({host}), and animals attack whom they "
                "visit; say yes_it_is_my_server=True if it is yours"
            )


def _visits(leash: Leash, animals: list[Animal], during: bool) -> Iterator[Visit]:
    well = True
    for animal in animals:
        if leash.address.scheme not in animal.on:
            kinds = " or ".join(f"{scheme}://" for scheme in animal.on)
            visit = Visit(animal.name, "skipped", f"it visits {kinds}", 0, None, 0.0)
        elif not well and _trouble(leash) is not None:
            sentence = "the server has not recovered from the one before"
            visit = Visit(animal.name, "skipped", sentence, 0, None, 0.0)
        else:
            visit = _Round(leash, animal).go(during)
            well = visit.ok
        yield visit


def _trouble(leash: Leash) -> str | None:
    try:
        leash.healthy.ask(leash.address, leash.context, leash.usual)
    except EchoframeError as error:
        return str(error)
    return None


class _Round:
    """One visit of one animal."""

    def __init__(self, leash: Leash, animal: Animal) -> None:
        self.leash = leash
        self.animal = animal
        self.wrong: list[str] = []
        self.took: list[float] = []

    def go(self, during: bool) -> Visit:
        begun = time.monotonic()
        leash = self.leash
        leash.begin()
        given_up = ""
        try:
            work = self.animal.behaviour(leash)
            for _ in work:
                if during and not self._is_served(MEANWHILE):
                    break
        except Fault as fault:
            self.wrong.append(str(fault))
        except EchoframeError as error:
            self.wrong.append(f"it was not let in: {error}")
        except OSError as error:
            given_up = f"it could not do its work: {error.strerror or error}"
        finally:
            leash.let_go()
        self._is_served("after it had left")
        verdict = "failed" if self.wrong else "skipped" if given_up else "ok"
        said = "; ".join([*self.wrong, *filter(None, [given_up]), *leash.notes])
        slowest = max(self.took, default=None)
        seconds = time.monotonic() - begun
        return Visit(self.animal.name, verdict, said, len(self.took), slowest, seconds)

    def _is_served(self, when: str) -> bool:
        leash = self.leash
        try:
            served = leash.healthy.ask(leash.address, leash.context, leash.usual)
            self.took.append(served.seconds)
        except EchoframeError as error:
            hint = ""
            if when == MEANWHILE and leash.is_crowd:
                hint = " (so many may simply have filled it: lower --many)"
            self.wrong.append(f"{when}, a healthy client was not served: {error}{hint}")
            return False
        return True
