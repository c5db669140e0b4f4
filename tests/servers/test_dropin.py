"""The mix-ins on servers that know nothing of us: what such programs rely on, rule by rule."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.server
import os
import queue
import signal
import socket
import socketserver
import ssl
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest

from echoframe import ForkingMixIn, PoolMixIn, PreforkMixIn, ThreadingMixIn
from echoframe.servers import Lifecycle
from echoframe.servers.apart import _is_ours, made_names
from echoframe.servers.kernel import somaxconn

from ..certificates import Authority
from ..helpers import (
    DEADLINE,
    Notes,
    ask,
    census,
    eventually,
    left_of,
    read_line,
    read_to_end,
)

MIX_INS: dict[str, type[Any]] = {
    "thread": ThreadingMixIn,
    "pool": PoolMixIn,
    "fork": ForkingMixIn,
    "prefork": PreforkMixIn,
}
every_mix_in = pytest.mark.parametrize("mix_in", MIX_INS.values(), ids=MIX_INS)
in_this_process = pytest.mark.parametrize("mix_in", [ThreadingMixIn, PoolMixIn])


class Upper(socketserver.StreamRequestHandler):
    """One line, in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline().upper())


def made(mix_in: type[Any], base: type[Any] = socketserver.TCPServer, **names: Any) -> type[Any]:
    """A program's class, as a program would write it."""
    return type("Program", (mix_in, base), {"allow_reuse_address": True, **names})


def connected(server: Any) -> socket.socket:
    host, port = server.server_address[:2]
    return socket.create_connection((host, port), timeout=DEADLINE)


@contextlib.contextmanager
def serving(server: Any) -> Iterator[Any]:
    """serve_forever() in a thread of its own, as programs and tests do it."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(DEADLINE)
        server.server_close()
        if type(server).server_close is Lifecycle.server_close:
            # Of daemons that does not wait for the last of them.
            server.close()
    assert not thread.is_alive()


def one_line(server: Any, line: bytes = b"hello") -> bytes:
    """Have handle_request() serve one line, and wait until that is over."""
    with connected(server) as peer:
        peer.sendall(line + b"\n")
        server.handle_request()
        answer = read_line(peer).rstrip(b"\n")
        assert read_to_end(peer) == b""
    return answer


# --------------------------------------------------------------------- the rules


@every_mix_in
def test_1_no_init_is_needed(mix_in: type[Any]) -> None:
    class Own(made(mix_in)):  # type: ignore[misc]  # made while the test runs
        def __init__(self) -> None:
            # Not ours, and not by super().
            socketserver.TCPServer.__init__(self, ("127.0.0.1", 0), Upper)

    with Own() as server:
        assert one_line(server) == b"HELLO"


HOOKS = (
    "get_request",
    "verify_request",
    "process_request",
    "process_request_thread",
    "finish_request",
    "handle_error",
    "shutdown_request",
    "close_request",
)


@every_mix_in
@pytest.mark.parametrize("fails", [False, True], ids=["well", "raises"])
def test_2_hooks_come_in_the_stdlibs_order_and_thread(
    mix_in: type[Any], fails: bool, notes: Notes
) -> None:
    def spied(name: str) -> Any:
        def hook(self: Any, *arguments: Any) -> Any:
            if name != "handle_error":
                here = threading.get_ident() == main and os.getpid() == process
                notes.write(name, "here" if here else "elsewhere")
                return getattr(super(Own, self), name)(*arguments)
            # 6: it sees what was raised.
            notes.write(name, type(sys.exception()).__name__)
            return None

        return hook

    class Raises(Upper):
        def handle(self) -> None:
            super().handle()
            if fails:
                raise LookupError

    base = made(mix_in)
    names = [name for name in HOOKS if hasattr(base, name)]
    Own: Any = type("Own", (base,), {name: spied(name) for name in names})
    main, process = threading.get_ident(), os.getpid()
    with Own(("127.0.0.1", 0), Raises) as server:
        assert one_line(server) == b"HELLO"
        # Behind the last of them.
        server.server_close()
        seen = notes.so_far()
    away = "here" if mix_in is PreforkMixIn else "elsewhere"
    threads = mix_in in (ThreadingMixIn, PoolMixIn)
    there = [
        *([f"process_request_thread {away}"] if threads else []),
        f"finish_request {away}",
        *(["handle_error LookupError"] if fails else []),
        f"shutdown_request {away}",
        f"close_request {away}",
    ]
    before = ["get_request here", "verify_request here", "process_request here"]
    if mix_in is ForkingMixIn:
        # The parent lets go of its own end.
        assert sorted(seen) == sorted([*before, *there, "close_request here"])
        seen.remove("close_request here")
    assert seen == before + there


@every_mix_in
def test_3_handle_request_works_alone_and_knows_its_timeout(mix_in: type[Any]) -> None:
    waited: list[int] = []
    kind = made(mix_in, timeout=0.01, handle_timeout=lambda self: waited.append(1))
    with kind(("127.0.0.1", 0), Upper) as server:
        server.handle_request()
        assert waited == [1]
        server.timeout = None
        assert one_line(server) == b"HELLO"
    assert waited == [1]


@in_this_process
def test_4_what_a_program_sets_later_counts(mix_in: type[Any]) -> None:
    kinds: list[bool] = []

    class Kind(Upper):
        def handle(self) -> None:
            kinds.append(threading.current_thread().daemon)
            super().handle()

    with made(mix_in)(("127.0.0.1", 0), Kind) as server:
        server.daemon_threads = True
        assert one_line(server) == b"HELLO"
        # Another listener in the place of the first.
        server.socket.close()
        server.socket = socket.create_server(("127.0.0.1", 0))
        server.server_address = server.socket.getsockname()
        assert one_line(server) == b"HELLO"
    assert kinds[0] is True


@every_mix_in
def test_5_what_is_waited_for_is_what_fileno_says(mix_in: type[Any]) -> None:
    class Own(made(mix_in)):  # type: ignore[misc]
        def server_activate(self) -> None:
            super().server_activate()
            self.real = self.socket
            # At which nobody ever comes.
            self.socket: Any = socket.create_server(("127.0.0.1", 0))

        def fileno(self) -> int:
            return int(self.real.fileno())

        def get_request(self) -> Any:
            return self.real.accept()

        def server_close(self) -> None:
            super().server_close()
            self.real.close()

    with Own(("127.0.0.1", 0), Upper) as server:
        assert server.fileno() >= 0
        assert one_line(server) == b"HELLO"


@in_this_process
def test_7_requests_may_be_shut_more_than_once(mix_in: type[Any]) -> None:
    class Own(made(mix_in, max_connections=1)):  # type: ignore[misc]
        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            super().shutdown_request(request)

    with serving(Own(("127.0.0.1", 0), Upper)) as server:
        # One permit, and it comes back each time, once.
        for _ in range(5):
            with connected(server) as peer:
                assert ask(peer, b"hello") == b"HELLO"
        eventually(lambda: not server._life.open)
        assert server._life.served == 5


@every_mix_in
def test_8_stop_from_anywhere_and_again(mix_in: type[Any]) -> None:
    server = made(mix_in)(("127.0.0.1", 0), Upper)
    # Before anything was served, and more than once.
    server.shutdown()
    server.server_close()
    server.server_close()
    server.shutdown()
    assert server.report is not None


@every_mix_in
def test_9_any_callable_makes_handlers(mix_in: type[Any]) -> None:
    def answer(request: Any, client_address: Any, server: Any) -> None:
        request.sendall(request.recv(100).upper())

    for handler in (answer, functools.partial(Upper), lambda *given: Upper(*given[:3])):
        with made(mix_in)(("127.0.0.1", 0), handler) as server:
            assert server.RequestHandlerClass is handler
            assert one_line(server) == b"HELLO"


@every_mix_in
def test_10_a_datagram_is_a_pair(mix_in: type[Any], notes: Notes) -> None:
    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message, sock = self.request
            sock.sendto(message.upper(), self.client_address)
            notes.write(type(self.request).__name__)

    with made(mix_in, socketserver.UDPServer)(("127.0.0.1", 0), Datagram) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(DEADLINE)
            peer.connect(server.server_address)
            peer.send(b"hello")
            server.handle_request()
            assert peer.recv(100) == b"HELLO"
        assert notes.next() == "tuple"


@in_this_process
def test_11_who_closes_without_super_leaves_nothing(mix_in: type[Any]) -> None:
    class Own(made(mix_in, daemon_threads=True)):  # type: ignore[misc]
        def server_close(self) -> None:
            self.socket.close()

    def use() -> None:
        server = Own(("127.0.0.1", 0), Upper)
        with serving(server), connected(server) as peer:
            assert ask(peer, b"hello") == b"HELLO"

    before = census()
    use()

    def is_gone() -> bool:
        gc.collect()
        left = left_of(before)
        return not (left.threads or left.descriptors)

    eventually(is_gone, "the end of its threads")


@in_this_process
def test_11_a_loop_of_the_programs_own(mix_in: type[Any]) -> None:
    class Own(made(mix_in)):  # type: ignore[misc]
        going = True

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            while self.going:
                self.handle_request()

        def shutdown(self) -> None:
            self.going = False
            socket.create_connection(self.server_address).close()

    with serving(Own(("127.0.0.1", 0), Upper)) as server:
        for _ in range(3):
            with connected(server) as peer:
                assert ask(peer, b"hello") == b"HELLO"
    assert server.report.cut == 0


@in_this_process
def test_12_parents_may_be_called_by_name(mix_in: type[Any]) -> None:
    class Own(made(mix_in)):  # type: ignore[misc]
        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)

        def process_request(self, request: Any, client_address: Any) -> None:
            # The stdlib's own, with a thread of its own making.
            socketserver.ThreadingMixIn.process_request(self, request, client_address)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            socketserver.ThreadingMixIn.process_request_thread(self, request, client_address)

    with serving(Own(("127.0.0.1", 0), Upper)) as server, connected(server) as peer:
        assert ask(peer, b"hello") == b"HELLO"
        assert len(server._threads) <= 1
    assert server.report.served == 1


@every_mix_in
def test_13_an_address_is_whatever_it_is(mix_in: type[Any], notes: Notes) -> None:
    class Where(Upper):
        def handle(self) -> None:
            super().handle()
            notes.write(repr(self.client_address))

    class Own(made(mix_in)):  # type: ignore[misc]
        def get_request(self) -> Any:
            return self.socket.accept()[0], None

    with Own(("127.0.0.1", 0), Where) as server:
        assert one_line(server) == b"HELLO"
        assert notes.next() == "None"


# ------------------------------------------------------ listeners in TLS (rule 14)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    pytest.importorskip("trustme")
    return Authority(tmp_path_factory.mktemp("dropin"), "dropin")


def wrapped(server: Any, authority: Authority, at_accept: bool = True) -> Any:
    """As programs make HTTPS of it."""
    pair = authority.issue("localhost", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=at_accept
    )
    return server


def secured(peer: socket.socket, authority: Authority) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.ca))
    return context.wrap_socket(peer, server_hostname="localhost")


@in_this_process
@pytest.mark.parametrize("at_accept", [True, False], ids=["at accept", "later"])
def test_14_who_never_shakes_hands_holds_nobody_up(
    mix_in: type[Any], at_accept: bool, authority: Authority
) -> None:
    # A silent peer keeps no thread of a pool, where its handshake is ours.
    threads = 1 if at_accept else 2
    kind = made(mix_in, threads=threads, daemon_threads=True, handshake_timeout=DEADLINE)
    server = wrapped(kind(("127.0.0.1", 0), Upper), authority, at_accept)
    with (
        serving(server),
        connected(server),
        connected(server) as bare,
        secured(bare, authority) as peer,
    ):
        assert ask(peer, b"hello") == b"HELLO"


@in_this_process
def test_14_a_failed_handshake_is_one_line_and_no_error(
    mix_in: type[Any], authority: Authority, log: Any
) -> None:
    errors: list[int] = []
    kind = made(mix_in, handle_error=lambda self, *given: errors.append(1), logs_connections=True)
    server = wrapped(kind(("127.0.0.1", 0), Upper), authority)
    with serving(server):
        with connected(server) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                read_to_end(peer)
        with connected(server) as bare, secured(bare, authority) as peer:
            assert ask(peer, b"hello") == b"HELLO"
    assert errors == []
    log.expect("no handshake: ")


@pytest.mark.parametrize("method", ["verify_request", "process_request"])
@in_this_process
def test_14_who_looks_at_a_certificate_first_has_it_by_then(
    mix_in: type[Any], method: str, authority: Authority
) -> None:
    def looks(self: Any, request: Any, client_address: Any) -> Any:
        assert request.cipher() is not None
        return getattr(super(own, self), method)(request, client_address)

    own = made(made(mix_in), object, **{method: looks})
    server = wrapped(own(("127.0.0.1", 0), Upper), authority)
    with serving(server), connected(server) as bare, secured(bare, authority) as peer:
        assert ask(peer, b"hello") == b"HELLO"


# ---------------------------------------------------- what programs rely on besides


@in_this_process
def test_threads_can_be_counted_and_are_few(mix_in: type[Any]) -> None:
    with made(mix_in)(("127.0.0.1", 0), Upper) as server:
        assert len(server._threads) == 0
        for _ in range(20):
            assert one_line(server) == b"HELLO"
        assert len(server._threads) < 10


@in_this_process
def test_closing_waits_for_handlers(mix_in: type[Any], gate: Any, notes: Notes) -> None:
    class Slow(Upper):
        def handle(self) -> None:
            line = self.rfile.readline()
            notes.write("begun")
            assert gate.wait()
            self.wfile.write(line.upper())

    server = made(mix_in, threads=1)(("127.0.0.1", 0), Slow)
    with connected(server) as one, connected(server) as two:
        # The second is only queued on a pool of one.
        for peer in (one, two):
            peer.sendall(b"hello\n")
            server.handle_request()
        assert notes.next() == "begun"
        closing = threading.Thread(target=server.server_close)
        closing.start()
        eventually(lambda: server._life.draining)
        gate.open()
        assert read_line(one) == read_line(two) == b"HELLO\n"
        closing.join(DEADLINE)
    assert server.report.cut == 0


@in_this_process
def test_system_exit_reaches_the_excepthook_and_no_handle_error(
    mix_in: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Any] = []
    hooked: list[Any] = []

    class Exits(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise SystemExit(3)

    monkeypatch.setattr(threading, "excepthook", lambda given: hooked.append(given.exc_type))
    kind = made(mix_in, handle_error=lambda self, *given: errors.append(given))
    with serving(kind(("127.0.0.1", 0), Exits)) as server:
        with connected(server) as peer:
            assert read_to_end(peer) == b""
        eventually(lambda: hooked)
        # And there is somebody for the next one.
        with connected(server) as peer:
            assert read_to_end(peer) == b""
    assert (errors, hooked) == ([], [SystemExit, SystemExit])


def test_idle_workers_do_not_keep_a_process_whose_listener_is_closed(notes: Notes) -> None:
    import subprocess

    program = (
        "import socket, socketserver, echoframe\n"
        "class Own(echoframe.PoolMixIn, socketserver.TCPServer): pass\n"
        "class Upper(socketserver.StreamRequestHandler):\n"
        "    def handle(self): self.wfile.write(self.rfile.readline().upper())\n"
        "server = Own(('127.0.0.1', 0), Upper)\n"
        "with socket.create_connection(server.server_address) as peer:\n"
        "    peer.sendall(b'hello\\n')\n"
        "    server.handle_request()\n"
        "    assert peer.recv(10) == b'HELLO\\n'\n"
        "server.socket.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=DEADLINE, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@every_mix_in
def test_close_after_a_bind_that_failed(mix_in: type[Any]) -> None:
    closed: list[int] = []

    class Own(made(mix_in, allow_reuse_address=False)):  # type: ignore[misc]
        def server_close(self) -> None:
            super().server_close()
            closed.append(1)

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        Own(taken.getsockname(), Upper)
    assert closed == [1]


def test_a_mix_in_stands_behind_others_but_not_behind_a_server() -> None:
    class Counting:
        count = 0

        def finish_request(self, *given: Any) -> None:
            self.count += 1
            super().finish_request(*given)  # type: ignore[misc]  # a mix-in's

    class Right(Counting, ThreadingMixIn, socketserver.TCPServer):
        pass

    with Right(("127.0.0.1", 0), Upper) as server:
        assert one_line(server) == b"HELLO"
        assert server.count == 1
    with pytest.warns(RuntimeWarning) as seen:
        wrong = type("Wrong", (socketserver.TCPServer, PoolMixIn), {})
    assert [str(one.message) for one in seen] == [
        "PoolMixIn changes nothing behind TCPServer; write class Wrong(PoolMixIn, TCPServer)"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Once is enough.
        type("Worse", (wrong,), {})


def test_they_are_the_stdlibs_mix_ins() -> None:
    assert issubclass(ThreadingMixIn, socketserver.ThreadingMixIn)
    assert issubclass(PoolMixIn, socketserver.ThreadingMixIn)
    assert issubclass(ForkingMixIn, socketserver.ForkingMixIn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(issubclass(kind, Lifecycle) for kind in map(made, MIX_INS.values()))


def test_no_children_are_left(notes: Notes) -> None:
    with made(ForkingMixIn)(("127.0.0.1", 0), Upper) as server:
        assert one_line(server) == b"HELLO"
    assert not server.active_children


@in_this_process
def test_four_who_wait_are_served_at_once(mix_in: type[Any]) -> None:
    together = threading.Barrier(4)

    class Meets(Upper):
        def handle(self) -> None:
            together.wait(DEADLINE)
            super().handle()

    with serving(made(mix_in)(("127.0.0.1", 0), Meets)) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connected(server)) for _ in range(4)]
        assert [ask(peer, b"hello") for peer in peers] == [b"HELLO"] * 4


# ---------------------------------------- conversations in a program's own frames


@pytest.mark.parametrize("drops", [False, True], ids=["closes", "drops"])
def test_a_program_that_converses_elsewhere_keeps_its_permit_until_the_socket_is_closed(
    drops: bool,
) -> None:
    given: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Own(made(ThreadingMixIn, max_connections=1)):  # type: ignore[misc]
        def process_request(self, request: Any, client_address: Any) -> None:
            given.put(request)

    server = Own(("127.0.0.1", 0), Upper)
    with serving(server), connected(server) as one, connected(server) as two:
        request = given.get(timeout=DEADLINE)
        assert len(server._life.open) == 1
        request.sendall(b"first\n")
        assert read_line(one) == b"first\n"
        assert given.empty()
        if not drops:
            request.close()
        # Whoever counts on the kernel to close what nobody holds any more is right.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            request = None
            second = given.get(timeout=DEADLINE)
        second.sendall(b"second\n")
        assert read_line(two) == b"second\n"
        second.close()
    assert server.report.served == 2


def test_a_socket_that_was_taken_out_of_its_object_is_not_closed() -> None:
    given: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Own(made(ThreadingMixIn, max_connections=1)):  # type: ignore[misc]
        def process_request(self, request: Any, client_address: Any) -> None:
            # As encryption does with what it wraps.
            given.put(socket.socket(fileno=request.detach()))

    server = Own(("127.0.0.1", 0), Upper)
    with serving(server), connected(server) as peer:
        taken = given.get(timeout=DEADLINE)
        eventually(lambda: server._life.strays == [] or server._life.strays_due)
        taken.close()
        assert read_to_end(peer) == b""


def test_a_request_that_waits_for_a_thread_of_the_programs_is_one_connection() -> None:
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Own(made(ThreadingMixIn, max_connections=1)):  # type: ignore[misc]
        def process_request(self, request: Any, client_address: Any) -> None:
            waiting.put((request, client_address))

    def dispatch() -> None:
        for _ in range(3):
            request, client_address = waiting.get(timeout=DEADLINE)
            eventually(lambda: server._life.strays)
            ThreadingMixIn.process_request(server, request, client_address)

    server = Own(("127.0.0.1", 0), Upper)
    dispatcher = threading.Thread(target=dispatch)
    dispatcher.start()
    with serving(server):
        for _ in range(3):
            with connected(server) as peer:
                assert ask(peer, b"hello") == b"HELLO"
    dispatcher.join(DEADLINE)
    assert server.report.served == 3


def test_close_drains_what_a_program_has_taken_away() -> None:
    given: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Own(made(ThreadingMixIn, drain_quiet=0.01)):  # type: ignore[misc]
        def process_request(self, request: Any, client_address: Any) -> None:
            given.put(request)

    def converse() -> None:
        with given.get(timeout=DEADLINE) as request:
            assert request.recv(1) == b""

    server = Own(("127.0.0.1", 0), Upper)
    talking = threading.Thread(target=converse)
    talking.start()
    with connected(server) as peer:
        with serving(server):
            eventually(lambda: server._life.strays)
        assert read_to_end(peer) == b""
    talking.join(DEADLINE)
    # Idle, it did not have to be cut.
    assert server.report[:3] == (1, 1, 0)


# ------------------------------------------------------------- names and backlogs


@every_mix_in
def test_a_web_server_starts_without_asking_for_names(
    mix_in: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(host: str = "") -> str:
        asked.append(host)
        return "resolved"

    monkeypatch.setattr(socket, "getfqdn", resolve)
    for base in (http.server.HTTPServer, WSGIServer):
        with made(mix_in, base)(("127.0.0.1", 0), Upper) as server:
            assert (server.server_name, server.server_port) == server.server_address
        assert asked == []
        with made(mix_in, base, resolve_names=True)(("127.0.0.1", 0), Upper) as server:
            assert server.server_name == "resolved"
        assert asked == ["127.0.0.1"]
        asked.clear()


def backlog_of(server: Any) -> int:
    """What the kernel keeps for a listener, from its own table."""
    inode = os.fstat(server.fileno()).st_ino
    import subprocess

    done = subprocess.run(
        ["ss", "-Hltne"], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    line = next(line for line in done.stdout.splitlines() if f"ino:{inode} " in line)
    return int(line.split()[2])


def has_ss() -> bool:
    import shutil

    return shutil.which("ss") is not None


@pytest.mark.skipif(not has_ss(), reason="there is no ss")
@in_this_process
def test_a_backlog_is_ours(mix_in: type[Any]) -> None:
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"backlog": 77}, 77),
        ({"request_queue_size": 9}, min(4096, somaxconn() or 4096)),
        ({"request_queue_size": 99, "backlog": 77}, 77),
    )
    for names, expected in cases:
        with serving(made(mix_in, **names)(("127.0.0.1", 0), Upper)) as server:
            with connected(server) as peer:
                assert ask(peer, b"hello") == b"HELLO"
            assert backlog_of(server) == expected


@in_this_process
def test_shutdown_does_not_wait_for_a_poll(mix_in: type[Any]) -> None:
    with made(mix_in)(("127.0.0.1", 0), Upper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(600,))
        thread.start()
        eventually(lambda: server._life.serving)
        server.shutdown()
        thread.join(DEADLINE)
        assert not thread.is_alive()


class Careful(socketserver.TCPServer):
    """As werkzeug's: a loop around the stdlib's."""

    allow_reuse_address = True
    loops = 0

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        self.loops += 1
        try:
            super().serve_forever(poll_interval=poll_interval)
        finally:
            self.server_close()


@in_this_process
def test_a_loop_behind_the_mix_in_is_the_programs(mix_in: type[Any]) -> None:
    server = made(mix_in, Careful)(("127.0.0.1", 0), Upper)
    thread = threading.Thread(target=server.serve_forever, args=(600,))
    thread.start()
    with connected(server) as peer:
        assert ask(peer, b"hello") == b"HELLO"
    server.shutdown()
    thread.join(DEADLINE)
    assert server.loops == 1
    # By the program, and drained.
    assert server.report.served == 1
    # Of others it stays what it is.
    with Careful(("127.0.0.1", 0), Upper) as plain:
        thread = threading.Thread(target=plain.serve_forever, args=(0.01,))
        thread.start()
        with connected(plain) as peer:
            assert ask(peer, b"hello") == b"HELLO"
        plain.shutdown()
        thread.join(DEADLINE)
    assert plain.loops == 1


def private_names(mix_in: type[Any]) -> set[str]:
    kinds = [kind for kind in mix_in.__mro__ if _is_ours(kind)]
    standard = {*dir(socketserver.ThreadingMixIn), *dir(socketserver.TCPServer)}
    names = {name for kind in kinds for name in vars(kind)} - standard - made_names(kinds)
    return {name for name in names if name.startswith("_") and not name.endswith("_")}


@every_mix_in
@pytest.mark.parametrize("where", ["on the server", "behind", "in front"])
def test_a_programs_private_names_are_its_own(mix_in: type[Any], where: str) -> None:
    names = private_names(mix_in)
    assert {"_stop", "_name", "_close", "_wake", "_release"} <= names
    body = {name: f"the program's {name}" for name in names}

    class Base(socketserver.TCPServer):
        def names(self) -> dict[str, Any]:
            return {name: getattr(self, name) for name in body}

    if where == "behind":
        server = made(mix_in, type("Base", (Base,), body))(("127.0.0.1", 0), Upper)
    elif where == "in front":
        server = made(mix_in, Base, **body)(("127.0.0.1", 0), Upper)
    else:
        server = made(mix_in, Base)(("127.0.0.1", 0), Upper)
        vars(server).update(body)
    with server:
        assert one_line(server) == b"HELLO"
        assert server.names() == body
    assert server.names() == body
    assert server.report.served == 1


@in_this_process
@pytest.mark.parametrize("flag", ["daemon_threads", "block_on_close"])
def test_server_close_does_not_wait_for_handlers_that_may_be_left(
    mix_in: type[Any], flag: str, gate: Any, notes: Notes
) -> None:
    class Slow(Upper):
        def handle(self) -> None:
            line = self.rfile.readline()
            notes.write("begun")
            assert gate.wait()
            self.wfile.write(line.upper())

    server = made(mix_in, **{flag: flag == "daemon_threads", "drain_timeout": 600})(  # type: ignore[arg-type]
        ("127.0.0.1", 0), Slow
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connected(server) as peer:
        peer.sendall(b"hello\n")
        assert notes.next() == "begun"
        place = server.server_address
        server.shutdown()
        server.server_close()
        # Who is in the middle of something has its time behind that.
        assert server.report is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, DEADLINE)
        gate.open()
        assert read_line(peer) == b"HELLO\n"
    thread.join(DEADLINE)
    assert server.close().cut == 0


@in_this_process
def test_a_handler_of_a_daemon_may_close_its_server(mix_in: type[Any]) -> None:
    # As programs do that wait for one answer from a browser.
    class Last(Upper):
        def handle(self) -> None:
            super().handle()
            self.server.shutdown()
            self.server.server_close()

    server = made(mix_in, daemon_threads=True)(("127.0.0.1", 0), Last)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connected(server) as peer:
        assert ask(peer, b"hello") == b"HELLO"
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert server.close().cut == 0


@every_mix_in
def test_a_loop_behind_the_mix_in_may_have_no_argument(mix_in: type[Any], notes: Notes) -> None:
    class Plain(socketserver.TCPServer):
        def serve_forever(self) -> None:  # type: ignore[override]  # as programs have it
            notes.write("mine")
            super().serve_forever()

    server = made(mix_in, Plain)(("127.0.0.1", 0), Upper)
    with serving(server), connected(server) as peer:
        assert ask(peer, b"hello") == b"HELLO"
    assert notes.next() == "mine"


@in_this_process
def test_several_threads_may_handle_requests_of_one_server(mix_in: type[Any]) -> None:
    # Each of them has a selector of its own in the stdlib.
    with made(mix_in)(("127.0.0.1", 0), Upper) as server, contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=server.handle_request) for _ in range(4)]
        for thread in threads:
            thread.start()
        peers = [stack.enter_context(connected(server)) for _ in threads]
        assert [ask(peer, b"hello") for peer in peers] == [b"HELLO"] * 4
        for thread in threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in threads)


def test_ctrl_c_while_it_closes_cuts(gate: Any, notes: Notes) -> None:
    class Slow(Upper):
        def handle(self) -> None:
            notes.write("begun")
            gate.wait()

    server = made(ThreadingMixIn, drain_timeout=600)(("127.0.0.1", 0), Slow)
    main = threading.main_thread().ident
    assert main is not None

    def lose_patience() -> None:
        eventually(lambda: server._life.draining)
        signal.pthread_kill(main, signal.SIGINT)

    with connected(server):
        server.handle_request()
        assert notes.next() == "begun"
        impatient = threading.Thread(target=lose_patience)
        impatient.start()
        with pytest.raises(KeyboardInterrupt):
            server.server_close()
        impatient.join(DEADLINE)
        gate.open()
    assert server.report.cut == 1
