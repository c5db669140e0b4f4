"""What is not here."""

from __future__ import annotations

import importlib.util
import shutil

from ..consumers.consumer import CONSUMERS


def missing(name: str) -> str:
    """Say what is not installed of what a program needs; empty if all is."""
    library = CONSUMERS[name].library
    return "" if importlib.util.find_spec(library) else f"{library} is not installed"


def no_tool(name: str) -> str:
    return "" if shutil.which(name) else f"{name} is not installed"
