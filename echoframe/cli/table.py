"""Rows to lines, or to JSON."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["print_table"]


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool) -> None:
    """Print a line for each row, in columns; or a list of objects with the titles as keys.

    The lines have no heading when there are three columns or less: they explain
    themselves, and programs read them more easily.
    """
    if as_json:
        import json

        keys = [title.replace(" ", "_").replace("-", "_") for title in titles]
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    lines = [titles, *rows] if len(titles) > 3 else rows
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())
