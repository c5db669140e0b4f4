"""Server: what its constructor refuses, where it listens, and socketserver's own handlers."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import socketserver
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import echoframe
from echoframe.address import Address
from echoframe.errors import AddressError, EchoframeError, ListenError, SettingError, UnknownHandler
from echoframe.handlers import Handler, Protocol, Registry
from echoframe.servers import MODELS, Server, ThreadServer, model_class, serve
from echoframe.servers import base as base_module
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    HAS_IPV6,
    Log,
    Notes,
    ask,
    echo,
    one_worker,
    pump,
    raw_connection,
    read_line,
    read_to_end,
    reset,
    served,
)

every_model = pytest.mark.parametrize("model", MODELS)
with_handler_classes = pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].runs_handler_classes]
)


# ------------------------------------------------------ what cannot work


class AsyncHandler(Handler):
    async def on_message(self, message: bytes) -> bytes:
        return message


async def async_function(message: bytes) -> bytes:
    return message


class AsyncCall:
    async def __call__(self, message: bytes) -> bytes:
        return message


class Mute(Handler):
    pass


@pytest.mark.parametrize(
    ("place", "handler", "settings", "error", "sentence"),
    [
        ("tcp://127.0.0.1:0", "ecco", {}, UnknownHandler, "unknown handler 'ecco'; did you mean"),
        ("tcp://127.0.0.1:0", 5, {}, SettingError, "5 is not a handler"),
        ("tcp://127.0.0.1:0", Mute, {}, SettingError, r"Mute cannot answer: it has no on_message"),
        ("tcp://127.0.0.1:0", echo, {"framing": "lime"}, SettingError, "unknown framing 'lime'"),
        ("tcp://127.0.0.1:0", echo, {"framing": "fixed"}, SettingError, "needs a size"),
        (
            "tcp://127.0.0.1:0",
            echo,
            {"framing": "fixed:200", "max_message": 100},
            SettingError,
            "between 1 and 100",
        ),
        ("udp://127.0.0.1:0", echo, {"framing": "line"}, SettingError, "no meaning for udp"),
        (
            "tcp://127.0.0.1:0",
            socketserver.StreamRequestHandler,
            {"framing": "line"},
            SettingError,
            "reads its socket itself",
        ),
        ("tcp://127.0.0.1:0", echo, {"bachlog": 5}, TypeError, "did you mean 'backlog'"),
        ("tcp:/127.0.0.1", echo, {}, AddressError, "tcp:/127.0.0.1"),
        ([], echo, {}, SettingError, "at least one address"),
        ("fd://1000", echo, {}, ListenError, "not a socket that was inherited"),
        ("tcp://192.0.2.1:0", echo, {}, ListenError, "is not an address of this machine"),
        ("unix:///no/such/folder/x", echo, {}, ListenError, "unix:///no/such/folder/x"),
    ],
)
@every_model
def test_what_cannot_work_is_refused_in_a_sentence(
    model: str,
    place: Any,
    handler: Any,
    settings: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        MODELS[model](place, handler, **settings)
    assert isinstance(caught.value, EchoframeError | TypeError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "handler", [AsyncHandler, functools.partial(AsyncHandler), async_function, AsyncCall()]
)
@pytest.mark.parametrize("model", [name for name in MODELS if not MODELS[name].runs_async_handlers])
def test_what_is_asynchronous_is_refused_where_nobody_awaits_it(model: str, handler: Any) -> None:
    named = r"'pool' \(inner of 'prefork'\)" if model == "prefork" else f"'{model}'"
    sentence = f"is asynchronous, and the model {named} waits for nothing .* the model 'aio'"
    with pytest.raises(SettingError, match=sentence):
        MODELS[model]("tcp://127.0.0.1:0", handler)


@pytest.mark.parametrize(
    "model", [name for name in MODELS if not MODELS[name].runs_handler_classes]
)
def test_a_handler_class_is_refused_where_it_has_no_thread_of_its_own(model: str) -> None:
    for handler in (Bare, functools.partial(Greeting, b"welcome"), bare_function):
        with pytest.raises(SettingError, match=f"hold up everybody on the model '{model}'"):
            MODELS[model]("tcp://127.0.0.1:0", handler)


@every_model
def test_a_hook_that_would_never_run_is_refused(model: str) -> None:
    for name in MODELS[model].unused_hooks:
        own: Any = type("Own", (MODELS[model],), {name: lambda *_: None})
        sentence = rf"Own has a {name}\(\) of its own, and the model '{model}' never calls it"
        with pytest.raises(SettingError, match=sentence):
            own("tcp://127.0.0.1:0", echo)


@every_model
def test_one_address_that_is_taken_leaves_none_of_them_open(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        places = ["tcp://127.0.0.1:0", f"tcp://127.0.0.1:{port}"]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port} is in use"):
            MODELS[model](places, echo)


def test_an_unknown_model_is_a_sentence_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match="unknown model 'thraed'; did you mean 'thread'"):
        model_class("thraed")
    with pytest.raises(SettingError, match="known: aio, fork, loop, pool, prefork, single, thread"):
        serve(echo, "tcp://127.0.0.1:0", model="pigeon")


# ----------------------------------------------------------- how it is made


@every_model
def test_serve_gives_the_models_class_with_its_settings(model: str) -> None:
    with serve(echo, "tcp://127.0.0.1:0", model, backlog=7) as server:
        assert type(server) is MODELS[model]
        assert server.backlog == server.request_queue_size == 7


def test_thread_is_what_serve_gives_unless_told() -> None:
    with serve(echo, "tcp://127.0.0.1:0") as server:
        assert type(server) is ThreadServer


@every_model
def test_it_is_made_as_socketserver_makes_its_own(model: str) -> None:
    assert issubclass(MODELS[model], socketserver.TCPServer)
    with MODELS[model](("127.0.0.1", 0), echo) as server:
        assert server.server_address == ("127.0.0.1", server.address.port)
        assert server.socket.getsockname() == server.server_address
        assert server.RequestHandlerClass == echo
        assert server.fileno() == server.socket.fileno()


@every_model
def test_binding_may_wait(model: str) -> None:
    server = MODELS[model]("tcp://127.0.0.1:0", echo, False)
    assert server.address == Address.parse("tcp://127.0.0.1:0")
    server.server_bind()
    assert server.address.port
    server.server_activate()
    server.server_close()


@every_model
def test_a_server_that_never_was_bound_closes(model: str) -> None:
    MODELS[model]("tcp://127.0.0.1:0", echo, False).server_close()


def test_a_class_attribute_is_a_setting_and_a_keyword_wins() -> None:
    class Own(ThreadServer):
        backlog = 3
        idle_timeout = 5.0

    with Own("tcp://127.0.0.1:0", echo, idle_timeout=6) as server:
        assert (server.backlog, server.idle_timeout) == (3, 6.0)
    assert Own.idle_timeout == 5.0


def test_request_queue_size_is_the_stdlibs_name_for_backlog() -> None:
    with ThreadServer("tcp://127.0.0.1:0", echo, False) as server:
        server.request_queue_size = 9
        assert server.backlog == 9


def test_names_are_looked_up_where_it_is_told() -> None:
    own = Registry()
    own.add("shout", bytes.upper)
    with running("shout", "thread", registry=own) as up, raw_connection(up) as peer:
        assert ask(peer, b"hey") == b"HEY"


def test_a_protocol_is_a_handler() -> None:
    protocol = Protocol("loud", bytes.upper, "fixed:3")
    with running(protocol, "thread") as up, raw_connection(up) as peer:
        peer.sendall(b"abcdef")
        assert peer.recv(3) + peer.recv(3) == b"ABCDEF"


def test_what_the_kernel_keeps_waiting_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "echoframe.server")
    monkeypatch.setattr(base_module, "somaxconn", lambda: 128)
    ThreadServer("tcp://127.0.0.1:0", echo, backlog=128).close()
    assert "somaxconn" not in caplog.text
    ThreadServer("tcp://127.0.0.1:0", echo, backlog=129).close()
    assert "the kernel keeps 128 connections waiting, not the 129 of backlog" in caplog.text


def test_a_socket_file_has_the_mode_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ThreadServer(f"unix://{path}", echo, unix_mode=0o600, unix_owner=(-1, -1)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


@every_model
def test_a_peer_that_names_its_own_end_forges_no_line_of_the_log(model: str, log: Log) -> None:
    # A short one: the name of a socket has 107 bytes.
    with (
        tempfile.TemporaryDirectory() as folder,
        running(echo, model, "unix") as up,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer,
    ):
        peer.settimeout(DEADLINE)
        peer.bind(f"{folder}/\x1b[2J\nAccepted connection from nobody")
        peer.connect(up.address.path)
        assert ask(peer, b"hey") == b"hey"
        log.expect("Accepted connection from /")
        assert "\x1b" not in log.text
        assert "\nAccepted connection from nobody" not in log.text


# ------------------------------------------------------------ many listeners


@every_model
def test_one_server_listens_at_several_addresses_of_several_kinds(
    model: str, tmp_path: Path
) -> None:
    places = ["tcp://127.0.0.1:0", f"unix://{tmp_path}/s", "udp://127.0.0.1:0"]
    if HAS_IPV6:
        places.append("tcp://[::1]:0")
    with served(MODELS[model], echo, places) as up:
        assert [address.scheme for address in up.addresses][:3] == ["tcp", "unix", "udp"]
        for _ in range(2):
            for at, address in enumerate(up.addresses):
                with raw_connection(up, at) as peer:
                    peer.sendall(b"hello\n")
                    expected = b"hello\n"
                    assert peer.recv(100) == expected, address


@every_model
def test_a_listener_may_be_inherited(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        number = os.dup(mine.fileno())
        # The server owns what it was given; where it runs apart, so does our copy.
        with running(echo, model, f"fd://{number}") as up:
            assert up.address == Address.parse("tcp://{}:{}".format(*mine.getsockname()))
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
        if MODELS[model].forks:
            os.close(number)


# ------------------------------------------------- socketserver's own handlers


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Bare(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        host, _ = self.client_address
        assert isinstance(self.server, Server)
        self.request.sendall(f"{host} {self.server.model}".encode())


class Datagram(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


class Tuple(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data * 2, self.client_address)


def bare_function(request: socket.socket, client_address: Any, server: Server) -> None:
    request.sendall(server.model.encode() + request.recv(100))


class Greeting(socketserver.BaseRequestHandler):
    def __init__(self, word: bytes, *arguments: Any) -> None:
        self.word = word
        super().__init__(*arguments)

    def handle(self) -> None:
        self.request.sendall(self.word)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@with_handler_classes
def test_a_stream_handler_serves_as_it_is(model: str, transport: str) -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    with running(Upper, model, transport) as up:
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"HELLO"
        with raw_connection(up) as peer:
            assert pump(peer, data) == data.upper()


@with_handler_classes
def test_any_callable_of_three_is_a_handler(model: str) -> None:
    for handler, said in (
        (Bare, f"127.0.0.1 {model}".encode()),
        (functools.partial(Greeting, b"welcome"), b"welcome"),
    ):
        with running(handler, model) as up, raw_connection(up) as peer:
            assert read_to_end(peer) == said
    with running(bare_function, model) as up, raw_connection(up) as peer:
        peer.sendall(b"!")
        assert read_to_end(peer) == model.encode() + b"!"


@with_handler_classes
def test_a_datagram_handler_serves_as_it_is(model: str) -> None:
    with running(Datagram, model, "udp") as up, raw_connection(up) as peer:
        peer.send(b"hello")
        assert peer.recv(100) == b"HELLO"
    with running(Tuple, model, "udp") as up, raw_connection(up) as peer:
        peer.send(b"ab")
        assert peer.recv(100) == b"abab"


def test_module_and_attribute_may_name_a_handler_class() -> None:
    with (
        running("tests.servers.test_base:Upper", "thread") as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"hello") == b"HELLO"


@with_handler_classes
def test_a_handler_class_that_raises_costs_only_its_own_connection(model: str, log: Log) -> None:
    class Crashing(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline()
            self.wfile.write(line)
            assert line != b"boom\n"

    with running(Crashing, model) as up:
        for word in (b"boom", b"fine"):
            with raw_connection(up) as peer:
                peer.sendall(word + b"\nrest")
                assert read_to_end(peer) == word + b"\n"
    assert log.tracebacks == 1
    assert "AssertionError" in log.text


# Without the goodbye, the unread rest makes close() send a reset, which throws away
# what has not left the send buffer.
@with_handler_classes
def test_the_last_words_of_a_handler_class_arrive_although_input_was_left(model: str) -> None:
    words = os.urandom(1 << 16) * 64

    def answer(request: socket.socket, client_address: Any, server: Server) -> None:
        request.recv(1)
        request.sendall(words)

    with running(answer, model) as up, raw_connection(up) as peer:
        assert pump(peer, b"x" * 500_000, half_close=False) == words


@with_handler_classes
def test_a_handler_class_may_close_its_socket_itself(model: str, log: Log) -> None:
    def answer(request: socket.socket, client_address: Any, server: Server) -> None:
        request.sendall(b"bye")
        request.close()

    with running(answer, model) as up, raw_connection(up) as peer:
        assert read_to_end(peer) == b"bye"
    assert log.tracebacks == 0


# Any stranger could fill the log with them.
@with_handler_classes
def test_a_peer_that_resets_costs_a_handler_class_no_traceback(model: str, log: Log) -> None:
    def answer(request: socket.socket, client_address: Any, server: Server) -> None:
        request.sendall(b"x")
        request.recv(1)

    with running(answer, model) as up:
        peer = raw_connection(up)
        assert peer.recv(1) == b"x"
        reset(peer)
        log.expect(" has gone: ConnectionResetError: ")
    assert log.tracebacks == 0


@with_handler_classes
def test_a_connection_error_that_is_not_the_peers_is_a_traceback(model: str, log: Log) -> None:
    def answer(request: socket.socket, client_address: Any, server: Server) -> None:
        raise ConnectionRefusedError("the data base is down")

    with running(answer, model) as up, raw_connection(up) as peer:
        assert read_to_end(peer) == b""
        log.expect("ConnectionRefusedError: the data base is down")
    assert log.tracebacks == 1


@pytest.mark.long
@pytest.mark.parametrize("transport", ["tcp", "unix"])
@with_handler_classes
def test_a_busy_handler_class_is_not_cut_for_being_old(model: str, transport: str) -> None:
    patience = 0.5
    longest = patience
    # Again, if this machine stood still meanwhile and so made it silent.
    while longest > patience / 2:
        answers = []
        with (
            running(Upper, model, transport, idle_timeout=patience) as up,
            raw_connection(up) as peer,
            contextlib.suppress(OSError),
        ):
            longest = 0.0
            # Longer than idle_timeout and an eighth, and never silent.
            for _ in range(60):
                asked = time.monotonic()
                try:
                    answers.append(ask(peer, b"hello"))
                    threading.Event().wait(0.01)
                finally:
                    longest = max(longest, time.monotonic() - asked)
    assert answers == [b"HELLO"] * 60


@with_handler_classes
def test_a_silent_handler_class_is_cut(model: str) -> None:
    said, patience = b"", 0.1
    # Again, if this machine stood still before it could say a word.
    while not said and patience < DEADLINE:
        with (
            running(Upper, model, idle_timeout=patience) as up,
            raw_connection(up) as peer,
            contextlib.suppress(ConnectionError),
        ):
            peer.sendall(b"hello\n")
            said = read_to_end(peer)
        patience *= 4
    assert said == b"HELLO\n"


# --------------------------------------------------------------------- the hooks


def hooked(model: str, notes: Notes) -> type[Server]:
    """A server of this model that writes down its moments, and in which process."""
    parent: list[int] = []

    def note(name: str) -> None:
        where = "" if not MODELS[model].forks or os.getpid() == parent[0] else "child:"
        notes.write(where + name)

    class Hooks:
        def serve_forever(self, *arguments: Any) -> None:
            parent.append(os.getpid())
            super().serve_forever(*arguments)  # type: ignore[misc]  # a mix-in

    def make(name: str) -> Any:
        def hook(self: Any, *arguments: Any) -> Any:
            if name != "get_request":
                note(name)
                return getattr(super(cls, self), name)(*arguments)
            # Only what came counts; to look for more is allowed.
            found = super(cls, self).get_request()
            note(name)
            return found

        return hook

    names = (
        "get_request",
        "verify_request",
        "process_request",
        "process_request_thread",
        "finish_request",
        "handle_error",
        "shutdown_request",
        "close_request",
    )
    here = MODELS[model]
    present = {
        name: make(name) for name in names if hasattr(here, name) and name not in here.unused_hooks
    }
    cls: type[Server] = type("Hooked", (Hooks, MODELS[model]), present)
    return cls


ORDER = {
    "single": (
        "get_request verify_request process_request finish_request shutdown_request close_request"
    ),
    "thread": (
        "get_request verify_request process_request process_request_thread finish_request "
        "shutdown_request close_request"
    ),
    # Since these hooks are replaced: whoever has not done so is not asked.
    "pool": (
        "get_request verify_request process_request process_request_thread finish_request "
        "shutdown_request close_request"
    ),
    "fork": (
        "get_request verify_request process_request close_request "
        "child:finish_request child:shutdown_request child:close_request"
    ),
    "prefork": (
        "child:get_request child:verify_request child:process_request "
        "child:finish_request child:shutdown_request child:close_request"
    ),
    "loop": "get_request verify_request process_request shutdown_request close_request",
    "aio": "get_request verify_request process_request shutdown_request close_request",
}


@pytest.mark.parametrize("handler", [echo, Upper], ids=["messages", "class"])
@every_model
def test_the_hooks_run_in_the_stdlibs_order(model: str, handler: Any, notes: Notes) -> None:
    if handler is Upper and not MODELS[model].runs_handler_classes:
        pytest.skip("this model has no handler classes")
    with served(hooked(model, notes), handler) as up, raw_connection(up) as peer:
        assert ask(peer, b"a").lower() == b"a"
    seen = notes.so_far()
    # Two processes write at the same time; each keeps to its order.
    seen.sort(key=lambda name: name.startswith("child:"))
    assert " ".join(seen) == ORDER[model]


@every_model
def test_an_error_goes_to_handle_error_before_the_shutdown(model: str, notes: Notes) -> None:
    def crash(message: bytes) -> bytes:
        raise RuntimeError

    with served(hooked(model, notes), crash) as up, raw_connection(up) as peer:
        peer.sendall(b"x\n")
        assert read_to_end(peer) == b""
    # In a child, where there is one: the parent's own moments come in between.
    seen = sorted(notes.so_far(), key=lambda name: name.startswith("child:"))
    seen = [name.removeprefix("child:") for name in seen]
    assert seen[-3:] == ["handle_error", "shutdown_request", "close_request"]


@every_model
def test_who_is_not_verified_is_hung_up_on(model: str, notes: Notes) -> None:
    class Picky(Server):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            notes.write("asked")
            return False

    own: Any = type("Own", (Picky, MODELS[model]), {})
    with served(own, echo) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert read_to_end(peer) == b""
            assert notes.next() == "asked"
    assert up.report is not None


@every_model
def test_handle_error_sees_a_live_exception(model: str, notes: Notes) -> None:
    class Own(Server):
        def handle_error(self, request: Any, client_address: Any) -> None:
            import sys

            notes.write(repr(sys.exc_info()[1]))

    def crash(message: bytes) -> bytes:
        raise RuntimeError("live")

    own: Any = type("Own", (Own, MODELS[model]), {})
    with served(own, crash) as up, raw_connection(up) as peer:
        peer.sendall(b"x\n")
        assert read_to_end(peer) == b""
        assert notes.next() == "RuntimeError('live')"


def test_the_name_of_a_peer_that_nobody_knows_is_no_way_to_a_terminal(log: Log) -> None:
    with ThreadServer("127.0.0.1:0", echo) as server:
        server.handle_error(None, "\x1b[2J\rforged")
    log.expect("the handler raised; the connection from \\x1b[2J\\rforged is closed")


@with_handler_classes
def test_get_request_may_be_replaced(model: str) -> None:
    class Own(Server):
        def get_request(self) -> tuple[Any, Any]:
            request, _ = self.socket.accept()
            return request, "somebody"

    def who(request: socket.socket, client_address: Any, server: Server) -> None:
        request.sendall(client_address.encode())

    own: Any = type("Own", (Own, MODELS[model]), {})
    with served(own, who) as up, raw_connection(up) as peer:
        assert read_to_end(peer) == b"somebody"


# A program's own may wait for what it takes, on a socket of its own or in a queue.
@every_model
def test_a_get_request_that_was_replaced_is_called_once_for_each_who_comes(
    model: str, notes: Notes
) -> None:
    class Own(Server):
        def get_request(self) -> tuple[Any, Any]:
            notes.write("asked")
            return super().get_request()

    own: Any = type("Own", (Own, MODELS[model]), {})
    with served(own, echo, **one_worker(model)) as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert notes.so_far() == ["asked", "asked"]


@pytest.mark.parametrize("address", ["somebody", b"", "", 7, None, ("a",)])
@every_model
def test_a_client_address_that_is_the_programs_own_is_shown_as_it_is(
    model: str, address: Any
) -> None:
    class Own(Server):
        def get_request(self) -> tuple[Any, Any]:
            request, _ = super().get_request()
            return request, address

    class Names(Handler):
        def on_message(self, message: bytes) -> str:
            return self.peer.remote

    own: Any = type("Own", (Own, MODELS[model]), {})
    with served(own, Names) as up, raw_connection(up) as peer:
        assert ask(peer, b"?") == str(address).encode()


@every_model
def test_service_actions_is_called_while_nobody_comes(model: str, notes: Notes) -> None:
    class Own(Server):
        def serve_forever(self, poll_interval: float = 0.01) -> None:
            super().serve_forever(poll_interval)

        def service_actions(self) -> None:
            notes.write("tick")

    own: Any = type("Own", (Own, MODELS[model]), {})
    with served(own, echo):
        assert notes.take(3) == ["tick"] * 3


@every_model
def test_a_conversation_may_be_held_by_the_program_itself(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server, raw_connection(server) as peer:
        request, client_address = server.listeners[0].transport.accept(server.socket)
        peer.sendall(b"hello\n")
        peer.shutdown(socket.SHUT_WR)
        server.finish_request(request, client_address)
        server.shutdown_request(request)
        assert read_to_end(peer) == b"hello\n"


# ------------------------------------------------------------- handle_request()


@every_model
def test_handle_request_serves_one(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        for _ in range(3):
            with raw_connection(server) as peer:
                peer.sendall(b"hello\n")
                peer.shutdown(socket.SHUT_WR)
                server.handle_request()
                assert read_line(peer) == b"hello\n"
    assert server.report is not None
    assert server.report.served == 3


@every_model
def test_handle_request_alone_goes_on_when_the_places_are_few(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo, max_connections=1) as server:
        for _ in range(3):
            with raw_connection(server) as peer:
                peer.sendall(b"hello\n")
                peer.shutdown(socket.SHUT_WR)
                server.handle_request()
                assert read_to_end(peer) == b"hello\n"


@every_model
def test_handle_request_gives_up_after_its_timeout(model: str) -> None:
    calls = []

    class Own(Server):
        timeout = 0.02

        def handle_timeout(self) -> None:
            calls.append("timeout")

    own: Any = type("Own", (Own, MODELS[model]), {})
    with own("tcp://127.0.0.1:0", echo) as server:
        server.handle_request()
        assert calls == ["timeout"]
        # Read anew each time.
        server.timeout = 0.01
        server.handle_request()
        assert calls == ["timeout"] * 2


@every_model
def test_stop_makes_the_next_handle_request_return(model: str) -> None:
    with MODELS[model]("tcp://127.0.0.1:0", echo) as server:
        server.stop()
        server.handle_request()


def test_the_public_names_are_the_models_classes() -> None:
    assert list(MODELS) == ["single", "thread", "fork", "pool", "prefork", "loop", "aio"]
    for name, cls in MODELS.items():
        assert cls.model == name
        assert getattr(echoframe, cls.__name__) is cls
