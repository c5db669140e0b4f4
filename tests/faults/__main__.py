"""python -m tests.faults: put every model, and the standard library's servers, through it."""

from __future__ import annotations

import argparse
import sys

from .run import Result, play
from .scenario import SCENARIOS
from .subject import OURS, SUBJECTS
from .tables import as_json, as_markdown, line, summary


def main(argv: list[str] | None = None) -> int:
    """Print a table for each subject; the exit code is 1 if one of ours did not survive."""
    given = _parser().parse_args(argv)
    if given.list:
        for one in SCENARIOS.values():
            print(f"{one.name}\n    {one.title}")
        return 0
    names = given.only or (["soak"] if given.soak else list(SCENARIOS))
    text = not (given.json or given.markdown)
    results: list[Result] = []
    subjects = given.model or list(SUBJECTS)
    try:
        for result in play(subjects, names, given.quick, given.soak):
            if not results or results[-1].subject != result.subject:
                # What is printed instead of the table is for programs: this is for people.
                print(f"== {result.subject} ==", file=sys.stdout if text else sys.stderr)
            results.append(result)
            print(line(result), file=sys.stdout if text else sys.stderr, flush=True)
    except KeyboardInterrupt:
        return 130
    if given.json:
        print(as_json(results))
    elif given.markdown:
        print(as_markdown(results))
    else:
        print("\n".join(summary(results)))
    return int(any(one.counts and not one.survived for one in results if one.subject in OURS))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Do to servers what the open network and the host do, and tell who survives. "
        "Loopback only; Linux.",
        epilog="exit codes: 0 if every model of echoframe survived all that means anything to it, "
        "1 if not.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--model", action="append", choices=SUBJECTS, help="try this one; may be repeated")
    known = list(SCENARIOS)
    add("--only", action="append", choices=known, metavar="SCENARIO", help="this one; see --list")
    add("--list", action="store_true", help="tell what scenarios there are")
    add("--quick", action="store_true", help="small crowds, in less than a minute for a model")
    add("--soak", action="store_true", help="100,000 connections for each, in some minutes")
    add("--json", action="store_true", help="print the results as JSON")
    add("--markdown", action="store_true", help="print the README's table")
    return made


if __name__ == "__main__":
    sys.exit(main())
