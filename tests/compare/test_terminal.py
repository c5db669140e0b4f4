"""Tables for people: all there at 80 columns, aligned, and honest about what is missing."""

from __future__ import annotations

import re

import pytest

from echoframe.compare.result import Cell, Result, Subject, Task
from echoframe.compare.terminal import LEAST_WIDTH, render

from .samples import CHURN, DRAIN, ECHO, IDLE, RATED, WAIT, crowd, five, measured, result, rounds

COLOUR = re.compile(r"\x1b\[[0-9;]*m")

FULL = {
    "cpu": 0.5,
    "threads": 3,
    "processes": 1,
    "switches": 100,
    "descriptors": 9,
    "fairness": 0.9,
    "memory": 20_000_000,
    "memory_kind": "PSS",
    "memory_before": 10_000_000,
}


def both(**more: object) -> Result:
    return result(
        Cell("thread", "echo", 50, five(10_000, **FULL)),
        Cell("loop", "echo", 50, five(20_000, **FULL)),
        **more,  # type: ignore[arg-type]  # what a result has
    )


def line_of(text: str, subject: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(subject))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    made = result(
        Cell("thread", "echo", 50, five(10_000, **FULL, unserved=3, errors={"reset": 2})),
        Cell("a-rather-long-name-of-a-server", "echo", 50, five(2e7, bound=True)),
        Cell("gone", "echo", 50, failure="the server has died: " + "exit code 1 " * 20),
        crowd("thread", 20),
        tasks=[ECHO, WAIT],
        remarks=["a remark " * 30],
    )
    for text in (render([made], width), render([made, made], width)):
        assert max(map(len, text.splitlines())) <= width


def test_a_row_tells_rate_spread_and_latency() -> None:
    text = render([both()], 80)
    assert line_of(text, "thread").split()[:3] == ["thread", "10,000", "±2"]
    assert "1.48 ms" in line_of(text, "thread")
    assert "20,000" in line_of(text, "loop")
    assert "messages" in text
    assert "PSS" in text


def test_bars_are_as_long_as_rates() -> None:
    text = render([both()], 80)
    long, short = (line_of(text, name).count("█") for name in ("loop", "thread"))
    assert long == 2 * short > 0


def test_wider_shows_more() -> None:
    titles = ("p90", "p99.9", "fair-", "descrip-")
    assert not any(title in render([both()], 70) for title in titles)
    wide = render([both()], 160)
    assert "p90" in wide
    assert "fair-" in wide


def test_figures_stand_under_one_another() -> None:
    text = render([both()], 80)
    ends = {line_of(text, name).index("ms") for name in ("loop", "thread")}
    assert len(ends) == 1


def test_without_psutil_the_columns_are_replaced_by_the_way_to_get_them() -> None:
    text = render([result(Cell("loop", "echo", 50, five(10)))], 120)
    assert "pip install 'echoframe[sys]'" in text
    assert "memory\n" not in text
    assert "PSS" not in text
    assert "pip install" not in render([both()], 120)
    # It is there, or would see nothing: of a server that runs elsewhere, or has ended.
    made = result(Cell("loop", "echo", 50, five(10)))
    made.environment["psutil"] = "7.0"
    assert "pip install" not in render([made], 120)
    made.kind, made.environment["psutil"] = "bench", None
    assert "pip install" not in render([made], 120)
    made = result(Cell("loop", "drain", 50, five(10)), tasks=[DRAIN])
    assert "pip install" not in render([made], 120)
    # Nothing was measured, so nothing is known of psutil.
    assert "pip install" not in render([result(Cell("loop", "echo", 50))], 120)


def test_a_percentile_that_few_messages_do_not_carry_is_a_dash_and_explained() -> None:
    few = five(100)
    for one in few:
        one.latency = type(one.latency).of([0.001] * 10)
    made = result(Cell("loop", "echo", 50, five(10_000)), Cell("fork", "echo", 50, few))
    text = render([made], 80)
    assert "–" in line_of(text, "fork")
    assert "– too few messages" in text


def test_a_server_that_was_not_measured_has_its_reason_in_its_row() -> None:
    made = result(
        Cell("loop", "echo", 50, five(10)), Cell("fork", "echo", 50, failure="it has died")
    )
    assert line_of(render([made], 80), "fork") == "fork  it has died"


def test_what_many_models_refuse_is_no_row() -> None:
    names = ("single", "thread", "fork")
    cells = [Cell(name, "echo", 50, failure="the model awaits nothing") for name in names]
    text = render([result(Cell("aio", "echo", 50, five(10)), *cells)], 80)
    assert "Not measured: single, thread and fork." in text
    assert "awaits" not in text


def test_a_workload_without_figures_is_a_sentence_and_no_table() -> None:
    late = [Cell("loop", task, 50, failure="the time was up") for task in ("churn", "idle")]
    made = result(Cell("loop", "echo", 50, five(10)), *late, tasks=[ECHO, CHURN, IDLE])
    text = render([made], 80)
    assert "Nothing was measured in churn and idle." in text
    assert "churn:" not in text


def test_an_address_alone_is_whole_and_has_no_bar() -> None:
    text = render([result(Cell("tcp://127.0.0.1:17399", "echo", 50, five(10)))], 80)
    assert "tcp://127.0.0.1:17399  " in text
    assert "█" not in text


def test_who_served_a_few_has_no_bar_and_is_said_to() -> None:
    made = result(
        Cell("single", "echo", 50, five(46_900, unserved=49)), Cell("loop", "echo", 50, five(9_000))
    )
    text = render([made], 80)
    assert "█" not in line_of(text, "single")
    assert "█" in line_of(text, "loop")
    assert "single: its figures are of the 1 client of 50 that it served." in text


def test_a_crowd_of_whom_nobody_was_served_has_no_end() -> None:
    cells = [crowd(name, 1) for name in ("loop", "aio")]
    for cell in cells:
        for one in cell.rounds:
            one.messages, one.unserved, one.errors = 0, 20, {"ended": 20}
    text = render([result(*cells, tasks=[WAIT])], 80)
    assert "until the" not in text
    assert "█" not in text


def test_neighbours_are_named_once() -> None:
    beside = "beside 2 others"
    tasks = [
        Task("mixed", "short questions, beside 2 with long ones", "work", "talk", beside=beside),
        Task("other", "short questions", "work", "talk", beside=beside),
    ]
    made = result(*(Cell("loop", task.name, 20, five(10)) for task in tasks), tasks=tasks)
    text = render([made], 80)
    assert "mixed: short questions, beside 2 with long ones, 20 connections" in text
    assert "other: short questions, beside 2 others, 20 connections" in text


def test_a_plan_that_was_not_kept_is_not_the_generators_end() -> None:
    text = render([result(Cell("loop", "rated", 50, five(4_840, bound=True)), tasks=[RATED])], 80)
    assert "could not keep to its plan" in text
    assert "at its end" not in text


def test_kinds_of_errors_are_explained_once() -> None:
    cells = [Cell(name, "echo", 50, five(10, errors={"ended": 1})) for name in ("loop", "aio")]
    assert render([result(*cells)], 80).count("ended: the server hung up before") == 1


def test_what_the_generator_could_not_drive_is_marked_and_explained() -> None:
    made = result(Cell("loop", "echo", 50, five(10_000, bound=True)))
    text = render([made], 80)
    assert "≥10,000" in text
    assert "≥ at least: the load generator" in text
    assert "≥" not in render([both()], 80)


def test_unserved_and_errors_have_columns_if_there_are_any() -> None:
    made = result(
        Cell("single", "echo", 50, five(10_000, unserved=49)),
        Cell("loop", "echo", 50, five(10_000, errors={"reset": 2, "wrong": 1})),
    )
    text = render([made], 80)
    assert "never" in text
    assert "49" in line_of(text, "single")
    assert "loop: errors of all rounds: 10 reset, 5 wrong." in text
    assert "never" not in render([both()], 80)


def test_a_crowd_has_a_time_and_no_rate() -> None:
    text = render([result(crowd("single", 1), crowd("thread", 20), tasks=[WAIT])], 80)
    assert "until the" in text
    assert "a second" not in text
    assert line_of(text, "single").split()[1:3] == ["401", "ms"]
    assert line_of(text, "thread").split()[1:3] == ["20.2", "ms"]


def test_idle_clients_have_memory_each() -> None:
    cells = [
        Cell("fork", "idle", 100, rounds(100, memory=20_480_000, memory_before=10_240_000)),
        Cell("loop", "idle", 100, rounds(100, memory=10_342_400, memory_before=10_240_000)),
    ]
    text = render([result(*cells, tasks=[IDLE])], 80)
    assert line_of(text, "fork").split()[1:3] == ["100", "KiB"]
    assert line_of(text, "loop").split()[1:3] == ["1.00", "KiB"]


def test_an_axis_of_connections_is_a_matrix() -> None:
    cells = [
        Cell(name, "echo", count, five(rate * count))
        for name, rate in (("thread", 100), ("loop", 200))
        for count in (1, 10, 100)
    ]
    cells[0] = Cell("thread", "echo", 1, failure="it has died")
    text = render([result(*cells)], 120)
    assert line_of(text, "loop").split()[1:4] == ["200", "2,000", "20,000"]
    assert line_of(text, "thread").split()[1:4] == ["–", "1,000", "10,000"]
    assert "– not measured, or too few messages" in text
    assert "With 100 connections:" in text
    assert "p99, by connections" in text
    assert "p99, by connections" not in render([result(*cells)], LEAST_WIDTH)


def test_churn_counts_connections() -> None:
    text = render([result(Cell("loop", "churn", 50, five(10)), tasks=[CHURN])], 80)
    assert "connected" in text


def test_several_results_stand_side_by_side_with_their_ratio() -> None:
    one = both()
    other = result(Cell("thread", "echo", 50, five(10_100)), Cell("loop", "echo", 50, five(30_000)))
    text = render([one, other], 80, titles=["before.json", "after.json"])
    assert "A  before.json" in text
    assert "B  after.json" in text
    assert line_of(text, "thread").split()[:4] == ["thread", "10,000", "10,100", "×1.01="]
    assert line_of(text, "loop").split()[:4] == ["loop", "20,000", "30,000", "×1.50"]
    assert "= the rounds show no difference." in text


def test_a_ratio_that_uneven_rounds_do_not_show_is_not_called_equal() -> None:
    one = result(Cell("loop", "echo", 50, rounds(5_000, 10_000, 30_000)))
    other = result(Cell("loop", "echo", 50, rounds(8_000, 20_000, 21_000)))
    text = render([one, other], 80)
    assert "×2.00?" in line_of(text, "loop")
    assert "? the rounds are too few, or too uneven" in text


def test_what_only_one_result_has_is_a_dash_in_the_other() -> None:
    other = result(Cell("fork", "echo", 50, five(10_000)))
    assert line_of(render([both(), other], 80), "fork").split()[1:4] == ["–", "10,000", "–"]


def test_colour_only_repeats_what_is_there() -> None:
    made = both()
    assert "\x1b" not in render([made], 80)
    painted = render([made], 80, True)
    assert "\x1b[32m" in painted
    assert COLOUR.sub("", painted) == render([made], 80)


def test_plain_is_ascii_and_as_wide() -> None:
    made = result(Cell("loop", "echo", 50, five(10_000, bound=True, latency=1e-5)))
    plain = render([made], 80, plain=True)
    assert plain.isascii()
    assert [len(line) for line in plain.splitlines()] == [
        len(line) for line in render([made], 80).splitlines()
    ]


def test_what_a_foreign_server_says_cannot_steer_the_terminal() -> None:
    made = result(
        Cell("a\x1b[2Jb", "echo", 50, [measured(10)]),
        Cell("c", "echo", 50, failure="oh\x1b[31m\nno"),
        remarks=["x\x07y"],
    )
    made.subjects.append(Subject("d", note="\x9b1m"))
    text = render([made], 80)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "oh\\x1b[31m no" in text


def test_the_head_tells_machine_and_notes() -> None:
    made = both()
    made.subjects[0].note = "2 workers"
    text = render([made], 100)
    assert text.startswith("echoframe compare, CPython 3.11.7 on Linux x86_64, 2 cores")
    assert "thread: 2 workers" in text
