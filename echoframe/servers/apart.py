"""Names that a program and we both have for something on its servers.

`_name`, `_stop`, `_close`: whoever wrote the program knows nothing of ours, and means
something else. On such a server each side finds its own. Public names are meant as ours
are, unless the program does not know that we are there.
"""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Iterable
from typing import Any

from .lazy import lazy
from .settings import SETTINGS

__all__ = ["is_all_ours", "keep_apart", "made_names"]

_PACKAGE = __package__.partition(".")[0]

# What these have is meant the same way by everybody; and so is what they set.
_STANDARD = frozenset(
    name
    for kind in ("TCPServer", "UDPServer", "ThreadingMixIn", "ForkingMixIn")
    for name in dir(getattr(socketserver, kind, object))
).union(("RequestHandlerClass", "server_address", "socket", "server_name", "server_port"))

# In a server that has been looked at.
_LOOKED = f"{_PACKAGE} looked"

_made: dict[tuple[type, frozenset[str]], type] = {}


def is_all_ours(server: Any) -> None:
    """Whoever wrote the class of this server has read ours."""
    vars(server)[_LOOKED] = True


def keep_apart(server: Any, public: bool) -> None:
    """Have each side find its own. Called before anything of ours is set on the server.

    Where no name is used by both, nothing is done.
    """
    if _LOOKED in vars(server):
        return
    is_all_ours(server)
    cls = type(server)
    own = [kind for kind in cls.__mro__ if _is_ours(kind)]
    known = {name for kind in own for name in vars(kind) if public or name.startswith("_")}
    # Settings too that its model does not have: whoever looks for them finds none.
    known = (known.union(SETTINGS) if public else known) - _STANDARD - made_names(own)
    others = (kind for kind in cls.__mro__ if not _is_ours(kind))
    theirs = {*vars(server), *(name for kind in others for name in vars(kind))}
    both = frozenset(name for name in known & theirs if not name.endswith("__"))
    if not both:
        return
    if (cls, both) not in _made:
        body = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        metaclass: Any = type(cls)
        names = {name: _Apart(name, cls) for name in both}
        _made[cls, both] = metaclass(cls.__name__, (cls,), {**body, **names})
    server.__class__ = _made[cls, both]


def made_names(kinds: Iterable[type]) -> set[str]:
    """Give the names that are made on a server when they are asked for; nobody else has them."""
    return {name for kind in kinds for name, value in vars(kind).items() if isinstance(value, lazy)}


def _is_ours(kind: type) -> bool:
    # What is put in socketserver's place says that it is from there.
    if kind.__module__ == socketserver.__name__:
        return any(_is_ours(base) for base in kind.__bases__)
    return kind.__module__.partition(".")[0] == _PACKAGE


class _Apart:
    """An attribute of two values: which one it is depends on who asks."""

    def __init__(self, name: str, cls: type) -> None:
        self._name = name
        # Where ours is kept on the server, if it was set.
        self._key = f"{_PACKAGE} {name}"
        order = cls.__mro__
        self._ours = [kind for kind in order if _is_ours(kind)]
        self._theirs = [*(kind for kind in order if not _is_ours(kind)), *self._ours]

    def __get__(self, server: Any, cls: type) -> Any:
        ours = _asked_by_us()
        key = self._key if ours else self._name
        if server is not None and key in vars(server):
            return vars(server)[key]
        for kind in self._ours if ours else self._theirs:
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
