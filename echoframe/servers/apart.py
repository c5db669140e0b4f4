"""Names that a program and we both have for something on its servers.

`_name`, `_stop`, `_close`: whoever wrote the program knows nothing of ours, and means
something else. On such a server each side finds its own. Public names are meant as ours
are, unless the program does not know that we are there.
"""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from .lazy import lazy
from .settings import SETTINGS

__all__ = ["is_all_ours", "keep_apart", "keep_apart_in", "made_names"]

_PACKAGE = __package__.partition(".")[0]

# What these have is meant the same way by everybody; and so is what they set.
_STANDARD = frozenset(
    name
    for kind in ("TCPServer", "UDPServer", "ThreadingMixIn", "ForkingMixIn")
    for name in dir(getattr(socketserver, kind, object))
).union(("RequestHandlerClass", "server_address", "socket", "server_name", "server_port"))

# In a server that has been looked at; and in a class, what we have put something over.
_LOOKED = f"{_PACKAGE} looked"
_HIDDEN = f"{_PACKAGE} hidden"

_made: dict[tuple[type, frozenset[str]], type] = {}


def is_all_ours(server: Any) -> None:
    """Whoever wrote the class of this server has read ours."""
    vars(server)[_LOOKED] = True


def keep_apart_in(cls: Any) -> None:
    """Have each side find its own on a class of a program's that has just been made."""
    kinds = [kind for kind in cls.__mro__ if not _is_ours(kind)]
    both = _names_of_ours(cls).intersection(_names_in(kinds))
    hidden = {name: vars(cls)[name] for name in both if name in vars(cls)}
    if hidden:
        setattr(cls, _HIDDEN, hidden)
    for name in both:
        setattr(cls, name, _Apart(name, cls))


def keep_apart(server: Any) -> None:
    """The same on a server, for what is set there and not on its class.

    Called before anything of ours is set on it.
    """
    if _LOOKED in vars(server):
        return
    is_all_ours(server)
    cls = type(server)
    both = frozenset(_names_of_ours(cls).intersection(vars(server)))
    if all(isinstance(vars(cls).get(name), _Apart) for name in both):
        return
    if (cls, both) not in _made:
        body = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        metaclass: Any = type(cls)
        _made[cls, both] = made = metaclass(cls.__name__, (cls,), body)
        for name in both:
            setattr(made, name, _Apart(name, made))
    server.__class__ = _made[cls, both]


def _names_of_ours(cls: Any) -> set[str]:
    public = cls.knows_no_names
    own = [kind for kind in cls.__mro__ if _is_ours(kind)]
    names = {name for name in _names_in(own) if public or name.startswith("_")}
    # Settings too that its model does not have: whoever looks for them finds none.
    known = names.union(SETTINGS) if public else names
    return {name for name in known - _STANDARD - made_names(own) if not name.endswith("__")}


def _names_in(kinds: Iterable[type]) -> Iterator[str]:
    return (name for kind in kinds for name in vars(kind))


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
        self._ours = [kind for kind in cls.__mro__ if _is_ours(kind)]
        self._theirs = [*(kind for kind in cls.__mro__ if not _is_ours(kind)), *self._ours]

    def __get__(self, server: Any, cls: type) -> Any:
        ours = _asked_by_us()
        key = self._key if ours else self._name
        if server is not None and key in vars(server):
            return vars(server)[key]
        for kind in self._ours if ours else self._theirs:
            found = vars(kind).get(_HIDDEN, {}).get(self._name, self)
            if found is self:
                found = vars(kind).get(self._name, self)
            if not isinstance(found, _Apart):
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
