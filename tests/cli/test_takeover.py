"""echoframe serve --takeover: the next program of this user takes the listeners over."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from echoframe.cli import main

from .programs import PATIENCE, echoes, refused, run, serving, surroundings

# prefork tells where it is when its workers have been forked already.
models = pytest.mark.parametrize("model", ["thread", "prefork"])


@models
def test_the_next_one_takes_over_and_the_old_one_ends_with_0(model: str, tmp_path: Path) -> None:
    path, port = str(tmp_path / "x"), tmp_path / "port"
    words = ["--takeover", path, "--port-file", str(port), "--model", model]
    with serving(*words) as old, serving(*words) as new:
        # Who knows where the new one is finds the old one gone, or about to go.
        assert old.end()[0] == 0
        assert new.addresses == old.addresses
        assert port.read_text() == f"{new.address.port}\n"
        with new.connect() as peer:
            assert echoes(peer)
        # Whoever is told that a server is ready can take over from it.
        with serving(*words) as newest:
            new.until(f"Process {newest.process.pid} has taken over\n")
            newest.until(f"Took over from process {new.process.pid}\n")
            assert new.end()[0] == 0
            assert newest.stop()[0] == 0
    assert list(tmp_path.iterdir()) == []
    assert refused(old.address)


def test_a_next_one_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    path, port = str(tmp_path / "x"), tmp_path / "port"
    words = ["--takeover", path, "--port-file", str(port)]
    with serving(*words) as old, socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", *words, "--bind", place)
        assert done.returncode == 3
        assert done.stderr.decode().startswith(f"echoframe: tcp://{place} is in use")
        assert port.read_text() == f"{old.address.port}\n"
        with old.connect() as peer:
            assert echoes(peer)
        assert old.stop()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_once_is_over_after_a_takeover_too(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    words = ["--takeover", path, "--model", "single", "--once"]
    with serving(*words) as old, serving(*words) as new:
        assert old.end()[0] == 0
        with new.connect() as peer:
            assert echoes(peer)
        assert new.end()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_path_as_a_variable_and_in_the_file(tmp_path: Path) -> None:
    path, config = tmp_path / "x", tmp_path / "echo.toml"
    config.write_text(f'takeover = "{path}"\n')
    with (
        serving("--config", str(config)) as old,
        serving(env=surroundings(ECHOFRAME_TAKEOVER=f"unix://{path}")) as new,
    ):
        assert old.end()[0] == 0
        assert new.stop()[0] == 0
    assert old.process.wait(PATIENCE) == 0


def test_a_path_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for name, code, sentence in (
        ("x" * 200, 2, "--takeover: takes a path of no more than 98 bytes, not "),
        ("no/x", 3, f"cannot offer listeners at {tmp_path}/no/x: its folder is not there; "),
        ("file", 3, f"cannot take over at {tmp_path}/file: that is a file that is no socket; "),
    ):
        assert main(["serve", "--port", "0", "--takeover", str(tmp_path / name)]) == code
        err = capsys.readouterr().err
        assert err.startswith(f"echoframe: {sentence}")
        assert err.count("\n") == 1
