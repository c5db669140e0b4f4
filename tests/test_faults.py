"""python -m tests.faults: a few of its scenarios, and that it tells who does not survive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .cli.programs import PATIENCE, ROOT, surroundings

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="servers are watched in Linux's /proc"
)


def faults(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *words],
        cwd=ROOT,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


@pytest.mark.slow
def test_a_model_survives_and_the_exit_code_is_0() -> None:
    names = only("half-close-behind-many", "stop-with-idle-peers", "animal-reset-in", "reload")
    done = faults("--quick", "--json", "--model", "loop", *names)
    assert done.returncode == 0, done.stdout
    results = json.loads(done.stdout)["results"]
    assert [one["verdict"] for one in results] == ["ok", "ok", "ok", "n/a"]
    assert all(one["title"] and one["said"] for one in results)


@pytest.mark.slow
def test_who_does_not_survive_is_told() -> None:
    names = only("last-reply", "restart-at-once", "handler-raises", "takeover")
    done = faults("--quick", "--markdown", "--model", "TCPServer", *names)
    # It is not one of ours.
    assert done.returncode == 0, done.stderr
    cells = [line.strip("| ").split(" | ")[1:] for line in done.stdout.splitlines()[2:]]
    assert cells == [
        ["–", "none of 1"],
        ["–", "none of 1"],
        ["–", "TCP"],
        ["–", "–"],
        ["", "TCPServer 1 of 3"],
    ]
    assert "reset" in done.stderr


def test_one_of_ours_that_does_not_survive_makes_the_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from .faults import __main__ as command
    from .faults.run import Result

    found = [Result("loop", "soak", "hangs", "not over", 1.0)]
    monkeypatch.setattr(command, "play", lambda *_: iter(found))
    assert command.main(["--model", "loop", "--only", "soak"]) == 1
    assert "loop survived 0 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_there_are_scenarios_enough_and_each_has_a_title() -> None:
    said = faults("--list").stdout.splitlines()
    names = [line for line in said if not line.startswith(" ")]
    assert len(names) == len(set(names)) > 40
    assert len(said) == 2 * len(names)
