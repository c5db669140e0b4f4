from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.errors import SettingError
from echoframe.transports import ListenOptions
from echoframe.transports.certificates import ServerTls, client_context, server_context
from echoframe.transports.tls import TlsStream, explain, facts_of

from ..certificates import Certificates
from .sockets import DEADLINE, accept, listening


def written(folder: Path, name: str, text: bytes) -> Path:
    path = folder / name
    path.write_bytes(text)
    return path


def encrypted(key: Path, folder: Path) -> Path:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    text = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    return written(folder, "encrypted.key", text)


# ------------------------------------------------------------ files to contexts


def test_a_servers_context_is_modern(certificates: Certificates) -> None:
    context = server_context(ServerTls(**certificates.settings))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_certificate_and_its_key_may_stand_in_one_file(
    certificates: Certificates, tmp_path: Path
) -> None:
    both = certificates.key.read_bytes() + certificates.cert.read_bytes()
    server_context(ServerTls(tls_cert=written(tmp_path, "both.pem", both)))


def test_peers_certificates_are_asked_for_with_a_ca_and_demanded_when_told_so(
    certificates: Certificates,
) -> None:
    told = ServerTls(**certificates.settings, tls_ca=certificates.ca)
    assert server_context(told).verify_mode == ssl.CERT_OPTIONAL
    told = told._replace(tls_require_client_cert=True)
    assert server_context(told).verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(SettingError, match="tls_require_client_cert needs tls_ca: "):
        server_context(told._replace(tls_ca=None))


@pytest.mark.parametrize(
    ("cert", "key", "sentence"),
    [
        (None, None, r"a tls:// address needs a certificate: name its file in tls_cert"),
        ("nothing", "key", r"tls_cert='.*nothing' cannot be read: No such file or directory"),
        ("cert", "nothing", r"tls_key='.*nothing' cannot be read: No such file or directory"),
        (".", "key", r"tls_cert='.*' cannot be read: Is a directory"),
        ("cert", None, r"tls_cert='.*' holds no private key in PEM form; name .* in tls_key"),
        ("cert", "cert", r"tls_key='.*' holds no private key in PEM form$"),
        ("key", "cert", r"tls_cert='.*' holds no certificate in PEM form, which begins with"),
        ("cert", "other key", r"the key in tls_key='.*' does not belong to .* tls_cert='.*'"),
        ("cert", "encrypted", r"tls_key='.*' is encrypted, .* openssl pkey -in \S+ -out "),
        ("cert", "broken key", r"tls_cert='.*' and its key cannot be used: .* is damaged"),
        ("broken cert", "key", r"tls_cert='.*' and its key cannot be used: .* is damaged"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_a_sentence_with_the_file(
    cert: str | None, key: str | None, sentence: str, certificates: Certificates, tmp_path: Path
) -> None:
    broken = b"-----BEGIN %s-----\nxxx\n-----END %s-----\n"
    files = {
        "cert": lambda: certificates.cert,
        "key": lambda: certificates.key,
        "other key": lambda: certificates.issue("localhost").key,
        "encrypted": lambda: encrypted(certificates.key, tmp_path),
        "broken cert": lambda: written(tmp_path, "b", broken % (b"CERTIFICATE", b"CERTIFICATE")),
        "broken key": lambda: written(tmp_path, "b", broken % (b"PRIVATE KEY", b"PRIVATE KEY")),
    }

    def path(name: str | None) -> Any:
        return None if name is None else files.get(name, lambda: tmp_path / name)()

    with pytest.raises(SettingError, match=sentence):
        server_context(ServerTls(tls_cert=path(cert), tls_key=path(key)))


def test_a_ca_without_a_certificate_in_it_is_a_sentence(
    certificates: Certificates, tmp_path: Path
) -> None:
    told = ServerTls(**certificates.settings, tls_ca=certificates.key)
    with pytest.raises(SettingError, match=r"tls_ca='.*' holds no CA's certificate in PEM form"):
        server_context(told)
    with pytest.raises(SettingError, match=r"tls='.*nothing' cannot be read: No such file"):
        client_context(str(tmp_path / "nothing"))


def test_a_ready_context_is_taken_as_it_is(certificates: Certificates) -> None:
    ready = certificates.server_context()
    assert server_context(ServerTls(ready)) is ready
    other = certificates.client_context()
    assert client_context(other) is other
    with pytest.raises(SettingError, match="tls_cert would be lost beside it"):
        server_context(ServerTls(ready, certificates.cert))
    with pytest.raises(SettingError, match="tls_cert would be lost beside it"):
        client_context(other, certificates.cert)
    with pytest.raises(
        SettingError, match=r"a context for a client, and this is a server: .*SERVER"
    ):
        server_context(ServerTls(other))
    with pytest.raises(
        SettingError, match=r"a context for a server, and this is a client: .*CLIENT"
    ):
        client_context(ready)


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(SettingError, match=r"tls takes an ssl\.SSLContext, not 'cert\.pem'"):
        server_context(ServerTls("cert.pem"))  # type: ignore[arg-type]  # as a mistake would
    with pytest.raises(SettingError, match=r"tls takes a CA's file, an ssl\.SSLContext, or False"):
        client_context(7)
    with pytest.raises(SettingError, match="tls_key needs tls_cert"):
        client_context(None, None, "key.pem")


def test_a_client_verifies_unless_it_is_told_not_to(certificates: Certificates) -> None:
    for tls in (None, True, certificates.ca, str(certificates.ca), certificates.folder):
        context = client_context(tls)
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    context = client_context(False)
    assert context.verify_mode == ssl.CERT_NONE
    assert not context.check_hostname


# ---------------------------------------------------------------------- listeners


def test_what_a_listener_accepts_is_wrapped_and_has_not_shaken_hands(
    certificates: Certificates,
) -> None:
    context = server_context(ServerTls(**certificates.settings))
    with listening("tls://127.0.0.1:0", tls=context) as listener:
        assert str(listener.address).startswith("tls://127.0.0.1:")
        # Nobody says a word here, so nothing in accept() can have waited for one.
        with socket.create_connection(("127.0.0.1", listener.address.port)) as near:
            far, name = accept(listener)
            with far:
                assert isinstance(far, ssl.SSLSocket)
                assert far.version() is None
                assert facts_of(far) is None
                assert name == near.getsockname()
                assert listener.transport.peer_name(far, name) == f"{name[0]}:{name[1]}"


def test_who_has_gone_before_being_accepted_leaves_nothing_behind(
    certificates: Certificates,
) -> None:
    context = server_context(ServerTls(**certificates.settings))
    with listening("tls://127.0.0.1:0", tls=context) as listener:
        near = socket.create_connection(("127.0.0.1", listener.address.port))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        with pytest.raises(OSError, match="not connected"):
            accept(listener)


def test_a_listener_takes_another_context_for_the_next_connection(
    certificates: Certificates,
) -> None:
    one, other = (server_context(ServerTls(**certificates.settings)) for _ in "12")
    with listening("tls://127.0.0.1:0", tls=one) as listener:
        for context in (one, other):
            listener.tls = context
            with socket.create_connection(("127.0.0.1", listener.address.port)):
                far, _ = accept(listener)
                with far:
                    assert far.context is context


def test_options_of_tls_are_not_for_other_transports(certificates: Certificates) -> None:
    assert ListenOptions().tls is None
    with listening("tcp://127.0.0.1:0", tls=certificates.server_context()) as listener:
        assert listener.tls is None


# ---------------------------------------------------------- what went wrong, in words


def failures(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str, str]:
    """Let two contexts shake hands in memory, and give what each side says about it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    said = ["", ""]
    for which in (0, 1) * 4:
        if not said[which]:
            try:
                ends[which].do_handshake()
                # What a server finds wrong with a client's certificate comes later.
                ends[which].read()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                said[which] = explain(error)
    return said[1], said[0]


def limited(context: ssl.SSLContext, **limits: Any) -> ssl.SSLContext:
    for name, value in limits.items():
        setattr(context, name, value)
    return context


OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("trouble", "servers", "clients"),
    [
        ("unknown CA", "does not know the CA that signed our certificate", "signed by a CA that"),
        ("wrong host", "the peer does not accept our certificate", "is for another host"),
        ("wrong number", "the peer does not accept our certificate", "is for another host"),
        ("expired", "to the peer our certificate has expired", "of the peer has expired"),
        ("premature", "the peer does not accept our certificate", "of the peer is not valid yet"),
        (
            "no certificate",
            "the peer showed no certificate",
            "the peer wants a certificate of ours",
        ),
        ("no certificate, old", "the peer showed no certificate", "or wants a certificate of ours"),
        ("client's CA", "signed by a CA that is not known", "does not know the CA that signed our"),
        ("client's time", "of the peer has expired", "to the peer our certificate has expired"),
        ("too old", "has no version of TLS in common", "has no version of TLS in common"),
        ("too new", "has no version of TLS in common", "has no version of TLS in common"),
        ("no cipher", "has no cipher in common with us", "the peer refused the handshake: "),
    ],
)
def test_each_side_says_what_went_wrong(
    trouble: str, servers: str, clients: str, certificates: Certificates
) -> None:
    server, client = certificates.server_context(), certificates.client_context()
    host = "localhost"
    if trouble == "unknown CA":
        client = ssl.create_default_context(cafile=certificates.stranger.ca)
    elif trouble == "wrong host":
        host = "elsewhere.example"
    elif trouble == "wrong number":
        host = "127.0.0.2"
    elif trouble == "expired":
        server = certificates.server_context(certificates.expired())
    elif trouble == "premature":
        server = certificates.server_context(certificates.premature())
    elif trouble == "too old":
        limited(server, minimum_version=NEW)
        limited(client, maximum_version=OLD)
    elif trouble == "too new":
        limited(server, maximum_version=OLD)
        limited(client, minimum_version=NEW)
    elif trouble == "no cipher":
        limited(client, maximum_version=OLD).set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        limited(server, maximum_version=OLD).set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    else:
        pair = {
            "client's CA": lambda: certificates.stranger.issue("me.example"),
            "client's time": certificates.expired,
        }.get(trouble, lambda: None)()
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(certificates.ca)
        client = certificates.client_context(pair)
        if trouble.endswith("old"):
            limited(client, maximum_version=OLD)
    said = failures(server, client, host)
    assert servers in said[0]
    assert clients in said[1]


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"CONNECT x:1 HTTP/1.0\r\n",
        b"hello\r\n",
        bytes(20),
        b"\xff" * 600,
    ],
)
def test_a_plain_peer_is_said_to_be_one(bytes_: bytes, certificates: Certificates) -> None:
    incoming = ssl.MemoryBIO()
    incoming.write(bytes_)
    server = certificates.server_context().wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError) as caught:
        server.do_handshake()
    assert explain(caught.value) == "the peer does not speak TLS"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError("late"), "the peer did not shake hands in time"),
        (ConnectionResetError(104, "reset"), "the peer hung up in the middle of the handshake"),
        (OSError(113, "No route to host"), "TLS with the peer failed: No route to host"),
        (ssl.SSLError(1, "[SSL] PEM lib"), "TLS with the peer failed: [SSL] PEM lib"),
    ],
)
def test_what_is_no_word_of_openssl_is_explained_too(error: OSError, sentence: str) -> None:
    assert explain(error) == sentence


# ------------------------------------------------------------------------ streams


@pytest.fixture
def streams(certificates: Certificates) -> Iterator[tuple[TlsStream, TlsStream]]:
    """A server's and a client's, which have shaken hands."""
    with stream_pair(certificates) as pair:
        yield pair


@contextlib.contextmanager
def stream_pair(certificates: Certificates) -> Iterator[tuple[TlsStream, TlsStream]]:
    near, far = socket.socketpair()
    with near, far:
        server = TlsStream(far, certificates.server_context(), server_side=True)
        client = TlsStream(near, certificates.client_context(), server_hostname="localhost")
        done = set()
        for stream in itertools.islice(itertools.cycle((client, server)), 20):
            with contextlib.suppress(BlockingIOError):
                stream.do_handshake()
                done.add(stream)
        assert len(done) == 2
        yield server, client


def received(stream: TlsStream, size: int) -> bytes:
    data = b""
    end = time.monotonic() + DEADLINE
    while len(data) < size:
        assert time.monotonic() < end, f"{len(data)} of {size} bytes came"
        with contextlib.suppress(BlockingIOError):
            data += stream.recv(size - len(data))
    return data


def test_streams_carry_bytes_both_ways_and_never_wait(
    streams: tuple[TlsStream, TlsStream],
) -> None:
    server, client = streams
    assert client.send(b"there") == 5
    assert server.recv(100) == b"there"
    assert server.send(b"back") == 4
    assert (client.recv(2), client.ready) == (b"ba", True)
    assert (client.recv(2), client.ready) == (b"ck", False)
    with pytest.raises(BlockingIOError):
        server.recv(1)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_the_facts_about_a_stream(streams: tuple[TlsStream, TlsStream]) -> None:
    facts = streams[1].facts()
    assert facts is not None
    assert facts.version == "TLSv1.3"
    assert facts.cipher.startswith("TLS_")
    assert facts.server_name == "localhost"
    assert facts.certificate is not None
    assert ("DNS", "localhost") in facts.certificate["subjectAltName"]


def test_what_the_kernel_does_not_take_is_sent_when_the_same_is_sent_again(
    streams: tuple[TlsStream, TlsStream],
) -> None:
    server, client = streams
    data = bytes(range(256)) * 16384
    sent, got, stuck = 0, b"", 0
    while len(got) < len(data):
        try:
            while sent < len(data):
                sent += client.send(data[sent : sent + 100_000])
        except BlockingIOError:
            stuck += 1
            assert client.writes
        with contextlib.suppress(BlockingIOError):
            got += server.recv(1 << 20)
    assert stuck
    assert got == data


def test_a_half_close_loses_nothing_of_what_the_peer_still_says(
    streams: tuple[TlsStream, TlsStream],
) -> None:
    server, client = streams
    # On its way when the end is announced, and after it.
    server.send(b"before ")
    client.finish()
    assert server.recv(100) == b""
    server.send(b"behind")
    assert received(client, 13) == b"before behind"
    server.finish()
    assert client.recv(100) == b""
    assert client.recv(100) == b""


def test_a_half_close_waits_its_turn_behind_what_is_not_sent_yet(
    streams: tuple[TlsStream, TlsStream],
) -> None:
    server, client = streams
    piece = b"x" * 4096
    whole = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            whole += client.send(piece)
    with pytest.raises(BlockingIOError):
        client.finish()
    # Encrypted already, the last piece goes first, and then the end.
    got = received(server, whole)
    assert client.send(piece) == len(piece)
    assert got + received(server, len(piece)) == b"x" * (whole + len(piece))
    assert server.recv(100) == b""


def test_an_end_that_was_not_announced_is_an_error(streams: tuple[TlsStream, TlsStream]) -> None:
    server, client = streams
    server.send(b"half of i")
    with socket.socket(fileno=socket.dup(server.fileno())) as plain:
        plain.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b"half of i"
    for _ in "12":
        with pytest.raises(ConnectionAbortedError, match="without the closing word of TLS"):
            client.recv(100)


def test_bytes_that_are_not_encrypted_are_an_error(streams: tuple[TlsStream, TlsStream]) -> None:
    server, client = streams
    with socket.socket(fileno=socket.dup(server.fileno())) as plain:
        plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ConnectionAbortedError, match="TLS with it failed: "):
        client.recv(100)


def test_a_stream_and_the_standard_librarys_socket_understand_each_other(
    certificates: Certificates,
) -> None:
    near, far = socket.socketpair()
    with near, far:
        stream = TlsStream(near, certificates.server_context(), server_side=True)
        context = certificates.client_context()
        far.settimeout(DEADLINE)
        other = context.wrap_socket(far, server_hostname="localhost", do_handshake_on_connect=False)
        other.setblocking(False)
        for _ in range(10):
            for end in (stream, other):
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                    end.do_handshake()
        with other:
            other.setblocking(True)
            other.settimeout(DEADLINE)
            # Behind the handshake the peer has said something at once.
            other.sendall(b"hello")
            assert received(stream, 5) == b"hello"
            stream.send(b"there")
            assert other.recv(100) == b"there"
            stream.finish()
            assert other.recv(100) == b""
