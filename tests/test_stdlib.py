"""python -m tests.stdlib: that it finds what is wrong, and that nothing is not taken for right."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from .stdlib import run
from .stdlib.__main__ import main
from .stdlib.run import Job, Outcome, Run, compare, play

# Stands for one of the standard library's.
PLANTED = """
    import os, socketserver, unittest

    def mro(kind):
        with kind(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
            return [one.__name__ for one in type(server).__mro__]

    class Planted(unittest.TestCase):
        def test_threads(self):
            mro(socketserver.ThreadingTCPServer)

        def test_plain(self):
            mro(socketserver.TCPServer)

        def test_no_server(self):
            pass

        @unittest.skip("never")
        def test_skipped(self):
            pass

        def test_fails_anyway(self):
            mro(socketserver.TCPServer)
            self.fail("as ever")
    """

WRONG = """
        def test_wants_the_stdlibs(self):
            self.assertNotIn("PoolMixIn", mro(socketserver.ThreadingTCPServer))

        def test_wants_it_in_a_part(self):
            names = mro(socketserver.ThreadingTCPServer)
            for part in "ThreadingMixIn", "PoolMixIn":
                with self.subTest(part):
                    self.assertEqual(part in names, part == "ThreadingMixIn")

        def test_wants_no_threads(self):
            self.assertFalse("ThreadingMixIn" in mro(socketserver.TCPServer))

        def test_ends_the_process(self):
            if "PoolMixIn" in mro(socketserver.ThreadingTCPServer):
                os._exit(3)

        def test_fails_once(self):
            mro(socketserver.ThreadingTCPServer)
            if hasattr(socketserver.ThreadingMixIn, "resize") and not os.path.exists(MARK):
                open(MARK, "w").close()
                self.fail("only the first time")
    """


class Garden:
    """Where modules of tests are planted, as if they were the standard library's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "planted"
        self._folder.mkdir()
        (self._folder / "__init__.py").touch()

    def plant(self, name: str, *parts: str) -> str:
        text = f"MARK = {str(self._folder / 'mark')!r}\n" + textwrap.dedent("".join(parts))
        (self._folder / f"{name}.py").write_text(text)
        return name


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Garden:
    monkeypatch.setattr(run, "PACKAGE", "planted")
    monkeypatch.setattr(run, "PATHS", (*run.PATHS, str(tmp_path)))
    return Garden(tmp_path)


def command(*words: str) -> int:
    return main(["--python", sys.executable, "--model", "pool", *words])


def test_servers_that_carry_the_mix_in_are_counted(
    garden: Garden, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(garden.plant("test_planted", PLANTED)) == 0
    said = capsys.readouterr().out
    # Passed, failed and skipped; the one that fails makes a server too.
    assert said.splitlines()[2].split() == ["test_planted", "3/1/1", "3/1/1,", "3", "of", "3"]
    assert "5 tests with a mix-in of ours, 3 of them with a server that carries it" in said
    assert "as ever" not in said
    assert command("--no-plain", "test_planted") == 0
    assert "3/1/1, 1 of 1\n" in capsys.readouterr().out


def test_a_failure_that_the_baseline_does_not_have_is_found(
    garden: Garden, capsys: pytest.CaptureFixture[str]
) -> None:
    name = garden.plant("test_planted", PLANTED, WRONG)
    ((_, baseline, (module,)),) = play(sys.executable, [name], ["pool"])
    assert baseline.count("failed") == 1
    assert {one.first.test.rpartition("_")[2]: one.why for one in module.findings} == {
        "stdlibs": "",
        "part": "",
        "threads": "theirs",
        "process": "",
        "once": "once",
    }
    # The one that ends its process does not end the others.
    assert module.run.over
    assert len(module.run.outcomes) == len(baseline.outcomes) == 10
    assert module.failed
    assert command(f"{name}.Planted.test_wants_it_in_a_part") == 1
    said = capsys.readouterr().out
    assert "planted.test_planted.Planted.test_wants_it_in_a_part failed, twice" in said
    assert "\n[PoolMixIn]\nTraceback" in said
    assert "1 failed that do not without" in said


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ("", ["test_planted"], "no test makes a server"),
        (PLANTED, ["test_planted.Planted.test_no_server"], "no test makes a server"),
        (PLANTED, ["test_planted.Planted.test_none_such"], "no test makes a server"),
        (PLANTED, ["test_none_such"], "test_none_such is not in this Python"),
        (PLANTED, ["--model", "fork", "test_planted"], "server that fork would stand in for"),
        ("import none_such", ["test_planted"], "No module named 'none_such'"),
    ],
)
def test_nothing_tried_is_a_failure(
    garden: Garden, capsys: pytest.CaptureFixture[str], text: str, words: list[str], why: str
) -> None:
    garden.plant("test_planted", text)
    assert command(*words) == 1
    assert why in capsys.readouterr().out


def test_a_mix_in_that_nobody_carries_is_a_failure() -> None:
    passed = {"one": Outcome("one", "passed", "")}
    module = run.Module("test_one", "pool", Run(passed, ""), Run(passed, ""), 1, [])
    assert module.failed
    assert module.wrong == "no test made a server that carries the mix-in"


def test_what_did_not_run_or_was_skipped_is_found() -> None:
    before = {name: Outcome(name, "passed", "") for name in ("one", "two", "three")}
    after = {
        "one": Outcome("one", "passed", ""),
        "two": Outcome("two", "skipped", "why not"),
        "setUpClass": Outcome("setUpClass", "failed", "of something"),
    }
    found = compare(Run(before, ""), Run(after, ""))
    assert [(one.test, one.outcome, one.text) for one in found] == [
        ("two", "skipped", "why not"),
        ("three", "failed", run.DID_NOT_RUN),
        ("setUpClass", "failed", "of something"),
    ]


def test_a_test_that_hangs_is_named_and_the_others_run(garden: Garden, tmp_path: Path) -> None:
    hangs = """
        def test_hangs(self):
            import threading
            threading.Event().wait()
    """
    garden.plant("test_planted", PLANTED, hangs)
    player = run._Player(sys.executable, tmp_path)
    came = player.run(Job("planted.test_planted", "", patience=0.5))
    assert came.outcomes["planted.test_planted.Planted.test_hangs"].outcome == "failed"
    assert "in test_hangs" in came.outcomes["planted.test_planted.Planted.test_hangs"].text
    assert came.count("passed") == 3


def test_a_python_without_the_tests_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\nexec {sys.executable} -S -c 'import none_such'\n")
    bare.chmod(0o755)
    assert main(["--python", str(bare), "--python", str(tmp_path / "none"), "test_wsgiref"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        f"{bare} has no tests of the standard library",
        f"{tmp_path / 'none'}: No such file or directory",
    ]
