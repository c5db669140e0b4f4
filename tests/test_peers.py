"""Every peer echoes, ends when it is told to, and says in a sentence why it cannot."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cli.programs import PATIENCE, ROOT, surroundings
from .helpers import eventually, pump, read_exactly

# Each starts programs.
pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples" / "peers"
PEERS = sorted(file.stem for file in FOLDER.glob("[!_]*.py"))

# Which library each needs, and which tool.
LIBRARIES = {
    "gevent_server": "gevent",
    "trio_server": "trio",
    "twisted_server": "twisted",
    "uvloop_protocol": "uvloop",
}
TOOLS = {"c_epoll": "gcc", "ncat_server": "ncat", "node_server": "nodejs"}

linux = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


def words(peer: str, *arguments: object) -> list[str]:
    return [sys.executable, str(FOLDER / f"{peer}.py"), *map(str, arguments)]


def run(command: list[str], **variables: str) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, and what it said on both streams."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=surroundings(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port that the kernel gives to nobody else, and that a server may still listen at.

    That takes SO_REUSEADDR on both sides, without which no server can start again at once.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Peer:
    """A peer that listens."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.port = port
        self.process = process

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def is_up(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return self.process.poll() is not None
        return True


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program in C is kept, so that it is compiled once, and nobody's is used."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, cache: Path) -> Iterator[Peer]:
    """A running peer, one for all tests of this file."""
    with (
        free_port() as port,
        subprocess.Popen(
            words(request.param, port),
            cwd=ROOT,
            env=surroundings(XDG_CACHE_HOME=str(cache)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None  # a pipe
        try:
            up = Peer(request.param, port, process)
            eventually(up.is_up, f"{up.name} at port {port}")
            if process.poll() is not None:
                said = process.stderr.read()
                assert process.returncode == 3, said
                pytest.skip(said.strip())
            yield up
        finally:
            # Not killed, or ncat would be left behind where a test failed.
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


# ------------------------------------------------------------------- they serve


def test_it_echoes(peer: Peer) -> None:
    with peer.connect() as sock:
        for message in (b"hello", b"\0", os.urandom(10_000)):
            sock.sendall(message)
            assert read_exactly(sock, len(message)) == message


def test_nobody_waits_for_another(peer: Peer) -> None:
    # ncat's backlog is 10, and whoever is turned away there tries again after a second.
    count = 8 if peer.name == "ncat_server" else 50
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(peer.connect()) for _ in range(count)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%04d" % number)
        for number, sock in reversed(list(enumerate(socks))):
            assert read_exactly(sock, 4) == b"%04d" % number


def test_it_ends_a_conversation_that_the_other_side_ended(peer: Peer) -> None:
    with peer.connect() as sock:
        sock.sendall(b"hello")
        assert read_exactly(sock, 5) == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_nothing_is_lost_when_the_other_side_ends_its_own(peer: Peer) -> None:
    if peer.name == "ncat_server":
        pytest.skip("ncat loses what it has not sent back by then, before version 7.96")
    sent = os.urandom(1 << 20)
    with peer.connect() as sock:
        assert pump(sock, sent) == sent


def test_a_port_in_use_is_a_sentence(peer: Peer, cache: Path) -> None:
    said = run(words(peer.name, peer.port), XDG_CACHE_HOME=str(cache))
    assert said == (3, "", f"127.0.0.1:{peer.port} is in use; choose another port\n")


def processes_below(pid: int) -> list[int]:
    """A process's children, and theirs."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *processes_below(child)]
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Whoever inherits a child may be slow to take note of its end.
    return state != "Z"


# The last one that wants the peer: it is gone afterwards.
def test_sigterm_ends_it_with_its_conversations_and_nothing_is_left(peer: Peer) -> None:
    with peer.connect() as sock:
        sock.sendall(b"hello")
        assert read_exactly(sock, 5) == b"hello"
        below = processes_below(peer.process.pid)
        if sys.platform == "linux":
            # The others have become what they started, if they started something.
            assert bool(below) == (peer.name in ("ncat_server", "socketserver_forking"))
        peer.process.send_signal(signal.SIGTERM)
        assert peer.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert peer.process.stderr is not None  # a pipe
        # Its end comes when nobody holds it any more; a child would.
        assert peer.process.stderr.read() == ""
        assert sock.recv(1) == b""
    assert not [pid for pid in below if is_alive(pid)]
    with pytest.raises(ConnectionRefusedError):
        peer.connect()


# ----------------------------------------------------------- they say why they cannot


@pytest.mark.parametrize(("name", "library"), LIBRARIES.items())
def test_a_missing_library_is_a_sentence(name: str, library: str) -> None:
    # -S: nothing that was installed is found.
    command = [sys.executable, "-S", *words(name, 7100)[1:]]
    sentence = f"{library} is not installed: pip install {library}\n"
    assert run(command, PYTHONPATH="") == (3, "", sentence)


@linux
@pytest.mark.parametrize(("name", "package"), TOOLS.items())
def test_a_missing_tool_is_a_sentence(name: str, package: str, tmp_path: Path) -> None:
    code, out, err = run(words(name, 7100), PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert (code, out) == (3, "")
    assert re.fullmatch(rf"[^\n]+: apt install {package}\b[^\n]*\n", err)


@linux
def test_a_compiler_that_fails_is_a_sentence(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho c_epoll.c:1: no such header >&2\nexit 1\n")
    compiler.chmod(0o755)
    said = run(words("c_epoll", 7100), PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    reason = "c_epoll.c:1: no such header"
    assert said == (3, "", f"{compiler} does not compile c_epoll.c: {reason}\n")
    assert os.listdir(tmp_path / "echoframe") == []


@linux
def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "echoframe").write_text("a file, where a folder is wanted")
    code, out, err = run(words("c_epoll", 7100), XDG_CACHE_HOME=str(tmp_path))
    assert (code, out) == (3, "")
    assert re.fullmatch(r"c_epoll cannot be kept[^\n]+: set XDG_CACHE_HOME[^\n]+\n", err)


@pytest.mark.parametrize("arguments", [[], ["7100", "7101"], ["no"], ["0"], ["65536"]])
def test_what_is_not_a_port_is_a_sentence(arguments: list[str]) -> None:
    code, out, err = run(words("socketserver_threading", *arguments))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"[^\n]*\bport\b[^\n]+\n", err)
    if len(arguments) == 1:
        assert arguments[0] in err


@pytest.mark.parametrize("arguments", [[], ["65536"]])
def test_the_program_for_node_says_the_same(arguments: list[str]) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    code, out, err = run(["node", str(FOLDER / "node_echo.mjs"), *arguments])
    assert (code, out) == (2, "")
    assert re.fullmatch(r"[^\n]*\bport\b[^\n]+\n", err)


# ------------------------------------------------------------------ what is written


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""


def test_the_list_names_every_peer_once() -> None:
    listed = re.findall(r"^(\w+)  +\S", docstring("__init__"), re.MULTILINE)
    assert sorted(listed) == PEERS
    (pasted,) = re.findall(r"^    echoframe compare \\\n(?:.+\n)+", docstring("__init__"), re.M)
    against = re.findall(r"--against \w+='python3 examples/peers/(\w+)\.py \{port\}'", pasted)
    assert against == listed
    assert pasted.count("\\\n") == len(against) == pasted.count("--against")


@pytest.mark.parametrize("name", PEERS)
def test_it_says_how_to_try_it(name: str) -> None:
    commands = re.findall(r"^    (\S.*)$", docstring(name), re.MULTILINE)
    by_hand = f"python3 examples/peers/{name}.py"
    assert commands[0] == f"{by_hand} 7100"
    assert re.fullmatch(rf"echoframe compare --against \w+='{by_hand} {{port}}'", commands[1])
    assert commands[1].removeprefix("echoframe compare ") in docstring("__init__")


@pytest.mark.parametrize("name", PEERS)
def test_it_is_short(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    lines = [line for line in text.partition('"""\n\n')[2].splitlines() if line.strip()]
    assert len(lines) <= 40


def test_they_run_as_modules_too() -> None:
    code, out, err = run([sys.executable, "-m", "examples.peers.socketserver_forking"])
    assert (code, out) == (2, "")
    assert re.fullmatch(r"one argument is needed[^\n]+\n", err)
