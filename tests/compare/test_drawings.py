"""What is drawn of a result: the same figures as in words, and no more than they carry."""

from __future__ import annotations

import pytest

from echoframe.compare.drawings import ROWS, Drawing, Sheet, count, draw
from echoframe.compare.figures import figures
from echoframe.compare.histogram import BEHIND, Histogram
from echoframe.compare.result import Person, Result, Subject

from .results import HOSTILE, made_up


def drawn(result: Result, task: str, connections: int) -> dict[str, Drawing]:
    sheet = Sheet([result])
    return {one.title: one for one in draw(sheet, result.task(task))[1][connections]}


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "0"), (7, "7"), (42.5, "42.5"), (999.7, "1,000"), (1240, "1,240"), (9999, "9,999"),
        (9999.7, "10.0 k"), (198_400, "198 k"), (999_600, "1.00 M"), (1.2e6, "1.20 M"),
    ],
)  # fmt: skip
def test_amounts_are_said_in_three_figures(amount: float, said: str) -> None:
    assert count(amount) == said


def test_bars_are_the_medians_and_their_whiskers_the_spread() -> None:
    result = made_up()
    bars = drawn(result, "echo", 10)["Messages a second"]
    seen = {}
    for trace in bars.traces:
        if trace["meta"]["role"] == "bar":
            (x,) = trace["x"]
            (low,), (high,) = trace["error_x"]["arrayminus"], trace["error_x"]["array"]
            seen[result.subjects[trace["meta"]["subject"]].name] = (x - low, x, x + high)
    assert len(seen) == len(result.subjects)
    for name, values in seen.items():
        spread = figures(result.cell(name, "echo", 10)).per_second  # type: ignore[arg-type]  # it is there
        assert spread is not None
        assert values == pytest.approx((spread.low, spread.median, spread.high))


def test_a_server_without_figures_says_why_in_its_row() -> None:
    bars = drawn(made_up(), "rated", 20)["Messages a second"]
    last = [trace for trace in bars.traces if trace["meta"]["subject"] == 3]
    # It died in another workload only.
    assert {trace["meta"]["role"] for trace in last} == {"bar", "figure"}
    stopped = drawn(made_up(), "drain", 20)["Messages a second"]
    (only,) = [trace for trace in stopped.traces if trace["meta"]["subject"] == 3]
    assert only["text"][0].startswith("it has died: &lt;/script&gt;")


def test_what_the_generator_bounds_is_said_to_be_at_least_so_much() -> None:
    bars = drawn(made_up(), "echo", 10)["Messages a second"]
    said = {trace["meta"]["subject"]: trace["text"][0] for trace in bars.traces if "text" in trace}
    assert said[2] == "≥ 30.1 k"
    assert said[1] == "20.1 k"


def test_what_nobody_has_is_not_drawn() -> None:
    assert "CPU for 1,000 messages" in drawn(made_up(), "echo", 10)
    assert "CPU for 1,000 messages" not in drawn(made_up(), "echo", 100)


def test_what_is_drawn_depends_on_what_the_clients_do() -> None:
    result = made_up()
    assert "Until the last was served" in drawn(result, "wait", 20)
    assert "Who waited, and who was served" in drawn(result, "wait", 20)
    assert next(iter(drawn(result, "idle", 20))) == "Memory for each connection"
    assert "Messages a second" not in drawn(result, "idle", 20)
    assert "Time to stop" in drawn(result, "drain", 20)
    assert drawn(result, "rated", 20)["Messages a second"].layout["xaxis"]["planned"] == 20_000
    curves, _ = draw(Sheet([result]), result.task("echo"))
    assert [one.title for one in curves] == ["Messages a second", "The p99"]
    assert all(one.traces[0]["x"] == [1, 10, 100] for one in curves)
    assert draw(Sheet([result]), result.task("wait"))[0] == []


def test_a_curve_ends_where_ten_slower_ones_are_left_and_marks_what_n_carries() -> None:
    result = made_up()
    latency = drawn(result, "echo", 10)["Latency"]
    line, marks = latency.traces[:2]
    histogram = figures(result.cells[1]).histogram
    assert line["customdata"][-1] == 1 - BEHIND / histogram.total
    assert line["y"] == sorted(line["y"])
    assert line["y"][-1] < histogram.longest
    # Of 1,200 replies no p99.9.
    assert marks["x"] == pytest.approx([2, 10, 100])
    for rank, time in zip(marks["x"], marks["y"], strict=True):
        # And they lie on the line.
        at = next(i for i, one in enumerate(line["x"]) if one >= rank - 1e-9)
        assert line["y"][at] == pytest.approx(time, rel=1e-6)


def test_of_too_few_replies_there_is_no_curve() -> None:
    result = made_up()
    for cell in result.cells:
        for one in cell.rounds:
            one.latency = Histogram.of([0.001] * 3)
    assert "Latency" not in drawn(result, "echo", 10)


def test_a_timeline_has_a_row_for_each_client_and_shows_who_was_never_served() -> None:
    line = drawn(made_up(), "wait", 20)["Who waited, and who was served"]
    own = {trace["meta"]["role"]: trace for trace in line.traces if trace["meta"]["subject"] == 0}
    assert own["waited"]["y"] == list(range(20))
    assert own["served"]["y"] == [at for at in range(20) if at not in (3, 19)]
    # In the order in which they were served: the two without a reply stand last.
    assert own["reply"]["x"] == sorted(own["reply"]["x"])
    assert own["never"]["y"] == [18, 19]
    assert own["never"]["x"] == [0.4, 0.4]
    assert own["waited"]["base"][0] == 0.001
    assert own["waited"]["x"][0] == pytest.approx(0.0)
    assert "was never served" in own["waited"]["text"][19]
    assert "had its reply after 79.0 ms" in own["waited"]["text"][3]
    assert own["waited"]["x"][19] == pytest.approx(0.398)


def test_of_many_clients_some_are_drawn_and_it_is_said() -> None:
    result = made_up()
    for cell in result.cells:
        if cell.task == "wait":
            cell.timeline = [Person(0.0, at, at + 1, at + 1) for at in range(1000)]
    line = drawn(result, "wait", 20)["Who waited, and who was served"]
    waited = line.traces[0]
    assert len(waited["y"]) == ROWS
    # The first and the last are among them.
    assert (waited["x"][0], waited["x"][-1]) == (0, 999)
    assert f"{ROWS} of 1,000 clients" in line.note


def test_a_server_looks_the_same_on_every_page() -> None:
    both = Sheet([made_up()])
    alone = made_up()
    alone.subjects = [Subject("x"), *reversed(alone.subjects)]
    other = Sheet([alone])
    looks = dict(zip((one.name for one in other.subjects), other.looks, strict=True))
    for subject, look in zip(both.subjects, both.looks, strict=True):
        if subject.model:
            assert looks[subject.name] == look
    # Nobody else on a page looks like it, with or without colour.
    assert len({look.light for look in other.looks}) == len(other.looks)
    assert len({look.symbol for look in other.looks}) == len(other.looks)


def test_several_results_stand_server_by_server() -> None:
    sheet = Sheet([made_up(), made_up(2.0)], ["before", "after"])
    curves, by_count = draw(sheet, sheet.tasks[0])
    names = [trace["name"] for trace in by_count[10][0].traces if trace["type"] == "bar"]
    assert names[:4] == ["before: single", "after: single", "before: pool", "after: pool"]
    assert [trace["name"] for trace in curves[0].traces][:2] == ["before: single", "after: single"]


def test_runs_without_a_title_are_numbered_and_may_hold_other_things() -> None:
    second = made_up()
    second.subjects.append(Subject("late"))
    second.tasks = second.tasks[:1]
    second.cells = [cell for cell in second.cells if cell.task == "echo"]
    sheet = Sheet([made_up(), second])
    assert sheet.titles == ["run 1", "run 2"]
    assert [one.name for one in sheet.subjects][-1] == "late"
    assert {one.run for one in sheet.of(sheet.tasks[1])} == {0}


def test_shown_first_is_the_most_with_which_everybody_was_measured() -> None:
    result = made_up()
    assert Sheet([result]).usual(result.task("echo")) == 100
    result.cells[2].rounds = []
    assert Sheet([result]).usual(result.task("echo")) == 10
    result.cells = []
    assert Sheet([result]).usual(result.task("echo")) is None


def test_texts_for_plotly_hold_no_tags_of_others() -> None:
    result = made_up()
    sheet = Sheet([result], [HOSTILE])
    for task in sheet.tasks:
        curves, by_count = draw(sheet, task)
        for drawing in [*curves, *(one for found in by_count.values() for one in found)]:
            assert "<img" not in str(drawing.traces)
