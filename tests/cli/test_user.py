"""--user and --group: who serves is not who started it."""

from __future__ import annotations

import ast
import contextlib
import grp
import importlib
import io
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import echoframe
from echoframe import Address, Client
from echoframe.cli import main
from echoframe.errors import SettingError
from echoframe.servers import MODELS, privileges

from ..certificates import Certificates
from ..helpers import Child, Notes, ask, forked, raw_connection
from .programs import Reader, serving

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def _somebody() -> Any:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return None


NOBODY = _somebody()
needs_nobody = pytest.mark.skipif(NOBODY is None, reason="this machine has no user nobody")


class There:
    def __init__(self, text: str) -> None:
        self.addresses = [Address.parse(line) for line in text.split()]


def who(message: bytes) -> str:
    """What this process is, and the one that started it."""
    parent = Path(f"/proc/{os.getppid()}/status").read_text()
    theirs = next(line.split()[1:] for line in parent.splitlines() if line.startswith("Uid"))
    mine = [*os.getresuid(), *os.getresgid()]
    return repr((mine, sorted(os.getgroups()), sorted(set(theirs))))


@needs_root
@needs_nobody
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process is")
@pytest.mark.parametrize("model", MODELS)
def test_whoever_serves_is_the_user(model: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "socket"
    read, write = os.pipe()

    def work(told: Notes) -> None:
        # This process, which the server's own processes have for a parent, is root's before.
        os.setgroups([0, 1, 2])
        echoframe.handler("who")(who)
        words = ["-m", model, "--bind", "127.0.0.1:0", "--bind", f"unix://{path}"]
        words += ["--user", "nobody", "--ready-fd", str(write), "-q"]
        assert main(["serve", "who", *words]) == 0

    with forked(work) as child:
        os.close(write)
        up = There(Reader(read).rest())
        os.close(read)
        for at in (0, 1):
            with raw_connection(up, at) as peer:
                ids, groups, theirs = ast.literal_eval(ask(peer, b"?").decode())
                assert ids == [NOBODY.pw_uid] * 3 + [NOBODY.pw_gid] * 3
                assert groups == sorted(os.getgrouplist("nobody", NOBODY.pw_gid))
                # On the models with processes it is the one that accepts, or looks after them.
                forks = MODELS[model].forks
                assert theirs == [str(NOBODY.pw_uid) if forks else "0"]
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert found.st_mode & 0o007 == 0
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


@needs_root
@needs_nobody
def test_a_group_of_its_own_and_no_way_back() -> None:
    def work(told: Notes) -> None:
        privileges.identity("nobody", "1").assume()
        told.write(os.getresgid(), os.getgroups())
        for call in (os.setuid, os.setgid, os.seteuid):
            with pytest.raises(PermissionError):
                call(0)
        told.write("stays")

    with forked(work) as child:
        assert child.notes.next().startswith("(1, 1, 1) [1")
        assert child.notes.next() == "stays"
        assert child.wait() == 0


@needs_root
@needs_nobody
def test_a_key_that_only_root_can_read_is_said_at_the_next_reload(
    certificates: Certificates,
) -> None:
    certificates.key.chmod(0o600)
    words = ["--tls-cert", str(certificates.cert), "--tls-key", str(certificates.key)]
    words += ["-m", "prefork", "-w", "1", "--user", "nobody"]
    with serving("--bind", "tls://127.0.0.1:0", *words) as up:
        up.until("Serving as user nobody")
        with Client(up.address, "echo", tls=certificates.ca) as client:
            # From here on it hears signals.
            assert client.ask("hello") == b"hello"
        up.signal(signal.SIGHUP)
        said = up.until("root could read it")
        assert "everything stays as it was: tls_" in said
        assert "cannot be read: Permission denied (for nobody, the user that this server" in said
        with Client(up.address, "echo", tls=certificates.ca) as client:
            assert client.ask("hello") == b"hello"
        assert up.stop()[0] == 0


@needs_root
@needs_nobody
def test_the_users_own_next_one_takes_over_what_root_has_started(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    inside = os.open(folder, os.O_RDONLY)
    words = ["serve", "--port", "0", "--takeover", "x", "--port-file", "port", "-q", "--ready-fd"]

    @contextlib.contextmanager
    def program(*more: str) -> Iterator[tuple[Child, str]]:
        read, write = os.pipe()

        def work(told: Notes) -> None:
            # What is above it is not everybody's to pass.
            os.fchdir(inside)
            if not more:
                privileges.identity("nobody").assume()
            assert main([*words, str(write), *more]) == 0

        with forked(work) as child:
            os.close(write)
            place = Reader(read).rest()
            os.close(read)
            yield child, place

    # Loaded while it can be: that user may be unable to read where Python is.
    importlib.import_module("echoframe.cli.serve")
    assert MODELS["thread"]
    try:
        with program("--user", "nobody") as (old, place):
            assert place
            assert {one.owner() for one in folder.iterdir()} == {"nobody"}
            with program() as (new, same):
                assert same == place
                assert old.wait() == 0
                assert sorted(one.name for one in folder.iterdir()) == ["port", "x"]
                os.kill(new.pid, signal.SIGTERM)
                assert new.wait() == 0
    finally:
        os.close(inside)
    assert list(folder.iterdir()) == []


@needs_root
@needs_nobody
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--takeover", "cannot offer listeners at {}: user nobody cannot write to its folder; "),
        ("--port-file", "cannot write the port to {}: Permission denied for user nobody; "),
    ],
)
def test_a_folder_that_is_roots_alone_is_noticed_before_it_serves(
    flag: str, said: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "x")

    def work(told: Notes) -> None:
        sys.stderr = io.StringIO()
        assert main(["serve", "--port", "0", "--user", "nobody", flag, path]) == 3
        told.write(sys.stderr.getvalue().rstrip("\n"))
        # It has been that user for a moment, and is root again.
        told.write(os.getresuid(), os.getresgid(), os.getgroups() == groups)

    groups = os.getgroups()
    with forked(work) as child:
        assert child.notes.next().startswith(f"echoframe: {said.format(path)}")
        assert child.notes.next() == "(0, 0, 0) (0, 0, 0) True"
        assert child.wait() == 0
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["--user", "no such one"],
            2,
            "--user: takes a name or a number, and no user is named 'no",
        ),
        (["--user", "a:b"], 2, "no user is named 'a:b'; --group is for the group"),
        (["--user", "root", "--group", "no such one"], 2, "--group: takes a name or a number, and"),
        (
            ["--user", "4294967295"],
            2,
            "--user: takes a name or a number, and no user is named '42949",
        ),
        (["--user", "-1"], 2, "--user"),
        (["--group", "0"], 2, "--group is the group of --user, which is not given; add --user"),
        (["--user", "123456789"], 2, "user 123456789 has no name on this machine, and so no group"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *words]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_who_is_not_root_cannot_become_anybody() -> None:
    def work(told: Notes) -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        os.environ["ECHOFRAME_USER"] = "0"
        sys.stderr = io.StringIO()
        # Noticed before the handler's module is imported, which there is none of.
        assert main(["serve", "nosuch:echo", "--port", "0"]) == 3
        told.write(sys.stderr.getvalue())

    with forked(work) as child:
        assert child.notes.next() == (
            "echoframe: cannot become user root: only root can become somebody else; "
            "start it as root, or leave the user and the group out"
        )
        assert child.wait() == 0


def test_names_and_numbers_are_looked_up() -> None:
    root = pwd.getpwuid(0)
    found = privileges.identity("0")
    assert (found.name, found.uid, found.gid) == (root.pw_name, 0, root.pw_gid)
    assert privileges.identity(root.pw_name) == found
    name = grp.getgrgid(root.pw_gid).gr_name
    assert privileges.identity(root.pw_name, name).gid == root.pw_gid
    assert privileges.identity("123456789", "5") == ("123456789", 123456789, 5, (5,))
    with pytest.raises(SettingError, match="none is 'x y'"):
        privileges.identity("0", "x y")
