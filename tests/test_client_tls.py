"""What a client promises over tls://, to peers that know nothing of echoframe."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.address import Address
from echoframe.client import Client
from echoframe.errors import (
    ConnectError,
    ConnectionEnded,
    EchoframeError,
    RefusedError,
    SettingError,
    TimedOut,
    TlsError,
)
from echoframe.testing import running

from .certificates import Certificates, Pair
from .helpers import nothing_left_behind
from .test_client import DEADLINE, SHORT, Talk, echo, lines, listening, mute, unused_port


@pytest.fixture(autouse=True)
def tidy(certificates: Certificates) -> Iterator[None]:
    with nothing_left_behind():
        yield


def over_tls(talk: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext) -> Talk:
    """The standard library's server side; a handshake that fails is the client's affair."""

    def shake_and_talk(sock: socket.socket) -> None:
        try:
            with context.wrap_socket(
                sock.dup(), server_side=True, suppress_ragged_eofs=False
            ) as peer:
                talk(peer)
                peer.unwrap().close()
        except (ssl.SSLError, TimeoutError):
            pass

    return shake_and_talk


@contextlib.contextmanager
def secure_listening(
    talk: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext, times: int = 1
) -> Iterator[str]:
    """A foreign peer over TLS; gives its address."""
    with listening(over_tls(talk, context), times=times) as place:
        yield place.replace("tcp://", "tls://")


def nothing(sock: ssl.SSLSocket) -> None:
    """Say nothing and leave."""


# ---------------------------------------------------------------------- talking


def test_everything_of_a_client_works(certificates: Certificates) -> None:
    with (
        secure_listening(lines, certificates.server_context()) as place,
        Client(place, tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        assert client.ask("one") == b"ONE"
        client.send("two")
        assert client.receive() == b"TWO"
        many = [f"number {number}" for number in range(3000)]
        assert list(client.pipeline(many)) == [text.upper().encode() for text in many]
        client.send("last")
        client.half_close()
        assert list(client) == [b"LAST"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_megabyte_is_read_while_it_is_sent(
    version: ssl.TLSVersion, certificates: Certificates
) -> None:
    context = certificates.server_context()
    context.maximum_version = version
    data = bytes(range(256)) * 4096
    with (
        secure_listening(echo, context) as place,
        Client(place, "echo", tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        assert client.ask(data) == data
        assert b"".join(client.stream(io.BytesIO(data))) == data


def test_a_file_is_streamed_and_its_end_announced(certificates: Certificates) -> None:
    def count(sock: ssl.SSLSocket) -> None:
        size = 0
        while data := sock.recv(65536):
            size += len(data)
            # While it is still being sent to.
            sock.sendall(b".")
        sock.sendall(b"%d" % size)

    data = bytes(4 << 20)
    with (
        secure_listening(count, certificates.server_context()) as place,
        Client(place, framing="raw", tls=certificates.ca, timeout=DEADLINE) as client,
    ):
        answer = b"".join(client.stream(io.BytesIO(data)))
    assert answer.strip(b".") == b"%d" % len(data)


def test_closing_announces_the_end(certificates: Certificates) -> None:
    ends: list[object] = []

    def note(sock: ssl.SSLSocket) -> None:
        ends.append(sock.recv(100))
        try:
            ends.append(sock.recv(100))
        except OSError as error:
            ends.append(error)

    with secure_listening(note, certificates.server_context()) as place:
        client = Client(place, tls=certificates.ca)
        client.send("pay 10")
        client.close()
    assert ends == [b"pay 10\n", b""]


def test_a_greeting_that_comes_with_the_handshake_is_not_waited_for(
    certificates: Certificates,
) -> None:
    def greet(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"hello\n")
        mute(sock)

    with (
        secure_listening(greet, certificates.server_context()) as place,
        Client(place, tls=certificates.ca) as client,
    ):
        assert client.receive() == b"hello"


def test_one_thread_sends_while_another_receives(certificates: Certificates) -> None:
    data = b"x" * 1000
    with (
        secure_listening(echo, certificates.server_context()) as place,
        Client(place, tls=certificates.ca, timeout=DEADLINE) as client,
    ):

        def send() -> None:
            for _ in range(2000):
                client.send(data)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert all(client.receive() == data for _ in range(2000))
        finally:
            sender.join(DEADLINE)
        assert not sender.is_alive()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_knows_its_ends_and_the_facts(host: str, certificates: Certificates) -> None:
    with secure_listening(mute, certificates.server_context()) as place:
        port = Address.parse(place).port
        with Client(f"tls://{host}:{port}", tls=certificates.ca) as client:
            assert str(client.address) == f"tls://{host}:{port}"
            assert str(client.peer) == f"tls://127.0.0.1:{port}"
            assert str(client.local).startswith("tls://127.0.0.1:")
            assert client.tls is not None
            assert client.tls.version == "TLSv1.3"
            assert client.tls.certificate is not None
    with listening(mute) as place, Client(place) as client:
        assert client.tls is None


def test_an_end_that_nobody_announced_is_an_error(certificates: Certificates) -> None:
    def cut(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"whole\nhalf of")
        socket.socket.shutdown(sock, socket.SHUT_WR)
        with contextlib.suppress(OSError):
            sock.recv(1)

    with (
        secure_listening(cut, certificates.server_context()) as place,
        Client(place, tls=certificates.ca) as client,
    ):
        assert client.receive() == b"whole"
        with pytest.raises(ConnectionEnded, match=r"after 7 bytes of it .without the closing word"):
            client.receive()


# ------------------------------------------------------------------- verification


def test_nobody_is_believed_without_a_known_ca(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this machine trusts is not the tests'.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.stranger.ca))
    with (
        secure_listening(nothing, certificates.server_context()) as place,
        pytest.raises(TlsError) as caught,
    ):
        Client(place)
    assert str(caught.value) == (
        f"the certificate of {place} is signed by a CA that is not known here; "
        "if you trust it, name its file"
    )
    assert isinstance(caught.value, ConnectError)
    assert isinstance(caught.value, ConnectionError)


def test_the_cas_of_this_machine_are_believed(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with secure_listening(echo, certificates.server_context()) as place, Client(place) as client:
        assert client.ask("hello") == b"hello"


@pytest.mark.parametrize(
    ("make", "host", "sentence"),
    [
        ("expired", "127.0.0.1", "has expired"),
        ("premature", "127.0.0.1", "is not valid yet"),
        ("other", "localhost", "is for another host"),
        ("other", "127.0.0.1", "is for another host"),
        ("self", "127.0.0.1", "is signed by itself, and not known here; if you trust it, name its"),
    ],
)
def test_a_certificate_that_is_no_good_is_a_sentence(
    make: str, host: str, sentence: str, certificates: Certificates
) -> None:
    makers: dict[str, Callable[[], Pair]] = {
        "expired": certificates.expired,
        "premature": certificates.premature,
        "other": lambda: certificates.issue("elsewhere.example"),
        "self": lambda: self_signed(certificates),
    }
    pair = makers[make]()
    with secure_listening(nothing, certificates.server_context(pair)) as place:
        there = place.replace("127.0.0.1", host)
        with pytest.raises(TlsError, match=f"^the certificate of {there} {sentence}"):
            Client(there, tls=certificates.ca)


def self_signed(certificates: Certificates) -> Pair:
    pair = Pair(certificates.folder / "self.crt", certificates.folder / "self.key")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(pair.cert), "-keyout", str(pair.key)),
        ],
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    return pair


def test_a_servers_own_certificate_may_be_named(certificates: Certificates) -> None:
    for pair in (self_signed(certificates), Pair(certificates.cert, certificates.key)):
        with (
            secure_listening(echo, certificates.server_context(pair)) as place,
            Client(place, tls=pair.cert) as client,
        ):
            assert client.ask("hello") == b"hello"


def test_verification_can_be_left_out_and_a_context_be_ready(certificates: Certificates) -> None:
    for tls in (False, certificates.client_context(), str(certificates.ca)):
        with (
            secure_listening(echo, certificates.server_context()) as place,
            Client(place, tls=tls) as client,
        ):
            assert client.ask("hello") == b"hello"
            assert client.tls is not None
            assert (client.tls.certificate is None) == (tls is False)


def demanding(certificates: Certificates) -> ssl.SSLContext:
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    return context


def test_a_certificate_of_ones_own_is_shown_to_who_wants_it(certificates: Certificates) -> None:
    me = certificates.issue("me.example")
    with (
        secure_listening(echo, demanding(certificates)) as place,
        Client(place, tls=certificates.ca, tls_cert=me.cert, tls_key=me.key) as client,
    ):
        assert client.ask("hello") == b"hello"


@pytest.mark.parametrize(
    ("version", "error", "sentence"),
    [
        # The newer one has the client talk before the server has seen its certificate.
        (ssl.TLSVersion.TLSv1_3, ConnectionEnded, "(it wants a certificate of ours)"),
        (ssl.TLSVersion.TLSv1_2, TlsError, "refused the handshake: .* wants a certificate of ours"),
    ],
)
def test_who_wants_a_certificate_and_gets_none_says_so(
    version: ssl.TLSVersion, error: type[Exception], sentence: str, certificates: Certificates
) -> None:
    context = demanding(certificates)
    context.maximum_version = version
    with (
        secure_listening(nothing, context) as place,
        pytest.raises(error, match=sentence),
        Client(place, tls=certificates.ca) as client,
    ):
        client.receive()


# ------------------------------------------------------------- who does not speak it


def saying_first(words: bytes) -> Talk:
    def talk(sock: socket.socket) -> None:
        sock.sendall(words)
        mute(sock)

    return talk


@pytest.mark.parametrize(
    "talk", [saying_first(b"220 hello\r\n"), echo], ids=["greets", "sends our hello back"]
)
def test_a_plain_server_is_said_to_be_one(talk: Talk) -> None:
    with listening(talk) as place:
        there = place.replace("tcp", "tls")
        with pytest.raises(TlsError) as caught:
            Client(there, tls=False)
    assert str(caught.value) == f"{there} does not speak TLS; perhaps it is {place}"


def test_a_server_that_says_nothing_to_a_handshake_is_given_up_in_time() -> None:
    with listening(mute) as place:
        there = place.replace("tcp", "tls")
        with pytest.raises(TimedOut, match=rf"no TLS handshake with {there} .* within 0.05 s"):
            Client(there, tls=False, timeout=SHORT)


def test_a_server_that_hangs_up_in_the_handshake_is_a_sentence_and_tried_again(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoframe.client.FIRST_PAUSE", 0.001)

    def leave(sock: socket.socket) -> None:
        sock.recv(65536)

    with listening(leave, times=2) as place:
        there = place.replace("tcp", "tls")
        with pytest.raises(ConnectError, match=f"cannot connect to {there}: it hung up in the"):
            Client(there, tls=False, retry=1)


def test_what_no_further_attempt_can_mend_is_not_tried_again(certificates: Certificates) -> None:
    with (
        secure_listening(nothing, certificates.server_context()) as place,
        pytest.raises(TlsError),
    ):
        Client(place, tls=certificates.stranger.ca, retry=1000)


def test_nobody_listening_is_the_same_sentence_as_ever() -> None:
    port = unused_port()
    with pytest.raises(RefusedError, match=f"nobody listens at tls://127.0.0.1:{port}"):
        Client(f"tls://127.0.0.1:{port}", tls=False)


def test_a_plain_client_recognises_an_alert() -> None:
    def alert(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with listening(alert) as place, Client(place) as client:
        there = place.replace("tcp", "tls")
        with pytest.raises(ConnectionEnded, match=f"an alert of TLS, so try {there}"):
            client.ask("hello")


def test_what_looks_like_an_alert_may_be_a_reply() -> None:
    word = b"\x15\x03\x01\x00\x02\x02\x0a"
    with listening(echo) as place, Client(place, "echo") as client:
        assert client.ask(word) == word


# ------------------------------------------------------------------ what it is told


@pytest.mark.parametrize("keywords", [{"tls": True}, {"tls": False}, {"tls_cert": "x"}])
def test_keywords_of_tls_are_for_its_addresses(keywords: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"are for addresses that begin with tls://, not for "):
        Client("127.0.0.1:1", **keywords)


def test_a_file_that_cannot_be_used_is_found_before_anybody_is_called(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        Client(f"tls://127.0.0.1:{unused_port()}", tls=tmp_path / "nothing")


def test_every_error_is_an_echoframe_error() -> None:
    assert issubclass(TlsError, EchoframeError)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl(version: str, certificates: Certificates) -> None:
    port = unused_port()
    words = ["openssl", "s_server", "-quiet", "-rev", version, "-accept", f"127.0.0.1:{port}"]
    words += ["-cert", str(certificates.cert), "-key", str(certificates.key)]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        with Client(f"tls://127.0.0.1:{port}", tls=certificates.ca, retry=20) as client:
            assert client.ask("hello") == b"olleh"
            assert list(client.pipeline(["one", "two"])) == [b"eno", b"owt"]
    finally:
        server.kill()
        server.wait(DEADLINE)


def test_our_own_server(certificates: Certificates) -> None:
    with (
        running("command", "thread", "tls", **certificates.settings) as up,
        up.client("command", tls=certificates.ca) as client,
    ):
        assert client.ask("hello") == b"accepted"
        assert client.ask("close") == b"closed"
        assert list(client) == []
