"""python -m tests.stdlib: the standard library's own tests, with our mix-ins in its servers."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter

from .replace import REPLACED
from .run import MODULES, ROOT, play, version_of
from .tables import cut_short, explained, row, title

# Prefork is for whoever asks: a program that expects a process for each connection counts them.
USUAL = [model for model in REPLACED if model != "prefork"]


def main(argv: list[str] | None = None) -> int:
    """Print a table for each interpreter; the exit code is 1 if something is new in it."""
    given = _parser().parse_args(argv)
    pythons = given.python or _interpreters()
    models = given.model or USUAL
    began = time.monotonic()
    tests = carried = 0
    whys: Counter[str] = Counter()
    # A model that no module has a server for has shown nothing.
    idle = {(python, model) for python in pythons for model in models}
    for python in pythons:
        try:
            print(f"== Python {version_of(python)}, {python} ==")
        except LookupError as reason:
            print(reason)
            idle -= {(python, model) for model in models}
            continue
        print(title(models), flush=True)
        for name, baseline, played in play(python, given.modules or MODULES, models, given.plain):
            print(row(name, baseline, played, models), flush=True)
            said = cut_short(name, baseline)
            if said:
                whys[""] += 1
                print(said, flush=True)
            if given.verbose:
                for one in baseline.outcomes.values():
                    if one.outcome == "failed":
                        print(f"-- {name}: {one.test} failed in the baseline\n{one.text.rstrip()}")
            for module in played:
                idle.discard((python, module.model))
                tests += len(module.run.outcomes)
                carried += module.run.carried
                whys.update(finding.why for finding in module.findings)
                whys[""] += bool(module.wrong)
                said = explained(module)
                if said:
                    print(said, flush=True)
                if given.verbose:
                    for one in module.run.outcomes.values():
                        what = f"carried {module.model}" if one.carried else "–"
                        print(f"  {one.seconds:6.2f} s  {one.outcome:<8} {what:<16} {one.test}")
    for python, model in sorted(idle):
        print(f"{python}: no test makes a server that {model} would stand in for")
    failures = whys[""] + len(idle)
    print(
        f"{tests} tests with a mix-in of ours, {carried} of them with a server that carries it: "
        f"{failures} failed that do not without; {whys['once']} more failed once, and "
        f"{whys['theirs']} as they do with socketserver's own; in {time.monotonic() - began:.0f} s"
    )
    return int(bool(failures) or not carried)


def _interpreters() -> list[str]:
    told = subprocess.run(
        [ROOT / ".ci" / "interpreters"], stdout=subprocess.PIPE, text=True, check=True
    )
    return told.stdout.split() or [sys.executable]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.stdlib",
        description="Run the standard library's own tests with our mix-ins in place of "
        "socketserver's, and tell what fails that does not without.",
        epilog="In the table: passed/failed/skipped, and how many of the tests that make such a "
        "server made one that carries the mix-in. exit codes: 0 if nothing fails that does not "
        "without, 1 if something does, or if nothing was tried.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("modules", nargs="*", metavar="MODULE", help="test_socketserver; a class or test in it")
    add("--python", action="append", metavar="PATH", help="with this one; may be repeated")
    add("--model", action="append", choices=list(REPLACED), help="this one; may be repeated")
    add(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help="also into servers that have no mix-in; unless told, where it is of threads",
    )
    add("-v", "--verbose", action="store_true", help="tell of each test")
    return made


if __name__ == "__main__":
    sys.exit(main())
