"""echoframe probe: which ports of a host take connections."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from ..probing import probe
from .failure import UsageError
from .parsing import Parser, read_seconds

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe probe 127.0.0.1 20-25,80,7007"


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "probe",
        "Tell for each port whether it is open, refused (nobody listens) or filtered (no answer).",
        EXAMPLE,
        "exit codes: 0 if any is open, 1 otherwise",
    )
    made.add_argument("host", metavar="HOST", help="a name or an address")
    made.add_argument("ports", metavar="PORTS", help="numbers and ranges, as in 20-25,80")
    made.add_argument("--timeout", metavar="SECONDS", default="1", help="to wait for an answer (1)")
    made.add_argument("--json", action="store_true", help="print an object, state by port")
    return made


def run(given: Any) -> int:
    """Print a line for each port."""
    try:
        timeout = read_seconds(given.timeout)
    except SettingError as error:
        raise UsageError(f"--timeout: {error}") from None
    found = probe(given.host, given.ports, timeout)
    if given.json:
        import json

        print(json.dumps(found))
    else:
        for port, state in found.items():
            print(port, state)
    return 0 if "open" in found.values() else 1
