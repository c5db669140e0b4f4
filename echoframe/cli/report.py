"""echoframe report: results of compare and bench once more, side by side, or as other files."""

from __future__ import annotations

from typing import Any

from .exports import STDOUT, Exports, add_exports, read_result
from .failure import UsageError
from .parsing import Parser

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe report before.json after.json --export-html both.html"

_MORE = """\
One FILE is shown as compare showed it. Several are laid side by side, and each is
compared with the first.

A criterion is [WORKLOAD[/SUBJECT[/CONNECTIONS]]:] METRIC OP VALUE, where METRIC is
throughput, p50, p90, p99, p99.9, max, finished, unserved, errors, fairness, cpu,
switches, threads, processes, descriptors, memory, memory-each, ready or stop, OP is
<, <=, > or >=, and VALUE is a number with its unit (us ms s, B KiB MiB, k M), or
baseline, 0.9*baseline, +20% or -10%; * stands for any name.

exit codes: 0 done, 1 a criterion is met or a file cannot be written, 2 usage"""


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "report",
        "Show results that --export-json has written, write them as other files, and judge them.",
        EXAMPLE,
        _MORE,
    )
    made.add_argument(
        "files", nargs="+", metavar="FILE", help="from --export-json; - is standard input"
    )
    add_exports(made)
    return made


def run(given: Any) -> int:
    """Show them, and give the exit code."""
    if len(given.files) > 1 and (given.json or given.export_json is not None):
        flag = "--json" if given.json else "--export-json"
        raise UsageError(
            f"{flag}: takes one result, and {len(given.files)} files are named; name one"
        )
    if given.files.count(STDOUT) > 1:
        raise UsageError("standard input (-) can be read once; name it once")
    exports = Exports.of(given)
    results = [read_result(path) for path in given.files]
    titles = ["standard input" if path == STDOUT else path for path in given.files]
    # A single one says itself what it is.
    return exports.finish(results, titles if len(results) > 1 else ())
