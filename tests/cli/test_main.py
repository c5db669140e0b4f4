"""main(): what is wrong is one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from echoframe.cli import COMMANDS, main
from echoframe.servers import SETTINGS
from echoframe.version import VERSION

from .programs import PATIENCE, command, run, started, surroundings


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"echoframe {VERSION}\n"


def test_help_has_an_example_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"echoframe {name}" in out
    assert "echoframe.testing.bad_clients" in out


def test_no_command_prints_the_help_and_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert "usage: echoframe COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    assert f"example: echoframe {name}" in capsys.readouterr().out


def test_each_setting_is_a_flag_with_default_and_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for setting in SETTINGS.values():
        assert setting.flag in out
        assert setting.reason in out
        for alias in setting.aliases:
            assert "--" + alias.replace("_", "-") in out


WRONG = [
    (["srve"], ["'srve'", "serve"]),
    (["--vers"], ["'--vers'", "--version"]),
    (["serve", "--prot", "1"], ["'--prot'", "--port"]),
    (["serve", "--model"], ["--model", "expected one argument"]),
    (["serve", "echo", "more"], ["'more'"]),
    (["serve", "ecoh"], ["'ecoh'", "did you mean 'echo'"]),
    (["serve", "nosuch_module:x"], ["'nosuch_module'"]),
    (["serve", "os:nosuch"], ["'nosuch'", " more"]),
    (["serve", "os:sep"], ["'/'"]),
    (["serve", "os:path"], ["'os:path' is of type 'module' and not a handler: name a function"]),
    (["serve", "-m", "single", "--max-per-peer", "2"], ["--max-per-peer means nothing to"]),
    (
        ["serve", "-m", "prefork", "--inner", "foo"],
        ["--inner", "'foo'; known: aio, loop, pool, single, thread\n"],
    ),
    (["serve", "-m", "thred"], ["'thred'", "did you mean 'thread'"]),
    (["serve", "-m", "thread", "--once"], ["--once", "single"]),
    (["serve", "--once"], ["--once", "single"]),
    (["serve", "--threads", "4"], ["--threads", "--model pool"]),
    (["serve", "-m", "fork", "--queue-size", "4"], ["--queue-size", "--model pool"]),
    (
        ["serve", "-m", "prefork", "--inner", "loop", "--threads", "4"],
        ["--threads", "add --inner pool"],
    ),
    (["serve", "-b", "tcp://x:70000"], ["--bind", "70000"]),
    (["serve", "-b", "http://x"], ["'http'"]),
    (["serve", "--port", "70000"], ["--port", "70000"]),
    (["serve", "--port", "http"], ["--port", "'http'"]),
    (["serve", "--port", "1.5"], ["--port", "1.5"]),
    (["serve", "--host", "x:80"], ["--host", "'x:80'", "--bind"]),
    (["serve", "--host", "a b"], ["--host", "'a b'"]),
    (["serve", "-b", ":1", "--port", "2"], ["bind", "host and port"]),
    (["serve", "--framing", "lin"], ["--framing", "did you mean 'line'"]),
    (["serve", "--framing", "fixed:0"], ["--framing"]),
    (["serve", "-b", "udp://:0", "--framing", "line"], ["--framing", "udp"]),
    (["serve", "socketserver:StreamRequestHandler", "--framing", "line"], ["framing"]),
    (["serve", "--max-connections", "0"], ["--max-connections", "between 1"]),
    (["serve", "--max-connections", "many"], ["--max-connections", "'many'"]),
    (["serve", "--max-connections", "1.5"], ["--max-connections", "1.5"]),
    (["serve", "--idle-timeout", "-1"], ["--idle-timeout", "between 0"]),
    (["serve", "--timeout", "inf"], ["--idle-timeout", "'inf'"]),
    (["serve", "--unix-mode", "999", "-b", "unix:///x"], ["--unix-mode", "'999'"]),
    (["serve", "--unix-mode", "660"], ["--unix-mode", "unix://"]),
    (["serve", "--port-file", "x", "-b", "unix:///x"], ["--port-file", "unix://"]),
    (
        ["serve", "--ready-fd", "1000000"],
        ["--ready-fd: descriptor 1000000 is not open; open it for the server, as in --ready-fd 3"],
    ),
    (["serve", "-m", "prefork", "--inner", "fork"], ["--inner is what runs in each worker"]),
    (["serve", "--ready-fd", "-1"], ["--ready-fd", "not open"]),
    (["serve", "--ready-fd", "x"], ["--ready-fd: takes a descriptor's number, not 'x'"]),
    (
        ["serve", "-m", "prefork", "--max-requests-jitter", "3"],
        ["--max-requests-jitter is added to --max-requests", "add --max-requests"],
    ),
    (["serve", "--log-level", "loud"], ["--log-level", "'loud'"]),
    (["serve", "--log-format", "jsn"], ["--log-format", "did you mean json"]),
    (["serve", "--color", "red"], ["--color", "'red'"]),
    (["serve", "-q", "-v"], ["quiet and verbose"]),
    (["connect"], ["ADDR"]),
    (["connect", "tcp://x:70000"], ["70000"]),
    (["connect", "fd://3"], ["fd://3"]),
    (["connect", "x", "--retry", "often"], ["--retry", "'often'"]),
    (["connect", "x", "--retry", "1.5"], ["--retry", "'1.5'"]),
    (["send"], ["ADDR"]),
    (["send", ":1", "--timeout", "long"], ["--timeout", "'long'"]),
    (["send", ":1", "--timeout", "0"], ["timeout", "more than 0"]),
    (["send", ":1", "--framing", "lin", "x"], ["'lin'", "'line'"]),
    (["send", ":1", "--protocol", "ecoh", "x"], ["'ecoh'", "'echo'"]),
    (["probe", "localhost"], ["PORTS"]),
    (["probe", "localhost", "1-x"], ["'1-x'"]),
    (["probe", "localhost", "1", "--timeout", "x"], ["--timeout", "'x'"]),
    (["models", "--jsn"], ["'--jsn'", "--json"]),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=" ".join)
def test_usage_errors_are_one_sentence(
    words: list[str], said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("echoframe: ")
    assert err.count("\n") == 1
    for words_of_it in said:
        assert words_of_it in err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_port_in_use_is_exit_code_3(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 3
    assert f"tcp://127.0.0.1:{port} is in use" in capfd.readouterr().err


def test_a_folder_is_no_socket_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "-b", f"unix://{tmp_path}"]) == 3
    assert "is a folder" in capfd.readouterr().err


def test_a_host_that_nobody_knows(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert main(["serve", "--host", "nosuch.invalid"]) == 3
    assert main(["connect", "nosuch.invalid"]) == 1
    assert main(["probe", "nosuch.invalid", "1"]) == 1
    err = capfd.readouterr().err
    assert err.count("cannot find the host") == err.count("\n") == 3


def test_a_port_that_needs_privileges(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs the tests may have them.
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "socket", Forbidden)
    assert main(["serve", "--port", "80"]) == 3
    assert "root" in capfd.readouterr().err


def test_out_of_descriptors_at_the_start(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("echoframe.servers.base.bind", none_left)
    assert main(["serve", "--port", "0"]) == 3
    assert "cannot start: Too many open files" in capfd.readouterr().err


def test_a_broken_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("models", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "wb") as full:
        done = run("models", stdout=full)
        help_too = run("serve", "--help", stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        b"echoframe: cannot go on: No space left on device\n",
    )
    assert help_too.returncode == 1


def test_closed_streams_are_no_reason_to_fail() -> None:
    shell = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("models")],
        env=surroundings(),
        timeout=PATIENCE,
        check=False,
    )
    assert shell.returncode == 0


def test_ctrl_c_ends_other_commands_with_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        port = silent.getsockname()[1]
        words = ("send", f":{port}", "hello", "--timeout", "30")
        with started(*words, stderr=subprocess.PIPE) as process:
            peer, _ = silent.accept()
            with peer:
                peer.settimeout(PATIENCE)
                assert peer.recv(100) == b"hello\n"
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, b"")
