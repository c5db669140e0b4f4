"""report: results shown again, as files, side by side, and judged."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from echoframe.cli import main
from echoframe.compare.result import Cell, Result

from ..compare.samples import ECHO, WAIT, crowd, five, result
from .programs import run, surroundings


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return saved(tmp_path / "old.json", 20_000)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return saved(tmp_path / "new.json", 10_000)


def saved(path: Path, rate: float) -> Path:
    made = result(
        Cell("loop", "echo", 50, five(rate)),
        Cell("thread", "echo", 50, five(5_000)),
        crowd("loop", 1),
        crowd("thread", 20),
        tasks=[ECHO, WAIT],
    )
    made.handler = {"name": "x:y", "wait": 0.1, "cpu": 0, "asynchronous": False}
    made.handler["keeps_worker"] = False
    path.write_text(made.to_json())
    return path


def test_one_file_is_shown_with_table_timeline_and_verdict(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(old), "--width", "80"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for part in ("20,000", "has its reply", "\nVerdict\n", "* echo with 50", "For your handler"):
        assert part in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert "\x1b" not in said.out


def test_several_files_stand_side_by_side(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(old), str(new), "--width", "120"]) == 0
    out = capsys.readouterr().out
    assert "×0.50" in out
    assert "B against A" in out
    assert "loop: 10,000 messages a second instead of 20,000 (50 % less)." in out


def test_files_are_written_whole_and_nothing_else_is_left(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, table, marked = (tmp_path / name for name in ("a.json", "a.csv", "a.md"))
    table.write_text("old")
    table.chmod(0o640)
    words = ["--export-json", str(again), "--export-csv", str(table)]
    assert main(["report", str(old), *words, "--export-markdown", str(marked)]) == 0
    assert Result.from_json(again.read_text()) == Result.from_json(old.read_text())
    assert len(list(csv.DictReader(io.StringIO(table.read_text())))) == 4
    assert stat.S_IMODE(table.stat().st_mode) == 0o640
    assert marked.read_text().startswith("# echoframe compare")
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.json", "a.md", "old.json"]
    assert "Verdict" in capsys.readouterr().out


def test_a_link_stays_one(old: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    assert main(["report", str(old), "--export-csv", str(link)]) == 0
    assert link.is_symlink()
    assert real.read_text().startswith("result,")


def test_to_standard_output_goes_the_file_alone(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(old), "--export-json", "-", "--fail-if", "p99>1us"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["schema"] == 1
    assert "p99 is" in said.err


def test_a_criterion_that_is_met_is_exit_code_1(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(new), "--baseline", str(old)]
    assert main([*words, "--fail-if", "throughput<0.4*baseline"]) == 0
    assert "Against the baseline" in capsys.readouterr().out
    assert main([*words, "--fail-if", "p99>9s", "--fail-if", "throughput<-10%"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "echoframe: echo/loop with 50 connections: throughput is 10,000, which is less than "
        "18,000, 0.90 times the baseline's 20,000\n"
    )


def test_each_of_several_is_judged_under_its_name(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(old), str(new), "--fail-if", "echo/loop:throughput<15k"]) == 1
    assert capsys.readouterr().err.startswith(f"echoframe: {new}: echo/loop")


def test_colour_when_asked_for(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(old), "--color", "always"]) == 0
    assert "\x1b[1mVerdict\x1b[0m" in capsys.readouterr().out


def test_standard_input_and_a_terminal_of_ascii(old: Path) -> None:
    done = run("report", "-", input=old.read_bytes(), env=surroundings(PYTHONIOENCODING="ascii"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert b"###|" in done.stdout
    assert b"\\u" not in done.stdout


def test_a_page_needs_plotly(
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["report", str(old), "--export-html", str(tmp_path / "x.html")]) == 2
    assert "pip install 'echoframe[report]'" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("echoframe.compare.page") is None
    or importlib.util.find_spec("plotly") is None,
    reason="there is no page, or no plotly",
)
def test_a_page(old: Path, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    assert main(["report", str(old), "--export-html", str(page)]) == 0
    assert "</html>" in page.read_text()


def test_a_device_is_written_to_and_not_replaced(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(old), "--export-csv", os.devnull]) == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_what_cannot_be_written_is_said_when_all_else_is_done(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "a.csv"
    words = ["--export-json", "/dev/full", "--export-csv", str(table)]
    assert main(["report", str(old), *words]) == 1
    said = capsys.readouterr()
    assert "cannot write /dev/full: No space left" in said.err
    assert "Verdict" in said.out
    assert table.read_text()


WRONG = [
    ([], ["FILE"]),
    (["{dir}/none.json"], ["none.json", "No such file"]),
    (["{dir}"], ["Is a directory"]),
    (["{dir}/text"], ["text holds no result", "--export-json FILE"]),
    (["{dir}/bytes"], ["bytes holds no result"]),
    (["{dir}/later.json"], ["schema 99", "a newer echoframe"]),
    (["{dir}/empty.json"], ["empty.json is damaged"]),
    (["{dir}/odd.json"], ["odd.json is damaged", "messages is 'many'"]),
    (["{dir}/huge.json"], ["huge.json is damaged"]),
    (["-", "-"], ["standard input"]),
    (["{old}", "--width", "wide"], ["--width", "'wide'"]),
    (["{old}", "--width", "5"], ["--width", "60 to 1,000", "not 5"]),
    (["{old}", "--color", "red"], ["--color", "'red'"]),
    (["{old}", "--fail-if", "p99"], ["--fail-if", "'p99'"]),
    (["{old}", "--fail-if", "p99>baseline"], ["--fail-if", "add --baseline"]),
    (["{old}", "--fail-if", "nosuch:p99>1s"], ["--fail-if", "nosuch", "workloads: echo"]),
    (["{old}", "--baseline", "{dir}/text"], ["--baseline", "holds no result"]),
    (["{old}", "--export-csv", "{dir}/no/x"], ["--export-csv", "/no/x", "choose another"]),
    (["{old}", "--export-csv", "{dir}"], ["--export-csv", "Is a directory"]),
    (["{old}", "--export-csv", ""], ["--export-csv", "''"]),
    (["{old}", "--export-csv", "-", "--export-markdown", "-"], ["--export-csv", "both name -"]),
    (["{old}", "--export-csv", "{dir}/x", "--export-json", "{dir}/./x"], ["both name"]),
    (["{old}", "{old}", "--export-json", "x"], ["--export-json", "2 files"]),
    (["{old}", "{old}", "--json"], ["--json", "2 files"]),
    (["{old}", "--json", "--export-json", "x"], ["--json and --export-json"]),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=" ".join)
def test_what_cannot_work_is_one_sentence(
    words: list[str],
    said: list[str],
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = json.loads(old.read_text())
    (tmp_path / "text").write_text("hello")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "later.json").write_text(json.dumps({**data, "schema": 99}))
    (tmp_path / "empty.json").write_text('{"schema": 1}')
    odd = json.loads(old.read_text())
    odd["cells"][0]["rounds"][0]["messages"] = "many"
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    odd["cells"][0]["rounds"][0]["messages"] = 5
    odd["cells"][0]["rounds"][0]["latency"]["counts"] = [[10**9, 1]]
    (tmp_path / "huge.json").write_text(json.dumps(odd))
    before = sorted(os.listdir(tmp_path))
    filled = [word.format(dir=tmp_path, old=old) for word in words]
    assert main(["report", *filled]) == 2
    err = capsys.readouterr().err
    assert err.startswith("echoframe: ")
    assert err.count("\n") == 1
    for part in said:
        assert part in err
    assert sorted(os.listdir(tmp_path)) == before
