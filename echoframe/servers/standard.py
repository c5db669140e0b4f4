"""The standard library's classes where a program has them, without importing what it has not."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["standard_classes"]


def standard_classes(module: str, name: str) -> tuple[type[Any], ...]:
    """Give the class of this name; none where nobody has imported it.

    Two, perhaps: `python -m http.server` has one of its own, in __main__.
    """
    found = [sys.modules.get(module)]
    main = sys.modules.get("__main__")
    if getattr(getattr(main, "__spec__", None), "name", None) == module:
        found.append(main)
    classes = (getattr(one, name, None) for one in found)
    return tuple(one for one in classes if isinstance(one, type))
