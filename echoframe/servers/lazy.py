"""An attribute that is made when it is first asked for: a mix-in has no __init__ to do it in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["lazy"]

Made = TypeVar("Made")

# Making one may ask for another.
_making = threading.RLock()


class lazy(Generic[Made]):
    """Decorates a method that makes the attribute; afterwards it is a plain attribute."""

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[Made]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Made: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[Made] | Made:
        if instance is None:
            return self
        with _making:
            attributes = vars(instance)
            if self._name not in attributes:
                # A signal handler that interrupts the making may make one of its own,
                # and what it says to that (stop) must not be lost.
                attributes.setdefault(self._name, self._make(instance))
            made: Made = attributes[self._name]
            return made
