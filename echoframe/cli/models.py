"""echoframe models: the ways to serve many conversations at once, side by side."""

from __future__ import annotations

import sys
from typing import Any

from ..servers import MODELS, Server
from .parsing import Parser
from .table import print_table

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe models"


def parser() -> Parser:
    """What can be said."""
    made = Parser("models", "Show the ways to serve many conversations at once.", EXAMPLE)
    made.add_argument("--json", action="store_true", help="print a list of objects")
    return made


def run(given: Any) -> int:
    """Print a line for each."""
    rows = [
        (name, kind.__name__, _mix_in(kind), kind.at_once, kind.memory, _idea(kind))
        for name, kind in MODELS.items()
    ]
    print_table(("model", "class", "mix-in", "at once", "memory", "idea"), rows, given.json)
    return 0


def _mix_in(kind: type[Server]) -> str:
    # What the class adds to Server, and any socketserver server may have too.
    mixed = [base.__name__ for base in kind.__bases__ if not issubclass(base, Server)]
    return mixed[0] if mixed else "-"


def _idea(kind: type[Server]) -> str:
    first = (sys.modules[kind.__module__].__doc__ or "").strip().partition("\n")[0]
    return first.removeprefix(f"{kind.model}: ").rstrip(".")
