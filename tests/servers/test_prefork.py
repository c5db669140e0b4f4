"""What only prefork promises."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import http.server
import os
import shutil
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe import (
    PreforkMixIn,
    PreforkServer,
    SettingError,
    ThreadingMixIn,
    ThreadServer,
    WorkersFailed,
)
from echoframe.servers import MODELS, Server, crew
from echoframe.testing import running

from ..certificates import Certificates
from ..helpers import (
    DEADLINE,
    Gate,
    Log,
    Notes,
    Place,
    Served,
    ask,
    children,
    echo,
    eventually,
    fail_first_fork,
    forked,
    noting,
    raw_connection,
    read_line,
    read_to_end,
    served,
    slow,
    stopped,
)

INNER = [name for name in MODELS if not MODELS[name].forks]
every_inner = pytest.mark.parametrize("inner", INNER)

needs_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(),
    reason="this kernel does not tell which children a process has",
)


def who(message: bytes) -> str:
    return str(os.getpid())


def worker_of(up: Any) -> int:
    with raw_connection(up) as peer:
        return int(ask(peer, b"who?"))


def workers_of(pid: int) -> set[int]:
    """The children of a supervisor."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), f"the end of process {pid}")


@contextlib.contextmanager
def load(up: Any, threads: int = 3) -> Iterator[list[BaseException | bytes]]:
    """Clients that connect, ask, and connect again; gives what went wrong with them."""
    wrong: list[BaseException | bytes] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            try:
                with raw_connection(up) as peer:
                    answer = ask(peer, b"hello")
                    if not answer:
                        wrong.append(answer)
            except BaseException as error:
                wrong.append(error)

    crowd = [threading.Thread(target=go_on) for _ in range(threads)]
    for one in crowd:
        one.start()
    try:
        yield wrong
    finally:
        over.set()
        for one in crowd:
            one.join(DEADLINE)


# ------------------------------------------------------------- what runs in them


@every_inner
def test_each_worker_is_a_server_of_the_inner_model(inner: str, notes: Notes) -> None:
    with served(PreforkServer, noting(notes), inner=inner, workers=2) as up:
        with raw_connection(up) as peer:
            assert ask(peer, b"one") == b"one"
            peer.sendall(b"half")
        assert notes.take(2) == ["open", "close peer"]
        idle = raw_connection(up)
        assert ask(idle, b"two") == b"two"
    with idle:
        assert read_to_end(idle) == b""
    assert notes.take(2) == ["open", "close drain"]
    assert up.report is not None
    served_, finished, cut = up.report[:3]
    assert (served_, cut) == (2, 0)
    # The first one's handler has heard of its end, but perhaps not yet the table of that worker.
    assert finished in (1, 2)


@pytest.mark.long
@every_inner
def test_what_is_left_at_the_deadline_is_cut(inner: str, notes: Notes) -> None:
    with (
        served(PreforkServer, noting(notes), inner=inner, drain_timeout=0.2) as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"one") == b"one"
        peer.sendall(b"half")
        name = "{}:{}".format(*peer.getsockname())
        up.stop()
        with contextlib.suppress(ConnectionResetError):
            assert read_to_end(peer) == b""
    assert notes.take(2) == ["open", "close cut"]
    assert up.report is not None
    assert up.report[:4] == (1, 0, 1, ((name, "cut"),))


def test_what_the_inner_model_is_refused_is_refused_here() -> None:
    with pytest.raises(SettingError, match="inner is what runs in each worker, and 'fork' starts"):
        PreforkServer("tcp://127.0.0.1:0", echo, inner="fork")
    with pytest.raises(SettingError, match="unknown model 'thraed'; did you mean 'thread'"):
        PreforkServer("tcp://127.0.0.1:0", echo, inner="thraed")


def test_what_the_inner_model_takes_reaches_it(notes: Notes) -> None:
    with served(PreforkServer, noting(notes), inner="single", once=True, workers=1) as up:
        # The worker's wish is the server's.
        up.stopped = True
        with raw_connection(up) as peer:
            assert ask(peer, b"one") == b"one"
    assert up.report is not None
    assert up.report.served == 1


def test_the_inner_model_may_be_a_class_of_ones_own() -> None:
    class Polite(ThreadServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            request.sendall(b"Good day.\n")
            return True

    with running(echo, "prefork", inner=Polite) as up, raw_connection(up) as peer:
        assert read_line(peer) == b"Good day.\n"
        assert ask(peer, b"hello") == b"hello"


@needs_proc
def test_there_are_as_many_workers_as_asked_for_and_they_stay() -> None:
    with running(who, "prefork", workers=3) as up:
        eventually(lambda: len(workers_of(up.pid)) == 3, "three workers")
        workers = workers_of(up.pid)
        seen = {worker_of(up) for _ in range(20)}
        assert seen <= workers
        assert workers_of(up.pid) == workers


@needs_proc
def test_unless_told_there_is_one_for_each_core() -> None:
    with running(who, "prefork") as up:
        assert worker_of(up)
        cores = len(os.sched_getaffinity(0))
        eventually(lambda: len(workers_of(up.pid)) == cores, "a worker for each core")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it in this way")
def test_the_supervisor_has_one_thread() -> None:
    with running(who, "prefork") as up:
        assert worker_of(up)
        assert len(os.listdir(f"/proc/{up.pid}/task")) == 1


def test_a_workers_end_runs_nothing_that_is_the_supervisors(notes: Notes) -> None:
    def work(told: Notes) -> None:
        server = PreforkServer("tcp://127.0.0.1:0", lambda message: print("said") or message)
        atexit.register(lambda: notes.write("atexit", os.getpid()))
        told.write(str(server.address))
        try:
            server.run()
        finally:
            notes.write("returned", os.getpid())

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0
    assert notes.so_far() == [f"returned {child.pid}"]


def test_what_was_printed_before_a_fork_is_printed_once_and_a_workers_last_words_too(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out"

    def work(told: Notes) -> None:
        sys.stdout = path.open("w", buffering=1 << 16)
        print("before")
        server = PreforkServer("tcp://127.0.0.1:0", lambda message: print("said") or message)
        told.write(str(server.address))
        server.run()
        sys.stdout.flush()

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            assert ask(peer, b"hello") == b"hello"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0
    assert sorted(path.read_text().split("\n")) == ["", "before", "said"]


# -------------------------------------------------------------- workers that end


@needs_proc
def test_a_worker_that_is_killed_costs_its_own_connections_and_another_one_comes(
    log: Log,
) -> None:
    with served(PreforkServer, who, workers=2) as up, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(raw_connection(up)) for _ in range(20)]
        owners = [int(ask(peer, b"who?")) for peer in peers]
        victim = owners[0]
        os.kill(victim, signal.SIGKILL)
        for peer, owner in zip(peers, owners, strict=True):
            if owner == victim:
                with contextlib.suppress(ConnectionResetError):
                    assert read_to_end(peer) == b""
            else:
                assert int(ask(peer, b"who?")) == owner
        log.expect(f"WARNING worker {victim} was killed by SIGKILL, and another one starts\n")
        eventually(lambda: len(workers_of(up.pid)) == 2, "the new worker")
        assert victim not in workers_of(up.pid)
    assert up.report is not None
    # Those of the killed one are not among the served.
    assert up.report.served == sum(owner != victim for owner in owners)


@needs_proc
@pytest.mark.parametrize("inner", ["pool", "loop"])
def test_under_load_a_kill_costs_no_more_than_who_was_there(inner: str, log: Log) -> None:
    with served(PreforkServer, echo, workers=2, inner=inner) as up:
        eventually(lambda: len(workers_of(up.pid)) == 2, "two workers")
        victim = min(workers_of(up.pid))
        with load(up, 20) as wrong:
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            log.expect(f"WARNING worker {victim} was killed by SIGKILL, and another one starts\n")
            eventually(lambda: len(workers_of(up.pid) - {victim}) == 2, "the new worker")
            assert time.monotonic() - began < 1
        # Each client lost one connection at most, which that worker had; nobody was refused.
        assert len(wrong) <= 20
        assert all(one == b"" or isinstance(one, ConnectionResetError) for one in wrong)


def test_what_a_killed_worker_had_served_is_counted() -> None:
    # When one conversation begins, those before it are over and counted.
    with served(PreforkServer, who, workers=1, inner="single") as up:
        before = [worker_of(up) for _ in range(6)]
        kill(before[0])
        assert worker_of(up) not in before
    assert up.report is not None
    assert up.report.served in (6, 7)


def test_a_crash_that_comes_again_and_again_is_answered_more_and_more_slowly(log: Log) -> None:
    def die(message: bytes) -> bytes:
        if message == b"die":
            os._exit(3)
        return message

    with served(PreforkServer, die, workers=1) as up:
        for _ in range(3):
            with raw_connection(up) as peer:
                peer.sendall(b"die\n")
                with contextlib.suppress(ConnectionResetError):
                    assert read_to_end(peer) == b""
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
    assert log.text.count("ended with exit code 3, and another one starts\n") == 1
    assert log.text.count("ended with exit code 3, and another one starts in 0.1 s\n") == 1
    assert log.text.count("ended with exit code 3, and another one starts in 0.2 s\n") == 1


def test_a_fork_that_fails_is_tried_again(log: Log) -> None:
    class Own(PreforkServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            fail_first_fork()
            super().serve_forever(poll_interval)

    with served(Own, who, workers=1) as up:
        assert worker_of(up)
    assert "WARNING resting before starting workers: " in log.text
    assert log.tracebacks == 0


def test_where_nothing_tells_of_a_workers_end_it_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "handle_of", lambda pid: None)
    monkeypatch.setattr(crew, "SOMETIMES", 0.02)
    with served(PreforkServer, who, workers=1) as up:
        first = worker_of(up)
        kill(first)
        assert worker_of(up) != first


class Broken(Server):
    """Whose workers cannot work."""

    def serve_forever(self, poll_interval: float = 0.01) -> None:
        super().serve_forever(poll_interval)

    def service_actions(self) -> None:
        raise LookupError("broken")


def broken(**settings: Any) -> Any:
    cls: Any = type("Own", (Broken, PreforkServer), {})
    return cls("tcp://127.0.0.1:0", echo, **settings)


def test_workers_that_fail_at_once_are_given_up(log: Log, notes: Notes) -> None:
    def work(told: Notes) -> None:
        with broken(workers=2) as server:
            try:
                server.serve_forever()
            except WorkersFailed as error:
                told.write(error)
        told.write(len(children()))

    with forked(work) as child:
        sentence = child.notes.next()
        assert sentence.startswith("workers end as soon as they are started: 5 in a row")
        assert "exit code 1" in sentence
        assert child.notes.next() == "0"
        assert child.wait() == 0
    started = log.text.count("failed\nTraceback")
    assert 5 <= started <= 10
    assert "LookupError: broken" in log.text


def test_a_worker_that_never_begins_to_serve_holds_up_nobody(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PUNCTUAL", 0.3)

    class Own(PreforkServer):
        hangs = False

        def reload(self) -> bool:
            self.hangs = True
            return super().reload()

        def _adopt(self) -> None:
            super()._adopt()
            if self._post is not None and self.hangs:
                threading.Event().wait()

    with served(Own, who, workers=1) as up:
        first = worker_of(up)
        os.kill(up.pid, signal.SIGHUP)
        log.expect("does not serve after 0.3 s; killing it\n")
        log.expect("was killed by SIGKILL before it served, so the old one stays\n")
        assert worker_of(up) == first


def test_old_workers_stay_when_new_ones_fail(log: Log) -> None:
    class Own(PreforkServer):
        fails = False

        def reload(self) -> bool:
            self.fails = True
            return super().reload()

        def _adopt(self) -> None:
            super()._adopt()
            assert self._post is None or not self.fails

    with served(Own, who, workers=1) as up:
        first = worker_of(up)
        os.kill(up.pid, signal.SIGHUP)
        log.expect("ended with exit code 1 before it served, so the old one stays\n")
        assert worker_of(up) == first


# --------------------------------------------------------------------- renewal


@pytest.mark.long
@needs_proc
@every_inner
def test_a_reload_renews_every_worker_and_refuses_nobody(inner: str, log: Log) -> None:
    with served(PreforkServer, who, workers=2, inner=inner) as up:
        eventually(lambda: len(workers_of(up.pid)) == 2, "two workers")
        before = workers_of(up.pid)
        with load(up, 50) as wrong:
            for reloaded in (2, 4):
                os.kill(up.pid, signal.SIGHUP)
                eventually(functools.partial(told, log, reloaded), "a reload")
            eventually(lambda: not any(map(is_alive, before)), "the end of the old workers")
            assert worker_of(up) not in before
        assert wrong == []
        eventually(lambda: len(workers_of(up.pid)) == 2, "the end of all but two")


def told(log: Log, times: int) -> bool:
    return log.text.count("takes the place of") == times


def test_a_reload_that_cannot_be_changes_nothing(log: Log) -> None:
    class Own(PreforkServer):
        def refresh(self) -> Callable[[], object]:
            raise SettingError("nonsense in line 3")

    with served(Own, who, workers=1) as up:
        first = worker_of(up)
        os.kill(up.pid, signal.SIGHUP)
        log.expect("ERROR everything stays as it was: nonsense in line 3\n")
        assert worker_of(up) == first


@pytest.mark.parametrize("reuse_port", [False, True])
def test_certificates_are_read_anew(
    reuse_port: bool, certificates: Certificates, tmp_path: Path, log: Log
) -> None:
    def serial() -> Any:
        with (
            raw_connection(up) as plain,
            certificates.client_context().wrap_socket(plain, server_hostname="localhost") as peer,
        ):
            found = peer.getpeercert()
            assert found is not None
            return found["serialNumber"]

    def issue() -> None:
        pair = certificates.issue("localhost")
        shutil.copy(pair.cert, tmp_path / "cert.pem")
        shutil.copy(pair.key, tmp_path / "key.pem")

    issue()
    settings: dict[str, Any] = {
        "tls_cert": tmp_path / "cert.pem",
        "tls_key": tmp_path / "key.pem",
        "reuse_port": reuse_port,
        "workers": 2,
    }
    with served(PreforkServer, echo, "tls://127.0.0.1:0", **settings) as up:
        before = serial()
        issue()
        os.kill(up.pid, signal.SIGHUP)
        eventually(functools.partial(told, log, 2), "a reload")
        # The last of the old ones may take one more, until it has heard that it shall not.
        eventually(lambda: all(serial() != before for _ in range(10)), "the new certificate")
        after = serial()
        shutil.copy(certificates.key, tmp_path / "key.pem")
        os.kill(up.pid, signal.SIGHUP)
        log.expect("ERROR everything stays as it was: the key in tls_key=")
        assert all(serial() == after for _ in range(10))
    assert told(log, 2)


def test_a_conversation_goes_on_while_its_worker_is_renewed(notes: Notes, gate: Gate) -> None:
    with (
        served(PreforkServer, slow(gate, notes), workers=1) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(up.pid, signal.SIGHUP)
        with raw_connection(up) as other:
            other.sendall(b"me too\n")
            assert notes.next() == "begun"
            gate.open()
            assert read_line(other) == b"me too\n"
        assert read_to_end(peer) == b"hello\n"


def test_a_worker_may_ask_for_the_reload() -> None:
    class Known(PreforkServer):
        here: Known

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            Known.here = self
            super().serve_forever(poll_interval)

    def answer(message: bytes) -> str:
        if message == b"reload":
            assert Known.here.reload()
        return str(os.getpid())

    with served(Known, answer, workers=1) as up:
        first = worker_of(up)
        with raw_connection(up) as peer:
            assert int(ask(peer, b"reload")) == first
        eventually(lambda: worker_of(up) != first, "another worker")


@pytest.mark.parametrize("inner", ["pool", "thread", "loop"])
@pytest.mark.parametrize("jitter", [0, 3])
def test_a_worker_that_has_served_enough_is_renewed_and_nobody_notices(
    jitter: int, inner: str, log: Log
) -> None:
    limits: dict[str, Any] = {"max_requests": 5, "max_requests_jitter": jitter}
    with served(PreforkServer, who, workers=1, inner=inner, **limits) as up:
        with load(up) as wrong:
            log.expect("takes the place of")
        assert wrong == []
    assert "WARNING" not in log.text


def test_a_sigterm_for_one_worker_drains_that_one_and_another_comes(log: Log) -> None:
    with served(PreforkServer, who, workers=1) as up, raw_connection(up) as peer:
        first = int(ask(peer, b"who?"))
        os.kill(first, signal.SIGTERM)
        assert read_to_end(peer) == b""
        assert worker_of(up) != first
    assert "WARNING" not in log.text


# ------------------------------------------------------------------- the end


@needs_proc
def test_workers_end_with_their_supervisor_and_leave_the_port(log: Log) -> None:
    def work(told: Notes) -> None:
        server = PreforkServer("tcp://127.0.0.1:0", who, workers=2)
        told.write(str(server.address))
        server.run()

    with forked(work) as child:
        text = child.notes.next()
        eventually(lambda: len(workers_of(child.pid)) == 2, "two workers")
        with raw_connection(Place(text)) as peer:
            assert int(ask(peer, b"who?"))
            workers = workers_of(child.pid)
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            assert read_to_end(peer) == b""
        eventually(lambda: not any(map(is_alive, workers)), "the end of the workers")
    assert log.text.count("WARNING the supervisor has gone, so worker ") == 2
    assert log.tracebacks == 0
    with served(PreforkServer, who, text) as up:
        assert worker_of(up)


@pytest.mark.long
@every_inner
def test_a_signal_to_the_whole_group_is_a_drain(inner: str, notes: Notes, gate: Gate) -> None:
    def work(told: Notes) -> None:
        os.setpgid(0, 0)
        server = PreforkServer("tcp://127.0.0.1:0", slow(gate, notes), inner=inner)
        told.write(str(server.address))
        told.write(server.run().cut)

    for number in (signal.SIGTERM, signal.SIGINT):
        with forked(work) as child, raw_connection(Place(child.notes.next())) as peer:
            peer.sendall(b"hello\n")
            assert notes.next() == "begun"
            os.killpg(child.pid, number)
            gate.open()
            assert read_to_end(peer) == b"hello\n"
            assert child.notes.next() == "0"
            assert child.wait() == 0


@every_inner
def test_a_signal_that_is_not_for_a_worker_is_nothing_to_it(inner: str, notes: Notes) -> None:
    # Also where somebody else than its main thread hears of it.
    class Telling(PreforkServer):
        def _hear_of_signals(self) -> None:
            super()._hear_of_signals()
            notes.write("heard")

    with served(Telling, who, workers=1, inner=inner) as up, raw_connection(up) as peer:
        worker = int(ask(peer, b"who?"))
        os.kill(worker, signal.SIGINT)
        if inner == "single":
            assert notes.next() == "heard"
        assert int(ask(peer, b"who?")) == worker
        peer.close()
        with raw_connection(up) as another:
            assert int(ask(another, b"who?")) == worker


@every_inner
def test_an_order_is_heard_by_a_worker_whose_main_thread_does_not(inner: str) -> None:
    def take_signals() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        threading.Event().wait(DEADLINE)

    def deaf(message: bytes) -> bytes:
        threading.Thread(target=take_signals, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        return message

    with (
        served(PreforkServer, deaf, workers=1, inner=inner, drain_timeout=600) as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"hello") == b"hello"
        up.stop()
        assert read_to_end(peer) == b""
    assert up.report is not None
    assert up.report[:3] == (1, 1, 0)


# With single it has the worker's main thread, and nothing but a signal reaches it there.
@pytest.mark.long
@every_inner
def test_a_second_signal_cuts_whom_a_handler_keeps(inner: str, notes: Notes, gate: Gate) -> None:
    with (
        served(
            PreforkServer, slow(gate, notes), inner=inner, drain_timeout=600, linger_timeout=0
        ) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        os.kill(up.pid, signal.SIGTERM)
        os.kill(up.pid, signal.SIGINT)
        up.stopped = True
    assert up.report is not None
    assert up.report[:3] in ((1, 0, 1), (0, 0, 1))
    assert up.report.seconds < DEADLINE


def test_a_worker_that_cannot_end_is_killed_and_its_conversations_are_counted_as_cut(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.1)
    with (
        served(PreforkServer, who, workers=1, drain_timeout=0.1) as up,
        raw_connection(up) as peer,
    ):
        worker = int(ask(peer, b"who?"))
        os.kill(worker, signal.SIGSTOP)
        eventually(lambda: stopped(worker), "its standstill")
    assert up.report is not None
    assert up.report[:3] == (0, 0, 1)
    assert "has not ended; killing it" in log.text


def test_a_socket_file_is_the_supervisors_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with served(PreforkServer, who, f"unix://{path}", workers=1) as up:
        first = worker_of(up)
        os.kill(first, signal.SIGTERM)
        eventually(lambda: worker_of(up) != first, "another worker")
        assert path.exists()
    assert not path.exists()


def test_after_a_pause_the_same_workers_serve_again() -> None:
    def work(told: Notes) -> None:
        server = PreforkServer("tcp://127.0.0.1:0", who, workers=1)
        told.write(str(server.address))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: server.shutdown())
        for _ in range(2):
            server.serve_forever()
            told.write("returned")
            signal.sigwait([signal.SIGHUP])
        server.close()

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        with forked(work) as child:
            place = Place(child.notes.next())
            with raw_connection(place) as peer:
                first = ask(peer, b"who?")
                os.kill(child.pid, signal.SIGUSR1)
                assert child.notes.next() == "returned"
                assert ask(peer, b"still there?") == first
                with raw_connection(place) as late:
                    late.sendall(b"who?\n")
                    os.kill(child.pid, signal.SIGHUP)
                    assert read_line(late) == first + b"\n"
            os.kill(child.pid, signal.SIGUSR2)
            assert child.notes.next() == "returned"
            os.kill(child.pid, signal.SIGHUP)
            assert child.wait() == 0
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


# ------------------------------------------------------------------ listeners


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares connections out")
def test_with_reuse_port_each_worker_has_a_listener_and_its_successor_inherits_it() -> None:
    def listener(message: bytes) -> str:
        return f"{os.getpid()} {os.fstat(Known.here.socket.fileno()).st_ino}"

    class Known(PreforkServer):
        here: Known

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            Known.here = self
            super().serve_forever(poll_interval)

    def all_of(up: Served) -> dict[str, str]:
        found: dict[str, str] = {}

        def look() -> bool:
            with raw_connection(up) as peer:
                pid, inode = ask(peer, b"?").decode().split()
            found[inode] = pid
            return len(found) == 2

        eventually(look, "connections by both listeners")
        return found

    with served(Known, listener, workers=2, reuse_port=True) as up:
        before = all_of(up)
        assert len(set(before.values())) == 2
        kill(int(next(iter(before.values()))))
        behind = all_of(up)
        assert behind != before
        assert behind.keys() == before.keys()


# ------------------------------------------------------------- foreign servers


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        text = f"{os.getpid()} {type(self.server).__name__}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words: object) -> None:
        pass


def get(place: Place) -> str:
    connection = http.client.HTTPConnection(
        place.addresses[0].host, place.addresses[0].port, timeout=DEADLINE
    )
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


class Own(http.server.HTTPServer):
    """With an accept loop of its own."""

    loops: Callable[[], object]

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        self.loops()
        super().serve_forever(0.01)


class Prefork(PreforkMixIn, http.server.HTTPServer):
    workers = 2


class PreforkThreads(PreforkMixIn, ThreadingMixIn, http.server.HTTPServer):
    workers = 2


class PreforkOwn(PreforkMixIn, Own):
    workers = 2


@pytest.mark.parametrize("kind", [Prefork, PreforkThreads, PreforkOwn])
def test_a_server_of_the_stdlib_with_workers(kind: Any, notes: Notes) -> None:
    def work(told: Notes) -> None:
        with kind(("127.0.0.1", 0), Page) as server:
            server.loops = lambda: notes.write("own loop", os.getpid() != child_of[0])
            child_of.append(os.getpid())
            host, port = server.server_address[:2]
            told.write(f"tcp://{host}:{port}")
            assert server.run().served == 5
            assert server.active_children == set()

    child_of: list[int] = []
    with forked(work) as child:
        place = Place(child.notes.next())
        seen = {get(place) for _ in range(5)}
        assert all(name == kind.__name__ for name in {one.split()[1] for one in seen})
        assert str(child.pid) not in {one.split()[0] for one in seen}
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0
    assert notes.so_far() == (["own loop True"] * 2 if kind is PreforkOwn else [])


def test_handle_request_serves_one_in_the_calling_process() -> None:
    with PreforkServer("tcp://127.0.0.1:0", who) as server, raw_connection(server) as peer:
        peer.sendall(b"who?\n")
        peer.shutdown(socket.SHUT_WR)
        server.handle_request()
        assert read_to_end(peer) == f"{os.getpid()}\n".encode()
        assert server.active_children == set()


def test_a_worker_hears_a_signal_that_another_of_its_threads_was_given() -> None:
    class Doomed(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"%d" % os.getpid())
            # Given to this thread by the kernel, as it may give any to any.
            thread = threading.Thread(target=signal.raise_signal, args=(signal.SIGTERM,))
            thread.start()
            thread.join()

        def log_message(self, *_: object) -> None:
            pass

    class Site(PreforkMixIn, http.server.HTTPServer):
        workers = 1

    def work(told: Notes) -> None:
        with Site(("127.0.0.1", 0), Doomed) as server:
            host, port = server.server_address[:2]
            told.write(f"tcp://{host!s}:{port}")
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            # Workers are forked by this thread.
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            signal.sigwait([signal.SIGUSR1])
            server.shutdown()
            thread.join()

    with forked(work) as child:
        place = Place(child.notes.next())
        # Each ends, and another one comes.
        assert len({get(place) for _ in range(3)}) == 3
        os.kill(child.pid, signal.SIGUSR1)
        assert child.wait() == 0


def test_datagrams_of_a_server_of_the_stdlib() -> None:
    class Datagrams(PreforkMixIn, socketserver.UDPServer):
        workers = 2

    class Upper(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read().upper())

    def work(told: Notes) -> None:
        with Datagrams(("127.0.0.1", 0), Upper) as server:
            host, port = server.server_address[:2]
            told.write(f"udp://{host!s}:{port}")
            assert server.run().served == 10

    with forked(work) as child:
        with raw_connection(Place(child.notes.next())) as peer:
            for _ in range(10):
                peer.send(b"hello")
                assert peer.recv(100) == b"HELLO"
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


@pytest.mark.slow
def test_an_idle_supervisor_sleeps() -> None:
    with running(who, "prefork", workers=2) as up:
        assert worker_of(up)
        stat = Path(f"/proc/{up.pid}/status")
        if not stat.exists():
            pytest.skip("this kernel does not count switches")

        def switches() -> int:
            lines = stat.read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

        time.sleep(0.2)
        before = switches()
        time.sleep(0.5)
        assert switches() - before <= 2
