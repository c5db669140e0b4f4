"""Who is let in, and how the others are turned away.

A server that is full leaves whoever comes in the kernel's backlog, where they cost
nothing; or, if it is told to, it accepts them to send them away, so that they know. It
also knows networks that may not come, and hosts from which enough have come.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

from ..errors import SettingError
from ..framing import CHUNK
from .kernel import credentials, reset_on_close, shut

__all__ = ["Turnstile", "peer_key", "read_networks", "read_overload"]

# So many who were turned away may be seen out at a time; more are closed at once.
SEEN_OUT = 128
# How often (seconds) the log says who was turned away.
OFTEN = 1.0


class Turnstile:
    """Turns connections away, without a reset overtaking what they are told."""

    def __init__(self, log: Callable[..., None]) -> None:
        self._log = log
        # By host, or user: how many have come, where that is limited.
        self.inside: dict[Any, int] = {}
        # Until when each is listened to, so that it hears why: descriptor to deadline and socket.
        self._leaving: dict[int, tuple[float, socket.socket]] = {}
        # A descriptor to turn somebody away with, when there are no others.
        self._reserve = -1
        self._counts: dict[str, int] = {}
        self._logged = 0.0

    @property
    def has_reserve(self) -> bool:
        return self._reserve >= 0

    def keep_reserve(self) -> None:
        """Hold one descriptor back."""
        if self._reserve < 0:
            with suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY)

    def spend_reserve(self) -> bool:
        """Let it be used; False if it has been."""
        number, self._reserve = self._reserve, -1
        if number >= 0:
            os.close(number)
        return number >= 0

    def note(self, why: str, name: Callable[[], str]) -> None:
        """Somebody is turned away: have the log say so, once a second at most."""
        now = time.monotonic()
        if self._counts or now - self._logged < OFTEN:
            self._counts[why] = self._counts.get(why, 0) + 1
            if now - self._logged >= OFTEN:
                self._say(now)
        else:
            self._logged = now
            self._log("Turned away %s: %s", name(), why)

    def turn_away(self, request: Any, how: str, linger: float, watch: Any) -> None:
        """Close a connection: `how` is an overload that is not wait.

        Its peer is heard out by the watch for so many seconds.
        """
        if isinstance(request, tuple):
            return
        kind, _, text = how.partition(":")
        try:
            if kind == "drop":
                reset_on_close(request)
            elif request.__class__ is socket.socket:
                request.setblocking(False)
                if text:
                    request.send(text.encode() + b"\n")
                shut(request, socket.SHUT_WR)
                if linger:
                    self._see_out(request, time.monotonic() + linger, watch)
                    return
        except (OSError, AttributeError):
            # It has gone already, or is something of the program's own.
            pass
        with suppress(OSError, AttributeError):
            request.close()

    def _see_out(self, sock: socket.socket, deadline: float, watch: Any) -> None:
        if len(self._leaving) >= SEEN_OUT:
            self._close(next(iter(self._leaving)), watch)
        number = sock.fileno()
        watch.add(number, partial(self._hear, number, watch))
        self._leaving[number] = (deadline, sock)

    def _hear(self, number: int, watch: Any) -> None:
        try:
            if self._leaving[number][1].recv(CHUNK):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(number, watch)

    def _close(self, number: int, watch: Any) -> None:
        watch.remove(number)
        self._leaving.pop(number)[1].close()

    def between(self, watch: Any) -> float | None:
        """Do what is due; in how many seconds to call again."""
        if not (self._leaving or self._counts):
            return None
        now = time.monotonic()
        # In the order in which they came, and so of their deadlines.
        while self._leaving:
            number, (deadline, _) = next(iter(self._leaving.items()))
            if deadline > now:
                break
            self._close(number, watch)
        if self._counts and now - self._logged >= OFTEN:
            self._say(now)
        due = [self._logged + OFTEN] if self._counts else []
        if self._leaving:
            due.append(next(iter(self._leaving.values()))[0])
        return min(due) - now if due else None

    def _say(self, now: float) -> None:
        counts, self._counts, self._logged = self._counts, {}, now
        why = ", ".join(f"{count} by {why}" for why, count in counts.items())
        self._log("Turned away %d more: %s", sum(counts.values()), why)

    def end(self, watch: Any) -> None:
        """See nobody out any more."""
        for number in list(self._leaving):
            self._close(number, watch)
        if self._counts:
            self._say(time.monotonic())
        self.spend_reserve()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what is the parent's."""
        for _, sock in self._leaving.values():
            os.close(sock.detach())
        self._leaving = {}
        self.spend_reserve()


def peer_key(request: Any, client_address: Any) -> Any:
    """By what a peer is known as one of many: its host, or its user; None is not at all."""
    match client_address:
        case (str(host), *_):
            return host.removeprefix("::ffff:")
    if isinstance(request, socket.socket) and request.family == getattr(socket, "AF_UNIX", None):
        found = credentials(request)
        return None if found is None else found[1]
    return None


def barred(host: Any, allow: Any, deny: Any) -> str:
    """Name the setting by which a host may not come; empty is "it may"."""
    if not isinstance(host, str):
        # Of this machine, by a socket file; its permissions say who.
        return ""
    return _barred(host, _hashable(allow), _hashable(deny))


def _hashable(networks: Any) -> Any:
    return tuple(networks) if isinstance(networks, list) else networks


@lru_cache(1024)
def _barred(host: str, allow: Any, deny: Any) -> str:
    import ipaddress

    allow, deny = read_networks(allow), read_networks(deny)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # Of a kind that has no networks.
        return "allow" if allow else ""
    if any(address in network for network in deny):
        return "deny"
    return "allow" if allow and not any(address in network for network in allow) else ""


# ---------------------------------------------------------------- as settings


def read_overload(value: Any) -> str:
    """Check what becomes of those for whom there is no place. Errors: SettingError."""
    if isinstance(value, str):
        kind, _, text = value.partition(":")
        if kind == "refuse" and "\n" not in text and "\r" not in text:
            return value
        if value in ("wait", "drop"):
            return value
    raise SettingError(
        f"takes wait, drop, refuse, or refuse:TEXT where TEXT is one line, not {value!r}"
    )


def read_networks(value: Any) -> tuple[Any, ...]:
    """Make networks of their texts, in a list or with commas. Errors: SettingError."""
    import ipaddress

    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise SettingError(f"takes networks, as in 10.0.0.0/8, not {value!r}")
    networks = []
    for given in texts:
        # Already one, perhaps; but a number would be taken for an address.
        text = str(given) if isinstance(given, str) or hasattr(given, "netmask") else repr(given)
        try:
            if text.strip():
                networks.append(_plain(ipaddress.ip_network(text.strip())))
        except ValueError as error:
            # "... has host bits set", with the network that was meant, or what it is not.
            raise SettingError(f"takes networks, as in 10.0.0.0/8: {error}") from None
    if texts and not networks:
        # Of a variable that was not set, perhaps; and none would be everybody.
        raise SettingError(f"takes networks, as in 10.0.0.0/8, not {value!r}")
    return tuple(networks)


def _plain(network: Any) -> Any:
    # Who comes over IPv4 to a listener for both is known by that address.
    import ipaddress

    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
