"""echoframe handlers: what can be served by name."""

from __future__ import annotations

from typing import Any

from ..framing import FramingSpec
from ..handlers import Protocol, registry, summary
from .parsing import Parser
from .table import print_table

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe handlers --json"


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "handlers",
        "List the handlers that can be served by name. Those that other packages have "
        "registered are listed without being imported.",
        EXAMPLE,
    )
    made.add_argument("--json", action="store_true", help="print a list of objects")
    return made


def run(given: Any) -> int:
    """Print a line for each."""
    rows = []
    for name, source in registry.sources().items():
        if isinstance(source, Protocol):
            rows.append((name, _name_of(source.framing), summary(source)))
        else:
            rows.append((name, "?", f"from {source}, not imported yet"))
    print_table(("name", "framing", "summary"), rows, given.json)
    return 0


def _name_of(framing: FramingSpec) -> str:
    return framing if isinstance(framing, str) else getattr(framing, "name", repr(framing))
