"""What peers say, and what nobody asked for: neither gets further than it should."""

from __future__ import annotations

import ast
import functools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echoframe import Address, AddressError
from echoframe.cli import main, serve
from echoframe.printing import visible
from echoframe.servers import MODELS
from echoframe.testing import running

from ..certificates import Certificates
from ..helpers import ask
from .programs import PATIENCE, ROOT, Reader, command, run, serving, started, surroundings

# A title, a colour, a line that is deleted, a bell, and an 8-bit way to say "escape".
HOSTILE = "\x1b]0;x\x07\x1b[31m\x1b[2K\r\b\x7f\x9b2J\u202e"


def obeyed(text: str) -> set[str]:
    """The letters in a text that a terminal would obey, or hide."""
    return {letter for letter in text if not letter.isprintable() and letter != "\n"}


# --------------------------------------------------------------- terminals and logs


def test_visible_text_is_printable_and_tells_what_was_there() -> None:
    text = visible(HOSTILE)
    assert text.isprintable()
    assert text.startswith("\\x1b]0;x\\x07\\x1b[31m")
    assert visible("plain é 漢") == "plain é 漢"
    assert visible("a\nb\tc\ud800", keep="\n") == "a\nb\\tc\\ud800"


@pytest.mark.parametrize(
    ("model", "form"), [*((model, "text") for model in MODELS), ("thread", "json")]
)
def test_nothing_of_a_peers_is_raw_in_the_log(model: str, form: str, tmp_path: Path) -> None:
    # In messages, in what a handler raises of them, and in the name of a peer's own socket.
    (tmp_path / "naive.py").write_text(
        "import logging\n"
        "def naive(message):\n"
        "    logging.getLogger('mine').warning(message.decode())\n"
        "    raise ValueError(message.decode() + '\\nforged')\n"
    )
    place = tmp_path / "socket"
    words = ["naive:naive", "-vv", "-m", model, "--log-format", form, "--framing", "line"]
    words += ["--bind", f"unix://{place}"]
    with serving(*words, cwd=tmp_path) as up, socket.socket(socket.AF_UNIX) as peer:
        peer.bind(f"{tmp_path}/{HOSTILE}")
        peer.settimeout(PATIENCE)
        peer.connect(str(place))
        peer.sendall(HOSTILE.encode() + b"\n")
        assert peer.recv(1) == b""
        up.until("Connection to client closed")
        code, log = up.stop()
    assert code == 0
    assert not obeyed(log)
    assert log.count("[2K") >= 4
    assert "ValueError" in log
    if form == "text":
        # Nobody has a first column of their own.
        assert "\n  forged\n" in log
        assert "\nforged" not in log
    else:
        assert all(json.loads(line) for line in log.splitlines())


@pytest.mark.parametrize("words", [["hello"], ["--framing", "line", "hello"]])
def test_what_send_shows_at_a_terminal_is_nothing_that_it_obeys(words: list[str]) -> None:
    answer = HOSTILE.encode() + "é".encode() + b"\xff\tend"
    with running(lambda message: answer, framing="line") as up:
        ours, theirs = pty.openpty()
        try:
            with started("send", str(up.address), *words, stdout=theirs) as process:
                os.close(theirs)
                shown = Reader(ours).rest()
                assert process.wait(PATIENCE) == 0
        finally:
            os.close(ours)
        piped = run("send", str(up.address), *words)
    assert "\\x1b[2K\\r\\x08" in shown
    assert "é\\xff\tend" in shown
    # The terminal itself has made CRLF of LF.
    assert obeyed(shown) <= {"\t", "\r"}
    assert shown.replace("\r\n", "").count("\r") == 0
    # A file has what was said.
    assert piped.stdout == answer + b"\n"


def test_send_shows_at_a_terminal_what_ends_in_the_middle_of_a_letter() -> None:
    with running(lambda message: b"caf\xc3", framing="raw") as up:
        ours, theirs = pty.openpty()
        try:
            with started("send", str(up.address), "x", stdout=theirs) as process:
                os.close(theirs)
                shown = Reader(ours).rest()
                assert process.wait(PATIENCE) == 0
        finally:
            os.close(ours)
    assert shown == "caf\\xc3"


def test_a_sentence_that_quotes_is_no_way_to_a_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / f"x{HOSTILE}.toml"
    assert main(["serve", "--config", str(file)]) == 2
    err = capsys.readouterr().err
    assert "\\x1b[2K" in err
    assert not obeyed(err)


# --------------------------------------------------------------------------- secrets


def test_a_key_is_never_quoted(
    certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = certificates.key.read_text()
    lines = good.splitlines()
    damaged = {
        "cut": "\n".join([*lines[: len(lines) // 2], lines[-1]]),
        "of nothing": "\n".join(lines[1:-1]),
        "with a wrong letter": good.replace(lines[1], "!" + lines[1][1:]),
        "of another": certificates.issue("localhost").key.read_text(),
    }
    for name, text in damaged.items():
        key = tmp_path / name
        key.write_text(text)
        words = ["--tls-cert", str(certificates.cert), "--tls-key", str(key)]
        assert main(["serve", "-vv", "--bind", "tls://127.0.0.1:0", *words]) == 2, name
        said = capsys.readouterr().err
        assert "--tls-" in said
        for line in text.splitlines()[1:-1]:
            assert line[:20] not in said, name


def test_without_being_asked_for_no_message_is_logged() -> None:
    with serving("--log-level", "debug", "--framing", "line") as up:
        with up.connect() as peer:
            assert ask(peer, b"my password") == b"my password"
        up.until("Connection to client closed")
        assert "password" not in up.stop()[1]


# ------------------------------------------------------------------ what runs, and where

TRAP = "import pathlib\npathlib.Path('sprung').touch()\ndef echo(message): return message\n"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in this folder that leaves a mark when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "trap", raising=False)
    (tmp_path / "trap.py").write_text(TRAP)
    return tmp_path / "sprung"


def test_a_file_imports_nothing_that_was_not_asked_for(
    trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trap.parent / "echo.toml"
    monkeypatch.setattr(serve, "_server", _refuse)
    file.write_text("handler = 'trap:echo'\nport = 0\n")
    # A flag wins, and so does a variable.
    with pytest.raises(_NotNow):
        main(["serve", "echo", "--config", str(file)])
    with monkeypatch.context() as patch:
        patch.setenv("ECHOFRAME_HANDLER", "echo")
        with pytest.raises(_NotNow):
            main(["serve", "--config", str(file)])
    # What is wrong is found before anything runs; and what is no handler is none.
    for text in (
        "handler = 'trap:echo'\nport = 'x'\n",
        "handler = 'trap:echo'\nunknown = 1\n",
        "model = 'trap:echo'\n",
        "framing = 'trap:echo'\n",
        "inner = 'trap:echo'\nmodel = 'prefork'\n",
        "user = 'trap:echo'\n",
    ):
        file.write_text(text)
        assert main(["serve", "--config", str(file)]) == 2, text
    assert not trap.exists()
    # It is a trap: who asks for it gets it.
    file.write_text("handler = 'trap:echo'\n")
    with pytest.raises(_NotNow):
        main(["serve", "--config", str(file)])
    assert trap.exists()
    del sys.modules["trap"]


class _NotNow(Exception):
    pass


def _refuse(*_: Any) -> Any:
    raise _NotNow


def test_entry_points_run_only_when_they_are_named(tmp_path: Path) -> None:
    facts = tmp_path / "trap-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[echoframe.handlers]\ntrapped = trap:echo\n")
    (tmp_path / "trap.py").write_text(TRAP)
    env = surroundings(PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]))
    listed = run("handlers", env=env, cwd=tmp_path)
    assert b"trapped" in listed.stdout
    with serving("echo", env=env, cwd=tmp_path) as up:
        assert up.stop()[0] == 0
    assert not (tmp_path / "sprung").exists()
    with serving("trapped", env=env, cwd=tmp_path):
        assert (tmp_path / "sprung").exists()


def _addresses(file: Path) -> list[Address]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "://" in node.value:
            try:
                found.append(Address.parse(node.value))
            except AddressError:
                continue
    return found


def test_examples_listen_on_this_machine_alone() -> None:
    files = sorted((ROOT / "examples").rglob("*.py"))
    places = [place for file in files for place in _addresses(file)]
    assert len(places) >= 10
    open_to_all = [place for place in places if place.host in ("", "0.0.0.0", "::")]
    assert [str(place) for place in open_to_all if place.scheme in ("tcp", "tls", "udp")] == []
    for file in (ROOT / "examples" / "peers").iterdir():
        if file.is_file() and file.suffix in (".py", ".c", ".mjs"):
            text = file.read_text()
            assert "0.0.0.0" not in text
            assert "INADDR_ANY" not in text


# ------------------------------------------------------------------------ no /proc


@functools.cache
def _hides_proc() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    words = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc of this kind")
@pytest.mark.parametrize("model", MODELS)
def test_a_machine_without_proc_is_served_too(model: str, tmp_path: Path) -> None:
    if not _hides_proc():
        pytest.skip("only root, and only where it may mount, can hide /proc")
    read, write = os.pipe()
    words = command("serve", "-m", model, "--port", "0", "--ready-fd", str(write))
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh", *words]
    process = subprocess.Popen(hidden, env=surroundings(), pass_fds=[write], stderr=subprocess.PIPE)
    os.close(write)
    try:
        place = Address.parse(Reader(read).rest().strip())
        with socket.create_connection((place.host, place.port), PATIENCE) as peer:
            assert ask(peer, b"hello") == b"hello"
        # And who comes second is told what can be known.
        if model == "thread":
            second = ["--port", str(place.port)]
            words = [*hidden[:6], *command("serve", *second)]
            done = subprocess.run(
                words, env=surroundings(), capture_output=True, timeout=PATIENCE, check=False
            )
            assert done.returncode == 3
            assert b"is in use; stop whoever listens there" in done.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    finally:
        os.close(read)
        process.kill()
        process.wait(PATIENCE)
        assert process.stderr is not None
        process.stderr.close()
