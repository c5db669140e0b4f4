"""Names that a program and we both have for something on its servers.

`threads`, `stop`, `report`: whoever wrote the program knows nothing of ours, and means
something else. On such a server each side finds its own.
"""

from __future__ import annotations

import socketserver
import sys
from typing import Any

from ..servers import SETTINGS

__all__ = ["keep_apart"]

_PACKAGE = __package__.partition(".")[0]

# What these have is meant the same way by everybody; and so is what they set.
_STANDARD = frozenset(
    name
    for kind in ("TCPServer", "UDPServer", "ThreadingMixIn", "ForkingMixIn")
    for name in dir(getattr(socketserver, kind, object))
).union(("RequestHandlerClass", "server_address", "socket", "server_name", "server_port"))

_made: dict[tuple[type, frozenset[str]], type] = {}


def keep_apart(server: Any) -> None:
    """Have each side find its own; where no name is used by both, nothing is done."""
    cls = type(server)
    own = [kind for kind in cls.__mro__ if _is_ours(kind)]
    # What is put in socketserver's place stands right before the first of ours.
    front = cls.__mro__[: cls.__mro__.index(own[0]) - 1]
    # Settings too that its model does not have: whoever looks for them finds none.
    known = {name for kind in own for name in vars(kind) if not name.startswith("_")}
    known = known.union(SETTINGS) - _STANDARD
    theirs = {*vars(server), *(name for kind in front for name in vars(kind))}
    both = frozenset(known & theirs)
    if not both or any(isinstance(vars(cls).get(name), _Apart) for name in both):
        return
    if (cls, both) not in _made:
        body = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        metaclass: Any = type(cls)
        names = {name: _Apart(name, cls) for name in both}
        _made[cls, both] = metaclass(cls.__name__, (cls,), {**body, **names})
    server.__class__ = _made[cls, both]


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _PACKAGE


class _Apart:
    """An attribute of two values: which one it is depends on who asks."""

    def __init__(self, name: str, cls: type) -> None:
        self._name = name
        # Where ours is kept on the server, if it was set.
        self._key = f"{_PACKAGE} {name}"
        order = cls.__mro__
        first = next(at for at, kind in enumerate(order) if _is_ours(kind))
        self._theirs, self._ours = order[: first - 1], order[first - 1 :]

    def __get__(self, server: Any, cls: type) -> Any:
        ours = _asked_by_us()
        key = self._key if ours else self._name
        if server is not None and key in vars(server):
            return vars(server)[key]
        for kind in self._ours if ours else self._theirs + self._ours:
            if self._name in vars(kind):
                found = vars(kind)[self._name]
                bind = getattr(type(found), "__get__", None)
                return found if bind is None else bind(found, server, cls)
        raise AttributeError(self._name)

    def __set__(self, server: Any, value: Any) -> None:
        vars(server)[self._key if _asked_by_us() else self._name] = value

    def __delete__(self, server: Any) -> None:
        try:
            del vars(server)[self._key if _asked_by_us() else self._name]
        except KeyError:
            raise AttributeError(self._name) from None


def _asked_by_us() -> bool:
    name: str = sys._getframe(2).f_globals.get("__name__", "")
    return name.partition(".")[0] == _PACKAGE
