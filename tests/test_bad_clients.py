"""The zoo of bad clients: good servers pass, and each fault is found by somebody.

Crowds are small here and patience is short. What a whole crowd does to a model is a
matter of measuring.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import resource
import shlex
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.address import Address
from echoframe.errors import (
    AddressError,
    ConnectionEnded,
    EchoframeError,
    RefusedError,
    SettingError,
    TimedOut,
)
from echoframe.servers import MODELS
from echoframe.testing import bad_clients, running
from echoframe.testing.bad_clients import ZOO, Fault, Healthy, Leash, Visit, animal, release
from echoframe.testing.bad_clients.__main__ import main

from .certificates import Certificates
from .cli.programs import PATIENCE, ROOT, surroundings
from .helpers import DEADLINE, HAS_IPV6, echo, forked, nothing_left_behind

SMALL: dict[str, Any] = {"many": 2, "pace": 0.002, "mib": 1, "seconds": DEADLINE}
README = (ROOT / "README.md").read_text()

PATIENT = Healthy(expect=b"hello", within=DEADLINE)
# For what must not be answered; the others have time.
SHORT = Healthy(within=0.4)

every_model = pytest.mark.parametrize("model", MODELS)


def failures(visits: list[Visit]) -> list[Visit]:
    return [visit for visit in visits if not visit.ok]


# ---------------------------------------------------------------- good servers


# A fork for each takes its time, and more where what it covers is written down.
EVERYWHERE = [
    pytest.param(
        model,
        transport,
        marks=[pytest.mark.slow] if model == "fork" and transport != "tcp" else [],
    )
    for model in MODELS
    for transport in ("tcp", "unix", "udp", "tls")
]


@pytest.mark.long
@pytest.mark.parametrize(("model", "transport"), EVERYWHERE)
def test_every_model_serves_a_healthy_client_among_all_of_them(
    model: str, transport: str, certificates: Certificates
) -> None:
    settings: dict[str, Any] = certificates.settings if transport == "tls" else {}
    if transport != "udp":
        # Less than the giant sends.
        settings = {**settings, "framing": "line", "max_message": 1 << 16}
    # The other models serve their healthy clients while the animals are there.
    during = model != "single" or transport == "udp"
    sizes = {**SMALL, "many": 1} if model in ("single", "fork") else SMALL
    with nothing_left_behind(), running("echo", model, transport, **settings) as up:
        visits = release(up.address, healthy=PATIENT, during=during, **sizes)
    assert [visit.animal for visit in visits] == list(ZOO)
    assert failures(visits) == []
    for visit in visits:
        at_home = transport in ZOO[visit.animal].on
        assert visit.verdict == ("ok" if at_home else "skipped")
        assert (visit.asked >= 1 + during) is at_home
        assert (visit.slowest is not None) is at_home


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                self.wfile.write(line)


class Quiet(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # Five, as it comes, would have some of a flood wait for a second.
    request_queue_size = 100

    def handle_error(self, *_: object) -> None:
        """Its traceback is nothing for these tests."""


@contextlib.contextmanager
def standard(cls: type[socketserver.TCPServer], handler: Any = Lines) -> Iterator[str]:
    """One of the standard library's servers, in a process of its own."""
    server = cls(("127.0.0.1", 0), handler)
    with forked(lambda _: server.serve_forever()):
        server.socket.close()
        yield "{}:{}".format(*server.server_address[:2])


def test_the_standard_librarys_threading_server_passes() -> None:
    with standard(Quiet) as address:
        visits = release(address, healthy=PATIENT, **SMALL)
    assert failures(visits) == []
    assert {visit.verdict for visit in visits} == {"ok", "skipped"}


# -------------------------------------------------------------------- faults


@contextlib.contextmanager
def faulty(
    serve: Callable[[Any], object], sock: socket.socket, scheme: str = "tcp"
) -> Iterator[str]:
    """Something that serves a socket in a process of its own, for as long as it lives."""
    address = "{}://{}:{}".format(scheme, *sock.getsockname())
    with forked(lambda _: serve(sock)):
        sock.close()
        yield address


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=100)


def datagrams() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def converse(talk: Callable[[socket.socket], object]) -> Callable[[socket.socket], None]:
    """Accept for ever, and talk to each peer in a thread that forgives everything."""

    def guarded(peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            talk(peer)

    def serve(sock: socket.socket) -> None:
        while True:
            threading.Thread(target=guarded, args=sock.accept()[:1], daemon=True).start()

    return serve


def one_by_one(talk: Callable[[socket.socket], object]) -> Callable[[socket.socket], None]:
    """Accept for ever, one peer after the other, and forgive nothing."""

    def serve(sock: socket.socket) -> None:
        while True:
            with sock.accept()[0] as peer:
                talk(peer)

    return serve


def echo_all(peer: socket.socket) -> None:
    while data := peer.recv(65536):
        peer.sendall(data)


def never_closes(peer: socket.socket) -> None:
    echo_all(peer)
    threading.Event().wait()


def forgets_the_third(sock: socket.socket) -> None:
    for number in itertools.count():
        with sock.accept()[0] as peer:
            if number == 2:
                peer.recv(65536)
            else:
                echo_all(peer)


def echo_text(peer: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(65536):
            peer.sendall(data.decode().encode())


def keeps_twenty(sock: socket.socket) -> None:
    kept = []
    for _ in range(20):
        kept.append(sock.accept()[0])
        kept[-1].sendall(b"welcome")
    threading.Event().wait()


def only_takes(peer: socket.socket) -> None:
    threading.Event().wait()


@pytest.mark.parametrize(
    ("name", "serve", "sentence"),
    [
        # Hangs on silent peers.
        ("silent", one_by_one(echo_all), "while it was there, a healthy client was not served: no"),
        ("half-open", one_by_one(echo_all), "while it was there, a healthy client was not served"),
        ("drip", one_by_one(echo_all), "while it was there, a healthy client was not served"),
        # Dies of resets.
        ("reset-before", one_by_one(echo_all), "after it had left, a healthy client was not serv"),
        ("reset-reply", one_by_one(echo_all), "after it had left, a healthy client was not serv"),
        # Never closes.
        ("half-close-before", converse(never_closes), "did not end its own within 0.4 s"),
        ("half-close-in", converse(never_closes), "did not end its own within 0.4 s"),
        # Does not answer who has ended his side; the first two are the healthy one.
        ("half-close-after", forgets_the_third, "it was owed a reply, and the server hung up"),
        # Decodes what is no text.
        ("invalid-utf8", one_by_one(echo_text), "after it had left, a healthy client was not serv"),
        # Has no place for anybody once there were twenty.
        ("connect-and-close", keeps_twenty, "a healthy client was not served: no reply within"),
    ],
)
def test_a_fault_is_found(name: str, serve: Callable[[socket.socket], None], sentence: str) -> None:
    # Only for whom the animal is too many, and not for the one who asks at first.
    during = "after it" not in sentence and "owed" not in sentence
    with faulty(serve, listener()) as address:
        (visit,) = release(address, [name], healthy=SHORT, during=during, **SMALL)
    assert visit.verdict == "failed"
    assert sentence in visit.said


def dies_of_nothing(sock: socket.socket) -> None:
    data = b"first"
    while data:
        data, peer = sock.recvfrom(65535)
        sock.sendto(data, peer)


def dies_of_much(sock: socket.socket) -> None:
    data = b"first"
    while len(data) < 10_000:
        data, peer = sock.recvfrom(65535)
        sock.sendto(data, peer)


@pytest.mark.parametrize(
    ("name", "serve"), [("empty", dies_of_nothing), ("oversized", dies_of_much)]
)
def test_a_fault_over_udp_is_found(name: str, serve: Callable[[socket.socket], None]) -> None:
    with faulty(serve, datagrams(), "udp") as address:
        (visit,) = release(address, [name], healthy=SHORT, **SMALL)
    assert visit.verdict == "failed"
    assert "a healthy client was not served" in visit.said


@pytest.mark.parametrize("name", ["no-handshake", "reset-handshake", "plain-to-tls"])
def test_a_handshake_in_the_accept_loop_is_found(name: str, certificates: Certificates) -> None:
    wrapped = certificates.server_context().wrap_socket(listener(), server_side=True)

    def serve(sock: socket.socket) -> None:
        while True:
            threading.Thread(target=echo_all, args=sock.accept()[:1], daemon=True).start()

    with faulty(serve, wrapped, "tls") as address:
        (visit,) = release(address, [name], healthy=SHORT, **SMALL)
    assert visit.verdict == "failed"
    assert "a healthy client was not served" in visit.said


def test_what_one_animal_has_broken_is_not_laid_at_the_next_ones_door() -> None:
    with faulty(one_by_one(echo_text), listener()) as address:
        first, second = release(address, ["invalid-utf8", "half-close-after"], healthy=SHORT)
    assert first.verdict == "failed"
    assert second[:3] == (
        "half-close-after",
        "skipped",
        "the server has not recovered from the one before",
    )


def test_a_server_that_recovers_is_visited_again() -> None:
    with faulty(one_by_one(echo_all), listener()) as address:
        first, second = release(address, ["silent", "half-close-after"], healthy=SHORT, many=2)
    assert [first.verdict, second.verdict] == ["failed", "ok"]


def test_no_animal_outstays_its_time() -> None:
    begun = time.monotonic()
    healthy = Healthy(only_connect=True, within=0.1)
    with faulty(converse(only_takes), listener()) as address:
        visits = release(
            address,
            ["drip", "giant", "reset-reply", "after-close"],
            healthy=healthy,
            many=2,
            seconds=0.1,
        )
    assert time.monotonic() - begun < 3.0
    # Nothing was ever answered, and nobody had asked for that.
    assert [visit.verdict for visit in visits] == ["ok", "failed", "ok", "failed"]
    assert "of 5 times in 0.1 s" in visits[0].said


# --------------------------------------------------------------- the healthy one


def test_a_server_that_does_not_serve_is_not_attacked() -> None:
    with faulty(converse(only_takes), listener()) as address:
        with pytest.raises(TimedOut, match=r"no reply within 0\.4 s"):
            release(address, healthy=SHORT)
        content = SHORT._replace(only_connect=True)
        assert release(address, ["silent"], healthy=content, **SMALL)[0].ok
    with pytest.raises(RefusedError, match="nobody listens at"):
        release(address, healthy=SHORT)


def test_the_reply_must_be_the_expected_one() -> None:
    with running(lambda message: b"200 OK", model="thread") as up:
        (visit,) = release(up.address, ["silent"], healthy=Healthy(expect=b"OK"), **SMALL)
        assert visit.ok
        with pytest.raises(TimedOut, match=r"no reply within 0\.4 s, but for b'200 OK"):
            release(up.address, ["silent"], healthy=SHORT._replace(expect=b"hello"))


def test_who_is_turned_away_with_a_text_was_not_served() -> None:
    limits: dict[str, Any] = {"max_connections": 4, "overload": "refuse:busy"}
    with running(echo, "thread", **limits) as up:
        (visit,) = release(up.address, ["silent"], healthy=PATIENT._replace(expect=b""), many=9)
    assert visit.verdict == "failed"
    assert visit.said.startswith(
        "while it was there, a healthy client was not served: it was told b'busy\\n' instead of "
        "b'hello\\n' (so many may simply have filled it: lower --many)"
    )


def test_a_reply_may_have_a_clock_in_it_or_never_be_the_same() -> None:
    count = itertools.count(8)
    letters = itertools.cycle(b"abc")
    for answer in (
        lambda message: b"it is %d o'clock" % next(count),
        lambda message: bytes([next(letters)]),
    ):
        with running(answer, "thread") as up:
            (visit,) = release(up.address, ["silent"], **SMALL)
        assert (visit.verdict, visit.said) == ("ok", "")


def test_a_reply_may_come_in_other_pieces_than_before() -> None:
    def serve(sock: socket.socket) -> None:
        for number in itertools.count():
            with sock.accept()[0] as peer, contextlib.suppress(OSError):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                said = peer.recv(100)
                for piece in [said] if number < 2 else [said[:2], said[2:]]:
                    peer.sendall(piece)

    with faulty(serve, listener()) as address:
        (visit,) = release(address, ["reset-before"], healthy=PATIENT._replace(expect=b""), many=1)
    assert visit.ok, visit


def test_a_server_that_hangs_up_has_not_replied() -> None:
    def half(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(b"hel")
        peer.close()

    with (
        faulty(converse(half), listener()) as address,
        pytest.raises(ConnectionEnded, match="hung up without a reply, but for b'hel'"),
    ):
        release(address, healthy=Healthy(expect=b"hello", within=DEADLINE))


def test_over_tls_it_may_verify_the_server(certificates: Certificates) -> None:
    with running(echo, "thread", "tls", **certificates.settings) as up:
        healthy = Healthy(within=DEADLINE, tls=certificates.ca)
        assert release(up.address, ["silent"], healthy=healthy, many=1)[0].ok
        with pytest.raises(EchoframeError, match="CA that is not known"):
            release(up.address, healthy=healthy._replace(tls=certificates.stranger.ca))


# ------------------------------------------------------------------- the limits


@pytest.mark.parametrize(
    ("address", "keywords", "error", "sentence"),
    [
        ("192.0.2.1:7", {}, AddressError, r"is not a loopback address \(192.0.2.1\), and animals"),
        ("udp://[2001:db8::1]:7", {}, AddressError, "is not a loopback address"),
        ("0.0.0.0:7", {}, AddressError, "is not a loopback address"),
        ("fd://3", {}, AddressError, "nobody can connect to that"),
        ("127.0.0.1:7", {"names": ["slent"]}, SettingError, "'slent'; did you mean 'silent'"),
        ("127.0.0.1:7", {"many": 0}, SettingError, "many must be more than 0 and at most 100,000"),
        ("127.0.0.1:7", {"mib": 5000}, SettingError, "mib must be more than 0 and at most 4,096"),
        ("127.0.0.1:7", {"seconds": 0}, SettingError, "seconds=0: seconds, more than 0"),
        ("127.0.0.1:7", {"healthy": Healthy(within=-1)}, SettingError, "within=-1"),
        ("127.0.0.1:7", {"healthy": Healthy(say=b"")}, SettingError, "has to say something"),
        ("127.0.0.1:7", {"healthy": Healthy(tls="ca.pem")}, SettingError, "begin with tls://"),
        (
            "udp://127.0.0.1:7",
            {"healthy": Healthy(only_connect=True)},
            SettingError,
            "knows no connections",
        ),
    ],
)
def test_what_cannot_work_is_a_sentence(
    address: str, keywords: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        release(address, **keywords)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_the_loopback_of_ipv6_is_one_too() -> None:
    with running(echo, "thread", "tcp6") as up:
        assert release(up.address, ["silent"], **SMALL)[0].ok


def test_a_server_elsewhere_is_visited_when_it_is_said_to_be_ones_own() -> None:
    with running(echo, "thread", "tcp://:0") as up:
        place = Address("tcp", "0.0.0.0", up.address.port)
        assert release(place, ["silent"], yes_it_is_my_server=True, **SMALL)[0].ok


def test_a_crowd_has_the_descriptors_that_it_needs_and_gives_them_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def visit(notes: Any) -> None:
        # Not enough for both: the server is in another process.
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
        (first,) = release(up.address, ["silent"], healthy=PATIENT, many=150)
        notes.write(first.verdict, first.said or "-", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        (second,) = release(up.address, ["silent"], healthy=PATIENT, many=150)
        notes.write(second.verdict, second.said)

    with running(echo, "loop") as up, forked(visit) as child:
        assert child.notes.next() == "ok - 100"
        verdict, _, said = child.notes.next().partition(" ")
        assert child.wait() == 0
    assert verdict == "ok"
    assert "of 150 came: this process may open 100 descriptors" in said


def test_a_backlog_that_is_full_is_no_fault_of_the_animals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoframe.testing.bad_clients.leash.CROWDED", 0.02)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.listen(5)
        leash = Leash(
            Address.parse(f"unix://{tmp_path}/socket"),
            Healthy(only_connect=True, within=DEADLINE),
            many=20,
            seconds=DEADLINE,
            pace=1,
            mib=1,
        )
        peers = leash.crowd(20)
        leash.let_go()
    assert 0 < len(peers) < 20
    assert leash.notes == [f"{len(peers)} of 20 came: Resource temporarily unavailable"]


# --------------------------------------------------------------- one's own animals


def test_an_animal_of_ones_own_goes_with_the_others() -> None:
    @animal(("tcp",), "asks twice", "answers twice")
    def polite(leash: Leash) -> Iterator[None]:
        peer = leash.connect()
        for _ in range(2):
            peer.say(leash.message)
            yield
        leash.must_reply(peer)

    @animal(("tcp",), "wants the moon", "gives it")
    def greedy(leash: Leash) -> Iterator[None]:
        yield
        raise Fault("it did not get the moon")

    @animal(("tcp",), "lacks a file", "is not to blame")
    def forgetful(leash: Leash) -> Iterator[None]:
        open("/nowhere/to/be/found")  # noqa: SIM115  # it is not there
        yield

    with running(echo, "thread") as up:
        visits = release(up.address, [polite, greedy, "silent", forgetful], **SMALL)
    assert [visit[:3] for visit in visits] == [
        ("polite", "ok", ""),
        ("greedy", "failed", "it did not get the moon"),
        ("silent", "ok", ""),
        ("forgetful", "skipped", "it could not do its work: No such file or directory"),
    ]
    assert visits[0].asked == 3


def test_each_animal_is_told_in_two_sentences() -> None:
    for name, one in ZOO.items():
        assert one.name == name
        for sentence in (one.does, one.good):
            assert sentence[0].islower()
            assert not sentence.endswith(".")
        # What no visit looks at is no promise.
        for unseen in ("timeout", "limit", "log", "buffer", "bounds", "descriptor", "thread"):
            assert unseen not in one.good or "should" in one.good, name
        assert set(one.on) <= {"tcp", "tls", "unix", "udp"}


def test_the_kit_needs_no_more_than_its_package() -> None:
    assert {"release", "visits", "ZOO", "Healthy", "Visit"} <= set(bad_clients.__all__)
    for name in bad_clients.__all__:
        assert getattr(bad_clients, name).__doc__


# ------------------------------------------------------------------- the command

FEW = ["--many", "3", "--pace", "0.01", "--mib", "0.5", "--within", str(DEADLINE)]


def test_the_command_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    with running(echo, "thread") as up:
        words = [up.address.name, "--only", "silent", "--only", "storm", *FEW]
        assert main(words) == 0
    out, err = capsys.readouterr()
    heading, silent, storm, counts = out.splitlines()
    assert heading.split() == ["animal", "verdict", "slowest", "reply"]
    assert silent.split()[:2] == ["silent", "ok"]
    assert silent.endswith(" ms")
    assert storm.split(maxsplit=3) == ["storm", "skipped", "–", "it visits udp://"]
    assert counts == "1 ok, 1 skipped"
    assert err == ""


def test_the_command_fails_when_an_animal_was_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    with faulty(converse(never_closes), listener()) as address:
        words = [address, "--only", "half-close-in", "--within", "0.4", "--json"]
        assert main(words) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["address"] == address
    assert told["ok"] is False
    (visit,) = told["visits"]
    assert visit["animal"] == "half-close-in"
    assert visit["verdict"] == "failed"
    assert "did not end its own" in visit["said"]
    assert visit["asked"] == 2


def test_what_the_command_says_may_be_any_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(message: bytes) -> bytes:
        return b"yes" if message == b"GET\t\xff\\" else b"no"

    with running(answer, "thread", framing="delimiter:;") as up:
        said = [up.address.name, "--say", r"GET\t\xff\\;", "--only", "half-close-after"]
        assert main([*said, "--expect", r"y\x65s", "--after-only", *FEW]) == 0
        assert main([*said, "--expect", "no", "--within", "0.4"]) == 1
    assert "before the first animal came: no reply within 0.4 s" in capsys.readouterr().err


def test_the_command_tells_who_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert main(["--list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told] == list(ZOO)
    for one in told:
        assert f"{one['name']} ({', '.join(one['on'])})\n    {one['does']}\n" in listed


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "name the server to visit"),
        (["127.0.0.1:http"], 2, "'http' is not a port number"),
        (["127.0.0.1:7", "--only", "slent"], 2, "did you mean 'silent'"),
        (["192.0.2.1:7"], 2, "say --yes-it-is-my-server if it is yours"),
        (["127.0.0.1:7", "--seconds", "0"], 2, ": --seconds=0: seconds, more than 0"),
        (["127.0.0.1:7", "--many", "0"], 2, ": --many must be more than 0"),
        (["127.0.0.1:7", "--many", "x"], 2, "--many: takes a whole number of connections, not 'x'"),
        (["127.0.0.1:7", "--pace", "x"], 2, "--pace: takes a number of seconds, not 'x'"),
        (["127.0.0.1:7", "--only"], 2, "--only: expected one argument; see --help"),
        (["127.0.0.1:7", "--onyl", "x"], 2, "unknown flag '--onyl'; did you mean '--only'"),
        (["127.0.0.1:7", "more"], 2, "one word too many: 'more'"),
        (["nobody.invalid:7"], 1, "cannot find the host"),
    ],
)
def test_what_the_command_cannot_do_is_a_sentence(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m echoframe.testing.bad_clients: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_the_readme_shows_flags_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^python3 -m echoframe.testing.bad_clients (.*)$", README, re.MULTILINE)
    assert len(shown) > 2
    for line in shown:
        words = shlex.split(line)
        # That it lists is the end of it; that nobody has the flag would be another one.
        assert main([*words, "--list"]) == 0


def test_nobody_listening_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with listener() as sock:
        address = "{}:{}".format(*sock.getsockname())
    assert main([address]) == 1
    assert f"nobody listens at tcp://{address}" in capsys.readouterr().err


def test_ctrl_c_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Healthy, "check", interrupt)
    assert main(["127.0.0.1:7"]) == 130


def test_it_is_a_program_that_may_lose_its_reader() -> None:
    def run(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "echoframe.testing.bad_clients", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=surroundings(),
            cwd=ROOT,
            text=True,
        )

    with running(echo, "thread") as up, run(up.address.name, "--only", "silent") as whole:
        out, err = whole.communicate(timeout=PATIENCE)
        assert (whole.returncode, err) == (0, "")
        assert out.endswith("1 ok\n")
    with run("--list") as lost:
        assert lost.stdout is not None
        assert lost.stderr is not None
        lost.stdout.close()
        assert lost.wait(PATIENCE) == 141
        assert lost.stderr.read() == ""
