"""echoframe adopt: what can be said, and that the program becomes the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from echoframe.adopt.replacing import USABLE
from echoframe.cli import main
from echoframe.servers import SETTINGS

from .programs import PATIENCE, command, surroundings

PYTHON = ["--", sys.executable, "-c", "pass"]


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        (["--model", "loop", *PYTHON], ["--model: takes thread or pool or fork or prefork"]),
        (["--model", "pol", *PYTHON], ["did you mean pool"]),
        (["--threads", "4", *PYTHON], ["--threads is for the model pool", "add --model pool"]),
        (["-m", "pool", "--workers", "2", *PYTHON], ["--workers is for the model prefork"]),
        (["--max-connections", "0", *PYTHON], ["--max-connections", "between 1"]),
        (["--max-message", "9", *PYTHON], ["unknown flag '--max-message'"]),
        (["--force", *PYTHON], ["--force is about a model; add --model"]),
        (["-q", "-v", *PYTHON], ["quiet and verbose contradict"]),
        (["--drain-timeout", "--", "python3"], ["--drain-timeout"]),
        (["--drian-timeout", "3", *PYTHON], ["'--drian-timeout'", "--drain-timeout"]),
        ([], ["none is given"]),
        (["-m", "pool"], ["none is given"]),
        (["-m"], ["expected one argument"]),
    ],
    ids=lambda given: " ".join(given[:3]),
)
def test_what_is_wrong_is_a_sentence_and_usage(
    words: list[str], phrases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for phrase in phrases:
        assert phrase in said


def test_a_variable_that_nobody_reads_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOFRAME_MAX_CONECTIONS", "5")
    assert main(["adopt", *PYTHON]) == 2
    said = capsys.readouterr().err
    assert "did you mean ECHOFRAME_MAX_CONNECTIONS? see echoframe adopt --help" in said


def test_every_setting_of_a_handler_class_is_a_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["adopt", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: echoframe adopt [flags] -- COMMAND")
    for name in USABLE:
        setting = SETTINGS[name]
        assert setting.flag in out
        # On somebody else's server silence is not limited unless that is asked for.
        assert (setting.reason in out) != setting.ours
    assert "until its connection is cut; 0 is never (0: silence may be part of" in out


def test_a_script_becomes_this_process(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, socketserver, sys\n"
        "print(os.getpid(), sys.argv[1:], socketserver.ThreadingMixIn.max_connections)\n"
        "sys.exit(7)\n"
    )
    path.chmod(0o755)
    environment = surroundings(
        PATH=os.pathsep.join([str(tmp_path), os.environ["PATH"]]), ECHOFRAME_MAX_CONNECTIONS="5"
    )
    # Without two dashes: what stands behind the command's name is the command's.
    process = subprocess.Popen(
        command("adopt", "-q", "--drain-timeout=3", "tool", "--model", "-x"),
        env=environment,
        stdout=subprocess.PIPE,
    )
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out.decode()) == (7, f"{process.pid} ['--model', '-x'] 5\n")


def test_memory_is_not_copied_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", "--plain", "-m", "prefork", "--", sys.executable, "-V"]) == 2
    assert "--plain with the model prefork would give servers processes" in capsys.readouterr().err
