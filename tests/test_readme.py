"""The README keeps its word: its programs run, its commands print what it shows, and its
tables are the code's.

A command's block begins with `$`; a server's goes on until the next server's, so that the
commands in between can reach it. Ports are the kernel's choice here, and are put back into
what is printed.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import echoframe
from echoframe import MODELS, Address, EchoframeError, ProtocolError
from echoframe.cli import COMMANDS
from echoframe.compare.workload import DEFAULTS, WORKLOADS
from echoframe.framing import FRAMINGS, make_framing
from echoframe.servers import SETTINGS, Server

from .cli import programs
from .cli.programs import PATIENCE, ROOT, Reader, serving, surroundings
from .faults.scenario import SCENARIOS
from .faults.tables import as_cell

TEXT = (ROOT / "README.md").read_text()


class Block(NamedTuple):
    """A block of the README: the line at which it stands, its language, what is in it, and
    the output that is shown right behind it."""

    line: int
    language: str
    text: str
    shown: str


def blocks(*languages: str) -> list[Block]:
    found = re.finditer(
        r"^```(\w+)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", TEXT, re.MULTILINE | re.DOTALL
    )
    return [
        Block(TEXT[: match.start()].count("\n") + 1, match[1], match[2], match[3] or "")
        for match in found
        if match[1] in languages
    ]


def rows(heading: str) -> list[list[str]]:
    """The table that begins with this line, a list of cells for each row."""
    _, found, behind = TEXT.partition(f"\n| {heading} |\n")
    assert found, f"no table begins with {heading}"
    lines = behind.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def surroundings_of_a_clone() -> dict[str, str]:
    # echoframe is found because the clone is the current folder, and for no other reason.
    return surroundings(PYTHONPATH=os.environ.get("PYTHONPATH", ""))


def run(words: list[str], typed: str = "", descriptor: int | None = None) -> str:
    """Run a program to its end; it must succeed, and say nothing on stderr."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=surroundings_of_a_clone(),
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        pass_fds=[] if descriptor is None else [descriptor],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def started(words: list[str], descriptor: int) -> Iterator[Reader]:
    """Run a server for the length of the with block; gives what it logs. It must end well."""
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=surroundings_of_a_clone(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[descriptor],
    )
    assert process.stderr is not None  # a pipe
    try:
        yield Reader(process.stderr.fileno())
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait(PATIENCE)
            process.stderr.close()
    assert code == 0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of our own, at which whoever comes before the server waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def python(text: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", text]


# --------------------------------------------------------------------- programs

PROGRAMS = blocks("python")
SERVERS = [block for block in PROGRAMS if "server.run()" in block.text]
CLIENTS = [block for block in PROGRAMS if "Client(" in block.text]
OTHERS = [block for block in PROGRAMS if block not in SERVERS + CLIENTS]


def at_line(block: Block) -> str:
    return f"line {block.line}"


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS, ids=at_line)
def test_server_and_client(client: Block, listener: socket.socket) -> None:
    (server,) = SERVERS
    written = "tcp://127.0.0.1:7000"
    here = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    assert written in server.text
    assert written in client.text
    assert client.shown
    program = python(server.text.replace(written, f"fd://{listener.fileno()}"))
    with started(program, listener.fileno()):
        assert run(python(client.text.replace(written, here))) == client.shown


@pytest.mark.parametrize("block", OTHERS, ids=at_line)
def test_a_program_prints_what_is_shown(block: Block) -> None:
    assert run(python(block.text)) == block.shown


def test_the_servers_program_has_ten_lines() -> None:
    (server,) = SERVERS
    assert len(server.text.splitlines()) <= 10


# --------------------------------------------------------------------- commands

CONSOLE = blocks("console")


class Command(NamedTuple):
    """A command, what is typed into it, what it shows, and the server it can reach."""

    line: str
    typed: str
    shown: str
    server: Command | None


def console() -> list[Command]:
    found: list[Command] = []
    server = None
    for block in CONSOLE:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            prompts = re.findall(r"^Enter message: (.*\n)", shown, re.MULTILINE)
            rest = re.sub(r"^Enter message: .*\n", "", shown, flags=re.MULTILINE)
            command = Command(line, "".join(prompts), rest, server)
            if "echoframe serve" in line:
                server = command
            found.append(command)
    return found


def words_of(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[:2] == ["python3", "-m"]
    return [sys.executable, "-W", "error", *words[1:]]


def port_in(text: str) -> str:
    return text.partition("127.0.0.1:")[2].split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("command", console(), ids=lambda command: command.line)
def test_a_command_prints_what_is_shown(command: Command, listener: socket.socket) -> None:
    server = command if "echoframe serve" in command.line else command.server
    if server is None or "127.0.0.1" not in command.line + command.shown:
        printed = run(words_of(command.line), command.typed)
        assert without_times(printed) == without_times(command.shown)
        return
    written, here = port_in(server.shown), str(listener.getsockname()[1])
    line = server.line.replace(f" --port {written}", "") + f" --bind fd://{listener.fileno()}"
    with started(words_of(line), listener.fileno()) as log:
        shown = server.shown.replace(written, here)
        assert log.until(shown.splitlines()[-1] + "\n").startswith(shown)
        if command is not server:
            words = words_of(command.line.replace(written, here))
            assert run(words, command.typed) == command.shown


@pytest.mark.slow
def test_the_file_is_one_that_serve_takes(tmp_path: Path, listener: socket.socket) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "serve.toml"
    path.write_text(block.text)
    number = listener.fileno()
    line = f"python3 -m echoframe serve --config {path} --bind fd://{number}"
    with started(words_of(line), number) as log:
        # Its own addresses are read as well, though the flag wins.
        for place in tomllib.loads(block.text)["bind"]:
            Address.parse(place)
        log.until("Listening on ")


def without_times(text: str) -> str:
    # How long something took depends on what else the machine does, and so does which of
    # two workers a connection goes to.
    text = re.sub(r"^(prefork .*   )[1-4 ]+$", r"\1?", text, flags=re.MULTILINE)
    return re.sub(r"\d\.\d s", "? s", text)


def test_the_comparison_is_one_command_and_the_tests_are_one() -> None:
    compare, *_, tests = blocks("sh")
    assert compare.text == (
        "python3 -m venv .venv && .venv/bin/pip install -q '.[all]' "
        "&& .venv/bin/echoframe compare\n"
    )
    assert tests.text == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[all,test]' "
        "&& .venv/bin/python -m pytest\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_for_trials_is_good_for_them(tmp_path: Path) -> None:
    (block,) = blocks("bash")
    make, serve, send = block.text.replace("\\\n", "").splitlines()
    subprocess.run(
        shlex.split(make), cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=True
    )
    program = ["python3", "-m", "echoframe"]
    written = "tls://127.0.0.1:7007"
    words = shlex.split(serve.replace(written, "tls://127.0.0.1:0"))
    assert words[:4] == [*program, "serve"]
    with serving(*words[4:], cwd=tmp_path) as up:
        words = shlex.split(send.replace(written, str(up.address)))
        assert words[:3] == program
        done = programs.run(*words[3:], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, world\n", b"")


# ----------------------------------------------------------------------- tables


def test_the_table_of_workloads_is_the_codes() -> None:
    ours = [[f"`{one.name}`", f"{one.connections:,}", one.what] for one in WORKLOADS.values()]
    assert [row[:3] for row in rows("workload | clients | what they do | what it shows")] == ours


def test_what_a_comparison_prints_names_every_model_and_workload() -> None:
    compare, *_ = blocks("sh")
    for name in (*MODELS, *DEFAULTS):
        assert re.search(rf"^{name}\b", compare.shown, re.MULTILINE), name
    assert "\nVerdict\n" in compare.shown


def test_the_table_of_models_is_the_codes() -> None:
    table = rows(
        "model | class | conversations at once | a handler's memory | a silent peer delays | "
        "a handler that waits delays | a handler that computes delays"
    )
    assert [row[0] for row in table] == [f"`{model}`" for model in MODELS]
    for row, model in zip(table, MODELS.values(), strict=True):
        assert row[1] == f"`{model.__name__}`"
        assert row[2] == at_once(model)
        assert row[3].partition(":")[0] == model.memory
        # The contract tests hold the servers to this.
        assert row[4] == ("everybody" if model.at_once == "1" else "nobody")


_DESCRIPTORS = "what the limit of descriptors leaves"


def at_once(model: type[Server]) -> str:
    if model.at_once != "max_connections":
        return model.at_once
    count = f"{model.max_connections:,}" if model.max_connections else _DESCRIPTORS
    return f"`max_connections` ({count})"


def default(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}".removesuffix(".0")
    return value or "none"


def test_the_table_of_settings_is_the_codes() -> None:
    ours = [
        [
            f"`{setting.name}`",
            default(setting.default),
            setting.unit,
            setting.what,
            setting.reason,
        ]
        for setting in SETTINGS.values()
    ]
    wanted = "\n".join(f"| {' | '.join(row)} |" for row in ours)
    found = rows("setting | default | unit | what | why")
    assert found == ours, f"the table should be:\n{wanted}"


def test_the_table_of_errors_is_the_codes() -> None:
    table = rows("error | is also | means")
    ours = {
        name: kind
        for name, kind in vars(echoframe).items()
        if isinstance(kind, type) and issubclass(kind, EchoframeError) and kind != EchoframeError
    }
    assert sorted(row[0].strip("`") for row in table) == sorted(ours)
    for error, also, _ in table:
        built_in = next(kind for kind in ours[error.strip("`")].__mro__ if is_built_in(kind))
        assert also == f"`{built_in.__name__}`"


def is_built_in(kind: type) -> bool:
    return kind.__module__ == "builtins"


def test_the_table_of_commands_is_the_codes() -> None:
    ours = [[f"`{name}`", what] for name, what in COMMANDS.items()]
    assert rows("command | does") == ours


def test_the_table_of_framings_names_them_all() -> None:
    named = [
        row[0].strip("`").partition(":")[0]
        for row in rows("framing | where a message ends | an unfinished one at the end of input")
    ]
    assert sorted(named) == sorted(FRAMINGS)


@pytest.mark.parametrize("name", ["raw", "line", "length", "delimiter:;", "fixed:16", "auto"])
def test_the_table_of_framings_tells_what_becomes_of_the_rest(name: str) -> None:
    table = {
        row[0].strip("`").partition(":")[0]: row[2]
        for row in rows("framing | where a message ends | an unfinished one at the end of input")
    }
    framing = make_framing(name)()
    if name == "auto":
        framing.feed(b"\n")
        assert framing.next() == b""
    framing.feed(b"ab")
    says = table[name.partition(":")[0]]
    if says == "is an error":
        assert framing.next() is None
        with pytest.raises(ProtocolError):
            framing.end()
    elif says == "there is none":
        assert (framing.next(), framing.end()) == (b"ab", None)
    else:
        assert says in ("is answered, without an end", "as in `line`")
        assert (framing.next(), framing.end(), framing.wrap(b"cd")) == (None, b"ab", b"cd")


def test_the_addresses_can_be_read() -> None:
    for row in rows("address | means"):
        for place in re.findall(r"`([^`]+)`", row[0]):
            Address.parse(ast.literal_eval(place) if place.startswith("(") else place)


def test_the_table_of_examples_is_the_ladder() -> None:
    folder = ROOT / "examples"
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    steps = re.findall(r"^((?:\w+, )*\w+)  +(\S.*)$", text, re.MULTILINE)
    ours = [[", ".join(f"`{name}`" for name in names.split(", ")), what] for names, what in steps]
    assert rows("example | shows") == ours


# ------------------------------------------------------------------ what it names


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:[\w.]+/)*\w+\.(?:py|md|toml))`", TEXT)
    assert len(named) > 20
    # Some stand without their folder behind a neighbour that has one.
    known = {file.name for file in (ROOT / "echoframe" / "transports").glob("*.py")}
    for name in named:
        assert (ROOT / "echoframe" / name).exists() or (ROOT / name).exists() or name in known, name


def test_every_link_inside_leads_somewhere() -> None:
    headings = [
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    ]
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert len(links) > 10
    assert set(links) <= set(headings)


def test_the_table_of_what_they_survive_has_a_row_for_each_scenario() -> None:
    found = [row[0] for row in rows("scenario | echoframe | socketserver")]
    assert found[-1] == "**survived**"
    assert found[:-1] == [as_cell(one.title) for one in SCENARIOS.values()]
