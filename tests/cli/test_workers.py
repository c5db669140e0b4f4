"""echoframe serve -m prefork as a program: it reads its file anew, and gives up in a sentence."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from .programs import PATIENCE, Reader, echoes, serving, started


@pytest.mark.parametrize("inner", [[], ["--inner", "pool"]])
def test_what_the_inner_model_takes_may_be_said(inner: list[str]) -> None:
    words = ("-m", "prefork", *inner, "-w", "1", "--threads", "2", "--queue-size", "5")
    with serving(*words) as up, up.connect() as peer:
        assert echoes(peer)


def test_sighup_reads_the_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "echo.toml"
    file.write_text("workers = 1\nidle_timeout = 60\n")
    with serving("-m", "prefork", "--config", str(file)) as up:
        with up.connect() as patient:
            assert echoes(patient)
            file.write_text("workers = 1\nidle_timeout = 0.05\n")
            up.signal(signal.SIGHUP)
            up.until(" takes the place of worker ")
            with up.connect() as peer:
                assert echoes(peer)
                assert peer.recv(1) == b""
        assert up.stop()[0] == 0


def test_a_file_that_is_wrong_by_then_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "echo.toml"
    file.write_text("workers = 1\n")
    with serving("-m", "prefork", "--config", str(file)) as up, up.connect() as peer:
        assert echoes(peer)
        file.write_text("workers = 1\nidle_timeout = -1\n")
        up.signal(signal.SIGHUP)
        text = up.until("everything stays as it was: ")
        assert re.search("as it was: .*echo.toml: idle_timeout: must be between 0 and", text)
        assert echoes(peer)
        code, log = up.stop()
        assert code == 0
        assert "takes the place" not in log


@pytest.mark.slow
def test_workers_that_fail_at_once_end_it_with_1_and_a_sentence(tmp_path: Path) -> None:
    # What is registered here runs in each worker before anything else does.
    (tmp_path / "broken.py").write_text(
        "import os\n"
        "os.register_at_fork(after_in_child=lambda: os._exit(4))\n"
        "def echo(message):\n    return message\n"
    )
    words = ("serve", "broken:echo", "-m", "prefork", "-w", "1", "--port", "0")
    with started(*words, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stderr is not None
        log = Reader(process.stderr.fileno()).rest()
        assert process.wait(PATIENCE) == 1
    assert log.count("ended with exit code 4") == 6
    assert log.splitlines()[-1].startswith("echoframe: workers end as soon as they are started: 5")
    assert "Traceback" not in log
