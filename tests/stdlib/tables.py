"""What came of the tests, for people."""

from __future__ import annotations

from collections.abc import Sequence

from .run import Module, Run

__all__ = ["cut_short", "explained", "row", "title"]

_WIDTH = 24

_HOW = {
    "once": "once: passed when it ran again",
    "theirs": "as it is with socketserver's own mix-in in that server",
    "": "twice",
}


def title(models: Sequence[str]) -> str:
    return _line("passed/failed/skipped", "baseline", models)


def row(name: str, baseline: Run, played: Sequence[Module], models: Sequence[str]) -> str:
    """A module of tests: its baseline, and each model with how many of its tests carried it."""
    if baseline.absent:
        return f"{name} is not in this Python"
    of = {module.model: module for module in played}
    cells = []
    for model in models:
        module = of.get(model)
        if module is None:
            # It makes no server of that kind.
            cells.append("–")
        else:
            counts = f"{_counts(module.run)}, {module.run.carried} of {module.expected}"
            cells.append(counts + (" *" if module.failed else ""))
    return _line(name, _counts(baseline), cells)


def cut_short(name: str, baseline: Run) -> str:
    """Why the baseline of a module is none; empty is "it is one"."""
    if baseline.over:
        return ""
    *_, last = baseline.outcomes.values()
    return f"-- {name}: the baseline did not come to its end\n{last.text.rstrip()}"


def explained(module: Module) -> str:
    """What the baseline does not have, in full; empty if there is nothing."""
    heading = f"{module.name} with {module.model}"
    parts = [f"-- {heading}: {module.wrong}"] if module.wrong else []
    for finding in module.findings:
        first, again = finding.first, finding.again
        parts.append(f"-- {heading}: {first.test} {first.outcome}, {_HOW[finding.why]}")
        parts.append(first.text.rstrip())
        if again.outcome != "passed" and again.text != first.text:
            parts.append(f"-- the second time: {again.outcome}\n{again.text.rstrip()}")
    return "\n".join(parts)


def _counts(run: Run) -> str:
    passed = run.count("passed") + run.count("expected")
    return f"{passed}/{run.count('failed')}/{run.count('skipped')}"


def _line(name: str, baseline: str, cells: Sequence[str]) -> str:
    return " ".join(
        [f"{name:<22}", f"{baseline:<10}", *(f"{cell:<{_WIDTH}}" for cell in cells)]
    ).rstrip()
