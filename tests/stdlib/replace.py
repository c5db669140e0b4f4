"""Our mix-ins in the place of socketserver's, and which servers carry one."""

from __future__ import annotations

import socketserver
import sys
from functools import cache
from typing import Any

__all__ = ["FORKING", "PLAIN", "REPLACED", "THREADING", "Counter", "give", "replace"]

# The kinds of servers there are.
THREADING, FORKING, PLAIN = "ThreadingMixIn", "ForkingMixIn", "plain"

# Which of our mix-ins stands in for which of socketserver's.
REPLACED = {"thread": THREADING, "pool": THREADING, "fork": FORKING, "prefork": FORKING}

# They take socketserver's classes into theirs when they are imported.
_USERS = ("http.server", "xmlrpc.server", "wsgiref.simple_server", "logging.config")


class Counter:
    """Sees every server that is made: its kind, and whether it carries a mix-in of ours."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.carried = False
        # The mix-in of ours, once there is one.
        self.ours: tuple[type, ...] = ()
        self._mixins = (socketserver.ThreadingMixIn, socketserver.ForkingMixIn)
        self._make = socketserver.BaseServer.__init__

        def make(server: Any, *given: Any, **named: Any) -> None:
            self._made(server, *given, **named)

        socketserver.BaseServer.__init__ = make  # type: ignore[assignment, method-assign]

    def kind(self, server: socketserver.BaseServer) -> str:
        threading, forking = self._mixins
        if isinstance(server, threading):
            return THREADING
        return FORKING if isinstance(server, forking) else PLAIN

    def _made(self, server: Any, *given: Any, **named: Any) -> None:
        self.kinds.add(self.kind(server))
        self.adopt(server)
        self.carried = self.carried or isinstance(server, self.ours)
        self._make(server, *given, **named)

    def adopt(self, server: Any) -> None:
        """Make a server carry a mix-in that its class has not got. May be replaced."""

    def forget(self) -> None:
        self.kinds, self.carried = set(), False


def replace(model: str, plain: bool, counter: Counter) -> None:
    """Put a mix-in in the place of socketserver's, and into servers that have none if `plain`."""
    import echoframe

    mixin: Any = {
        "thread": echoframe.ThreadingMixIn,
        "pool": echoframe.PoolMixIn,
        "fork": echoframe.ForkingMixIn,
        "prefork": echoframe.PreforkMixIn,
    }[model]
    _stand_in(mixin, REPLACED[model])
    counter.ours = (mixin,)
    if plain:
        give(mixin, counter)


def _stand_in(mixin: type, name: str) -> None:
    early = [name for name in _USERS if name in sys.modules]
    if early:
        raise RuntimeError(f"too late: {early[0]} has socketserver's classes already")
    replaced = getattr(socketserver, name)
    # By the name and module that programs, and pickles, know.
    ours = type(name, (mixin,), {"__module__": socketserver.__name__, "__doc__": mixin.__doc__})
    setattr(socketserver, name, ours)
    for ready in socketserver.__all__:
        old = getattr(socketserver, ready)
        if isinstance(old, type) and replaced in old.__bases__:
            bases = tuple(ours if base is replaced else base for base in old.__bases__)
            setattr(socketserver, ready, type(ready, bases, _body(old)))


def give(mixin: type, counter: Counter) -> None:
    """Have servers that have no mix-in carry this one."""

    class Carrying(type):
        def mro(cls) -> list[type]:
            # Behind what a program has replaced, in front of what it stands on.
            usual = list(super().mro())
            first = next(cls for cls in usual if cls.__module__ == socketserver.__name__)
            place = usual.index(first)
            return [*usual[:place], *mixin.__mro__[:-1], *usual[place:]]

    @cache
    def carrying(cls: type) -> type:
        return Carrying(cls.__name__, (cls,), _body(cls, "__module__", "__qualname__"))

    def adopt(server: Any) -> None:
        if counter.kind(server) == PLAIN and not isinstance(server, mixin):
            server.__class__ = carrying(server.__class__)

    counter.adopt = adopt  # type: ignore[method-assign]


def _body(cls: type, *names: str) -> dict[str, Any]:
    own = {"__dict__", "__weakref__"}
    return {
        name: value
        for name, value in vars(cls).items()
        if (name in names if names else name not in own)
    }
