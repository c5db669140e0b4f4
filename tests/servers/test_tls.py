"""What every model owes over tls://, to peers that know nothing of echoframe."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from echoframe.errors import SettingError
from echoframe.handlers import Answer, Handler, Reply
from echoframe.servers import MODELS, ThreadServer
from echoframe.testing import Running, running

from ..certificates import Certificates, Pair
from ..helpers import (
    DEADLINE,
    Log,
    Notes,
    Served,
    ask,
    echo,
    eventually,
    noting,
    raw_connection,
    read_line,
    read_to_end,
    served,
)

every_model = pytest.mark.parametrize("model", MODELS)
with_handler_classes = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].runs_handler_classes]
)
every_model_at_once = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].at_once != "1"]
)


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def secure(
    up: Running | Served, certificates: Certificates, pair: Pair | None = None, **limits: Any
) -> ssl.SSLSocket:
    """Give the standard library's socket, for which an end that is not announced is an error."""
    context = certificates.client_context(pair)
    for name, value in limits.items():
        setattr(context, name, value)
    return context.wrap_socket(
        raw_connection(up), server_hostname="localhost", suppress_ragged_eofs=False
    )


# ---------------------------------------------------------------------- talking


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@every_model
def test_messages_are_answered_and_the_end_is_announced(
    model: str, version: ssl.TLSVersion, certificates: Certificates, notes: Notes
) -> None:
    with running(noting(notes), model, "tls", **certificates.settings) as up:
        with secure(up, certificates, maximum_version=version) as peer:
            assert ask(peer, b"one") == b"one"
            peer.sendall(b"two\nthr")
            assert read_line(peer) == b"two\n"
            peer.sendall(b"ee\n")
            assert read_line(peer) == b"three\n"
            # It waits for the server to announce its end as well.
            with peer.unwrap() as plain:
                assert plain.recv(1) == b""
        assert notes.take(2) == ["open", "close peer"]


@every_model
def test_a_megabyte_that_nobody_reads_in_between(model: str, certificates: Certificates) -> None:
    data = bytes(range(256)) * 4096
    with (
        running("echo", model, "tls", **certificates.settings) as up,
        up.client("echo", tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        assert client.ask(data) == data
        client.send(b"rest")
        client.half_close()
        assert b"".join(client) == b"rest"


@every_model
def test_an_announced_end_of_input_ends_an_unfinished_message(
    model: str, certificates: Certificates
) -> None:
    with (
        running(echo, model, "tls", **certificates.settings) as up,
        up.client(framing="raw", tls=certificates.ca) as client,
    ):
        client.send(b"unfinished")
        client.half_close()
        assert b"".join(client) == b"unfinished"


@every_model
def test_an_end_that_nobody_announced_is_a_lost_peer_and_no_end_of_input(
    model: str, certificates: Certificates, notes: Notes, log: Log
) -> None:
    # Whoever can cut the line could otherwise make `pay 1` of `pay 10`.
    with running(noting(notes), model, "tls", **certificates.settings) as up:
        with secure(up, certificates) as peer:
            assert ask(peer, b"whole") == b"whole"
            peer.sendall(b"unfini")
            socket.socket.shutdown(peer, socket.SHUT_WR)
            # The server's OpenSSL complains about it, too.
            with pytest.raises(ssl.SSLError):
                read_to_end(peer)
        assert notes.take(2) == ["open", "close lost"]
    assert log.tracebacks == 0


@every_model
def test_the_last_reply_arrives_and_so_does_the_end(model: str, certificates: Certificates) -> None:
    def leave(message: bytes) -> Reply:
        return Reply(b"bye", close=True)

    with (
        running(leave, model, "tls", **certificates.settings) as up,
        secure(up, certificates) as peer,
    ):
        # What comes too late must not make the kernel throw the reply away.
        peer.sendall(b"go\n" + b"x" * 100_000)
        assert read_to_end(peer) == b"bye\n"


class Page(socketserver.StreamRequestHandler):
    """As much of a web server as curl needs."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"page\n" * 50_000)


@with_handler_classes
def test_a_socketserver_handler_needs_to_know_nothing_of_it(
    model: str, certificates: Certificates
) -> None:
    with running(Page, model, "tls", **certificates.settings) as up:
        for _ in range(2):
            with secure(up, certificates) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert read_to_end(peer).endswith(b"\r\n\r\n" + b"page\n" * 50_000)


@needs("curl")
@with_handler_classes
def test_curl(model: str, certificates: Certificates) -> None:
    with running(Page, model, "tls", **certificates.settings) as up:
        done = subprocess.run(
            [
                *("curl", "-sS", "--noproxy", "*", "--cacert", str(certificates.ca)),
                *("--resolve", f"localhost:{up.address.port}:127.0.0.1"),
                f"https://localhost:{up.address.port}/",
            ],
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"page\n" * 50_000


@needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@every_model
def test_openssl(model: str, version: str, certificates: Certificates) -> None:
    with running("command", model, "tls", **certificates.settings) as up:
        done = subprocess.run(
            [
                *("openssl", "s_client", "-quiet", "-verify_return_error", version),
                *("-CAfile", str(certificates.ca), "-verify_hostname", "localhost"),
                *("-connect", up.address.name),
            ],
            input=b"hello\nclose\n",
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"accepted\nclosed\n")


# -------------------------------------------------------------------- handshakes


@every_model
def test_a_plain_peer_costs_a_line_in_the_log(
    model: str, certificates: Certificates, notes: Notes, log: Log
) -> None:
    with running(noting(notes), model, "tls", **certificates.settings) as up:
        with raw_connection(up) as peer:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                assert peer.recv(1) == b""
            except ConnectionResetError:
                # Not all of it was read.
                pass
        log.expect("INFO no handshake: the peer does not speak TLS")
        with secure(up, certificates) as peer:
            assert ask(peer, b"still there?") == b"still there?"
        # No handler was told of the first.
        assert notes.take(1) == ["open"]
    assert log.tracebacks == 0


class Lines(socketserver.StreamRequestHandler):
    """Echo, written without echoframe."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.mark.long
@pytest.mark.parametrize("handler", [echo, Lines])
@every_model
def test_who_does_not_shake_hands_is_not_waited_for_longer_than_allowed(
    model: str, handler: Any, certificates: Certificates, log: Log
) -> None:
    if handler is Lines and not MODELS[model].runs_handler_classes:
        pytest.skip("this model has no handler classes")
    settings = {**certificates.settings, "handshake_timeout": 0.05}
    with running(handler, model, "tls", **settings) as up:
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
        log.expect("INFO no handshake: the peer did not shake hands in time")
        with secure(up, certificates) as peer:
            assert ask(peer, b"one") == b"one"
    assert log.tracebacks == 0


# More of them than a pool has threads.
@pytest.mark.long
@pytest.mark.parametrize("handler", [echo, Lines])
@every_model_at_once
def test_silent_peers_delay_nobody(model: str, handler: Any, certificates: Certificates) -> None:
    if handler is Lines and not MODELS[model].runs_handler_classes:
        pytest.skip("this model has no handler classes")
    settings = {"pool": {"threads": 2}, "prefork": {"threads": 2, "workers": 1}}.get(model, {})
    with (
        running(handler, model, "tls", **certificates.settings, **settings) as up,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(6):
            stack.enter_context(raw_connection(up))
            half = stack.enter_context(raw_connection(up))
            half.sendall(b"\x16\x03\x01")
        for _ in range(3):
            with secure(up, certificates) as peer:
                assert ask(peer, b"one") == b"one"


def test_on_single_a_silent_peer_delays_by_the_time_for_a_handshake(
    certificates: Certificates,
) -> None:
    with (
        running(echo, "single", "tls", **certificates.settings, handshake_timeout=0.3) as up,
        raw_connection(up) as silent,
        secure(up, certificates) as peer,
    ):
        assert ask(peer, b"one") == b"one"
        # It was not waited for any longer.
        assert read_to_end(silent) == b""


@every_model
def test_a_silent_peer_does_not_delay_a_stop(model: str, certificates: Certificates) -> None:
    with running(echo, model, "tls", **certificates.settings, drain_timeout=DEADLINE) as up:
        peer = raw_connection(up)
        peer.sendall(b"\x16")
    with peer:
        assert up.report is not None
        assert up.report.seconds < DEADLINE / 2


@every_model
def test_a_stop_ends_idle_connections_and_announces_it(
    model: str, certificates: Certificates, notes: Notes
) -> None:
    with running(noting(notes), model, "tls", **certificates.settings) as up:
        peer = secure(up, certificates)
        assert ask(peer, b"one") == b"one"
    with peer:
        assert read_to_end(peer) == b""
    assert notes.take(2) == ["open", "close drain"]


@with_handler_classes
def test_a_handler_class_is_not_troubled_by_an_end_that_nobody_announced(
    model: str, certificates: Certificates, log: Log
) -> None:
    with (
        running(Lines, model, "tls", **certificates.settings) as up,
        secure(up, certificates) as peer,
    ):
        assert ask(peer, b"one") == b"one"
        socket.socket.shutdown(peer, socket.SHUT_WR)
        assert read_to_end(peer) == b""
    assert log.tracebacks == 0


@pytest.mark.slow
@with_handler_classes
def test_a_stop_ends_a_handler_class_in_peace(
    model: str, certificates: Certificates, log: Log
) -> None:
    with running(Page, model, "tls", **certificates.settings) as up:
        peer = secure(up, certificates)
        peer.sendall(b"GET / HTTP/1.0\r\n")
    with peer:
        assert read_to_end(peer).endswith(b"page\n")
    assert log.tracebacks == 0


# ------------------------------------------------------------- who the peer is


class Telling(Handler):
    """Say what is known of the encryption."""

    def on_open(self) -> Answer:
        facts = self.peer.tls
        assert facts is not None
        names = facts.certificate and facts.certificate["subjectAltName"]
        return f"{self.peer.transport} {facts.version} {facts.server_name} {names}"

    def on_message(self, message: bytes) -> Answer:
        return message


@every_model
def test_a_handler_knows_the_facts(model: str, certificates: Certificates) -> None:
    me = certificates.issue("me.example")
    settings = {**certificates.settings, "tls_ca": certificates.ca}
    with running(Telling, model, "tls", **settings) as up:
        with secure(up, certificates) as peer:
            assert read_line(peer) == b"tls TLSv1.3 localhost None\n"
        with secure(up, certificates, me) as peer:
            line = read_line(peer)
            assert line == b"tls TLSv1.3 localhost (('DNS', 'me.example'),)\n"


def test_without_encryption_there_are_no_facts() -> None:
    class Plain(Handler):
        def on_open(self) -> Answer:
            return str(self.peer.tls)

        def on_message(self, message: bytes) -> Answer:
            return message

    for transport in ("tcp", "unix"):
        with running(Plain, "thread", transport) as up, raw_connection(up) as peer:
            assert read_line(peer) == b"None\n"


@every_model
def test_a_certificate_can_be_demanded_of_peers(
    model: str, certificates: Certificates, log: Log
) -> None:
    settings = {
        **certificates.settings,
        "tls_ca": certificates.ca,
        "tls_require_client_cert": True,
    }
    # asyncio hangs up without a word.
    silent = MODELS[model].encrypted_by_others
    with running(echo, model, "tls", **settings) as up:
        with (
            secure(up, certificates) as peer,
            pytest.raises(OSError, match=None if silent else "certificate required"),
        ):
            peer.recv(1)
        log.expect("INFO no handshake: the peer showed no certificate")
        stranger = certificates.stranger.issue("me.example")
        with (
            secure(up, certificates, stranger) as peer,
            pytest.raises(OSError, match=None if silent else "unknown ca"),
        ):
            peer.recv(1)
        log.expect("INFO no handshake: the certificate of the peer is signed by a CA that is not")
        with secure(up, certificates, certificates.issue("me.example")) as peer:
            assert ask(peer, b"one") == b"one"
    assert log.tracebacks == 0


# --------------------------------------------------------------- what it is told


def test_a_ready_context_is_used(certificates: Certificates) -> None:
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(Telling, "thread", "tls", tls=context) as up, secure(up, certificates) as peer:
        assert read_line(peer).startswith(b"tls TLSv1.2 ")


def test_a_class_may_say_it(certificates: Certificates) -> None:
    class Ours(ThreadServer):
        tls_cert = certificates.cert
        tls_key = certificates.key

    with running(echo, Ours, "tls") as up, secure(up, certificates) as peer:
        assert ask(peer, b"one") == b"one"


def test_a_server_may_be_encrypted_here_and_plain_there(certificates: Certificates) -> None:
    places = ["tls://127.0.0.1:0", "tcp://127.0.0.1:0"]
    with ThreadServer(places, echo, **certificates.settings) as server:
        assert [place.scheme for place in server.addresses] == ["tls", "tcp"]
        assert [bool(listener.tls) for listener in server.listeners] == [True, False]


@pytest.mark.parametrize(
    ("place", "settings", "sentence"),
    [
        ("tls://127.0.0.1:0", {}, "a tls:// address needs a certificate"),
        ("tcp://127.0.0.1:0", {"tls_cert": "x"}, "tls_cert is for addresses that begin with tls"),
        ("unix:///x", {"tls_require_client_cert": True}, "tls_require_client_cert is for addres"),
        ("udp://127.0.0.1:0", {"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "tls is for add"),
    ],
)
def test_what_cannot_be_is_a_sentence(place: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        ThreadServer(place, echo, **settings)


def test_a_misspelt_keyword_finds_its_word() -> None:
    with pytest.raises(TypeError, match="unknown setting 'tls_certs'; did you mean 'tls_cert'"):
        ThreadServer("tls://127.0.0.1:0", echo, tls_certs="x")


# ------------------------------------------------------------------------ reload


def replace(certificates: Certificates, folder: Path, pair: Pair) -> dict[str, Any]:
    """Put a pair where the server looks for it."""
    shutil.copy(pair.cert, folder / "cert.pem")
    shutil.copy(pair.key, folder / "key.pem")
    return {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}


def serial(peer: ssl.SSLSocket) -> Any:
    found = peer.getpeercert()
    assert found is not None
    return found["serialNumber"]


def test_reload_is_for_the_connections_that_come(
    certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    settings = replace(certificates, tmp_path, certificates.issue("localhost"))
    with running(echo, "thread", "tls", **settings) as up:
        assert up.server is not None
        with secure(up, certificates) as before:
            replace(certificates, tmp_path, certificates.issue("localhost"))
            assert up.server.reload()
            log.expect(f"INFO Certificates of {up.address} were read anew")
            with secure(up, certificates) as behind:
                assert serial(behind) != serial(before)
                assert ask(behind, b"new") == b"new"
            assert ask(before, b"old") == b"old"


@every_model
def test_sighup_reads_certificates_anew_and_drops_nobody(
    model: str, certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    settings = replace(certificates, tmp_path, certificates.issue("localhost"))
    with (
        served(MODELS[model], echo, "tls://127.0.0.1:0", alone=True, **settings) as up,
        contextlib.ExitStack() as stack,
    ):
        before = stack.enter_context(secure(up, certificates))
        assert ask(before, b"old") == b"old"
        old = serial(before)
        if MODELS[model].at_once == "1":
            before.close()
        replace(certificates, tmp_path, certificates.issue("localhost"))
        os.kill(up.pid, signal.SIGHUP)
        log.expect("INFO Certificates of tls://127.0.0.1:")

        def renewed() -> bool:
            with secure(up, certificates) as behind:
                assert ask(behind, b"new") == b"new"
                return bool(serial(behind) != old)

        # On prefork it is done when the workers have been replaced.
        eventually(renewed)
        if MODELS[model].at_once != "1" and model != "prefork":
            assert ask(before, b"still here") == b"still here"
    assert log.tracebacks == 0


def test_a_reload_that_fails_changes_nothing(
    certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    settings = replace(certificates, tmp_path, certificates.issue("localhost"))
    with running(echo, "thread", "tls", **settings) as up:
        assert up.server is not None
        shutil.copy(certificates.key, tmp_path / "key.pem")
        assert up.server.reload() is False
        log.expect("ERROR everything stays as it was: the key in tls_key='")
        with secure(up, certificates) as peer:
            assert ask(peer, b"one") == b"one"
    assert log.tracebacks == 0


def test_where_there_are_no_certificates_a_reload_has_nothing_to_do() -> None:
    with ThreadServer("tcp://127.0.0.1:0", echo) as server:
        assert server.reload()
