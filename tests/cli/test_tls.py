"""Certificates on the command line, for those who serve and those who ask."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe import Client
from echoframe.cli import main
from echoframe.testing import Running, running

from ..certificates import Certificates
from .programs import PATIENCE, run, serving, surroundings

PLACE = "tls://127.0.0.1:0"


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Running]:
    with running("command", "thread", "tls", **certificates.settings) as up:
        yield up


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flags", "variables", "file"])
def test_a_server_finds_its_certificate(
    how: str, certificates: Certificates, tmp_path: Path
) -> None:
    words = {"tls_cert": str(certificates.cert), "tls_key": str(certificates.key)}
    flags: list[str] = []
    variables: dict[str, str] = {}
    if how == "flags":
        flags = ["--tls-cert", words["tls_cert"], "--tls-key", words["tls_key"]]
    elif how == "variables":
        variables = {f"ECHOFRAME_{name.upper()}": path for name, path in words.items()}
    else:
        file = tmp_path / "serve.toml"
        file.write_text("".join(f'{name} = "{path}"\n' for name, path in words.items()))
        flags = ["--config", str(file)]
    with serving("--bind", PLACE, *flags, env=surroundings(**variables)) as up:
        up.until(f"Listening on {up.address}\n")
        with Client(up.address, "echo", tls=certificates.ca) as client:
            assert client.ask("hello") == b"hello"
        assert up.stop()[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_how_to_try_it_works(certificates: Certificates) -> None:
    flags = ["--tls-cert", str(certificates.cert), "--tls-key", str(certificates.key)]
    with serving("command", "--bind", PLACE, *flags) as up:
        hint = f"openssl s_client -quiet -connect {up.address.name}"
        up.until(f"Try it: {hint}\n")
        done = subprocess.run(
            hint.split(), input=b"close\n", capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.stdout == b"closed\n"
    with serving("--framing", "length", "--bind", PLACE, *flags) as up:
        up.until(f"echoframe send --framing 'length' --tls-insecure {up.address} hello\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bind", PLACE], "a tls:// address needs a certificate: name its file in --tls-cert"),
        (["--bind", PLACE, "--tls-cert", "/nowhere"], "--tls-cert='/nowhere' cannot be read: No"),
        (["--port", "0", "--tls-cert", "x"], "--tls-cert is for addresses that begin with tls://"),
        (
            ["--port", "0", "--tls-require-client-cert"],
            "--tls-require-client-cert is for addresses",
        ),
    ],
)
def test_what_a_server_cannot_use_is_a_sentence_and_usage(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"echoframe: {sentence}")
    assert error.count("\n") == 1


def test_what_is_wrong_has_the_name_under_which_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('tls_cert = "/nowhere"\n')
    assert main(["serve", "--bind", PLACE, "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"echoframe: {file}: tls_cert='/nowhere' cannot be read: No such")
    monkeypatch.setenv("ECHOFRAME_TLS_CERT", "/neither")
    assert main(["serve", "--bind", PLACE, "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("echoframe: ECHOFRAME_TLS_CERT='/neither' cannot be read: No such")


def test_a_switch_takes_true_or_false() -> None:
    done = run(
        "serve", "--port", "0", env=surroundings(ECHOFRAME_TLS_REQUIRE_CLIENT_CERT="perhaps")
    )
    assert done.returncode == 2
    assert b"ECHOFRAME_TLS_REQUIRE_CLIENT_CERT: takes true or false, not 'perhaps'" in done.stderr


@pytest.mark.parametrize("trust", ["--tls-ca", "--tls-insecure"])
def test_send_and_connect_over_tls(
    trust: str, server: Running, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [trust, str(certificates.ca)] if trust == "--tls-ca" else [trust]
    assert main(["send", *words, str(server.address), "hello", "close"]) == 0
    assert capsys.readouterr().out == "accepted\nclosed\n"
    done = run("connect", *words, str(server.address), input=b"hello\nclose\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Received: accepted\nReceived: closed\n")


def test_a_megabyte_through_a_pipe(certificates: Certificates) -> None:
    data = bytes(range(256)) * 4096
    with running("echo", "thread", "tls", **certificates.settings) as up:
        done = run("send", "--tls-ca", str(certificates.ca), str(up.address), input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_certificate_for_servers_that_want_one(
    certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    me = certificates.issue("me.example")
    settings: dict[str, Any] = {"tls_ca": certificates.ca, "tls_require_client_cert": True}
    with running("echo", "thread", "tls", **certificates.settings, **settings) as up:
        words = ["send", "--tls-ca", str(certificates.ca), str(up.address), "hello"]
        assert main(words) == 1
        assert "(it wants a certificate of ours)" in capsys.readouterr().err
        assert main([*words, "--tls-cert", str(me.cert), "--tls-key", str(me.key)]) == 0
        assert capsys.readouterr().out == "hello\n"


def test_who_is_not_known_is_a_sentence(
    server: Running, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["send", "--tls-ca", str(certificates.stranger.ca), str(server.address), "hello"]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"echoframe: the certificate of {server.address} is signed by a CA that is not known "
        "here; if you trust it, name its file with --tls-ca\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--tls-ca", "x", "--tls-insecure"], "--tls-insecure verifies nobody, so --tls-ca has no"),
        (["--tls-ca", "/nowhere"], "--tls-ca='/nowhere' cannot be read: No such file"),
        (["--tls-key", "x"], "--tls-key needs --tls-cert: the"),
        (["--timeout", "-1"], "--timeout=-1.0: seconds, more than 0"),
        (["--tls-cert", "/tls_key", "--tls-key", "x"], "--tls-cert='/tls_key' cannot be read"),
    ],
)
def test_what_cannot_be_asked_for_is_usage(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *words, "tls://127.0.0.1:1", "hello"]) == 2
    assert capsys.readouterr().err.startswith(f"echoframe: {sentence}")


def test_flags_of_tls_are_for_its_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--tls-insecure", "127.0.0.1:1", "hello"]) == 2
    assert capsys.readouterr().err == (
        "echoframe: --tls-ca, --tls-insecure, --tls-cert and --tls-key are for addresses that "
        "begin with tls://, not for tcp://127.0.0.1:1\n"
    )
