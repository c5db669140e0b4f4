"""CSV and Markdown: the same figures, for programs and for pull requests."""

from __future__ import annotations

import csv
import io

from echoframe.compare.result import Cell
from echoframe.compare.tables import CSV_COLUMNS, to_csv, to_markdown

from .samples import ECHO, RATED, WAIT, crowd, five, result


def test_a_line_for_each_cell_in_base_units() -> None:
    made = result(
        Cell("loop", "rated", 50, five(10_000, errors={"reset": 1, "odd": 2}, cpu=0.5), ready=0.25),
        Cell("fork", "rated", 50, failure='it said "no",\nand died'),
        tasks=[RATED],
    )
    made.subjects[1].model = None
    rows = list(csv.DictReader(io.StringIO(to_csv([made, made]))))
    assert [(row["result"], row["subject"]) for row in rows] == [
        ("1", "loop"),
        ("1", "fork"),
        ("2", "loop"),
        ("2", "fork"),
    ]
    loop, fork = rows[:2]
    assert float(loop["per_second"]) == 10_000
    assert (float(loop["per_second_low"]), float(loop["per_second_high"])) == (9_800, 10_200)
    assert float(loop["planned_per_second"]) == 10_000
    assert 0.0014 < float(loop["latency_p50_seconds"]) < 0.0015
    assert 0.0019 < float(loop["latency_p99_seconds"]) < 0.0020
    assert 0.0019 < float(loop["latency_p99_9_seconds"]) < 0.0020
    assert float(loop["cpu_seconds_per_1000"]) == 0.05
    assert (loop["errors"], loop["errors_reset"], loop["errors_other"]) == ("15", "5", "10")
    assert (loop["model"], loop["ready_seconds"], loop["memory_bytes"]) == ("loop", "0.25", "")
    assert fork["failure"] == 'it said "no",\nand died'
    assert (fork["model"], fork["per_second"], fork["rounds"]) == ("", "", "0")


def test_names_of_columns_stay() -> None:
    # What programs read must not be renamed; new ones come at the end.
    assert tuple(CSV_COLUMNS[:16]) == (
        "result",
        "made",
        "command",
        "subject",
        "model",
        "workload",
        "handler",
        "way",
        "planned_per_second",
        "connections",
        "rounds",
        "messages",
        "per_second",
        "per_second_low",
        "per_second_high",
        "latency_p50_seconds",
    )
    assert len(set(CSV_COLUMNS)) == len(CSV_COLUMNS)


def test_markdown_has_verdict_and_tables() -> None:
    made = result(
        Cell("loop", "echo", 50, five(20_000)),
        Cell("fork", "echo", 50, failure="it has died"),
        crowd("loop", 1),
        tasks=[ECHO, WAIT],
    )
    text = to_markdown([made])
    assert text.startswith("# echoframe compare\n")
    assert "* fork in echo (50): it has died." in text
    assert "## echo, 50 connections" in text
    assert "## wait, 20 connections" in text
    lines = text.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("| loop | 20,000 |"))
    assert lines[at - 2].startswith("|  | messages a second | spread | p50 | p90 | p99 |")
    assert len({line.count("|") for line in lines[at - 2 : at + 1]}) == 1
    assert "fork: it has died." in lines[at:]


def test_markdown_is_text_whatever_names_hold() -> None:
    made = result(Cell("a|b<script>", "echo", 50, five(20_000)), remarks=["*x* `y` [z](w)"])
    text = to_markdown([made])
    assert "| a\\|b\\<script> |" in text
    assert "\\*x\\* \\`y\\` \\[z](w)" in text


def test_markdown_of_several_tells_what_has_changed() -> None:
    one = result(Cell("loop", "echo", 50, five(20_000)))
    other = result(Cell("loop", "echo", 50, five(10_000)))
    text = to_markdown([one, other], ["a.json", "b.json"])
    assert "# a.json" in text
    assert "## Against a.json" in text
    assert "10,000 messages a second instead of 20,000 (50 % less)" in text
