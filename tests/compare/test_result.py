from __future__ import annotations

import json

import pytest

from echoframe.compare.histogram import Histogram
from echoframe.compare.result import (
    SCHEMA,
    Cell,
    Person,
    Result,
    ResultError,
    Round,
    Subject,
    Task,
)
from echoframe.errors import EchoframeError


def whole() -> Result:
    return Result(
        "compare",
        "2030-01-02T03:04:05+00:00",
        "echoframe compare",
        "1.2.3",
        {"cores": 2},
        [Subject("thread", "thread"), Subject("mine", None, "./mine {port}", "in C")],
        [Task("echo", "what", "echo", "talk"), Task("wait", "what", "wait", "crowd", 5.0)],
        [
            Cell(
                "thread",
                "echo",
                50,
                [Round(0.2, 100, Histogram.of([0.001, 0.2]), errors={"reset": 1}, memory=5)],
                ready=0.1,
            ),
            Cell("thread", "wait", 2, [Round(0.1, 2)], timeline=[Person(0.0, 0.1, 0.2, None)]),
            Cell("mine", "echo", 50, failure="it has ended with exit code 1"),
        ],
        {"name": "game:Handler", "wait": 0.05},
        ["a remark"],
        False,
    )


def test_what_is_written_can_be_read() -> None:
    text = whole().to_json()
    assert Result.from_json(text) == whole()
    assert json.loads(text)["schema"] == SCHEMA


def test_what_is_not_there_has_its_default() -> None:
    # As in a file of an earlier version; and what a later one adds is passed over.
    data = json.loads(whole().to_json())
    del data["remarks"], data["cells"][0]["ready"], data["cells"][0]["rounds"][0]["fairness"]
    data["mood"] = data["cells"][0]["mood"] = "good"
    read = Result.from_json(json.dumps(data))
    assert read.remarks == []
    assert read.cells[0].ready is None
    assert read.cells[0].rounds[0].messages == 100


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"schema": 1}', "not json", "[" * 100_000])
def test_what_is_no_result_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ResultError) as caught:
        Result.from_json(text, "old.json")
    assert "old.json" in str(caught.value)
    assert isinstance(caught.value, EchoframeError)


def test_a_newer_file_is_not_guessed_at() -> None:
    with pytest.raises(ResultError, match=f"schema {SCHEMA + 1}, and this version reads up to"):
        Result.from_json(json.dumps({"schema": SCHEMA + 1}), "new.json")


def test_cells_and_tasks_are_found() -> None:
    result = whole()
    found = result.cell("thread", "echo", 50)
    assert found is result.cells[0]
    assert result.cell("thread", "echo", 51) is None
    assert result.connections("echo") == [50]
    assert result.task("wait").rate == 5.0
