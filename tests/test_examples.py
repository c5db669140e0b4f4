"""Every example runs, as its docstring says, and the tutorials' own programs get along with it.

The commands are read from the docstrings. Only the address changes on the way: a
server is given a listener at a port that the kernel chose (fd://N), so it is known
where it is, and whoever comes early waits in the backlog.
"""

from __future__ import annotations

import ast
import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoframe import MODELS, Client

from .cli.programs import PATIENCE, ROOT, Reader, surroundings

# Nearly every test starts two programs.
pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples"
EXAMPLES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")

# The addresses that docstrings name, in every way in which commands do.
PLACE = re.compile(r"(--port |(udp|unix|tcp)://)?((127\.0\.0\.1|localhost):)?\b\d{4,5}\b|unix:\S+")


def tree_of(name: str) -> ast.Module:
    return ast.parse((FOLDER / f"{name}.py").read_text())


def with_text(text: str) -> list[str]:
    return [name for name in EXAMPLES if text in (FOLDER / f"{name}.py").read_text()]


SERVERS = with_text("server.run()")
CLIENTS = with_text("echoframe.Client(")


def docstring(name: str) -> str:
    return ast.get_docstring(tree_of(name)) or ""


def commands(name: str) -> list[str]:
    """The commands in an example's docstring, in order."""
    return re.findall(r"^    (\S.*)$", docstring(name), re.MULTILINE)


def words_of(command: str, place: str | None) -> list[str]:
    """A command as it is run here, at this place instead of the one it names."""
    words = shlex.split(command)
    if place is not None:
        moved, found = PLACE.subn(place, command)
        if words[:4] == ["python3", "-m", "echoframe", "serve"]:
            moved = PLACE.sub("", command) + f" --bind {place}"
        elif not found:
            moved = f"{command} {place}"
        words = shlex.split(moved)
    assert words[:2] == ["python3", "-m"]
    return [sys.executable, "-W", "error", *words[1:]]


class Program:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # both are pipes
        assert process.stderr is not None
        self.process = process
        self.out = Reader(process.stdout.fileno())
        self.err = Reader(process.stderr.fileno())

    def ends(self) -> tuple[int, str, str]:
        """Wait: its exit code, and all that it said on both streams."""
        out, err = self.out.rest(), self.err.rest()
        return self.process.wait(PATIENCE), out, err

    def stop(self) -> tuple[int, str, str]:
        """Press Ctrl-C, and wait."""
        self.process.send_signal(signal.SIGINT)
        return self.ends()


@contextlib.contextmanager
def running(words: list[str], typed: str = "", listener: int | None = None) -> Iterator[Program]:
    process = subprocess.Popen(
        words,
        # A bare clone: echoframe is found because this is the folder.
        cwd=ROOT,
        env=surroundings(PYTHONPATH=os.environ.get("PYTHONPATH", "")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[] if listener is None else [listener],
    )
    try:
        assert process.stdin is not None  # a pipe
        process.stdin.write(typed.encode())
        process.stdin.close()
        yield Program(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # pipes
            stream.close()


def run(words: list[str], typed: str = "") -> tuple[int, str, str]:
    with running(words, typed) as program:
        return program.ends()


@contextlib.contextmanager
def serving(command: str, kind: int = socket.SOCK_STREAM) -> Iterator[tuple[Program, int]]:
    """Run a server's command; gives it and the port at which it is."""
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        port: int = listener.getsockname()[1]
        number = listener.fileno()
        with running(words_of(command, f"fd://{number}"), listener=number) as server:
            yield server, port


def listening(port: int, scheme: str = "tcp") -> str:
    """What a server says first."""
    return f"Listening on {scheme}://127.0.0.1:{port}\n"


# ------------------------------------------------------------------- the ladder


def test_the_ladder_names_every_example_once() -> None:
    text = ast.get_docstring(ast.parse((FOLDER / "__init__.py").read_text())) or ""
    named = re.findall(r"^((?:\w+, )*\w+)  +\S", text, re.MULTILINE)
    assert sorted(", ".join(named).split(", ")) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_short_and_says_how_to_try_it(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    lines = [line for line in text.partition('"""\n\n')[2].splitlines() if line.strip()]
    assert len(lines) <= 30
    assert f"python3 -m examples.{name}" in [
        command.removeprefix("sudo ") for command in commands(name)
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_needs_the_standard_library_alone(name: str) -> None:
    used = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert used <= sys.stdlib_module_names | {"echoframe"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_own_address_is_the_one_it_tells(name: str) -> None:
    constants = [node.value for node in ast.walk(tree_of(name)) if isinstance(node, ast.Constant)]
    places = [text for text in constants if re.match(r"(tcp|udp|unix)://\S+$", str(text))]
    for place in map(str, places):
        if not place.endswith(":0"):
            assert place.removeprefix("tcp://") in docstring(name)


def test_no_two_servers_want_the_same_port() -> None:
    # 7007 is the port of `echoframe serve`, which runs beside some of them.
    places = [place for name in SERVERS for place in own_ports(name)]
    assert len(places) == len({*places, 7007}) - 1


def own_ports(name: str) -> list[int]:
    tree = next(node for node in tree_of(name).body if isinstance(node, ast.If))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = " ".join(str(value) for value in constants)
    return [int(port) for port in re.findall(r"\b\d{4,5}\b", texts)]


# ----------------------------------------------------------------- where it fails


@contextlib.contextmanager
def taken(name: str, folder: Path) -> Iterator[str]:
    """A place of the kind that this example wants, and that it cannot have."""
    if name == "unix_socket":
        family, kind, place = socket.AF_UNIX, socket.SOCK_STREAM, f"unix://{folder}/taken"
    elif name == "udp":
        family, kind, place = socket.AF_INET, socket.SOCK_DGRAM, "udp://127.0.0.1"
    else:
        family, kind, place = socket.AF_INET, socket.SOCK_STREAM, "tcp://127.0.0.1"
    with socket.socket(family, kind) as listener:
        if family == socket.AF_UNIX:
            listener.bind(place.removeprefix("unix://"))
        else:
            listener.bind(("127.0.0.1", 0))
            place += f":{listener.getsockname()[1]}"
        if kind == socket.SOCK_STREAM:
            listener.listen()
        yield place


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_whose_place_is_taken_says_so_in_a_sentence(name: str, tmp_path: Path) -> None:
    with taken(name, tmp_path) as place:
        code, out, err = run([*words_of(f"python3 -m examples.{name}", None), place])
    assert (code, out) == (1, "")
    assert re.fullmatch(rf".*{re.escape(place)} .*\n", err)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_says_in_a_sentence_that_nobody_is_there(name: str) -> None:
    # Bound and not listening: nobody else gets the port, and nobody answers there.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        place = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        said = run([*words_of(f"python3 -m examples.{name}", None), place], "hello\n")
    assert (said[0], said[2]) == (1, f"nobody listens at {place}\n")


# ----------------------------------------------------------------------- echo

# The tutorials' programs: nothing but socket, with the ports from the command line.
TUTORIAL_ECHO_CLIENT = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.connect(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"Hello, world")
    data = s.recv(1024)
    print(s.getsockname()[1])
print(f"Received {data!r}")
"""

TUTORIAL_ECHO_SERVER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.bind(("127.0.0.1", 0))
    s.listen()
    print(s.getsockname()[1], flush=True)
    conn, addr = s.accept()
    with conn:
        print("Connected by", addr)
        while True:
            data = conn.recv(1024)
            if not data:
                break
            conn.sendall(data)
"""


def script(text: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-c", text, *map(str, arguments)]


def test_echo_server_and_echo_client() -> None:
    server_command, client_command = commands("echo_server")
    assert commands("echo_client") == [server_command, client_command]
    with serving(server_command) as (server, port):
        assert run(words_of(client_command, f"127.0.0.1:{port}")) == (
            0,
            "Received b'Hello, world'\n",
            "",
        )
        code, out, err = server.stop()
    assert (code, err) == (0, "")
    assert re.fullmatch(
        r"Connected by \('127\.0\.0\.1', \d+\)\n", out.removeprefix(listening(port))
    )


def test_the_tutorials_echo_client_is_served() -> None:
    with serving(commands("echo_server")[0]) as (server, port):
        code, out, err = run(script(TUTORIAL_ECHO_CLIENT, port))
        own_port, received = out.splitlines()
        assert (code, received, err) == (0, "Received b'Hello, world'", "")
        assert server.stop() == (
            0,
            f"{listening(port)}Connected by ('127.0.0.1', {own_port})\n",
            "",
        )


def test_the_echo_client_talks_to_the_tutorials_server() -> None:
    with running(script(TUTORIAL_ECHO_SERVER)) as server:
        port = server.out.until("\n").strip()
        client = words_of(commands("echo_client")[1], f"127.0.0.1:{port}")
        assert run(client) == (0, "Received b'Hello, world'\n", "")
        code, out, err = server.ends()
        assert (code, err) == (0, "")
        assert "Connected by ('127.0.0.1', " in out


def test_ctrl_c_ends_a_server_whose_client_says_nothing() -> None:
    with (
        serving(commands("echo_server")[0]) as (server, port),
        Client(f"127.0.0.1:{port}", "echo") as silent,
    ):
        assert silent.ask(b"now it surely serves") == b"now it surely serves"
        code, _, err = server.stop()
    assert (code, err) == (0, "")


def test_wake_up_neo() -> None:
    server_command, client_command = commands("wake_up_neo")
    with serving(server_command) as (server, port):
        client = words_of(client_command, f"127.0.0.1:{port}")
        assert run(client) == (0, "Wake up, Neo\n", "")
        assert server.stop()[0] == 0


def test_where_echoframe_is_installed_they_run_as_files_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", FOLDER / "wake_up_neo.py", "127.0.0.1:70000"],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert b"port 70000 is not between 0 and 65535" in done.stderr


# --------------------------------------------------------------------- command

TUTORIAL_COMMAND_CLIENT = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.connect(("127.0.0.1", int(sys.argv[1])))
while True:
    msg = input("Enter message: ")
    client.send(msg.encode("utf-8")[:1024])
    response = client.recv(1024).decode("utf-8")
    if response.lower() == "closed":
        break
    print(f"Received: {response}")
client.close()
print("Connection to server closed")
"""

TUTORIAL_COMMAND_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", 0))
server.listen(0)
print(server.getsockname()[1], flush=True)
client_socket, client_address = server.accept()
while True:
    request = client_socket.recv(1024).decode("utf-8")
    if request.lower() == "close":
        client_socket.send("closed".encode("utf-8"))
        break
    print(f"Received: {request}")
    client_socket.send("accepted".encode("utf-8"))
client_socket.close()
print("Connection to client closed")
server.close()
"""

TYPED = "hello\nClose\n"
SHOWN = "Enter message: Received: accepted\nEnter message: Connection to server closed\n"


@pytest.mark.parametrize("whose", ["ours", "the tutorial's"])
def test_command_server(whose: str) -> None:
    server_command, client_command = commands("command_server")
    assert commands("command_client") == [server_command, client_command]
    with serving(server_command) as (server, port):
        if whose == "ours":
            client = words_of(client_command, f"127.0.0.1:{port}")
        else:
            client = script(TUTORIAL_COMMAND_CLIENT, port)
        assert run(client, TYPED) == (0, SHOWN, "")
        server.out.until("Connection to client closed\n")
        code, out, err = server.stop()
    assert (code, err) == (0, "")
    assert re.sub(r"from 127\.0\.0\.1:\d+", "from SOMEBODY", out).splitlines() == [
        f"Listening on 127.0.0.1:{port}",
        "Accepted connection from SOMEBODY",
        "Received: hello",
        "Received: Close",
        "Connection to client closed",
    ]


def test_command_client_talks_to_the_tutorials_server() -> None:
    with running(script(TUTORIAL_COMMAND_SERVER)) as server:
        port = server.out.until("\n").strip()
        client = words_of(commands("command_client")[1], f"127.0.0.1:{port}")
        assert run(client, TYPED) == (0, SHOWN, "")
        assert server.ends() == (
            0,
            f"{port}\nReceived: hello\nConnection to client closed\n",
            "",
        )


def test_command_client_ends_with_its_input_and_skips_empty_lines() -> None:
    with serving(commands("command_server")[0]) as (server, port):
        client = words_of(commands("command_client")[1], f"127.0.0.1:{port}")
        assert run(client, "\nhello\n") == (
            0,
            "Enter message: Enter message: Received: accepted\n"
            "Enter message: \nConnection to server closed\n",
            "",
        )
        server.stop()


# ------------------------------------------------------------------ own handler


def test_own_handler_counts_in_each_conversation() -> None:
    server_command, client_command, *_ = commands("own_handler")
    with serving(server_command) as (server, port):
        client = words_of(client_command, f"127.0.0.1:{port}")
        for _ in range(2):
            assert run(client) == (0, "1: one\n2: two\n3: three\n", "")
        assert server.stop() == (0, listening(port), "")


def test_own_handler_tells_the_time() -> None:
    _, _, server_command, client_command = commands("own_handler")
    with serving(server_command) as (server, port):
        code, out, err = run(words_of(client_command, f"127.0.0.1:{port}"))
        assert (code, err) == (0, "")
        assert re.fullmatch(r"accepted\n\d\d:\d\d\nclosed\n", out)
        assert server.stop()[0] == 0


def test_socketserver_handler() -> None:
    server_command, client_command = commands("socketserver_handler")
    with serving(server_command) as (server, port):
        assert run(words_of(client_command, f"127.0.0.1:{port}")) == (0, "HELLO", "")
        assert server.stop() == (0, f"{listening(port)}127.0.0.1 wrote:\nhello\n", "")


def test_web_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve_command, curl = commands("web_server")
    words = [*words_of(serve_command, None), str(port)]
    with running(words) as server:
        server.out.until("\n")
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for _ in range(2):
            client.request("GET", "/examples/web_server.py")
            assert client.getresponse().read() == (FOLDER / "web_server.py").read_bytes()
        client.close()
        code, out, _ = server.stop()
    assert (code, out) == (0, f"Listening on 127.0.0.1 {port}\n")
    assert curl.startswith("curl ")


# ------------------------------------------------------------- other transports


def test_unix_socket(tmp_path: Path) -> None:
    server_command, client_command = commands("unix_socket")
    place = f"unix://{tmp_path}/s"
    with running(words_of(server_command, place)) as server:
        # Retried: nobody can wait at a path that is not there yet.
        patient = [*words_of(client_command, place), "--retry", "9"]
        assert run(patient) == (0, "hello\n", "")
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        assert server.stop() == (0, f"Listening on {place}\n", "")
    assert not (tmp_path / "s").exists()


def test_udp() -> None:
    server_command, client_command = commands("udp")
    with serving(server_command, socket.SOCK_DGRAM) as (server, port):
        client = words_of(client_command, f"udp://127.0.0.1:{port}")
        assert run(client) == (0, "1: one\n2: two\n3: three\n", "")
        assert server.stop() == (0, listening(port, "udp"), "")


# ----------------------------------------------------------------------- models


def test_every_model_shows_who_waits_and_who_remembers() -> None:
    command, other = commands("every_model")
    code, out, err = run(words_of(command, None))
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split("   ") for line in out.splitlines()}
    assert list(rows) == list(MODELS)
    for name, model in MODELS.items():
        shown = rows[name][-1]
        if model.memory == "a copy per worker":
            # As many ones as workers that were asked.
            assert re.fullmatch("1( [1-4]){3}", shown)
        else:
            assert shown == ("1 1 1 1" if model.memory == "a copy" else "1 2 3 4")
    # Four times a tenth; what the others need is less, but only on an idle machine.
    assert float(re.findall(r"[\d.]+ s", out)[0].removesuffix(" s")) >= 0.4
    assert run(words_of(other, None))[0] == 0


def test_own_model_serves_once() -> None:
    server_command, client_command = commands("own_model")
    with serving(server_command) as (server, port):
        assert run(words_of(client_command, f"127.0.0.1:{port}")) == (0, "hello\n", "")
        assert server.ends() == (0, f"{listening(port)}served 1 conversation\n", "")


# ------------------------------------------------------------------- the kernel


@pytest.mark.skipif(sys.platform != "linux", reason="how full a backlog may be is Linux's")
def test_backlog() -> None:
    (command,) = commands("backlog")
    code, out, err = run(words_of(command, None))
    assert (code, err) == (0, "")
    assert out == (
        "Ann is connected, and has said so; nobody has accepted\n"
        "Bob is connected, and has said so; nobody has accepted\n"
        "Cid is connected, and has said so; nobody has accepted\n"
        "Dan hears nothing: the backlog is full\n"
        "Now the server accepts.\n"
        "Ann got b'Ann'\nBob got b'Bob'\nCid got b'Cid'\nDan got b'Dan, at last'\n"
    )


def may_open_raw_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


def test_icmp_echo() -> None:
    if not may_open_raw_sockets():
        pytest.skip("CAP_NET_RAW is missing: no raw sockets")
    privileged, plain = commands("icmp_echo")
    assert privileged == f"sudo {plain}"
    assert run(words_of(plain, None)) == (0, "the kernel at 127.0.0.1 says 'Hello, kernel!'\n", "")


def test_icmp_echo_without_the_capability_says_so() -> None:
    words = words_of(commands("icmp_echo")[1], None)
    if may_open_raw_sockets():
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv, so CAP_NET_RAW cannot be dropped")
        # Even root gets no more than this set when a program starts.
        words = ["setpriv", "--bounding-set", "-net_raw", "--", *words]
    sentence = "a raw socket needs CAP_NET_RAW: try it as root, or with sudo\n"
    assert run(words) == (3, "", sentence)
