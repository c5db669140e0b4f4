"""http.server's handlers: who waits for a request without a thread, and who can be told to stop."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.client
import http.server
import io
import logging
import math
import os
import signal
import socket
import socketserver
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

from echoframe import PoolMixIn, PoolServer, PreforkMixIn, ThreadingMixIn
from echoframe.servers import turns as turns_module
from echoframe.servers.turns import Turns, gives_way

from ..helpers import (
    DEADLINE,
    Gate,
    Log,
    Notes,
    eventually,
    forked,
    read_exactly,
    read_to_end,
)
from .test_dropin import authority, connected, secured, serving, wrapped

__all__ = ["authority"]


class Page(http.server.BaseHTTPRequestHandler):
    """Answer with the path, and keep the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        text = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        self.path = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.do_GET()

    def log_message(self, *words: object) -> None:
        logging.getLogger("test").info(*words)


class Patient(Page):
    """With a handle() of its own, as Django has."""

    def handle(self) -> None:
        self.close_connection = True
        self.handle_one_request()
        while not self.close_connection:
            self.handle_one_request()


class Unbuffered(Page):
    """Whose rfile is what others have under theirs."""

    rbufsize = 0


class Site(PoolMixIn, http.server.HTTPServer):
    threads = 2
    daemon_threads = True


class ThreadSite(ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def site(kind: type[Any] = Site, handler: Any = Page, **names: Any) -> Any:
    return type(kind.__name__, (kind,), names)(("127.0.0.1", 0), handler)


def get(path: bytes, *headers: bytes, verb: bytes = b"GET") -> bytes:
    return b"\r\n".join((verb + b" " + path + b" HTTP/1.1", b"Host: test", *headers, b"", b""))


def answer(peer: socket.socket) -> bytes:
    """Read one answer and give its body."""
    return whole_answer(peer)[1]


def whole_answer(peer: socket.socket) -> tuple[bytes, bytes]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = peer.recv(1)
        assert byte, "no answer"
        head += byte
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return head, read_exactly(peer, int(length.split()[1]))


def exchange(peer: socket.socket, path: bytes = b"/") -> bytes:
    peer.sendall(get(path))
    return answer(peer)


def has_parked(server: Any, count: int) -> bool:
    return len(server._pool_threads.parked) == count


@contextlib.contextmanager
def draining(server: Any, close: Callable[[], object]) -> Iterator[None]:
    """Have it closed in another thread, and go on when everybody there has heard of it."""
    closing = threading.Thread(target=close)
    closing.start()
    eventually(lambda: all(one.ordered for one in server._life.open.values()))
    yield
    closing.join(DEADLINE)


@contextlib.contextmanager
def many(server: Any, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connected(server)) for _ in range(count)]


# -------------------------------------------------------------------- who parts


def test_many_who_keep_their_connections_share_two_threads() -> None:
    with serving(site()) as server, many(server, 20) as peers:
        for path in (b"/one", b"/two", b"/three"):
            for peer in peers:
                assert exchange(peer, path) == path
        assert len(server._pool_threads.crew) <= 2
        eventually(lambda: len(server._pool_threads.parked) == 20)
    assert server.report.served == 20


def test_who_never_says_anything_keeps_no_thread() -> None:
    with serving(site(threads=1)) as server, many(server, 5) as silent, connected(server) as peer:
        assert exchange(peer) == b"/"
        assert silent


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient, Unbuffered])
def test_requests_that_come_together_are_all_answered(kind: type[Any], handler: type[Any]) -> None:
    with serving(site(kind, handler)) as server, connected(server) as peer:
        # What lies in the handler's own buffer no poller sees.
        peer.sendall(b"".join(get(b"/%d" % number) for number in range(50)))
        assert [answer(peer) for _ in range(50)] == [b"/%d" % number for number in range(50)]


@pytest.mark.parametrize("own", [False, True])
def test_what_was_read_already_is_asked_for_and_stays(own: bool) -> None:
    class Raw(socket.SocketIO):
        """What somebody else may have put there."""

    class Reads(Page):
        def setup(self) -> None:
            super().setup()
            if own:
                cast(Any, self.rfile).raw.__class__ = Raw

    with serving(site(handler=Reads, threads=1)) as server, connected(server) as peer:
        # The second comes along with the first, and the third when nothing is left of them.
        for paths in ([b"/1", b"/2"], [b"/3"]):
            peer.sendall(b"".join(map(get, paths)))
            assert [answer(peer) for _ in paths] == paths
            eventually(functools.partial(has_parked, server, 1))


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient, Unbuffered])
def test_requests_that_come_in_pieces(kind: type[Any], handler: type[Any]) -> None:
    with serving(site(kind, handler)) as server, connected(server) as peer:
        for _ in range(3):
            text = get(b"/", b"Content-Length: 5", verb=b"POST") + b"hello"
            for place in range(0, len(text), 7):
                peer.sendall(text[place : place + 7])
            assert answer(peer) == b"hello"


@pytest.mark.parametrize("handler", [Page, Unbuffered])
def test_over_tls_what_is_decrypted_already_is_seen(handler: type[Any], authority: Any) -> None:
    with (
        serving(wrapped(site(handler=handler, threads=1), authority)) as server,
        many(server, 3) as bare,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(secured(one, authority)) for one in bare[:2]]
        for peer in peers * 3:
            # In one record, of which the handler reads what it wants.
            peer.sendall(get(b"/one") + get(b"/two"))
            assert [answer(peer), answer(peer)] == [b"/one", b"/two"]
        eventually(lambda: len(server._pool_threads.parked) == 3)


def test_more_arguments_for_the_handler() -> None:
    class Named(Page):
        def __init__(self, *given: Any, name: str) -> None:
            self.name = name
            super().__init__(*given)

        def do_GET(self) -> None:
            self.path = self.name
            super().do_GET()

    # As `python -m http.server` passes its directory.
    class Own(Site):
        def finish_request(self, request: Any, client_address: Any) -> None:
            self.RequestHandlerClass(request, client_address, self, name="mine")

    for made in (site(Own, Named), site(Site, functools.partial(Named, name="mine"))):
        with serving(made) as server, many(server, 5) as peers:
            for peer in peers * 2:
                assert exchange(peer) == b"mine"
            eventually(functools.partial(has_parked, server, 5))


def test_what_a_server_does_around_a_conversation_is_around_all_requests() -> None:
    class Own(Site):
        state = threading.local()

        def finish_request(self, request: Any, client_address: Any) -> None:
            self.state.open = True
            try:
                super().finish_request(request, client_address)
            finally:
                self.state.open = False

    class Looks(Page):
        def do_GET(self) -> None:
            seen.append(Own.state.open)
            super().do_GET()

    seen: list[bool] = []
    with serving(site(Own, Looks)) as server, many(server, 2) as peers:
        for peer in peers * 2:
            exchange(peer)
        assert not server.parks_requests
    assert seen == [True] * 4


def test_a_handler_is_of_its_own_class_and_no_other() -> None:
    seen: list[Any] = []

    class Looks(Page):
        count = 0

        def do_GET(self) -> None:
            seen.append(type(self) is Looks)
            # To which it may write.
            self.__class__.count += 1
            super().do_GET()

    with serving(site(handler=Looks)) as server:
        with connected(server) as peer:
            exchange(peer)
        assert server.RequestHandlerClass is Looks
    assert (seen, Looks.count) == ([True], 1)


def test_a_server_sees_the_handler_class_that_it_was_given() -> None:
    seen: list[Any] = []

    class Own(Site):
        def finish_request(self, request: Any, client_address: Any) -> None:
            kind = self.RequestHandlerClass
            seen.extend((kind.__name__, kind == Page, hash(kind) == hash(Page), repr(kind)))
            seen.extend((isinstance(kind, type), issubclass(kind, Page)))
            kind.asked = True
            kind(request, client_address, self)

    class Known(Page):
        asked = False

    with serving(site(Own)) as server, connected(server) as peer:
        assert exchange(peer) == b"/"
        eventually(lambda: has_parked(server, 1))
    assert seen == ["Page", True, True, repr(Page), True, True]
    with serving(site(Own, Known)) as server, connected(server) as peer:
        assert exchange(peer) == b"/"
    assert Known.asked


@pytest.mark.parametrize("kind", [PoolMixIn, ThreadingMixIn])
def test_a_handler_class_that_stands_on_the_servers(kind: type[Any]) -> None:
    class Behind(http.server.HTTPServer):
        RequestHandlerClass = Page

    server = type("Program", (kind, Behind), {"daemon_threads": True})(("127.0.0.1", 0), None)
    # As where its __init__ is not the stdlib's.
    vars(server).pop("RequestHandlerClass")
    with serving(server), connected(server) as peer:
        assert exchange(peer) == b"/"


def test_setup_and_finish_are_called_once_and_in_one_order() -> None:
    calls: list[str] = []

    class Noting(Page):
        def setup(self) -> None:
            calls.append("setup")
            super().setup()

        def do_GET(self) -> None:
            calls.append(self.path)
            super().do_GET()

    class Own(Site):
        def shutdown_request(self, request: Any) -> None:
            calls.append("shutdown")
            super().shutdown_request(request)

        def close_request(self, request: Any) -> None:
            calls.append("close")
            super().close_request(request)

    with serving(site(Own, Noting)) as server:
        with connected(server) as peer:
            exchange(peer, b"/1")
            exchange(peer, b"/2")
        eventually(lambda: "close" in calls)
    assert calls == ["setup", "/1", "/2", "shutdown", "close"]


def test_a_handler_that_raises_later_is_finished_first_and_then_told_of() -> None:
    calls: list[str] = []

    class Raises(Page):
        def do_GET(self) -> None:
            if self.path == "/raise":
                raise LookupError
            super().do_GET()

    class Own(Site):
        def handle_error(self, request: Any, client_address: Any) -> None:
            calls.append(f"{type(sys.exception()).__name__} {request.fileno() >= 0}")

    with serving(site(Own, Raises)) as server:
        for first in (b"/", b"/raise"):
            with connected(server) as peer:
                peer.sendall(get(first) + (get(b"/raise") if first == b"/" else b""))
                assert read_to_end(peer).endswith(b"/" if first == b"/" else b"")
        eventually(lambda: len(calls) == 2)
    assert calls == ["LookupError True"] * 2


# ---------------------------------------------------------------- who does not


def test_which_handlers_part() -> None:
    class Finishes(Page):
        def finish(self) -> None:
            super().finish()

    assert gives_way(Page)
    assert gives_way(http.server.SimpleHTTPRequestHandler)
    assert gives_way(functools.partial(Page))
    assert not gives_way(Patient)
    assert not gives_way(Finishes)
    assert not gives_way(lambda *given: Page(*given[:3]))


def test_a_server_tells_which_it_is() -> None:
    for kind, parks in ((Page, True), (Patient, False), (socketserver.BaseRequestHandler, False)):
        with site(handler=kind) as server:
            assert server.parks_requests is parks


@pytest.mark.parametrize("method", ["process_request_thread", "shutdown_request"])
def test_a_server_with_hooks_of_its_own_keeps_one_thread_for_each(method: str) -> None:
    threads: dict[str, set[int | None]] = {}

    class Where(Page):
        def do_GET(self) -> None:
            threads.setdefault(self.path, set()).add(threading.get_ident())
            super().do_GET()

    def hook(self: Any, *given: Any) -> None:
        getattr(Site, method)(self, *given)

    Own = type("Own", (Site,), {method: hook})
    with serving(site(Own, Where)) as server, many(server, 2) as peers:
        for _ in range(5):
            assert [exchange(peer, b"/%d" % n) for n, peer in enumerate(peers)] == [b"/0", b"/1"]
        assert not server._pool_threads.parked
    assert [len(one) for one in threads.values()] == [1, 1]


@pytest.mark.parametrize("asks", ["CONNECT", "Upgrade", "replaces"])
def test_who_speaks_another_protocol_from_here_on_keeps_the_thread(asks: str) -> None:
    class Tunnel(Page):
        def do_CONNECT(self) -> None:
            self.close_connection = False
            self.do_GET()

        def do_GET(self) -> None:
            if asks == "replaces" and not copies:
                copies.append(self.connection.dup())
                self.connection = copies[0]
            super().do_GET()
            (connection,) = self.server._life.open.values()  # type: ignore[attr-defined]
            parts.append(connection.conversation.parts)

    parts: list[bool] = []
    copies: list[socket.socket] = []
    headers = [b"Upgrade: echo", b"Connection: Upgrade"] if asks == "Upgrade" else []
    verb = b"CONNECT" if asks == "CONNECT" else b"GET"
    with serving(site(handler=Tunnel)) as server, connected(server) as peer:
        for _ in range(2):
            peer.sendall(get(b"/", *headers, verb=verb))
            assert answer(peer) == b"/"
        assert not server._pool_threads.parked
    for copy in copies:
        copy.close()
    assert parts == [True, False]


def test_idle_ones_make_room_when_all_threads_are_held() -> None:
    with serving(site(handler=Patient, drain_quiet=0.001)) as server, many(server, 2) as idle:
        for peer in idle:
            assert exchange(peer) == b"/"
            eventually(lambda: all(_turns(one).waits for one in server._life.open.values()))
        with connected(server) as peer:
            assert exchange(peer, b"/next") == b"/next"
            # The one that had waited longest.
            assert read_to_end(idle[0]) == b""


@pytest.mark.parametrize("handler", [Page, Patient, Unbuffered])
def test_who_stands_still_in_a_head_makes_room(
    handler: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "PATIENCE", 0.02)
    with serving(site(handler=handler)) as server, many(server, 3) as slow:
        for peer in slow:
            peer.sendall(b"GET / HT")
        with connected(server) as peer:
            assert exchange(peer) == b"/"
    assert server.report.served == 4


@pytest.mark.parametrize("handler", [Page, Patient, Unbuffered])
@pytest.mark.parametrize("limit", [{"threads": 1}, {"idle_timeout": 0.1}], ids=str)
@pytest.mark.parametrize(
    "half",
    [
        b"GET /1",
        b"GET /1 HTTP/1.1\r\nIf-Match: 1",
        get(b"/1", b"Content-Length: 10", verb=b"POST") + b"hello",
    ],
    ids=["line", "head", "body"],
)
def test_half_a_request_is_not_carried_out(
    handler: type[Any],
    limit: dict[str, Any],
    half: bytes,
    monkeypatch: pytest.MonkeyPatch,
    notes: Notes,
) -> None:
    class Noting(handler):  # type: ignore[misc]
        def do_GET(self) -> None:
            notes.write(self.requestline)
            super().do_GET()

    if half.endswith(b"hello") and ("threads" in limit or handler is Unbuffered):
        pytest.skip("who sends a body keeps its thread; and what has no buffer gives what it has")
    monkeypatch.setattr(turns_module, "PATIENCE", 0.02)
    with serving(site(handler=Noting, **limit)) as server, connected(server) as slow:
        slow.sendall(half)
        if "idle_timeout" in limit:
            assert read_to_end(slow) == b""
        with connected(server) as peer:
            assert exchange(peer, b"/whole") == b"/whole"
        assert notes.next() == "GET /whole HTTP/1.1"


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_handler_that_reads_its_body_from_memory_ends_with_that(
    kind: type[Any], handler: type[Any]
) -> None:
    class Copying(handler):  # type: ignore[misc]
        def do_POST(self) -> None:
            super().do_POST()
            self.rfile = io.BytesIO()

    with serving(site(kind, Copying)) as server, connected(server) as peer:
        peer.sendall(get(b"/", b"Content-Length: 5", verb=b"POST") + b"hello")
        assert answer(peer) == b"hello"
        assert read_to_end(peer) == b""


@pytest.mark.parametrize("handler", [Page, Patient, Unbuffered])
def test_nor_is_anything_waited_for_where_a_handler_has_closed_its_file(
    handler: type[Any], notes: Notes
) -> None:
    class Closing(handler):  # type: ignore[misc]
        def do_GET(self) -> None:
            super().do_GET()
            self.rfile.close()

    def handle_error(self: object, request: object, client_address: object) -> None:
        notes.write(repr(sys.exception()))

    server = site(handler=Closing, handle_error=handle_error)
    with serving(server), connected(server) as peer:
        assert exchange(peer) == b"/"
        assert read_to_end(peer) == b""
        assert "closed file" in notes.next()


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_handler_that_begins_with_another_socket_ends_as_ever(
    kind: type[Any], handler: type[Any], notes: Notes
) -> None:
    class Other(handler):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            # As who wraps it in TLS does.
            self.connection = self.request.dup()

        def finish(self) -> None:
            super().finish()
            self.connection.close()

    def handle_error(self: object, request: object, client_address: object) -> None:
        notes.write(repr(sys.exception()))

    server = site(kind, Other, handle_error=handle_error)
    with serving(server), connected(server) as peer:
        assert exchange(peer) == exchange(peer) == b"/"
        peer.close()
        eventually(lambda: server._life.served)
        notes.write("fine")
        assert notes.next() == "fine"


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_a_handler_that_never_says_whether_it_closes_is_answered(kind: type[Any]) -> None:
    class One(Page):
        def handle(self) -> None:
            self.requestline = self.rfile.readline().decode()
            self.request_version, self.path = "HTTP/1.0", "/one"
            self.do_GET()

    with serving(site(kind, One)) as server, connected(server) as peer:
        peer.sendall(b"GET /\r\n")
        assert answer(peer) == b"/one"
        assert read_to_end(peer) == b""


def test_a_handler_that_looks_for_a_line_finds_none_where_nobody_waits(notes: Notes) -> None:
    class Looking(Page):
        raw_requestline: bytes

        def handle(self) -> None:
            for _ in range(9):
                self.handle_one_request()
                if not self.raw_requestline:
                    notes.write("no line")
                    return

    with serving(site(handler=Looking, keep_alive_timeout=0.05)) as server:
        with connected(server) as peer:
            assert exchange(peer) == b"/"
            assert read_to_end(peer) == b""
        assert notes.next() == "no line"


@pytest.mark.parametrize("mix_in", [PoolMixIn, ThreadingMixIn])
def test_nor_by_a_handler_that_reads_its_one_request_itself(
    mix_in: type[Any], notes: Notes
) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        notes.write("carried out")
        start_response("200 OK", [])
        return [b""]

    names = {"idle_timeout": 0.1, "handle_error": lambda *_: notes.write(repr(sys.exception()))}
    server: Any = type("Wsgi", (mix_in, WSGIServer), names)(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(app)
    with serving(server), connected(server) as peer:
        peer.sendall(b"DELETE /1 HTTP/1.1\r\nIf-Match: 1")
        assert read_to_end(peer) == b""
        assert notes.next() == repr(TimeoutError("timed out"))


def test_a_body_is_no_head_though_its_request_has_no_headers(
    monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    class Bare(Page):
        raw_requestline: bytes

        def parse_request(self) -> bool:
            self.command, self.path = self.raw_requestline.decode().split()
            self.request_version, self.close_connection = "HTTP/0.9", False
            return True

        def do_PUT(self) -> None:
            notes.write("begun")
            self.wfile.write(self.rfile.read(10))

    monkeypatch.setattr(turns_module, "PATIENCE", 0.0)
    with serving(site(handler=Bare, threads=1)) as server, connected(server) as peer:
        peer.sendall(b"PUT /\nhello")
        assert notes.next() == "begun"
        with connected(server) as other:
            other.sendall(b"PUT /\n0123456789")
            # Somebody else wants the thread, and is seen to.
            eventually(lambda: server._pool_threads.wanting)
            server._call_idle_in(1)
            peer.sendall(b"there")
            assert read_exactly(peer, 10) == b"hellothere"
            peer.close()
            assert read_exactly(other, 10) == b"0123456789"


def test_nobody_is_ended_in_the_middle_of_a_request(gate: Gate, notes: Notes) -> None:
    class Slow(Patient):
        def do_GET(self) -> None:
            if self.path == "/slow":
                notes.write("begun")
                assert gate.wait()
            super().do_GET()

    with serving(site(handler=Slow, drain_quiet=0.001)) as server, many(server, 3) as peers:
        for peer in peers[:2]:
            peer.sendall(get(b"/slow"))
            assert notes.next() == "begun"
        peers[2].sendall(get(b"/"))
        eventually(lambda: server._pool_threads.wanting)
        gate.open()
        assert [answer(peer) for peer in peers] == [b"/slow", b"/slow", b"/"]


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_who_has_a_request_is_not_idle_and_who_has_none_is(
    kind: type[Any], handler: type[Any], notes: Notes
) -> None:
    goes_on = threading.Semaphore(0)

    class Slow(handler):  # type: ignore[misc]
        def do_GET(self) -> None:
            notes.write("begun")
            assert goes_on.acquire(timeout=DEADLINE)
            super().do_GET()

    def is_idle() -> bool:
        (connection,) = server._life.open.values()
        return _turns(connection).is_idle()

    with serving(site(kind, Slow)) as server, connected(server) as peer:
        for _ in range(4):
            peer.sendall(get(b"/"))
            assert notes.next() == "begun"
            assert not is_idle()
            goes_on.release()
            assert answer(peer) == b"/"
            eventually(is_idle)


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_body_is_waited_for_also_if_its_head_came_with_the_request_before(
    kind: type[Any], handler: type[Any], notes: Notes
) -> None:
    class Uploads(handler):  # type: ignore[misc]
        def do_POST(self) -> None:
            assert self.rfile.read(5) == b"hello"
            notes.write("begun")
            assert self.rfile.read(5) == b"there"
            self.do_GET()

    with serving(site(kind, Uploads, drain_quiet=0.001)) as server, connected(server) as peer:
        for _ in range(3):
            assert exchange(peer) == b"/"
        peer.sendall(get(b"/") + get(b"/up", b"Content-Length: 10", verb=b"POST") + b"hello")
        assert answer(peer) == b"/"
        assert notes.next() == "begun"
        server.shutdown()
        (connection,) = server._life.open.values()
        with draining(server, server.close):
            # A drain ends at its next look who waits for a request.
            silence, _, idle = server._look_at(connection, time.monotonic())
            assert not idle, silence
            peer.sendall(b"there")
            assert answer(peer) == b"/up"
        assert server.report.cut == 0


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_request_whose_beginning_came_with_the_one_before_is_not_idle(
    kind: type[Any], handler: type[Any]
) -> None:
    with serving(site(kind, handler, drain_quiet=0.001)) as server, connected(server) as peer:
        for _ in range(3):
            assert exchange(peer) == b"/"
        peer.sendall(get(b"/") + b"GET /sec")
        assert answer(peer) == b"/"
        (connection,) = server._life.open.values()
        # It waits for the rest by now.
        eventually(lambda: connection.conversation.reads_since() < math.inf)
        server.shutdown()
        with draining(server, server.close):
            peer.sendall(b"ond HTTP/1.1\r\nHost: test\r\n\r\n")
            assert answer(peer) == b"/second"
        assert server.report.cut == 0


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("kept", [True, False])
def test_only_where_the_connection_is_kept_every_piece_leaves_at_once(
    kind: type[Any], kept: bool, notes: Notes
) -> None:
    class Tells(Page):
        def do_GET(self) -> None:
            super().do_GET()
            leaves = self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            notes.write(str(bool(leaves)))

    with serving(site(kind, Tells)) as server, connected(server) as peer:
        # A close sends what is left, and one piece costs less than two.
        peer.sendall(get(b"/", *[b"Connection: close"] * (not kept)))
        assert answer(peer) == b"/"
        assert notes.next() == str(kept)


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_who_reads_by_itself_is_not_taken_for_idle(kind: type[Any], notes: Notes) -> None:
    class Alone(Page):
        # As wsgiref's.
        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline()
            assert self.parse_request()
            notes.write("begun")
            self.do_POST()

    server = site(kind, Alone, threads=1, drain_quiet=0.2)
    with serving(server), connected(server) as peer:
        peer.sendall(get(b"/", b"Content-Length: 10", verb=b"POST") + b"hello")
        assert notes.next() == "begun"
        (connection,) = server._life.open.values()
        if kind is Site:
            server.drain_quiet = 0.0
            server._call_idle_in(1)
            assert connection.ordered == 0
            server.drain_quiet = 0.2
        silence, _, _ = server._look_at(connection, connection.began + 60)
        assert silence < 30
        peer.sendall(b"there")
        assert answer(peer) == b"hellothere"


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_what_a_handler_has_read_before_its_first_request_is_seen(kind: type[Any]) -> None:
    class Behind(Page):
        def handle(self) -> None:
            self.proxy = self.rfile.readline()
            super().handle()

    with serving(site(kind, Behind)) as server, connected(server) as peer:
        peer.sendall(b"PROXY UNKNOWN\r\n" + get(b"/"))
        assert answer(peer) == b"/"
        assert exchange(peer, b"/next") == b"/next"


def test_a_handler_that_reads_from_its_socket_misses_nothing() -> None:
    class Bare(Page):
        def handle_one_request(self) -> None:
            text = self.connection.recv(1000)
            self.close_connection = not text
            self.wfile.write(text)

    with serving(site(handler=Bare)) as server, connected(server) as peer:
        for text in (b"one", b"two", b"three"):
            peer.sendall(text)
            assert read_exactly(peer, len(text)) == text


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_what_only_behaves_like_a_socket_is_asked_for_nothing_more(kind: type[Any]) -> None:
    class Wrapped:
        def __init__(self, inner: socket.socket) -> None:
            self.makefile, self.sendall, self.close = inner.makefile, inner.sendall, inner.close
            self.shutdown = inner.shutdown

    class Own(kind):  # type: ignore[misc]
        def get_request(self) -> Any:
            request, client_address = super().get_request()
            return Wrapped(request), client_address

    with serving(site(Own)) as server, connected(server) as peer:
        for _ in range(3):
            assert exchange(peer) == b"/"


def test_a_connection_leaves_nothing_for_the_collector() -> None:
    def garbage() -> int:
        with connected(server) as peer:
            exchange(peer)
            exchange(peer)
        eventually(lambda: not server._life.open)
        return gc.collect()

    for kind in (Site, ThreadSite):
        with serving(site(kind)) as server:
            # The first time makes other things, too.
            garbage()
            assert min(garbage() for _ in range(3)) == 0


class Once(WSGIRequestHandler):
    """It reads its one request itself, and nobody hears of that."""

    def log_message(self, *words: object) -> None:
        logging.getLogger("test").info(*words)


def reading(notes: Notes) -> Any:
    """An application that wants all that was announced."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        notes.write("begun")
        body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


@pytest.mark.parametrize("mix_in", [PoolMixIn, ThreadingMixIn])
def test_a_request_that_is_on_its_way_is_not_idle_whoever_reads_it(
    mix_in: type[Any], notes: Notes
) -> None:
    server = type("Own", (mix_in, WSGIServer), {"drain_quiet": 0.001, "daemon_threads": True})
    with serving(server(("127.0.0.1", 0), Once)) as up, connected(up) as peer:
        up.set_app(reading(notes))
        peer.sendall(get(b"/", b"Content-Length: 10", verb=b"POST") + b"hello")
        assert notes.next() == "begun"
        (connection,) = up._life.open.values()
        later = time.monotonic() + 1000
        silence, _, idle = up._look_at(connection, later)
        # Who wants to know of silence asks the kernel, and not how old it is.
        assert (silence < 1000, idle, up._was_heard(connection)) == (True, False, True)
        closing = threading.Thread(target=up.server_close)
        closing.start()
        eventually(lambda: connection.ordered)
        peer.sendall(b"world")
        assert answer(peer) == b"helloworld"
        closing.join(DEADLINE)


def test_an_upload_keeps_its_thread_from_those_who_wait_for_one(notes: Notes) -> None:
    server = type("Own", (PoolMixIn, WSGIServer), {"drain_quiet": 0.0, "threads": 1})
    with serving(server(("127.0.0.1", 0), Once)) as up, connected(up) as peer:
        up.set_app(reading(notes))
        peer.sendall(get(b"/", b"Content-Length: 10", verb=b"POST") + b"hello")
        assert notes.next() == "begun"
        up._call_idle_in(1)
        assert [one.ordered for one in up._life.open.values()] == [0]
        peer.sendall(b"world")
        assert answer(peer) == b"helloworld"


def test_who_says_nothing_keeps_no_thread_whoever_would_read_it(notes: Notes) -> None:
    server = type("Own", (PoolMixIn, WSGIServer), {"drain_quiet": 0.001, "threads": 1})
    with serving(server(("127.0.0.1", 0), Once)) as up, connected(up) as silent:
        up.set_app(reading(notes))
        eventually(lambda: up._life.open)
        with connected(up) as peer:
            peer.sendall(get(b"/", b"Content-Length: 5", verb=b"POST") + b"hello")
            assert answer(peer) == b"hello"
        silent.sendall(get(b"/", b"Content-Length: 4", verb=b"POST") + b"late")
        assert answer(silent) == b"late"


# ----------------------------------------------------------------- how long


@pytest.mark.parametrize("handler", [Page, Patient])
def test_nobody_waits_longer_than_it_may(handler: type[Any]) -> None:
    with serving(site(handler=handler, keep_alive_timeout=0.05)) as server:
        with connected(server) as silent:
            assert read_to_end(silent) == b""
        with connected(server) as peer:
            assert exchange(peer) == b"/"
            assert read_to_end(peer) == b""


def test_who_has_left_keeps_nobody_from_being_looked_at() -> None:
    with serving(site(idle_timeout=0.05)) as server:
        with connected(server) as peer:
            assert exchange(peer) == b"/"
            eventually(lambda: has_parked(server, 1))
        # Its deadline would be in a minute. With nobody there the keeper has time until then.
        eventually(lambda: not server._life.open and server._life.keeper.asleep)
        with connected(server) as silent:
            assert read_to_end(silent) == b""


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
@pytest.mark.parametrize("begun", [True, False])
def test_who_is_cut_between_two_requests_has_no_request_that_failed(
    kind: type[Any], handler: type[Any], begun: bool, notes: Notes
) -> None:
    class Noting(handler):  # type: ignore[misc]
        def log_error(self, *words: Any) -> None:
            notes.write(words[0])

    with serving(site(kind, Noting, idle_timeout=0.1)) as server, connected(server) as peer:
        assert exchange(peer) == b"/"
        if begun:
            peer.sendall(b"GET")
        assert read_to_end(peer) == b""
        eventually(lambda: server._life.served)
        notes.write("over")
        assert notes.next() == ("Request timed out: %r" if begun else "over")


def test_an_alarm_that_is_taken_from_the_heap_to_be_put_back_has_not_rung() -> None:
    class Parked(dict[int, Any]):
        def __setitem__(self, number: int, connection: Any) -> None:
            # Where whoever looks at the alarms has it, just now.
            connection.alarm = None
            super().__setitem__(number, connection)

    with serving(site()) as server, connected(server) as peer:
        assert exchange(peer) == b"/"
        eventually(lambda: has_parked(server, 1))
        (connection,) = server._life.open.values()
        alarm, plain = connection.alarm, server._pool_threads.parked
        server._pool_threads.parked = Parked(plain)
        assert exchange(peer) == b"/"
        # Nobody waits for what this one says next.
        eventually(lambda: has_parked(server, 1) and connection.thread is None)
        assert connection.conversation.is_idle()
        connection.alarm = alarm


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("begun", [b"", b"GET / HTTP"])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_handlers_own_timeout_is_kept(
    kind: type[Any], handler: type[Any], begun: bytes, notes: Notes
) -> None:
    class Hasty(handler):  # type: ignore[misc]
        timeout = 0.05

        def log_error(self, *words: Any) -> None:
            notes.write(words[0] % words[1:])

    with serving(site(kind, Hasty)) as server, connected(server) as peer:
        for _ in range(3):
            assert exchange(peer) == b"/"
        peer.sendall(begun)
        assert read_to_end(peer) == b""
        assert notes.next() == "Request timed out: TimeoutError('timed out')"


@pytest.mark.parametrize("handler", [Page, Patient])
def test_that_nobody_asked_again_is_no_error_of_the_handlers(
    handler: type[Any], notes: Notes
) -> None:
    class Noting(handler):  # type: ignore[misc]
        timeout = 60

        def log_error(self, *words: Any) -> None:
            notes.write(words[0])

        def finish(self) -> None:
            super().finish()
            notes.write("finished")

    with serving(site(handler=Noting, keep_alive_timeout=0.05)) as server:
        with connected(server) as peer:
            assert exchange(peer) == b"/"
            assert read_to_end(peer) == b""
        assert notes.next() == "finished"


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
@pytest.mark.parametrize("works", [True, False])
def test_who_works_is_not_silent_and_who_waits_for_the_rest_of_an_upload_is(
    kind: type[Any], handler: type[Any], works: bool, notes: Notes, gate: Gate
) -> None:
    class Slow(handler):  # type: ignore[misc]
        def do_POST(self) -> None:
            notes.write("begun")
            if works:
                assert gate.wait()
            super().do_POST()

    server = site(kind, Slow, idle_timeout=0.1)
    with serving(server), connected(server) as peer, connected(server) as idle:
        peer.sendall(get(b"/", b"Content-Length: 10", verb=b"POST") + b"hello")
        assert notes.next() == "begun"
        # As long as it takes to cut another one, three times over.
        assert read_to_end(idle) == b""
        for _ in range(2):
            with connected(server) as another:
                assert read_to_end(another) == b""
        if works:
            gate.open()
            peer.sendall(b"there")
            assert answer(peer) == b"hellothere"
        else:
            assert read_to_end(peer) == b""


# ------------------------------------------------------------------- stopping


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_closing_does_not_wait_for_idle_clients_of_daemons(
    kind: type[Any], handler: type[Any]
) -> None:
    # Longer than this test may take.
    server = site(kind, handler, drain_quiet=60.0, drain_timeout=60.0)
    with serving(server), many(server, 2) as peers:
        for peer in peers:
            assert exchange(peer) == b"/"
        eventually(lambda: all(_turns(one).waits for one in server._life.open.values()))
        server.shutdown()
        server.server_close()
        assert [read_to_end(peer) for peer in peers] == [b"", b""]
    assert server.report.cut == 0


def _turns(connection: Any) -> Turns:
    turns = connection.conversation
    assert isinstance(turns, Turns)
    return turns


@pytest.mark.parametrize("kind", [Site, ThreadSite])
@pytest.mark.parametrize("handler", [Page, Patient])
def test_a_request_that_was_begun_is_answered_while_it_stops(
    kind: type[Any], handler: type[Any], gate: Gate, notes: Notes
) -> None:
    class Slow(handler):  # type: ignore[misc]
        def do_GET(self) -> None:
            if self.path == "/slow":
                notes.write("begun")
                assert gate.wait()
            super().do_GET()

    server = site(kind, Slow, drain_quiet=0.001)
    with serving(server), connected(server) as peer:
        assert exchange(peer) == b"/"
        peer.sendall(get(b"/slow"))
        assert notes.next() == "begun"
        with draining(server, server.server_close):
            gate.open()
            head, body = whole_answer(peer)
            # So that the client sends no more here.
            assert head.count(b"\r\nConnection: close\r\n") == 1
            assert body == b"/slow"
            assert read_to_end(peer) == b""
    assert server.report.cut == 0


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_that_it_ends_is_said_in_the_answer_and_not_before(
    kind: type[Any], gate: Gate, notes: Notes
) -> None:
    class Slow(Page):
        def handle_expect_100(self) -> bool:
            notes.write("begun")
            assert gate.wait()
            return super().handle_expect_100()

    with serving(site(kind, Slow)) as server, connected(server) as peer:
        peer.sendall(get(b"/", b"Expect: 100-continue", b"Content-Length: 1", verb=b"POST"))
        assert notes.next() == "begun"
        with draining(server, server.server_close):
            gate.open()
            before = b"HTTP/1.1 100 Continue\r\n\r\n"
            assert read_exactly(peer, len(before)) == before
            peer.sendall(b"x")
            head, body = whole_answer(peer)
            assert (head.count(b"\r\nConnection: close\r\n"), body) == (1, b"x")


@pytest.mark.parametrize("kind", [Site, ThreadSite])
def test_over_tls_too_who_waits_is_ended_and_told_no_alert(kind: type[Any], authority: Any) -> None:
    server = wrapped(site(kind), authority)
    with serving(server), connected(server) as bare, secured(bare, authority) as peer:
        assert exchange(peer) == b"/"
        (connection,) = server._life.open.values()
        eventually(connection.conversation.is_idle)
        server.server_close()
        assert read_to_end(peer) == b""


def test_a_cut_ends_who_waits() -> None:
    server = site(drain_quiet=60.0, daemon_threads=False)
    with serving(server), connected(server) as peer:
        assert exchange(peer) == b"/"
        eventually(lambda: server._pool_threads.parked)
        server.close(drain=0)
        with contextlib.suppress(ConnectionResetError):
            assert read_to_end(peer) == b""


# ------------------------------------------------------------ where else it works


def test_on_a_server_of_ours(log: Log) -> None:
    with PoolServer("tcp://127.0.0.1:0", Page, threads=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with contextlib.ExitStack() as stack:
            place = (server.address.host, server.address.port)
            peers = [
                stack.enter_context(socket.create_connection(place, timeout=DEADLINE))
                for _ in range(6)
            ]
            for _ in range(2):
                for peer in peers:
                    assert exchange(peer) == b"/"
            eventually(lambda: len(server._pool_threads.parked) == 6)
        server.stop()
        thread.join(DEADLINE)
    assert server.report is not None
    assert server.report.served == 6


def test_in_workers_with_a_pool_each() -> None:
    class Both(PreforkMixIn, PoolMixIn, http.server.HTTPServer):
        workers = 1
        threads = 1

    def work(told: Notes) -> None:
        with Both(("127.0.0.1", 0), Page) as server:
            told.write(server.server_port, os.getpid())
            assert server.run().served == 4

    with forked(work) as child:
        port = int(child.notes.next().split()[0])
        clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE) for _ in "1234"]
        for client in clients * 2:
            client.request("GET", "/")
            assert client.getresponse().read() == b"/"
        for client in clients:
            client.close()
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait() == 0


def test_what_a_handler_forks_ends_with_it() -> None:
    class Forks(Page):
        def do_GET(self) -> None:
            if self.path == "/fork":
                child = os.fork()
                if child == 0:
                    # If it goes on after all, it ends all the same.
                    signal.alarm(10)
                    sys.exit(0)
                eventually(lambda: os.waitpid(child, os.WNOHANG)[0])
                ended.append(child)
            super().do_GET()

    ended: list[int] = []

    def work(notes: Notes) -> None:
        # Of threads beside a fork: they are what this is about.
        warnings.simplefilter("ignore")
        with serving(site(handler=Forks)) as server, many(server, 2) as idle:
            for peer in idle:
                # These are the parent's, and parked, when it forks.
                assert exchange(peer) == b"/"
            eventually(lambda: has_parked(server, 2))
            with connected(server) as peer:
                peer.sendall(get(b"/fork"))
                # The child has shut it.
                read_to_end(peer)
            eventually(lambda: ended)

    with forked(work) as process:
        assert process.wait() == 0
