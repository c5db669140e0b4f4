"""What waits in each process of an adopted program until that imports socketserver.

Most of them never do, and pay for this file alone: it imports nothing that Python has
not loaded anyway.
"""

from __future__ import annotations

import atexit
import os
import sys
from importlib.machinery import PathFinder

from .ending import (
    end_as_they_did,
    has_had_children,
    hooks,
    is_of_multiprocessing,
    keep_sigterm,
    say,
    take_sigterm,
)
from .wish import VARIABLE, Wish

# typing's own costs more than all of this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["begin"]

# The folder in which echoframe is.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def begin() -> None:
    """Be there when socketserver is imported. Called once, before the program."""
    text = os.environ.get(VARIABLE)
    if not text:
        # It was taken out of the environment: a way to say no.
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    for name in finder.waiting:
        # Something that Python runs even earlier may have it already.
        if name in sys.modules:
            finder.waiting[name](sys.modules[name])
    if not is_of_multiprocessing():
        take_sigterm()
    # First, and so behind everything that others do at the end.
    atexit.register(end_as_they_did)
    if text.partition(" ")[0] == str(os.getpid()):
        atexit.register(_say_if_unused, os.getpid())
        hooks.last_words = _say_if_unused


class _Finder:
    """Finds echoframe where this file is, and nothing else there; and follows some modules."""

    def __init__(self) -> None:
        # What is to be done when a module has just been loaded.
        self.waiting: dict[str, Callable[[ModuleType], object]] = {
            "echoframe": _replace,
            "socketserver": _replace_unless_we_are_on_our_way,
            "signal": keep_sigterm,
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Some only ask, and import nothing; so it stays.
        then = self.waiting.get(name)
        if then is None:
            return None
        if name == "echoframe":
            spec = PathFinder.find_spec(name, [_HOME])
        else:
            spec = self._elsewhere(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, then)  # type: ignore[assignment]  # its base class is slow to import
        return spec

    def _elsewhere(self, *wanted: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(*wanted)
                if spec is not None:
                    return spec
        return None


class _Loader:
    """Another loader, and what comes behind it."""

    def __init__(self, loader: Any, then: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # As if we had never been there: tracebacks ask the loader for lines.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)


def _replace(module: ModuleType) -> None:
    from . import replacing

    replacing.replace()


def _replace_unless_we_are_on_our_way(module: ModuleType) -> None:
    # What is half imported replaces nothing. It is done behind that.
    spec = getattr(sys.modules.get("echoframe"), "__spec__", None)
    if not getattr(spec, "_initializing", False):
        _replace(module)


def _say_if_unused(pid: int) -> None:
    # A forked child may come by here as well. Who has failed has said so; Ctrl-C is no failure.
    ended = getattr(sys, "last_value", None)
    if os.getpid() != pid or not (ended is None or isinstance(ended, KeyboardInterrupt)):
        return
    if "echoframe.adopt.replacing" in sys.modules:
        from . import replacing

        if replacing.quiet() or replacing.has_made_some():
            return
        unused = "made no server of socketserver's mix-ins (--plain takes those without one)"
    else:
        if Wish.from_text(os.environ.get(VARIABLE, "0 {}")).loudness < 0:
            return
        unused = "never imported socketserver"
    if has_had_children():
        # They have said themselves what they did.
        return
    say(f"this program {unused}, so nothing was replaced")
