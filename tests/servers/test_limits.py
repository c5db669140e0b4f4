"""Limits and overload: what each model owes when peers are silent, deaf, or too many."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.errors import SettingError
from echoframe.servers import MODELS, SETTINGS, Server, ThreadingMixIn
from echoframe.servers.kernel import limit_writing
from echoframe.servers.turnstile import barred, peer_key
from echoframe.testing import Running, running

from ..certificates import Certificates
from ..helpers import (
    DEADLINE,
    Gate,
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
every_model_at_once = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].at_once != "1"]
)
every_transport = pytest.mark.parametrize("transport", ["tcp", "unix"])
with_handler_classes = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].runs_handler_classes]
)

# More than any two socket buffers hold.
MUCH = 64 << 20


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Gushing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(bytes(MUCH))


def gush(message: bytes) -> bytes:
    return bytes(MUCH)


def is_over(peer: socket.socket) -> bool:
    """Tell that it ends, whichever way, without anything being said."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        return not read_to_end(peer)
    return True


def pass_time(seconds: float) -> None:
    """Let a limit pass, which nothing else tells of."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "the end of a pause")


def fits(model: str) -> dict[str, Any]:
    return {"workers": 1} if model == "prefork" else {}


# ------------------------------------------------------------------------- time


@pytest.mark.long
@every_transport
@every_model
def test_who_says_nothing_at_all_is_cut_before_who_has_spoken(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with running(noting(notes), model, transport, first_byte_timeout=0.1, idle_timeout=60) as up:
        with raw_connection(up) as silent:
            assert is_over(silent)
        assert (notes.next(), notes.next()) == ("open", "close timeout")
        log.expect("first_byte_timeout (0.1 s)")
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
            pass_time(0.2)
            assert ask(peer, b"hello") == b"hello"


@with_handler_classes
def test_a_handler_class_is_cut_too_if_its_peer_says_nothing(model: str) -> None:
    with running(Upper, model, first_byte_timeout=0.1) as up:
        with raw_connection(up) as silent:
            assert is_over(silent)
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"HELLO"


@pytest.mark.long
@every_transport
@every_model
def test_no_conversation_lasts_longer_than_its_total(
    model: str, transport: str, notes: Notes, log: Log
) -> None:
    with (
        running(noting(notes), model, transport, total_timeout=0.15) as up,
        raw_connection(up) as peer,
    ):
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while ask(peer, b"hello") == b"hello":
                assert time.monotonic() < began + DEADLINE
        assert (notes.next(), notes.next()) == ("open", "close timeout")
        log.expect("total_timeout (0.15 s)")


class Ticking(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        for _ in range(30):
            self.request.sendall(b"tick\n")
            time.sleep(0.01)


@pytest.mark.long
@with_handler_classes
def test_a_peer_that_is_told_something_all_the_time_may_be_silent(model: str) -> None:
    with running(Ticking, model, first_byte_timeout=0.1) as up, raw_connection(up) as peer:
        assert read_to_end(peer) == b"tick\n" * 30


@with_handler_classes
def test_a_handler_class_has_no_more_time_either(model: str) -> None:
    with running(Upper, model, total_timeout=0.15) as up, raw_connection(up) as peer:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while ask(peer, b"hello") == b"HELLO":
                assert time.monotonic() < began + DEADLINE


@pytest.mark.long
@every_transport
@every_model
def test_a_peer_that_never_reads_is_cut(model: str, transport: str, notes: Notes, log: Log) -> None:
    # Longer than what interrupts waiting in send(), if anything did.
    with (
        running(noting(notes, gush), model, transport, write_timeout=0.4) as up,
        raw_connection(up) as deaf,
    ):
        deaf.sendall(b"go on\n")
        began = time.monotonic()
        assert (notes.next(), notes.next()) == ("open", "close timeout")
        assert 0.4 <= time.monotonic() - began < 0.4 * 2 + 2
        log.expect("write_timeout (0.4 s)")
        # Whoever does not read hears of it all the same.
        heard = select.poll()
        heard.register(deaf, select.POLLRDHUP)
        assert heard.poll(DEADLINE * 1000)
        with raw_connection(up) as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(5) == bytes(5)


@pytest.mark.long
@every_transport
@every_model
def test_a_peer_that_asks_on_and_never_reads_is_cut(model: str, transport: str, log: Log) -> None:
    # Each reply may be all in the kernel's hands when there is no room for the next one.
    settings = {"write_timeout": 0.2, "idle_timeout": 1.0}
    with (
        running(lambda _: bytes(1 << 20), model, transport, **settings) as up,
        raw_connection(up) as deaf,
    ):
        deaf.sendall(b"go on\n" * 64)
        log.expect("write_timeout (0.2 s)")
        with raw_connection(up) as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(5) == bytes(5)


@pytest.mark.long
@every_model
def test_a_peer_that_never_reads_is_cut_over_tls(
    model: str, certificates: Certificates, notes: Notes
) -> None:
    # On aio what waits is with another transport, and is found when it is looked for.
    settings = {"write_timeout": 0.1, "idle_timeout": 0.4, **certificates.settings}
    with running(noting(notes, gush), model, "tls", **settings) as up:
        context = certificates.client_context()
        with context.wrap_socket(raw_connection(up), server_hostname="localhost") as deaf:
            deaf.sendall(b"go on\n")
            assert (notes.next(), notes.next()) == ("open", "close timeout")
            heard = select.poll()
            heard.register(deaf, select.POLLRDHUP)
            assert heard.poll(DEADLINE * 1000)


def much(message: bytes) -> bytes | Iterator[bytes]:
    if message == b"parts":
        return (bytes(SOME // 64) for _ in range(64))
    return bytes(SOME)


# More than the kernel takes at once, and so much that there is long no room for more.
SOME = 8 << 20


@pytest.mark.long
@every_model
def test_a_peer_that_reads_slowly_is_not_cut(
    model: str, certificates: Certificates, tmp_path: Path
) -> None:
    # So slowly that the kernel has no room for more in all of the time that is allowed.
    places = ["tcp://127.0.0.1:0", f"unix://{tmp_path}/socket", "tls://127.0.0.1:0"]
    settings = {"write_timeout": 0.8, **certificates.settings}
    with (
        served(MODELS[model], much, places, **settings) as up,
        contextlib.ExitStack() as stack,
    ):
        visits = [(at, words) for at in range(3) for words in (b"whole", b"parts")]
        if MODELS[model].at_once == "1":
            visits = visits[-2:-1]
        read: dict[socket.socket, int] = {}
        for at, words in visits:
            peer = stack.enter_context(raw_connection(up, at))
            # Or its kernel would read a lot before it said so.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            if up.addresses[at].scheme == "tls":
                context = certificates.client_context()
                peer = stack.enter_context(context.wrap_socket(peer, server_hostname="localhost"))
            peer.sendall(words + b"\n")
            read[peer] = 0
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            for peer in read:
                read[peer] += len(peer.recv(16 << 10))
            pass_time(0.02)
        for peer, size in read.items():
            assert size < SOME / 2
            left = SOME - size
            while left > 0:
                data = peer.recv(1 << 20)
                assert data
                left -= len(data)


@pytest.mark.long
@every_transport
@with_handler_classes
def test_a_handler_class_hears_that_its_peer_never_reads(
    model: str, transport: str, log: Log
) -> None:
    with running(Gushing, model, transport, write_timeout=0.1) as up, raw_connection(up):
        log.expect("TimeoutError: ")


@pytest.mark.long
@with_handler_classes
def test_a_handler_class_hears_it_over_tls_too(
    model: str, certificates: Certificates, log: Log
) -> None:
    settings = {"write_timeout": 0.1, **certificates.settings}
    context = certificates.client_context()
    with (
        running(Gushing, model, "tls", **settings) as up,
        context.wrap_socket(raw_connection(up), server_hostname="localhost"),
    ):
        # As which error, is OpenSSL's choice.
        log.expect(" has gone: ")


@pytest.mark.long
@every_model
def test_what_has_stood_still_looks_before_it_cuts(model: str, gate: Gate) -> None:
    # A handler that holds everybody up for longer than the limit is not the peers' fault.
    def wait(message: bytes) -> bytes:
        if message == b"wait":
            assert gate.wait()
        return message

    with (
        running(wait, model, idle_timeout=0.15) as up,
        raw_connection(up) as one,
    ):
        one.sendall(b"wait\n")
        pass_time(0.3)
        gate.open()
        assert read_line(one) == b"wait\n"
        assert ask(one, b"hello") == b"hello"


# --------------------------------------------------------------------- overload


def full(up: Running | Served, count: int) -> contextlib.ExitStack:
    """Have so many connections, each of which is served."""
    stack = contextlib.ExitStack()
    for _ in range(count):
        peer = stack.enter_context(raw_connection(up))
        assert ask(peer, b"hello") == b"hello"
    return stack


def comes_in(up: Running | Served) -> bool:
    """Tell that a place has come free."""
    with contextlib.suppress(ConnectionError), raw_connection(up) as peer:
        return ask(peer, b"hello") == b"hello"
    return False


@every_transport
@every_model_at_once
def test_who_is_too_many_is_told_so(model: str, transport: str, log: Log) -> None:
    with running(
        echo, model, transport, max_connections=2, overload="refuse:come back later", **fits(model)
    ) as up:
        with full(up, 2):
            for _ in range(3):
                with raw_connection(up) as late:
                    # Also to one who has said something already.
                    with contextlib.suppress(BrokenPipeError):
                        late.sendall(b"hello\n")
                    assert read_to_end(late) == b"come back later\n"
            log.expect("Turned away")
            log.expect("max_connections")
        eventually(lambda: comes_in(up), "a place")
    log.expect(" by max_connections")


@every_model_at_once
def test_who_is_too_many_may_be_dropped(model: str) -> None:
    with running(echo, model, max_connections=1, overload="drop", **fits(model)) as up:
        with full(up, 1), pytest.raises(ConnectionResetError), raw_connection(up) as late:
            late.recv(1)
        eventually(lambda: comes_in(up), "a place")


@every_model_at_once
def test_who_is_too_many_may_be_refused_without_a_word_over_tls(
    model: str, certificates: Certificates
) -> None:
    with running(
        echo,
        model,
        "tls",
        max_connections=1,
        # There is no way to say it before the handshake, but in plain text.
        overload="refuse:full",
        **certificates.settings,
        **fits(model),
    ) as up:
        context = certificates.client_context()
        with context.wrap_socket(raw_connection(up), server_hostname="localhost") as peer:
            assert ask(peer, b"hello") == b"hello"
            with raw_connection(up) as late:
                assert read_to_end(late) == b""


def test_a_worker_that_is_full_leaves_whoever_comes_to_the_others() -> None:
    with (
        running(echo, "prefork", workers=3, max_connections=1, overload="refuse:full") as up,
        full(up, 3),
        raw_connection(up) as late,
    ):
        assert read_to_end(late) == b"full\n"


@every_transport
@every_model_at_once
def test_one_host_has_no_more_than_its_share(model: str, transport: str, log: Log) -> None:
    with running(echo, model, transport, max_per_peer=2, **fits(model)) as up:
        with full(up, 2):
            with raw_connection(up) as late:
                assert read_to_end(late) == b""
            log.expect("max_per_peer")
            if transport == "tcp":
                with socket.socket() as other:
                    other.settimeout(DEADLINE)
                    other.bind(("127.0.0.2", 0))
                    other.connect(("127.0.0.1", up.addresses[0].port))
                    assert ask(other, b"hello") == b"hello"
        eventually(lambda: comes_in(up), "a place")


@every_model
def test_networks_that_may_come(model: str, log: Log) -> None:
    with running(echo, model, allow=["127.0.0.0/8", "::1"], deny="127.0.0.2") as up:
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        with socket.socket() as other:
            other.settimeout(DEADLINE)
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", up.addresses[0].port))
            assert read_to_end(other) == b""
        log.expect("Turned away 127.0.0.2:")
        log.expect("deny")


@pytest.mark.parametrize("deny", [["127.0.0.0/8"], "127.0.0.0/8", ("127.0.0.0/8", "::1")])
def test_a_class_may_say_it_too(deny: Any) -> None:
    class Own(ThreadingMixIn, Server):
        pass

    Own.deny = deny
    with served(Own, echo, drain_timeout=2.0) as up:
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
        # Also while it serves; and what cannot be understood lets nobody in.
        assert up.server is not None
        up.server.deny = "127.0.0.2"
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
        up.server.deny = 5
        with raw_connection(up) as peer:
            assert read_to_end(peer) == b""
    Own.deny = "nowhere"
    with pytest.raises(SettingError, match="deny takes networks"):
        Own("tcp://127.0.0.1:0", echo)


def test_who_is_not_allowed_may_not_send_datagrams_either() -> None:
    with running(echo, "thread", "udp", deny="127.0.0.2") as up:
        place = ("127.0.0.1", up.addresses[0].port)
        with raw_connection(up) as peer, socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.2", 0))
            other.sendto(b"no", place)
            peer.send(b"hello")
            assert peer.recv(9) == b"hello"
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(9)


def test_a_host_is_the_same_over_both_kinds_of_address() -> None:
    key = peer_key(None, ("::ffff:10.1.2.3", 5, 0, 0))
    assert key == "10.1.2.3"
    allow = SETTINGS["allow"].check("10.0.0.0/8")
    assert not barred(key, allow, ())
    assert barred("11.0.0.1", allow, ()) == "allow"
    assert barred("fe80::1%eth0", allow, ()) == "allow"
    # What is no address cannot be in a network.
    assert barred("somewhere", allow, ()) == "allow"
    assert not barred("somewhere", (), allow)
    assert peer_key(None, "/a/socket") is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("overload", "refuze", "takes wait, drop, refuse, or refuse:TEXT"),
        ("overload", "refuse:a\nb", "one line"),
        ("overload", 5, "not 5"),
        ("allow", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("allow", "home", "'home' does not appear"),
        ("deny", [5], "'5' does not appear"),
        ("deny", 5, "not 5"),
    ],
)
def test_what_is_no_such_setting(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence) as caught:
        MODELS["thread"]("tcp://127.0.0.1:0", echo, **{name: value})
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize(("name", "value"), [("overload", "drop"), ("max_per_peer", 3)])
def test_single_never_has_too_many(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match="means nothing to the model 'single'"):
        MODELS["single"]("tcp://127.0.0.1:0", echo, **{name: value})


# -------------------------------------------------------- out of descriptors


@every_model_at_once
def test_the_last_descriptor_is_for_turning_away(model: str) -> None:
    cls = MODELS[model]

    class Tight(cls):  # type: ignore[valid-type,misc]
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 24, used + 24))
            super().serve_forever(poll_interval)

    if model in ("fork", "prefork"):
        # fork: the parent keeps no descriptor of a connection; prefork: see its inner models.
        pytest.skip("has descriptors enough, or is as its inner model")
    with (
        served(Tight, echo, alone=True, overload="refuse:full", max_connections=500) as up,
        contextlib.ExitStack() as stack,
    ):
        inside = []
        while True:
            peer = stack.enter_context(raw_connection(up))
            peer.sendall(b"hello\n")
            said = read_line(peer)
            if said == b"full\n":
                break
            assert said == b"hello\n"
            inside.append(peer)
            assert len(inside) < 200
        assert all(ask(peer, b"again") == b"again" for peer in inside)
        inside.pop().close()
        eventually(lambda: comes_in(up), "a descriptor")


def test_a_mix_in_on_somebody_elses_server_has_the_limits_that_it_is_given() -> None:
    class Site(ThreadingMixIn, socketserver.TCPServer):
        first_byte_timeout = 0.2
        max_connections = 1
        overload = "refuse:full"
        daemon_threads = True

    with Site(("127.0.0.1", 0), Upper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = server.server_address
        with socket.create_connection(place, DEADLINE) as silent:
            with socket.create_connection(place, DEADLINE) as late:
                assert read_to_end(late) == b"full\n"
            assert is_over(silent)
        server.shutdown()
        thread.join(DEADLINE)


def test_a_reset_frees_what_waits_to_be_sent() -> None:
    # What close() alone leaves with the kernel, it would go on to offer for minutes.
    with running(gush, "loop", write_timeout=0.1) as up, raw_connection(up) as deaf:
        deaf.sendall(b"go on\n")
        server = up.server
        assert server is not None
        eventually(lambda: not server._life.open and server._life.served, "the end")
        with pytest.raises(ConnectionResetError):
            read_to_end(deaf)


def test_a_time_is_never_so_short_that_it_means_for_ever() -> None:
    near, far = socket.socketpair()
    with near, far, socket.socket() as sock:
        limit_writing(near, 1e-9, looks=True)
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) != bytes(16)
        limit_writing(sock, 1e-9, looks=False)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1
        # Who does not look must not find that a part is gone.
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
    # What is no socket is let be.
    limit_writing((b"", near), 5, looks=True)
