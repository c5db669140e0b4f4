"""compare and bench: what is asked wrongly is said before anything is measured."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
from pathlib import Path

import pytest

from echoframe import Handler
from echoframe.cli import main
from echoframe.compare.histogram import Histogram
from echoframe.compare.result import Result, Round
from echoframe.compare.run import AND_THEN_NO_MORE, Order, Progress, planned
from echoframe.testing import running

from ..certificates import Certificates
from .programs import PATIENCE, command, run, started, surroundings

QUICK = ["-n", "1", "-d", "50ms", "-c", "2", "-q", "--no-page"]


def messages() -> list[bytes]:
    return [b"one", b"two"]


def odd_messages() -> int:
    return 3


def no_messages() -> list[bytes]:
    raise LookupError("none today")


def is_upper(message: bytes, reply: bytes) -> bool:
    return reply == message.upper()


def takes_none() -> bool:
    return True


async def awaited(message: bytes, reply: bytes) -> bool:
    return True


def complains(message: bytes, reply: bytes) -> bool:
    raise LookupError("no such reply")


def crashes(message: bytes) -> bytes:
    raise ValueError("oops")


async def awaited_upper(message: bytes) -> bytes:
    return message.upper()


class Needs(Handler):
    def __init__(self, what: str) -> None:
        self.what = what

    def on_message(self, message: bytes) -> bytes:
        return message


class Plain:
    pass


class Lines(socketserver.StreamRequestHandler):
    pass


HERE = "tests.cli.test_compare"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ekko"], "unknown handler 'ekko'; known: "),
        (["tests.cli.nowhere:x"], "tests.cli.nowhere"),
        (["-m", "thraed"], "unknown model 'thraed'; did you mean 'thread'"),
        (["--workload", "wiat"], "there is no 'wiat'; did you mean wait"),
        (["-c", "fifty"], "--connections: takes a whole number, not 'fifty'"),
        (["-c", "0"], "--connections: takes 1 or more, not 0"),
        (["-c", "10,10000000"], "10,000,000 is more than 500,000"),
        (["-n", "0"], "--rounds: takes 1 or more, not 0"),
        (["-d", "soon"], "--duration: takes a time, as in 2, 0.5 or 500ms, not 'soon'"),
        (["-d", "0"], "--duration: 0 is not between 0.01 seconds and a day"),
        (["--rate", "0"], "--rate: takes more than 0, not 0"),
        (["--rate", "10", "--workload", "wait"], "--rate plans a stream of messages"),
        (["--message", "a", "--messages", "b"], "give one of them"),
        (["--messages", "/no/such/file"], "--messages: /no/such/file: No such file"),
        (["--messages", f"{HERE}:odd_messages"], "gives no messages"),
        (["--messages", os.devnull], "gives no message at all"),
        (["--messages", f"{HERE}:no_messages"], "has raised LookupError('none today')"),
        (["--check", "is_upper"], "--check: takes module:function, not 'is_upper'"),
        (["--check", f"{HERE}:isupper"], "--check:"),
        (["--check", f"{HERE}:HERE"], f"--check: {HERE}:HERE is a text, and no function"),
        (["--check", f"{HERE}:QUICK"], f"--check: {HERE}:QUICK is no function"),
        (["--check", f"{HERE}:takes_none"], "and its reply, and cannot be: too many positional"),
        (["--check", f"{HERE}:awaited"], "awaited is async"),
        (["--messages", "os:sep"], "--messages: os:sep is a text, and no function"),
        (["--messages", f"{HERE}:is_upper"], "has raised TypeError"),
        (
            ["tests.cli.exits:handler"],
            "tests.cli.exits ends the program with SystemExit('go away')",
        ),
        (["--check", "tests.cli.exits:f"], "--check: 'tests.cli.exits:f' cannot be imported"),
        (["--framing", "lines"], "--framing:"),
        (["--pipeline", "none"], "--pipeline: takes a whole number"),
        (["--against", "mine"], "--against: takes NAME=COMMAND, not 'mine'"),
        (["--against", "mine=./mine"], "write {port} into './mine'"),
        (["--against", "loop=./mine {port}"], "the name 'loop' is taken"),
        (["--against", "mine=./mine '{port}"], "is no command"),
        (["--transport", "tpc"], "--transport: takes tcp, unix, tls, udp, not 'tpc'; did you mean"),
        (["--transport", "tls"], "need each other"),
        (["--transport", "tls", "--tls-cert", "/no/cert"], "--tls-cert: /no/cert cannot be read"),
        (["--transport", "udp", "--against", "m=./m {port}"], "--against is for tcp"),
        (["--setting", "treads=3"], "there is no 'treads'; did you mean 'threads'"),
        (["--setting", "foo=1"], "there is no 'foo'; known: allow, backlog, "),
        (["--setting", "threads"], "--setting: takes NAME=VALUE, not 'threads'"),
        (["--setting", "threads=many"], "--setting: threads takes a number of threads, not"),
        (["--setting", "threads=0"], "--setting: threads must be between 1 and"),
        (["--setting", "workers=4", "-m", "thread"], "--setting: workers means nothing to thread"),
        (["--setting", "max_connections=4", "-m", "single"], "means nothing to single"),
        (["-m", ""], "--model: takes names; known: single, "),
        (["--workload", ","], "--workload: takes names, as in "),
        (["--message", "", "--workload", "echo"], "an empty message is nothing with the framing"),
        (["upper", "--message", "two\nlines"], "is not one message with the framing 'line'"),
        (["--rate", "5x"], "--rate: takes a number of messages a second, as in 5000 or 5k, not"),
        (["--rate", "0k"], "--rate: takes more than 0, not 0k"),
        (["--processes", "1000"], "--processes: 1,000 is more than 64"),
        (["--against", "foo=nosuchcmd {port}"], "foo: there is no program 'nosuchcmd'"),
        (["--transport", "foo"], "takes tcp, unix, tls, udp, not 'foo'\n"),
        (["--duration", "5", "--budget", "1"], "a round of 5 is longer than the budget of 1 s"),
        (["--fail-if", "nosuch:p99>50ms"], "is about nothing that is measured; workloads: echo"),
        (["--fail-if", "echo/nosuch:p99>50ms"], "nothing that is measured; workloads: echo"),
        (["--fail-if", "echo/loop/7:p99>50ms"], "nothing that is measured; workloads: echo"),
        ([f"{HERE}:Needs"], "Needs needs arguments (what)"),
        ([f"{HERE}:Plain"], "Plain is neither an echoframe.Handler nor a "),
        ([f"{HERE}:awaited_upper", "-m", "loop,thread"], "async"),
        ([f"{HERE}:Lines", "--transport", "udp"], "Lines reads a stream, and --transport udp has"),
        (
            ["--transport", "tls", "--tls-cert", __file__],
            f"--tls-cert={__file__} holds no certificate",
        ),
        (["--setting", "overload=refuze"], "--setting: overload takes wait, drop, "),
        (["--budget", "-1"], "--budget:"),
        (["--export-json", "/no/such/folder/x.json"], "/no/such/folder/x.json"),
        (["--fail-if", "p99>"], "--fail-if:"),
        (["--baseline", "/no/such/file"], "--baseline:"),
        (["--json", "--export-json", "x"], "give one of them"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", *words]) == 2
    said = capsys.readouterr()
    assert sentence.replace("'", "") in said.err.replace("'", "")
    assert said.err.startswith("echoframe: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["somewhere:99999"], "port 99999"),
        (["127.0.0.1:1", "--workload", "drain"], "--workload: takes one of echo"),
        (["127.0.0.1:1", "--workload", ""], "--workload: takes names"),
        (["127.0.0.1:1", "--fail-if", "memory>1MiB"], "bench does not see what a server uses"),
        (["127.0.0.1:1", "--fail-if", "wait:p99>1ms"], "measured; workloads: echo; subjects: tcp"),
        (["127.0.0.1:1", "--handler", "ekko"], "ekko"),
        ([], "ADDRESS"),
    ],
)
def test_bench_says_so_too(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_comparison_from_end_to_end(tmp_path: Path) -> None:
    done = run(
        "compare",
        "-m",
        "thread,loop",
        "--workload",
        "echo,wait",
        *QUICK,
        "--export-json",
        "run.json",
        "--export-csv",
        "run.csv",
        "--export-markdown",
        "run.md",
        "--fail-if",
        "errors>0",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    out = done.stdout.decode()
    for part in ("echo: ", "wait: ", "thread", "loop", "has its reply", "Verdict"):
        assert part in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.csv", "run.json", "run.md"]
    result = Result.from_json((tmp_path / "run.json").read_text())
    assert [(one.task, one.subject) for one in result.cells] == [
        ("echo", "thread"),
        ("echo", "loop"),
        ("wait", "thread"),
        ("wait", "loop"),
    ]


def test_the_page_is_written_beside_unless_it_is_not_wanted(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the page needs plotly: pip install it")
    words = ["compare", "-m", "loop", "--workload", "echo", "-n", "1", "-d", "50ms", "-c", "1"]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0
    assert f"The page: {tmp_path.resolve()}/echoframe-compare.html" in done.stdout.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["echoframe-compare.html"]
    assert done.stderr.decode().startswith("measuring echo (1 of 1)\n")


def test_where_no_page_can_be_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly", reason="the page needs plotly: pip install it")
    monkeypatch.chdir(tmp_path)
    words = ["compare", "-m", "thread", "--workload", "echo", *QUICK[:-1], "--rate", "1k"]
    words += ["--fail-if", "echo/thread:errors>0"]
    (tmp_path / "echoframe-compare.html").mkdir()
    assert main(words) == 0
    assert "\nNo page: echoframe-compare.html cannot be written here;" in capsys.readouterr().out
    monkeypatch.setattr("echoframe.cli.compare.find_spec", lambda name: None)
    assert main(words) == 0
    assert "\nNo page: pip install 'echoframe[report]'\n" in capsys.readouterr().out


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    done = run("compare", "--json", "-m", "loop", "--workload", "echo", *QUICK, cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["cells"][0]["subject"] == "loop"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_words_of_ones_own_and_a_check(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"one\ntwo\n")
    for messages_of in (f"{HERE}:messages", "words.txt"):
        done = run(
            "compare",
            "--json",
            "upper",
            "-m",
            "thread",
            "--workload",
            "echo",
            *QUICK,
            "--messages",
            messages_of,
            "--check",
            f"{HERE}:is_upper",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr.decode()
        [one] = Result.from_json(done.stdout.decode()).cells
        assert one.rounds[0].messages > 0
        assert not one.rounds[0].errors


def test_a_criterion_that_is_met_fails_the_command() -> None:
    done = run("compare", "-m", "loop", "--workload", "echo", *QUICK, "--fail-if", "throughput>1")
    assert done.returncode == 1
    assert b"throughput" in done.stderr


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_measured(word: signal.Signals, tmp_path: Path) -> None:
    words = ["compare", "-m", "loop", "--workload", "echo", "-d", "0.05", "-c", "1"]
    with started(
        *words,
        "-n",
        "10000",
        "--no-page",
        "--export-json",
        "run.json",
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"measuring echo (1 of 10000)\n"
        process.send_signal(word)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"interrupted" in out
    assert not Result.from_json((tmp_path / "run.json").read_text()).complete


def test_bench_measures_and_tells() -> None:
    with running("echo", "thread") as up:
        done = run("bench", str(up.address), "-c", "1,2", "-n", "1", "-d", "50ms", "-q")
    assert done.returncode == 0, done.stderr.decode()
    assert b"messages" in done.stdout
    assert done.stderr == b""


def test_bench_of_nobody_says_so_and_measures_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running("echo", "thread") as up:
        place = str(up.address)
    assert main(["bench", place]) == 1
    said = capsys.readouterr()
    assert said.err == f"echoframe: nobody listens at {place}\n"
    assert said.out == ""


def test_bench_trusts_whom_send_would_trust(
    certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--json", "-n", "1", "-d", "50ms", "-c", "1", "-q"]
    with running("echo", "thread", "tls", **certificates.settings) as up:
        place = str(up.address).replace("127.0.0.1", "localhost")
        assert main(["bench", place, *words]) == 1
        said = capsys.readouterr()
        assert "--tls-ca" in said.err
        assert said.out == ""
        for trust in (["--tls-insecure"], ["--tls-ca", str(certificates.ca)]):
            assert main(["bench", place, *words, *trust]) == 0
            [one] = Result.from_json(capsys.readouterr().out).cells
            assert one.rounds[0].messages > 0
            assert not one.rounds[0].errors
        assert main(["bench", place, *trust, "--tls-insecure"]) == 2
        assert "--tls-ca has no meaning" in capsys.readouterr().err


def test_a_check_that_raises_is_all_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "thread", "--workload", "echo", *QUICK]
    assert main(["compare", *words, "--check", f"{HERE}:complains"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"echoframe: --check: {HERE}:complains has raised LookupError('no such reply')\n"
    )


def test_what_came_to_an_end_too_early_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compared(order: Order, progress: Progress) -> Result:
        result = planned(order)
        result.cells[0].rounds.append(Round(1.0, 5, Histogram()))
        result.remarks.append(f"it broke; {AND_THEN_NO_MORE}")
        result.complete = False
        return result

    monkeypatch.setattr("echoframe.cli.compare.compare", compared)
    assert main(["compare", "--json", "--workload", "echo", *QUICK]) == 1
    assert Result.from_json(capsys.readouterr().out).remarks[0].startswith("it broke")


def test_what_a_handler_raises_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--json", "-m", "thread", "--workload", "echo", *QUICK]
    assert main(["compare", f"{HERE}:crashes", *words]) == 1
    result = Result.from_json(capsys.readouterr().out)
    assert [one for one in result.remarks if "raised" in one] == [
        f"{HERE}:crashes raised ValueError: oops"
    ]


def test_it_runs_without_anything_installed() -> None:
    # -S: no site-packages, and so no psutil, rich or plotly.
    done = subprocess.run(
        [sys.executable, "-S", *command("compare", "-m", "loop", "--workload", "echo", *QUICK)[1:]],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=surroundings(),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"echoframe[sys]" in done.stdout
