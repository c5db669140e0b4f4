"""echoframe serve as a program: it tells where it is, outlives its log, and ends well."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from echoframe import Address, Client, Report
from echoframe.cli import main
from echoframe.cli.early import signals
from echoframe.servers import MODELS, Lifecycle

from .programs import (
    PATIENCE,
    Reader,
    command,
    echoes,
    refused,
    run,
    serving,
    started,
    surroundings,
)

# So long may a stop take, with nothing left to do. Where coverage is measured, each
# child has a file to write first.
AT_ONCE = 10.0 if any(name.startswith("COVERAGE_") for name in os.environ) else 1.0


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


# ------------------------------------------------------------------ where it is


def test_with_nothing_else_it_serves_and_says_how_to_try_it() -> None:
    with started("serve", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        log = Reader(process.stderr.fileno())
        try:
            text = log.until("Try it: ")
        except AssertionError:
            if "in use" not in log.text:
                raise
            pytest.skip("somebody else listens at port 7007")
        assert text.startswith("Listening on 127.0.0.1:7007\n")
        log.until("Try it: nc 127.0.0.1 7007\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_the_port_file_is_there_while_it_serves(tmp_path: Path) -> None:
    file = tmp_path / "port"
    with serving("--port-file", str(file)) as up:
        assert file.read_text() == f"{up.address.port}\n"
        assert [entry.name for entry in tmp_path.iterdir()] == ["port"]
        with up.connect() as peer:
            assert echoes(peer)
        assert up.stop()[0] == 0
    assert not file.exists()


def test_the_port_file_of_somebody_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "port"
    with serving("--port-file", str(file)) as up:
        (tmp_path / "other").write_text("1\n")
        os.replace(tmp_path / "other", file)
        assert up.stop()[0] == 0
    assert file.read_text() == "1\n"


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere/port", "No such file or directory"), ("", "Is a directory")]
)
def test_a_port_file_that_cannot_be_written_is_noticed_before_anybody_listens(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    assert main(["serve", "--port", "0", "--port-file", str(file)]) == 3
    assert capsys.readouterr().err == (
        f"echoframe: cannot write the port to {file}: {reason}; choose another --port-file\n"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_several_addresses_and_how_to_try_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    kinds = {
        "127.0.0.1:0": "nc 127.0.0.1 {port}",
        ":0": "nc 127.0.0.1 {port}",
        "udp://127.0.0.1:0": "nc -u 127.0.0.1 {port}",
        f"unix://{path}": f"nc -U {path}",
        f"unix://@echoframe-{os.getpid()}": f"socat - ABSTRACT-CONNECT:echoframe-{os.getpid()}",
    }
    with ExitStack() as stack:
        for place, hint in kinds.items():
            up = stack.enter_context(serving("--bind", place))
            up.until(f"Try it: {hint.format(port=up.address.port)}\n")
    assert not path.exists() or path.is_socket()
    words = [word for place in list(kinds)[:3] for word in ("--bind", place)]
    with serving(*words) as up:
        assert [place.scheme for place in up.addresses] == ["tcp", "tcp", "udp"]
        log = up.until("Try it: ")
        assert all(f"Listening on {place.name}\n" in log for place in up.addresses[:2])
        assert f"Listening on {up.addresses[2]}\n" in log
        for there in (up.addresses[0], up.addresses[2]):
            with Client(there, "echo") as client:
                assert client.ask("hello") == b"hello"


def test_how_to_try_a_framing_that_nobody_types() -> None:
    with serving("--framing", "length") as up:
        up.until(f"echoframe send --framing 'length' {up.address} hello")
        done = run("send", "--framing", "length", str(up.address), "hello")
        assert (done.returncode, done.stdout) == (0, b"hello\n")


def test_a_socket_file_has_the_mode_it_was_given_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving("--bind", f"unix://{path}", "--unix-mode", "640") as up:
        assert path.stat().st_mode & 0o777 == 0o640
        with Client(f"unix://{path}", "echo") as client:
            assert client.ask("hello") == b"hello"
        assert up.stop()[0] == 0
    assert not path.exists()


def test_an_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        with serving("--bind", f"fd://{number}", pass_fds=(number,)) as up:
            assert up.address.port == listener.getsockname()[1]
            with up.connect() as peer:
                assert echoes(peer)


def test_the_addresses_by_standard_output_which_then_is_nowhere() -> None:
    # No connection may get the number 1 when it is closed.
    words = ("serve", "examples_of_print:echo", "--port", "0", "--ready-fd", "1")
    folder = Path(__file__).parent / "handlers"
    with started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout is not None
        place = Address.parse(Reader(process.stdout.fileno()).rest().strip())
        with socket.create_connection((place.host, place.port), PATIENCE) as peer:
            assert echoes(peer)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_nobody_reads_the_ready_descriptor() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        words = ("serve", "--port", "0", "--ready-fd", str(write))
        with started(*words, stderr=subprocess.PIPE, pass_fds=(write,)) as process:
            assert process.stderr is not None
            Reader(process.stderr.fileno()).until("Try it")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    finally:
        os.close(write)


# --------------------------------------------------------------------- the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("model", MODELS)
def test_a_first_signal_ends_it_with_0(model: str, number: signal.Signals) -> None:
    with serving("-m", model) as up:
        up.until("Try it")
        began = time.monotonic()
        up.signal(number)
        code, log = up.end()
        assert code == 0
        assert time.monotonic() - began < AT_ONCE
        assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("model", MODELS)
def test_100_idle_clients_do_not_hold_it_up(model: str, number: signal.Signals) -> None:
    with serving("-m", model) as up, ExitStack() as stack:
        peers = [stack.enter_context(up.connect()) for _ in range(100)]
        # On single, the first has the server to itself.
        for peer in peers[: 1 if model == "single" else 100]:
            assert echoes(peer)
        began = time.monotonic()
        up.signal(number)
        assert up.wait() == 0
        assert time.monotonic() - began < AT_ONCE


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_second_signal_cuts_and_is_told(model: str) -> None:
    with serving("wait", "-m", model, "-v") as up, up.connect() as peer:
        peer.sendall(b"60000\n")
        up.until("Received: 60000")
        # Two that are different, so that neither can hide behind the other. Which of
        # them comes first, nobody can say.
        up.signal(signal.SIGINT)
        up.signal(signal.SIGTERM)
        code, log = up.end()
        assert code in (130, 143)
        assert "Traceback" not in log


@pytest.mark.slow
def test_a_second_ctrl_c_is_130() -> None:
    with serving("wait", "-v") as up, up.connect() as peer:
        peer.sendall(b"60000\n")
        up.until("Received: 60000")
        up.signal(signal.SIGTERM)
        assert refused(up.address)
        up.signal(signal.SIGINT)
        assert up.end()[0] == 130


@pytest.mark.slow
def test_who_was_cut_is_in_the_log() -> None:
    with serving("wait", "-v", "--drain-timeout", "0.2") as up, up.connect() as peer:
        peer.sendall(b"60000\n")
        up.until("Received: 60000")
        host, port = peer.getsockname()
        code, log = up.stop()
        assert code == 0
        assert f"1 conversation was cut: {host}:{port}\n" in log


@pytest.mark.slow
def test_an_answer_that_is_under_way_is_finished() -> None:
    with serving("wait", "-v", "--linger-timeout", "0.1") as up, up.connect() as peer:
        peer.sendall(b"300\n")
        up.until("Received: 300")
        up.signal(signal.SIGTERM)
        assert peer.recv(100) == b"300\n"
        assert up.end()[0] == 0


def test_once_ends_after_the_first_conversation() -> None:
    with serving("command", "-m", "single", "--once") as up:
        with up.connect() as peer:
            peer.sendall(b"close")
            assert peer.recv(100) == b"closed"
            assert peer.recv(100) == b""
        assert up.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_while_the_handler_is_imported(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "sleepy.py").write_text(
        "import sys, time\nprint('asleep', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    )
    words = ("serve", "sleepy:echo", "--port", "0")
    with started(*words, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stderr is not None
        log = Reader(process.stderr.fileno())
        log.until("asleep\n")
        process.send_signal(number)
        assert log.rest() == "asleep\n"
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("moment", ["before parsing", "before binding", "before run"])
def test_a_signal_at_any_moment_of_the_start(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(real: Any) -> Any:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments, **keywords)

        return wrapper

    where = {
        "before parsing": "echoframe.cli.serve.parser",
        "before binding": "echoframe.servers.base.bind",
        "before run": "echoframe.servers.lifecycle.Lifecycle.run",
    }[moment]
    module, _, name = where.rpartition(".")
    owner: Any = Lifecycle if name == "run" else sys.modules[module]
    monkeypatch.setattr(owner, name, interrupted(getattr(owner, name)))
    assert main(["serve", "--port", "0"]) == 0
    assert signals.arrived == signal.SIGTERM


def test_a_signal_when_it_is_over_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Lifecycle.run

    def run_and_more(self: Any) -> Report:
        self.stop()
        report = real(self)
        os.kill(os.getpid(), signal.SIGTERM)
        return report

    monkeypatch.setattr(Lifecycle, "run", run_and_more)
    assert main(["serve", "--port", "0"]) == 0


# --------------------------------------------------------------------- the log


@pytest.mark.parametrize("model", MODELS)
def test_the_log_is_the_tutorials(model: str) -> None:
    with serving("command", "-m", model, "-v") as up:
        with up.connect() as peer:
            host, port = peer.getsockname()
            for message, reply in ((b"hello", b"accepted"), (b"\x1b[2J", b"accepted")):
                peer.sendall(message)
                assert peer.recv(100) == reply
            peer.sendall(b"CLOSE")
            assert peer.recv(100) == b"closed"
            assert peer.recv(100) == b""
        up.until("Connection to client closed\n")
        code, log = up.stop()
        assert code == 0
        lines = log.splitlines()
        # aio tells whose loop it is.
        on = [line for line in lines if line.startswith("Running on ")]
        assert [line.split()[-1] in ("uvloop", "asyncio") for line in on] == [True] * (
            model == "aio"
        )
        # Where the limit of descriptors is not the highest already, that is said too.
        lines = [line for line in lines if "descriptors" not in line and line not in on]
        assert lines == [
            f"Listening on {up.address.name}",
            f"Try it: nc {up.address.host} {up.address.port}",
            f"Accepted connection from {host}:{port}",
            "Received: hello",
            "Received: \\x1b[2J",
            "Received: CLOSE",
            "Connection to client closed",
        ]


def test_messages_are_logged_only_when_asked_for() -> None:
    with serving() as up:
        with up.connect() as peer:
            assert echoes(peer)
        up.until("Connection to client closed\n")
        assert "Received" not in up.stop()[1]


def test_quiet_says_nothing_as_long_as_nothing_is_wrong() -> None:
    with serving("-q") as up:
        with up.connect() as peer:
            assert echoes(peer)
        assert up.stop() == (0, "")


def test_json_is_one_object_on_a_line(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text("def crash(message):\n    raise ValueError('no\\nway')\n")
    with serving("crashing:crash", "--log-format", "json", cwd=tmp_path) as up:
        with up.connect() as peer:
            peer.sendall(b"x\n")
            assert peer.recv(100) == b""
        up.until("Connection to client closed")
        code, log = up.stop()
    assert code == 0
    records = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(record) for record in records)
    assert records[0]["message"] == f"Listening on {up.address.name}"
    assert records[0]["level"] == "INFO"
    assert records[0]["logger"] == "echoframe.server"
    assert records[0]["time"].endswith("+00:00")
    (error,) = [record for record in records if record["level"] == "ERROR"]
    assert "ValueError: no" in error["traceback"]


@pytest.mark.parametrize(
    ("when", "variables", "terminal", "coloured"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {}, False, True),
        ("never", {}, True, False),
    ],
)
def test_colour_marks_what_is_wrong(
    when: str, variables: dict[str, str], terminal: bool, coloured: bool, tmp_path: Path
) -> None:
    (tmp_path / "crashing.py").write_text("def crash(message):\n    raise ValueError\n")
    keywords: dict[str, Any] = {}
    with ExitStack() as stack:
        if terminal:
            ours, theirs = pty.openpty()
            stack.callback(os.close, ours)
            keywords["stderr"] = theirs
        env = surroundings(**{"TERM": "xterm", **variables})
        words = ("crashing:crash", "--color", when)
        up = stack.enter_context(serving(*words, cwd=tmp_path, env=env, **keywords))
        if terminal:
            os.close(theirs)
            up.log = Reader(ours)
        with up.connect() as peer:
            peer.sendall(b"x\n")
            assert peer.recv(100) == b""
        up.until("Connection to client closed")
        code, log = up.stop()
    assert code == 0
    assert log.startswith("Listening")
    assert ("\x1b[31mthe handler raised" in log) is coloured
    assert ("\x1b" in log) is coloured


@contextmanager
def _broken_log(how: str) -> Iterator[Any]:
    if how == "full disk":
        with open("/dev/full", "wb") as full:
            yield full
        return
    read, write = os.pipe()
    os.close(read)
    try:
        yield write
    finally:
        os.close(write)


@pytest.mark.long
@pytest.mark.parametrize("how", ["full disk", "nobody reads"])
@pytest.mark.parametrize("model", MODELS)
def test_it_outlives_its_log(model: str, how: str) -> None:
    with (
        _broken_log(how) as log,
        # Standard output too, into which the handler prints.
        serving(
            "examples_of_print:echo",
            *("-m", model, "-vv"),
            stderr=log,
            stdout=log,
            cwd=Path(__file__).parent / "handlers",
        ) as up,
    ):
        for _ in range(2):
            with up.connect() as peer:
                assert echoes(peer)
        up.signal(signal.SIGTERM)
        assert up.wait() == 0


@needs("head")
def test_head_takes_one_line_and_leaves() -> None:
    read, write = os.pipe()
    head = subprocess.Popen(["head", "-1"], stdin=read, stdout=subprocess.PIPE)
    os.close(read)
    with ExitStack() as stack:
        stack.callback(head.communicate, timeout=PATIENCE)
        stack.callback(head.kill)
        try:
            up = stack.enter_context(serving("-v", stderr=write))
        finally:
            os.close(write)
        out, _ = head.communicate(timeout=PATIENCE)
        assert out.decode() == f"Listening on {up.address.name}\n"
        for _ in range(3):
            with up.connect() as peer:
                assert echoes(peer)
        up.signal(signal.SIGTERM)
        assert up.wait() == 0


def _wait_for(file: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return int(file.read_text())
        except FileNotFoundError:
            select.select([], [], [], 0.005)
    raise AssertionError(f"{file} never came")


@pytest.mark.long
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("model", MODELS)
def test_closed_streams(model: str, closed: str, tmp_path: Path) -> None:
    file = tmp_path / "port"
    words = command("serve", "-m", model, "--port", "0", "--port-file", str(file), "-v")
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *words], env=surroundings()
    )
    try:
        port = _wait_for(file)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as peer:
            assert echoes(peer)
            for number in (0, 1, 2):
                assert not _is_socket(process.pid, number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)


def _is_socket(pid: int, number: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    except OSError:
        # No /proc: nothing can be seen.
        return False


# ---------------------------------------------------------------- its handlers


def test_a_function_in_this_folder(tmp_path: Path) -> None:
    # What it imports later is found there as well, also for the installed command.
    (tmp_path / "later.py").write_text("def shout(text):\n    return text.upper() + b'!'\n")
    (tmp_path / "mine.py").write_text(
        "def shout(message):\n    import later\n    return later.shout(message)\n"
    )
    script = tmp_path / "elsewhere" / "echoframe"
    script.parent.mkdir()
    script.write_text("import sys\nfrom echoframe.cli import main\nsys.exit(main())\n")
    with serving("mine:shout", cwd=tmp_path) as up, up.connect() as peer:
        peer.sendall(b"hello\n")
        assert peer.recv(100) == b"HELLO!\n"
    file = tmp_path / "port"
    words = [sys.executable, str(script), "serve", "mine:shout", "-q", "--port", "0"]
    process = subprocess.Popen([*words, "--port-file", str(file)], cwd=tmp_path, env=surroundings())
    try:
        with socket.create_connection(("127.0.0.1", _wait_for(file)), PATIENCE) as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(100) == b"HELLO!\n"
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].runs_handler_classes])
def test_a_socketserver_handler_class_as_it_is(model: str, tmp_path: Path) -> None:
    (tmp_path / "classic.py").write_text(
        "import socketserver\n"
        "class Upper(socketserver.StreamRequestHandler):\n"
        "    def handle(self):\n"
        "        self.wfile.write(self.rfile.readline().upper())\n"
    )
    with serving("classic:Upper", "-m", model, cwd=tmp_path) as up:
        with up.connect() as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(100) == b"HELLO\n"
            assert peer.recv(100) == b""
        assert up.stop()[0] == 0


def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_handler.py").write_text("import no_such_module\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert main(["serve", "broken_handler:echo"]) == 2
    assert "no_such_module" in capsys.readouterr().err


def test_flags_variables_and_file_together(tmp_path: Path) -> None:
    (tmp_path / "echo.toml").write_text('model = "fork"\nhandler = "command"\nverbose = true\n')
    env = surroundings(ECHOFRAME_HANDLER="upper", ECHOFRAME_CONFIG=str(tmp_path / "echo.toml"))
    with serving("-m", "single", env=env) as up, up.connect() as peer:
        peer.sendall(b"hello\n")
        assert peer.recv(100) == b"HELLO\n"
        up.until("Received: hello\n")


# ------------------------------------------------------- with people's own tools


@needs("nc")
def test_nc() -> None:
    with serving("command") as up:
        words = ["nc", up.address.host, str(up.address.port)]
        done = subprocess.run(
            words, input=b"hello\nclose\n", capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.stdout == b"accepted\nclosed\n"


@needs("telnet")
def test_telnet() -> None:
    with serving("command") as up:
        process = subprocess.Popen(
            ["telnet", up.address.host, str(up.address.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            said = Reader(process.stdout.fileno())
            said.until("Escape character")
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            said.until("accepted")
            process.stdin.write(b"close\n")
            process.stdin.flush()
            said.until("closed")
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE)


@needs("socat")
def test_socat_at_an_abstract_name() -> None:
    name = f"echoframe-socat-{os.getpid()}"
    with serving("--bind", f"unix://@{name}"):
        done = subprocess.run(
            ["socat", "-t", "5", "-", f"ABSTRACT-CONNECT:{name}"],
            input=b"hello",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.stdout == b"hello"
