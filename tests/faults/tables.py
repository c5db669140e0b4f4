"""What came of it: as lines while it runs, as JSON, and as the README's table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .run import Result
from .scenario import SCENARIOS
from .subject import OURS, THEIRS

__all__ = ["as_cell", "as_json", "as_markdown", "line", "summary"]

SHORT = {"TCPServer": "TCP", "ThreadingTCPServer": "Threading", "ForkingTCPServer": "Forking"}


def line(result: Result) -> str:
    width = max(map(len, SCENARIOS))
    verdict = {"hangs": "no (hangs)"}.get(result.verdict, result.verdict)
    return f"{result.scenario:{width}}  {verdict:10}  {result.said}"


def summary(results: Sequence[Result]) -> list[str]:
    """How many each subject survived."""
    return [
        f"{name} survived {sum(one.survived for one in found)} of {len(found)}"
        for name in dict.fromkeys(one.subject for one in results)
        if (found := [one for one in results if one.subject == name and one.counts])
    ]


def as_json(results: Sequence[Result]) -> str:
    shown = [{**result._asdict(), "title": SCENARIOS[result.scenario].title} for result in results]
    return json.dumps({"results": shown}, indent=2, ensure_ascii=False)


def as_markdown(results: Sequence[Result]) -> str:
    """A row for each scenario, a column for each of the two sides, and how many they survived."""
    rows = [
        "| scenario | echoframe | socketserver |",
        "|---|---|---|",
    ]
    for name in dict.fromkeys(one.scenario for one in results):
        of_this = [one for one in results if one.scenario == name]
        cells = [_cell(of_this, side) for side in (OURS, THEIRS)]
        rows.append(f"| {as_cell(SCENARIOS[name].title)} | {' | '.join(cells)} |")
    rows.append(f"| **survived** | {_sum(results, OURS)} | {_sum(results, THEIRS)} |")
    return "\n".join(rows)


def _cell(results: Sequence[Result], side: tuple[str, ...]) -> str:
    found = [one for one in results if one.subject in side and one.counts]
    if not found:
        return "–"
    good = [SHORT.get(one.subject, one.subject) for one in found if one.survived]
    if len(good) == len(found):
        return f"all {len(found)}" if len(found) > 1 else good[0]
    return f"{', '.join(good) or 'none'} of {len(found)}"


def _sum(results: Sequence[Result], side: tuple[str, ...]) -> str:
    counted = [line.replace(" survived", "") for line in summary(results)]
    return ", ".join(one for one in counted if one.split()[0] in side)


def as_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
