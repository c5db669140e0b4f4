"""probe, handlers and models: lines for people, JSON for programs."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from echoframe.cli import main
from echoframe.servers import MODELS

from .programs import run, surroundings


@pytest.fixture
def ports() -> object:
    """An open port and one where nobody listens."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        other_port = other.getsockname()[1]
        other.close()
        yield one.getsockname()[1], other_port


def test_probe(ports: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    up, down = ports
    assert main(["probe", "127.0.0.1", f"{up},{down}"]) == 0
    assert capsys.readouterr().out == f"{up} open\n{down} refused\n"
    assert main(["probe", "127.0.0.1", f"{up}", "--json", "--timeout", "5"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(up): "open"}
    assert main(["probe", "127.0.0.1", f"{down}"]) == 1
    assert capsys.readouterr().out == f"{down} refused\n"


def test_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["handlers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["echo", "raw", "Send"]
    assert lines[1].split()[:3] == ["command", "auto", "Answer"]
    assert main(["handlers", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"name": "upper", "framing": "line", "summary": "Answer in capitals."} in listed


def test_what_others_registered_is_listed_without_being_imported(tmp_path: Path) -> None:
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[echoframe.handlers]\nshout = explosive:shout\n")
    (tmp_path / "explosive.py").write_text("raise SystemExit('imported')\n")
    env = surroundings()
    env["PYTHONPATH"] += f":{tmp_path}"
    done = run("handlers", env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"from explosive:shout" in done.stdout


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split() == ["model", "class", "mix-in", "at", "once", "memory", "idea"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert main(["models", "--json"]) == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["fork"]["class"] == "ForkServer"
    assert listed["fork"]["mix_in"] == "ForkingMixIn"
    assert listed["fork"]["memory"] == "a copy"
    assert listed["single"]["mix_in"] == "-"
    for name, kind in MODELS.items():
        first = (sys.modules[kind.__module__].__doc__ or "").partition("\n")[0]
        assert first == f"{name}: {listed[name]['idea']}."
