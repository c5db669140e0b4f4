"""Which commands can be adopted, and what is said about others."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import echoframe
from echoframe.adopt.launch import CannotAdopt, check
from echoframe.cli import main

BOOTSTRAP = Path(echoframe.__file__).parent / "adopt" / "bootstrap"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join([*lines, "pass", ""]))
    path.chmod(0o755)
    return path.name


SCRIPTS = [
    ["#!/usr/bin/python3"],
    ["#!/usr/bin/env python3"],
    ["#!/usr/bin/env -S python3 -u"],
    [f"#!{sys.executable}"],
    ["#! /opt/some where/python3.13 -s"],
    # What pip writes where a path is long.
    ["#!/bin/sh", "'''exec' /long/path/bin/python \"$0\" \"$@\"", "' '''"],
    ["#!/bin/sh", "'''exec' '/a path/bin/python3' -s \"$0\" \"$@\"", "' '''"],
]


@pytest.mark.parametrize("lines", SCRIPTS, ids=lambda lines: lines[-2 if len(lines) > 1 else 0])
def test_a_script_of_pythons_is_one(folder: Path, lines: list[str]) -> None:
    name = script(folder / "tool", *lines)
    assert check([name, "-I", "run"]) == str(folder / "tool")


@pytest.mark.parametrize(
    "words",
    [
        ["app.py", "-I"],
        ["-m", "http.server", "-E"],
        ["-W", "error", "-X", "dev", "-c", "pass", "-S"],
        ["-Werror", "-Xdev", "-Bu", "app.py"],
        # All of this is for the program.
        ["-mtimeit", "-S"],
        ["-", "-I"],
    ],
    ids=" ".join,
)
def test_flags_of_the_program_are_its_own(words: list[str]) -> None:
    assert check([sys.executable, *words]) == sys.executable


def test_a_link_to_python_is_python(folder: Path) -> None:
    (folder / "own").symlink_to(sys.executable)
    assert check(["own", "app.py"]) == str(folder / "own")


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        ([], ["none is given", "echoframe adopt -- python3 app.py"]),
        (["no-such-command"], ["there is no command 'no-such-command'"]),
        (["."], ["'.' is a folder", "python3 ."]),
        (["COLOR=no", "python3", "app.py"], ["'COLOR=no' gives", "COLOR=no echoframe adopt"]),
        (["env", "COLOR=no", "python3", "app.py"], ["'env' gives", "COLOR=no echoframe adopt"]),
        (["sh", "-c", "python3 app.py"], ["'sh' is not a Python program", "python3 app.py"]),
        ([sys.executable, "-I", "app.py"], ["-I", "leave it out"]),
        ([sys.executable, "-IB", "app.py"], ["-I"]),
        ([sys.executable, "-BE", "app.py"], ["-E"]),
        ([sys.executable, "-u", "-S", "-c", "pass"], ["-S"]),
        ([sys.executable, "-W", "error", "-XdevI", "-sE", "-m", "x"], ["-E"]),
    ],
    ids=lambda given: " ".join(given[:2]).replace(sys.executable, "python"),
)
def test_what_cannot_be_adopted_is_a_sentence_and_usage(
    words: list[str], phrases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adopt", "--", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("echoframe: ")
    assert said.count("\n") == 1
    for phrase in phrases:
        assert phrase in said


@pytest.mark.parametrize(
    "lines",
    [
        ["#!/usr/bin/env -S python3 -I"],
        ["#!/usr/bin/python3 -sE"],
        ["#!/bin/sh", "'''exec' /long/path/bin/python -I \"$0\" \"$@\"", "' '''"],
    ],
    ids=["env", "direct", "exec"],
)
def test_a_script_may_refuse_in_its_first_line(folder: Path, lines: list[str]) -> None:
    with pytest.raises(CannotAdopt, match=r"the first line of .* has -[IE]"):
        check([script(folder / "tool", *lines)])


@pytest.mark.parametrize(
    "lines",
    [
        ["#!/gone/bin/python3"],
        ["#!/usr/bin/env python0"],
        ["#!/bin/sh", "'''exec' /gone/bin/python3 \"$0\" \"$@\"", "' '''"],
    ],
    ids=["direct", "env", "exec"],
)
def test_a_script_whose_python_has_gone_is_not_what_is_missing(
    folder: Path, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(folder / "tool", *lines)
    assert main(["adopt", "--", path]) == 2
    said = capsys.readouterr().err
    assert re.search("tool is run by (/gone/bin/python3|python0), which is not there; ", said)
    assert said.count("\n") == 1


def test_a_file_that_is_no_command_has_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "app.py").write_text("pass\n")
    with pytest.raises(CannotAdopt, match=r"write python3 app\.py"):
        check(["app.py"])
    with pytest.raises(CannotAdopt, match=r"write python3 \./app\.py"):
        check(["./app.py"])


# ------------------------------------------------------------- the bootstrap


def test_the_folder_holds_one_file() -> None:
    assert [path.name for path in BOOTSTRAP.iterdir() if path.name != "__pycache__"] == [
        "sitecustomize.py"
    ]


def test_any_python_can_read_what_is_there() -> None:
    ast.parse((BOOTSTRAP / "sitecustomize.py").read_text(), feature_version=(3, 4))


@pytest.mark.parametrize("itself", [True, False], ids=["the program", "a child"])
def test_an_older_python_is_told_unless_it_is_a_child(itself: bool) -> None:
    start = (
        "import os, runpy, sys; sys.version_info = (3, 9, 0); sys.modules['sitecustomize'] = sys; "
        f"os.environ['ECHOFRAME_ADOPT'] = f'{{os.getpid() + {int(not itself)}}} {{{{}}}}'; "
        f"runpy.run_path({str(BOOTSTRAP / 'sitecustomize.py')!r}); print('goes on')"
    )
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, timeout=30, check=False
    )
    if itself:
        assert (done.returncode, done.stdout) == (3, "")
        assert "adopt needs Python 3.11 or newer" in done.stderr
        assert "is 3.9; run the program with a newer one\n" in done.stderr
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")
