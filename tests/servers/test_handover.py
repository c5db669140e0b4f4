"""Listeners that pass to another program: nobody is refused, and nothing else changes."""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe import ListenError, SettingError, ThreadServer, serve
from echoframe.address import Address
from echoframe.servers import MODELS, Server, SingleServer, handover

from ..certificates import Certificates
from ..helpers import (
    DEADLINE,
    Child,
    Gate,
    Log,
    Notes,
    Place,
    ask,
    echo,
    eventually,
    forked,
    one_worker,
    raw_connection,
    read_to_end,
    served,
    slow,
)

every_model = pytest.mark.parametrize("model", MODELS)

# So many connections, one after the other, while listeners pass from one to the other.
ENOUGH = 500
CLIENTS = 4

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # Short: the path of a Unix socket has few bytes.
    made = tmp_path / "x.sock"
    if len(str(made)) > 90:
        pytest.skip(f"{tmp_path} is too long for a Unix socket")
    return made


@contextlib.contextmanager
def program(
    cls: type[Server], place: Any, start: Gate | None = None, **settings: Any
) -> Iterator[Child]:
    """A server in a process of its own, made when the gate opens; it tells its addresses."""

    def work(told: Notes) -> None:
        assert start is None or start.wait()
        server = cls(place, echo, framing="raw", **settings)
        server.settled = lambda: told.write(json.dumps([str(one) for one in server.addresses]))
        server.run()

    with forked(work) as child:
        yield child


def places_of(child: Child) -> list[str]:
    found: list[str] = json.loads(child.notes.next())
    return found


def stop(child: Child) -> int:
    os.kill(child.pid, signal.SIGTERM)
    return child.wait()


class Load:
    """Clients that connect, ask, and come again; whatever goes wrong is kept."""

    def __init__(self, place: str) -> None:
        self._address = Address.parse(place)
        self.served = [0] * CLIENTS
        self.wrong: list[str] = []
        self._over = False
        self._threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)
        ]

    def _work(self, number: int) -> None:
        while not self._over:
            message = b"%d of %d" % (self.served[number], number)
            try:
                with socket.create_connection((self._address.host, self._address.port)) as peer:
                    peer.settimeout(DEADLINE)
                    peer.sendall(message)
                    peer.shutdown(socket.SHUT_WR)
                    got = read_to_end(peer)
            except OSError as error:
                self.wrong.append(repr(error))
                return
            if got != message:
                self.wrong.append(f"{got!r} instead of {message!r}")
                return
            self.served[number] += 1

    def has(self, count: int) -> bool:
        return bool(self.wrong) or sum(self.served) >= count

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(DEADLINE)


def passes_under_load(
    path: Path, gate: Gate, old: dict[str, Any], new: dict[str, Any], model: str
) -> None:
    cls, place = MODELS[model], "tcp://127.0.0.1:0"
    with (
        program(cls, place, takeover=path, **old) as first,
        program(cls, place, gate, takeover=path, **new) as second,
    ):
        before = places_of(first)
        with Load(before[0]) as load:
            eventually(lambda: load.has(ENOUGH // 5), "some load")
            gate.open()
            assert first.wait() == 0
            assert places_of(second) == before
            eventually(lambda: load.has(ENOUGH), "the load", 2 * DEADLINE)
        assert load.wrong == []
        # It offers them in turn.
        assert path.is_socket()
        assert stop(second) == 0
        assert list(path.parent.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"),
    [
        *((model, {"workers": 2} if model == "prefork" else {}) for model in MODELS),
        ("aio", {"uvloop": False}),
    ],
)
def test_nobody_is_refused_while_listeners_pass(
    model: str, more: dict[str, Any], path: Path, gate: Gate
) -> None:
    passes_under_load(path, gate, more, more, model)


# Each worker has a listener, and in each of those somebody may wait.
@pytest.mark.parametrize(("old", "new"), [(2, 1), (1, 3)])
def test_a_listener_for_each_worker_passes_to_more_or_fewer(
    old: int, new: int, path: Path, gate: Gate
) -> None:
    passes_under_load(
        path,
        gate,
        {"workers": old, "reuse_port": True},
        {"workers": new, "reuse_port": True},
        "prefork",
    )


def test_one_listener_passes_to_workers_that_want_one_each(path: Path, gate: Gate) -> None:
    passes_under_load(path, gate, {"workers": 1}, {"workers": 2, "reuse_port": True}, "prefork")


@contextlib.contextmanager
def offering(path: Path, place: Any = "tcp://127.0.0.1:0", **settings: Any) -> Iterator[Any]:
    """A server of this process that offers its listeners."""
    settled = threading.Event()
    cls = type("Offering", (ThreadServer,), {"settled": settled.set})
    with served(cls, echo, place, takeover=path, **settings) as up:
        eventually(settled.is_set, "an offer")
        yield up


def test_what_waits_in_the_backlog_passes_too(path: Path, gate: Gate, notes: Notes) -> None:
    # On single, whose only thread is with the first of them.
    with (
        served(SingleServer, slow(gate, notes), takeover=path) as old,
        raw_connection(old) as inside,
    ):
        inside.sendall(b"first\n")
        assert notes.next() == "begun"
        with raw_connection(old) as waits:
            waits.sendall(b"second\n")
            with offering(path) as new:
                assert new.addresses == old.addresses
                waits.settimeout(DEADLINE)
                assert waits.recv(100) == b"second\n"
                gate.open()
                assert read_to_end(inside) == b"first\n"
                inside.close()
                assert old.server is not None
                eventually(old.server._life.ended.is_set, "the end of the old one")


def test_a_successor_that_fails_changes_nothing(path: Path, log: Log) -> None:
    with offering(path) as old, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port} is in use"):
            serve("echo", ["127.0.0.1:0", f"127.0.0.1:{port}"], takeover=path)
        log.expect("was to take over, and left before it was ready; nothing changes")
        assert [entry.name for entry in path.parent.iterdir() if entry != log.path] == ["x.sock"]
        with raw_connection(old) as peer:
            assert ask(peer, b"hello") == b"hello"
        # And the next one may.
        with offering(path, old.addresses[0]) as new, raw_connection(new) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_a_successor_that_was_stopped_before_it_served_changes_nothing(path: Path) -> None:
    with offering(path) as old:
        with ThreadServer(old.addresses, echo, takeover=path) as new:
            new.stop()
            new.serve_forever()
        assert not new.overtaken
        with raw_connection(old) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_every_kind_of_listener_passes(
    path: Path, tmp_path: Path, certificates: Certificates
) -> None:
    file = tmp_path / "talk"
    places = ["127.0.0.1:0", "tls://127.0.0.1:0", "udp://127.0.0.1:0", f"unix://{file}"]
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(offering(path, places, **certificates.settings))
        # The order does not matter, and a file's mode is the new one's to say.
        settings = {"unix_mode": 0o640, **certificates.settings}
        new = stack.enter_context(offering(path, places[::-1], **settings))
        eventually(old.server._life.ended.is_set, "the end of the old one")
        assert old.server.close().cut == 0
        assert new.addresses == old.addresses[::-1]
        assert file.stat().st_mode & 0o777 == 0o640
        for at, kind in enumerate(("unix", "udp", "tls", "tcp")):
            with raw_connection(new, at) as bare:
                context = certificates.client_context()
                peer = context.wrap_socket(bare, server_hostname="127.0.0.1") if at == 2 else bare
                peer.sendall(b"hello\n")
                assert peer.recv(100) == b"hello\n", kind
                peer.close()
    assert not file.exists()


def test_only_what_both_asked_for_passes(path: Path, tmp_path: Path) -> None:
    given_up, added = tmp_path / "old", tmp_path / "new"
    with (
        offering(path, ["127.0.0.1:0", f"unix://{given_up}"]) as old,
        # By what was asked for, and by where it really is.
        offering(path, [f"unix://{added}", old.addresses[0]]) as new,
    ):
        old.server.close()
        assert not given_up.exists()
        with raw_connection(new) as peer:
            assert ask(peer, b"hello") == b"hello"
        assert new.addresses[1] == old.addresses[0]


def test_a_socket_file_that_is_gone_is_made_anew(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk"
    with offering(path, f"unix://{file}"):
        file.unlink()
        with offering(path, f"unix://{file}") as new, raw_connection(new) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_of_two_successors_one_is_told_that_it_was_slower(path: Path, log: Log) -> None:
    with offering(path) as old:
        slower = ThreadServer("127.0.0.1:0", echo, takeover=path)
        with slower, offering(path) as faster:
            eventually(lambda: old.server.handed_over, "a takeover")
            slower.serve_forever()
            assert slower.overtaken
            log.expect("another program was faster to take over")
            slower.server_close()
            with raw_connection(faster) as peer:
                assert ask(peer, b"hello") == b"hello"
            assert path.exists()


def test_a_predecessor_that_ends_first_leaves_all_of_it(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk"
    with offering(path, f"unix://{file}") as old:
        new = ThreadServer(f"unix://{file}", echo, takeover=path)
        # It is known to the old one by now, or was never offered anything.
        old.server.close()
    with new:
        thread = threading.Thread(target=new.serve_forever)
        thread.start()
        eventually(path.exists, "an offer")
        with raw_connection(new) as peer:
            assert ask(peer, b"hello") == b"hello"
    thread.join(DEADLINE)
    assert not file.exists()
    assert not path.exists()


# ------------------------------------------------------------- odd people there


def knock(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def take_offer(sock: socket.socket) -> dict[str, Any]:
    line, numbers, _, _ = socket.recv_fds(sock, 1 << 16, 100)
    for number in numbers:
        os.close(number)
    found: dict[str, Any] = json.loads(line)
    assert sum(entry["sockets"] for entry in found["listeners"]) == len(numbers)
    return found


@every_model
def test_who_talks_rubbish_or_nothing_disturbs_nobody(model: str, path: Path) -> None:
    cls = MODELS[model]
    with (
        program(cls, "127.0.0.1:0", takeover=path, **one_worker(model)) as up,
        contextlib.ExitStack() as stack,
    ):
        (place,) = places_of(up)
        silent = [stack.enter_context(knock(path)) for _ in range(20)]
        for rubbish in (b"\0" * (1 << 17), b"{}\n", b'{"echoframe": 2, "ready": []}\n', b"[" * 9):
            with knock(path) as sock, contextlib.suppress(ConnectionError):
                take_offer(sock)
                sock.sendall(rubbish)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(100) in (b"gone\n", b"")
        with raw_connection(Place(place)) as peer:
            peer.sendall(b"hello")
            assert peer.recv(100) == b"hello"
        # All but the last few were sent away to make room.
        assert take_offer(silent[0])["listeners"][0]["asked"] == "tcp://127.0.0.1:0"
        assert silent[0].recv(100) == b"gone\n"
        assert stop(up) == 0


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch, notes: Notes) -> float:
    """A short one; the moments at which one begins are written down."""
    monkeypatch.setattr(handover, "REST", 0.02)
    starve = handover.Handover._starve

    def noted(self: Any, error: OSError) -> None:
        notes.write(time.monotonic())
        starve(self, error)

    monkeypatch.setattr(handover.Handover, "_starve", noted)
    return handover.REST


def take_descriptors() -> None:
    """Leave this process none."""
    number = os.dup(0)
    os.close(number)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def knocks_until_there_are_descriptors(
    path: Path, pid: int, rest: float, notes: Notes, log: Log
) -> None:
    begun = time.monotonic()
    with knock(path) as sock:
        first, second, third = map(float, notes.take(3))
        assert third - second >= rest
        assert second - first >= rest
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert take_offer(sock)["pid"] == pid
    assert log.text.count("nobody can take over at") <= 1 + time.monotonic() - begun


with_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="nobody can give another process descriptors"
)


@with_prlimit
@every_model
def test_out_of_descriptors_who_knocks_is_heard_later(
    model: str, path: Path, rest: float, notes: Notes, log: Log
) -> None:
    def work(told: Notes) -> None:
        cls: Any = MODELS[model]
        server = cls("127.0.0.1:0", echo, takeover=path, **one_worker(model))

        def settled() -> None:
            take_descriptors()
            told.write("ready")

        server.settled = settled
        server.run()

    with forked(work) as child:
        assert child.notes.next() == "ready"
        knocks_until_there_are_descriptors(path, child.pid, rest, notes, log)
        log.expect("left before it was ready")
        assert stop(child) == 0


@with_prlimit
def test_out_of_descriptors_in_a_conversation_too(
    path: Path, gate: Gate, rest: float, notes: Notes, log: Log
) -> None:
    def work(told: Notes) -> None:
        def busy(message: bytes) -> bytes:
            take_descriptors()
            told.write("busy")
            assert gate.wait()
            return message

        server = SingleServer("127.0.0.1:0", busy, takeover=path)
        server.settled = lambda: told.write(server.address)
        server.run()

    with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
        peer.sendall(b"hello\n")
        assert child.notes.next() == "busy"
        knocks_until_there_are_descriptors(path, child.pid, rest, notes, log)
        gate.open()
        assert peer.recv(100) == b"hello\n"
        peer.close()
        assert stop(child) == 0


def test_the_socket_is_its_users_alone(path: Path) -> None:
    with offering(path):
        assert path.stat().st_mode & 0o777 == 0o600


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@as_root
def test_another_user_is_given_nothing(path: Path, log: Log) -> None:
    def beg(told: Notes) -> None:
        folder = os.open(path.parent, os.O_RDONLY)
        os.fchdir(folder)
        os.setuid(NOBODY)
        with knock(Path(path.name)) as sock:
            said, numbers, _, _ = socket.recv_fds(sock, 100, 10)
            told.write(len(said), len(numbers))

    with program(ThreadServer, "127.0.0.1:0", takeover=path) as up:
        places_of(up)
        # Else the file's mode would be enough.
        path.chmod(0o666)
        path.parent.chmod(0o711)
        with forked(beg) as child:
            assert child.notes.next() == "0 0"
            assert child.wait() == 0
        log.expect(f"process {child.pid} of user {NOBODY} is not given the listeners")
        assert stop(up) == 0


@as_root
def test_nothing_is_taken_from_another_user_but_in_a_folder_of_theirs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offer(told: Notes) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            os.setuid(NOBODY)
            listening.listen()
            told.write("ready")
            for _ in range(2):
                listening.accept()[0].recv(100)

    with forked(offer) as child:
        assert child.notes.next() == "ready"
        with pytest.raises(ListenError, match=rf"process {child.pid} of user {NOBODY}, who is not"):
            serve("echo", "127.0.0.1:0", takeover=path)
        monkeypatch.setattr(handover, "PATIENCE", 0.2)
        os.chown(path.parent, NOBODY, -1)
        with pytest.raises(ListenError, match="has said nothing within"):
            serve("echo", "127.0.0.1:0", takeover=path)
        assert child.wait() == 0


# Or whoever starts the next one would wait for somebody who never answers.
@pytest.mark.parametrize("model", ["fork", "prefork"])
def test_no_child_keeps_the_offer_when_its_parent_is_killed(model: str, path: Path) -> None:
    with program(MODELS[model], "127.0.0.1:0", takeover=path, **one_worker(model)) as up:
        (place,) = places_of(up)
        with raw_connection(Place(place)) as peer:
            peer.sendall(b"hello")
            assert peer.recv(100) == b"hello"
            os.kill(up.pid, signal.SIGKILL)
            assert up.wait() == -signal.SIGKILL
            with pytest.raises(ConnectionRefusedError):
                knock(path)
        # What it has left behind is nobody's.
        with offering(path) as new, raw_connection(new) as peer:
            assert ask(peer, b"hello") == b"hello"


# ------------------------------------------------- what is no predecessor at all


@contextlib.contextmanager
def somebody(path: Path, act: Callable[[socket.socket], object]) -> Iterator[None]:
    """Somebody at the path who does this to whoever connects."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(DEADLINE)

        over = threading.Event()

        def work() -> None:
            while True:
                peer, _ = listening.accept()
                with peer, contextlib.suppress(OSError):
                    if over.is_set():
                        return
                    act(peer)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            knock(path).close()
            thread.join(DEADLINE)


def offer(line: bytes, count: int) -> Callable[[socket.socket], object]:
    def act(peer: socket.socket) -> None:
        with socket.socket() as tcp:
            numbers = array.array("i", [tcp.fileno()] * count)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if count else []
            peer.sendmsg([line], rights)
        peer.settimeout(DEADLINE)
        # Until the other side has had enough.
        peer.recv(1)

    return act


ENTRY = {"asked": "unix:///x", "address": "unix:///x", "sockets": 1, "mark": None}
GOOD = {"echoframe": 1, "pid": 1, "listeners": [ENTRY]}


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (offer(b"220 mail.example.com ESMTP\r\n", 0), "this version understands"),
        (offer(b"x" * (1 << 17), 3), "this version understands"),
        (offer(json.dumps({**GOOD, "echoframe": 2}).encode() + b"\n", 1), "version understands"),
        (offer(json.dumps(GOOD).encode() + b"\n", 0), "has said nothing within 0.2 s"),
        (offer(json.dumps({**GOOD, "pid": "x"}).encode() + b"\n", 1), "has said nothing within"),
        (offer(json.dumps(GOOD).encode() + b"\n", 1), "unix:///x: the socket that was handed"),
        (lambda peer: peer.recv(1), "has said nothing within 0.2 s; stop that program"),
        (lambda peer: None, "offers no listeners; choose another path"),
    ],
    ids=["text", "long", "version", "none", "pid", "kind", "silent", "end"],
)
def test_somebody_else_at_the_path(
    act: Any, reason: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "PATIENCE", 0.2)
    with somebody(path, act), pytest.raises(ListenError) as caught:
        serve("echo", ["unix:///x"], takeover=path)
    assert reason in str(caught.value)
    assert list(path.parent.iterdir()) == [path]


def test_where_nothing_can_be_offered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, reason in {
        "no/x": "its folder is not there; make it, or choose another path",
        "file/x": "its folder is none; choose another path",
        "file": "a file that is no socket; choose another path",
        ".": "a folder; choose another path",
    }.items():
        with pytest.raises(ListenError) as caught:
            serve("echo", "127.0.0.1:0", takeover=tmp_path / name)
        assert str(caught.value).endswith(reason)
        assert str(tmp_path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@as_root
def test_where_this_user_may_offer_nothing(tmp_path: Path) -> None:
    def work(told: Notes) -> None:
        os.fchdir(os.open(tmp_path, os.O_RDONLY))
        os.setuid(NOBODY)
        try:
            serve("echo", "127.0.0.1:0", takeover="x")
        except ListenError as error:
            told.write(error.errno, error)

    with forked(work) as child:
        sentence = "cannot offer listeners at x: this user lacks the permission; choose a path"
        assert child.notes.next().startswith(f"{errno.EACCES} {sentence}")
        assert child.wait() == 0


@pytest.mark.parametrize("path", ["", "unix://", "a\0b", "x" * 200])
def test_what_no_unix_socket_can_be_called(path: str) -> None:
    with pytest.raises(SettingError, match=r"^takeover takes "):
        serve("echo", "127.0.0.1:0", takeover=path)
