"""Who is ready, and what to call then: the best poller of the platform, and a table.

Level-triggered: what is not dealt with is ready again the next time. Every call
gets its turn before anybody is asked again.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from typing import Protocol

from .wake import Wake

__all__ = ["ONCE", "READABLE", "WRITABLE", "Watch", "one_shot_poller"]

# The bits are the same for poll() and epoll.
READABLE = 1
WRITABLE = 4
# For a one_shot_poller(): epoll's bit for "say so once, until I ask again".
ONCE = 1 << 30

# Who waits for longer than this looks up once before (seconds). Python handles signals in
# the main thread, between two calls: one that comes just before that thread begins to wait
# does not wake it. (The stdlib's loops look up twice a second for ever.)
LONG = 5.0
SHORTLY = 0.43


class Poller(Protocol):
    def register(self, number: int, events: int, /) -> object: ...
    def modify(self, number: int, events: int, /) -> object: ...
    def unregister(self, number: int, /) -> object: ...


class Watch:
    """Descriptors, and what to call when they are ready.

    `many` is for a watch over the connections themselves; a few listeners are
    asked with poll(), which needs no descriptor of its own.
    """

    def __init__(self, many: bool = False) -> None:
        self.calls: dict[int, Callable[[], object]] = {}
        self._poller: Poller
        self._ask: Callable[[float | None], list[tuple[int, int]]]
        self.close: Callable[[], None] = _nothing
        if not many:
            poll = select.poll()
            self._poller = poll
            self._ask = lambda pause: poll.poll(None if pause is None else pause * 1000)
        elif hasattr(select, "epoll"):
            epoll = select.epoll()
            self._poller, self._ask, self.close = epoll, epoll.poll, epoll.close
        else:
            other = _Selector()
            self._poller, self._ask, self.close = other, other.poll, other.close

    def add(self, number: int, call: Callable[[], object]) -> None:
        """Call it when the descriptor is ready. Harmless when it was added already."""
        try:
            self._poller.register(number, READABLE)
        except (KeyError, FileExistsError):
            self._poller.modify(number, READABLE)
        self.calls[number] = call

    def change(self, number: int, events: int) -> None:
        self._poller.modify(number, events)

    def remove(self, number: int) -> None:
        """Forget a descriptor. Must be called before it is closed; harmless when it was not
        added.
        """
        self.calls.pop(number, None)
        try:
            self._poller.unregister(number)
        except (KeyError, ValueError, FileNotFoundError):
            # poll()'s word for that, a number that is none, and epoll's.
            pass

    def wait(self, pause: float | None) -> bool:
        """Wait for somebody, no longer than `pause` seconds, and call what is due.

        Gives False when nobody came.
        """
        calls = self.calls
        ready = self._ready(pause)
        for number, _ in ready:
            # One call may end what another one was for.
            call = calls.get(number)
            if call is not None:
                call()
        return bool(ready)

    def _ready(self, pause: float | None) -> list[tuple[int, int]]:
        if pause is not None and pause <= LONG:
            return self._ask(pause)
        return self._ask(SHORTLY) or self._ask(None if pause is None else pause - SHORTLY)


class _Selector:
    """The same interface, where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def register(self, number: int, events: int) -> None:
        self._selector.register(number, _as_selected(events))

    def modify(self, number: int, events: int) -> None:
        self._selector.modify(number, _as_selected(events))

    def unregister(self, number: int) -> None:
        self._selector.unregister(number)

    def poll(self, pause: float | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(pause)]


class OneShotPoller(Protocol):
    """Of epoll, what several threads may call while one of them polls."""

    def register(self, number: int, events: int, /) -> object: ...
    def modify(self, number: int, events: int, /) -> object: ...
    def unregister(self, number: int, /) -> object: ...
    def poll(self, pause: float | None, most: int, /) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


def one_shot_poller() -> OneShotPoller:
    """Give a poller that many threads may tell what to wait for, while one waits."""
    return select.epoll() if hasattr(select, "epoll") else _Once()


class _Once:
    """The same interface, where there is no epoll."""

    def __init__(self) -> None:
        # Each in a tuple of its own, so that asking again makes a difference.
        self._wanted: dict[int, tuple[int]] = {}
        self._news = Wake()
        self._wanted[self._news.fileno()] = (READABLE,)
        self.close = self._news.close

    def register(self, number: int, events: int) -> None:
        self._wanted[number] = (events,)
        self._news.set()

    modify = register

    def unregister(self, number: int) -> None:
        self._wanted.pop(number, None)

    def poll(self, pause: float | None, most: int) -> list[tuple[int, int]]:
        poll = select.poll()
        wanted = self._wanted.copy()
        for number, (events,) in wanted.items():
            poll.register(number, events & ~ONCE)
        ready = poll.poll(None if pause is None else pause * 1000)[:most]
        self._news.clear()
        for number, found in ready:
            # What was closed is ready in its way, and goes like the others.
            once = wanted[number][0] & ONCE or found & select.POLLNVAL
            if once and self._wanted.get(number) is wanted[number]:
                del self._wanted[number]
        return [one for one in ready if one[0] != self._news.fileno()]


def _as_selected(events: int) -> int:
    reads = selectors.EVENT_READ if events & READABLE else 0
    return reads | (selectors.EVENT_WRITE if events & WRITABLE else 0)


def _nothing() -> None:
    pass
