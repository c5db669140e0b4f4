"""python -m tests.adopted: measure programs as they are, and adopted; about three minutes."""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import textwrap
from pathlib import Path

from . import idle, load, sigterm, stops, storm, tls
from .bench import Bench, Measure, Row
from .missing import no_tool

MEASURES: dict[str, Measure] = {
    "idle": idle.measure,
    "tls": tls.measure,
    "sigterm": sigterm.measure,
    "storm": storm.measure,
    "load": load.measure,
    "stop": stops.measure,
}
NEED_WRK = ("idle", "load")


def main(argv: list[str] | None = None) -> int:
    """Print a table for each measurement; 1 if something promised was not seen."""
    made = argparse.ArgumentParser(
        prog="python -m tests.adopted",
        description="Measure what programs of socketserver's gain by `echoframe adopt`. "
        "Loopback only; Linux.",
        epilog="exit codes: 0 if all that is promised was seen, 1 if not.",
    )
    made.add_argument("only", nargs="*", help=", ".join(MEASURES), metavar="MEASUREMENT")
    given = made.parse_args(argv)
    for name in given.only:
        if name not in MEASURES:
            made.error(f"there is no {name}: {', '.join(MEASURES)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    good = True
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        bench = Bench(folder, _pair(folder))
        for name in given.only or MEASURES:
            measure = MEASURES[name]
            print(f"\n== {name}: {textwrap.dedent(measure.__doc__ or '')}", flush=True)
            if name in NEED_WRK and (said := no_tool("wrk")):
                print(f"   {said}")
                continue
            for row in measure(bench):
                good = good and row.ok is not False
                print(line(row), flush=True)
    return int(not good)


def line(row: Row) -> str:
    verdict = {None: "", True: "ok", False: "FAILS"}[row.ok]
    promised = f"  ({row.promised})" if row.promised else ""
    return f"{verdict:5}  {row.what}: {row.seen}{promised}"


def _pair(folder: Path) -> tuple[Path, Path] | None:
    with contextlib.suppress(ImportError):
        from ..certificates import Authority

        made = Authority(folder, "adopted").issue("localhost", "127.0.0.1")
        return made.cert, made.key
    return None


if __name__ == "__main__":
    sys.exit(main())
