"""What a client promises, to foreign peers made of bare sockets."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe import client as client_module
from echoframe.address import Address
from echoframe.client import Client
from echoframe.errors import (
    AddressError,
    ConnectError,
    ConnectionEnded,
    EchoframeError,
    ProtocolError,
    RefusedError,
    SettingError,
    TimedOut,
    UnknownHandler,
)
from echoframe.framing import LineFraming
from echoframe.handlers import Handler, Registry
from echoframe.handlers.registry import Protocol
from echoframe.probing import probe
from echoframe.testing import running
from echoframe.transports.tcp import Tcp

# For what must happen, and for what must not.
DEADLINE = 20.0
SHORT = 0.05

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(talk: Talk, sock: socket.socket | None = None, times: int = 1) -> Iterator[str]:
    """A peer that holds `times` conversations, one after the other, in a thread."""
    failures: list[BaseException] = []
    listener = sock or socket.create_server(("127.0.0.1", 0))
    listener.settimeout(DEADLINE)

    def serve() -> None:
        try:
            for _ in range(times):
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(DEADLINE)
                    talk(peer)
        except ConnectionError:
            # The client left in the middle, as in many tests it should.
            pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    with listener:
        thread.start()
        try:
            yield str(Address.of(listener.getsockname(), listener.family))
        finally:
            thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not failures, failures


def echo(sock: socket.socket) -> None:
    """The tutorial's server."""
    while data := sock.recv(1024):
        sock.sendall(data)


def accepting(sock: socket.socket) -> None:
    """The tutorial's other one: no line ends, at most 1024 bytes, `close` ends it."""
    while data := sock.recv(1024):
        if data.decode().lower() == "close":
            sock.sendall(b"closed")
            return
        sock.sendall(b"accepted")


def lines(sock: socket.socket) -> None:
    """Answer each line in capitals."""
    with sock.makefile("rb") as file:
        for line in file:
            sock.sendall(line.upper())


def mute(sock: socket.socket) -> None:
    """Read, and never answer."""
    while sock.recv(65536):
        pass


def saying(*words: bytes) -> Talk:
    """Hear something, say all this in single bytes, and hang up."""

    def talk(sock: socket.socket) -> None:
        sock.recv(1024)
        for byte in b"".join(words):
            sock.sendall(bytes((byte,)))

    return talk


def reset(sock: socket.socket) -> None:
    """Hear something, and break the connection off."""
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A listener that takes no more connections and refuses none."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        yield port


# ------------------------------------------------------------------ connecting


def test_nobody_listening_is_a_sentence_with_the_address() -> None:
    port = unused_port()
    with pytest.raises(RefusedError) as caught:
        Client(f"127.0.0.1:{port}")
    assert str(caught.value) == f"nobody listens at tcp://127.0.0.1:{port}"
    assert isinstance(caught.value, ConnectionRefusedError)
    assert isinstance(caught.value, EchoframeError)


def test_a_connection_to_itself_is_nobody_listening() -> None:
    port = unused_port()
    with pytest.raises(RefusedError):
        Client(f"127.0.0.1:{port}", source=("127.0.0.1", port))


def test_a_listener_that_takes_nobody_is_given_up_in_time() -> None:
    with full_backlog() as port, pytest.raises(TimedOut, match=rf"tcp://127.0.0.1:{port} .*0.05 s"):
        Client(f"127.0.0.1:{port}", timeout=SHORT)


def test_connecting_is_tried_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    pauses: list[float] = []
    with contextlib.ExitStack() as stack:

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 6:
                listener = socket.create_server(("127.0.0.1", port))
                stack.enter_context(listening(echo, listener))

        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", sleep)
            connected = stack.enter_context(Client(f"127.0.0.1:{port}", "echo", retry=9))
        assert connected.ask(b"there?") == b"there?"
        connected.close()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


def test_the_last_attempt_tells_why() -> None:
    with pytest.raises(RefusedError, match="nobody listens"):
        Client(f"127.0.0.1:{unused_port()}", retry=1)


def test_it_connects_from_the_source_it_is_told() -> None:
    heard: list[Any] = []
    port = unused_port()

    def note(sock: socket.socket) -> None:
        heard.append(sock.getpeername())

    # The last from an address of its own, since another program may take the port
    # at 127.0.0.1 in the meantime.
    for source in ("127.0.0.1", "tcp://127.0.0.1", f"127.0.0.5:{port}"):
        with listening(note) as address, Client(address, source=source) as client:
            assert list(client) == []
            assert client.local == Address("tcp", *heard[-1])
            assert client.peer == Address.parse(address)
    assert heard[-1] == ("127.0.0.5", port)


@pytest.mark.parametrize("source", ["unix://@here", "fd://3"])
def test_a_source_of_another_kind_is_refused(source: str) -> None:
    with pytest.raises(SettingError, match="different kinds"):
        Client("tcp://127.0.0.1:1", source=source)


def test_a_source_that_is_not_ours_is_named() -> None:
    with pytest.raises(ConnectError, match=r"tcp://127.0.0.1:1 from 192.0.2.1:0: "):
        Client("tcp://127.0.0.1:1", source="192.0.2.1")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 86401])
def test_there_is_no_waiting_without_a_deadline(timeout: float) -> None:
    with pytest.raises(SettingError, match="timeout="):
        Client("tcp://127.0.0.1:1", timeout=timeout)


def test_what_cannot_work_is_told_before_connecting() -> None:
    with pytest.raises(SettingError, match="retry=-1"):
        Client("tcp://127.0.0.1:1", retry=-1)
    with pytest.raises(UnknownHandler, match="ecco"):
        Client("tcp://127.0.0.1:1", "ecco")
    with pytest.raises(SettingError, match="lime"):
        Client("tcp://127.0.0.1:1", framing="lime")
    with pytest.raises(AddressError, match="fd://3"):
        Client("fd://3")


def test_a_peer_that_is_gone_before_we_look_is_only_missed_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(socket.socket):
        def getpeername(self) -> Any:
            raise OSError(errno.ENOTCONN, "gone")

    def connect(*_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        return Gone(fileno=ours.detach())

    monkeypatch.setattr(Tcp, "connect", connect)
    with Client("tcp://127.0.0.1:1") as client:
        assert client.peer == client.address
        with pytest.raises(ConnectionEnded, match=r"tcp://127.0.0.1:1 ended the connection"):
            client.receive()


# ---------------------------------------------------------------------- asking


def test_the_tutorials_echo_server_answers() -> None:
    with listening(echo) as address, Client(address, "echo") as client:
        assert client.ask(b"Hello, world") == b"Hello, world"
        assert client.ask("grüß dich") == "grüß dich".encode()
        assert client.ask(b"") == b""


def test_the_tutorials_command_server_answers_a_raw_client() -> None:
    with listening(accepting) as address, Client(address, "command", framing="raw") as client:
        assert client.ask("hello") == b"accepted"
        assert client.ask("CLOSE") == b"closed"
        with pytest.raises(ConnectionEnded, match=f"^{address} ended the connection"):
            client.ask("more")


def test_lines_are_the_default() -> None:
    with listening(lines) as address, Client(address) as client:
        assert client.ask(b"one") == b"ONE"
        assert client.ask("two") == b"TWO"


@pytest.mark.parametrize("framing", ["line", "length", "delimiter:;", "fixed:5"])
def test_any_framing_that_delimits_can_ask(framing: str) -> None:
    with listening(echo) as address, Client(address, framing=framing) as client:
        assert client.ask(b"hello") == b"hello"
        assert list(client.pipeline([b"seven", b"eight"])) == [b"seven", b"eight"]


def test_a_reply_in_single_bytes_is_put_together() -> None:
    talk = saying(b"one by one\n", b"and more\n")
    with listening(talk) as address, Client(address) as client:
        assert client.ask(b"go") == b"one by one"
        assert client.receive() == b"and more"


@pytest.mark.slow
def test_sixteen_mebibytes_of_echo_cause_no_deadlock() -> None:
    message = os.urandom(1024) * (16 * 1024)
    with listening(echo) as address, Client(address, "echo") as client:
        assert client.ask(message) == message


def test_what_follows_a_reply_is_kept_for_the_next() -> None:
    with listening(saying(b"abcdef")) as address, Client(address, "echo") as client:
        assert client.ask(b"xyz") == b"abc"
        deadline = time.monotonic() + DEADLINE
        rest = b""
        while len(rest) < 3 and time.monotonic() < deadline:
            rest += client.receive()
        assert rest == b"def"


def test_bytes_that_came_too_early_are_received_first() -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(3)
        sock.sendall(b"abcdef")
        mute(sock)

    with listening(talk) as address, Client(address, "echo") as client:
        assert client.ask(b"xyz") == b"abc"
        assert client.receive() == b"def"
        with pytest.raises(TimedOut):
            Client.receive(_hurried(client))


def _hurried(client: Client) -> Client:
    client.timeout = SHORT
    return client


def test_a_protocol_without_known_sizes_takes_what_one_read_brings() -> None:
    protocol = Protocol("odd", lambda message: message, "raw", "raw", lambda message: None)
    with listening(accepting) as address, Client(address, protocol) as client:
        assert client.ask(b"x") == b"accepted"


def test_a_message_without_a_reply_is_sent_before_ask_returns() -> None:
    heard: list[int] = []

    def count(sock: socket.socket) -> None:
        heard.append(sum(len(data) for data in iter(lambda: sock.recv(65536), b"")))

    protocol = Protocol("sink", lambda message: None, "raw", "raw", lambda message: 0)
    with listening(count) as address, Client(address, protocol) as client:
        assert client.ask(bytes(4_000_000)) == b""
        client.close()
    assert heard == [4_000_000]


def test_a_reply_to_half_a_message_counts() -> None:
    def impatient(sock: socket.socket) -> None:
        sock.recv(1024)
        sock.sendall(b"too long\n")
        mute(sock)

    with listening(impatient) as address, Client(address) as client:
        assert client.ask(bytes(20_000_000)) == b"too long"


def test_a_reply_counts_when_the_peer_hangs_up_on_the_rest() -> None:
    def curt(sock: socket.socket) -> None:
        sock.recv(1024)
        sock.sendall(b"too long\n")
        # Read on until the client is surely in the middle of writing.
        for _ in range(8):
            sock.recv(65536)

    with listening(curt) as address, Client(address) as client:
        assert client.ask(bytes(20_000_000)) == b"too long"
        with pytest.raises(ConnectionEnded, match=r"\((Broken pipe|Connection reset by peer)\)"):
            client.ask(b"again")


def test_a_users_own_registry_is_asked() -> None:
    registry = Registry()
    registry.add("mine", lambda message: message, framing="raw", reply_size=len)
    with listening(echo) as address, Client(address, "mine", registry=registry) as client:
        assert client.ask(b"abc") == b"abc"


def test_auto_takes_chunks_until_there_are_lines() -> None:
    class Auto(Handler):
        framing = "auto"

        def on_message(self, message: bytes) -> bytes:
            return message

    with listening(echo) as address, Client(address, Auto) as client:
        assert client.ask(b"chunk") == b"chunk"
        with pytest.raises(SettingError, match="auto"):
            client.pipeline([b"a", b"b"])
        client.send(b"line\n")
        assert client.receive() == b"line"
        assert list(client.pipeline([b"a", b"b"])) == [b"a", b"b"]


# ---------------------------------------------------- what goes wrong, and when


def test_a_peer_that_never_answers_is_given_up_in_time() -> None:
    with listening(mute) as address, Client(address, timeout=SHORT) as client:
        with pytest.raises(TimedOut) as caught:
            client.ask(b"hello?")
        assert str(caught.value) == f"no whole reply came from {address} within 0.05 s"
        assert isinstance(caught.value, TimeoutError)
        # Its late reply would be taken for the next one.
        with pytest.raises(ConnectionEnded, match=f"the connection to {address} is closed"):
            client.ask(b"still there?")


def test_a_peer_that_answers_for_ever_does_not_move_the_deadline() -> None:
    stop = threading.Event()

    def drip(sock: socket.socket) -> None:
        while not stop.wait(0.01):
            sock.sendall(b".")

    with listening(drip) as address, Client(address, timeout=0.2) as client:
        begin = time.monotonic()
        with pytest.raises(TimedOut):
            client.ask(b"hello?")
        assert time.monotonic() - begin < DEADLINE
        stop.set()


def test_a_peer_that_does_not_read_is_given_up_in_time() -> None:
    done = threading.Event()

    def deaf(sock: socket.socket) -> None:
        done.wait(DEADLINE)

    with listening(deaf) as address, Client(address, timeout=SHORT) as client:
        with pytest.raises(TimedOut, match=f"could not be sent to {address} within"):
            client.send(bytes(20_000_000))
        with pytest.raises(ConnectionEnded, match="did not come to its end"):
            client.send(b"x")
        done.set()


def test_a_late_message_can_be_received_after_all() -> None:
    speak = threading.Event()

    def late(sock: socket.socket) -> None:
        sock.sendall(b"ha")
        speak.wait(DEADLINE)
        sock.sendall(b"lf\n")

    with listening(late) as address, Client(address, timeout=SHORT) as client:
        with pytest.raises(TimedOut, match=f"nothing whole came from {address} within 0.05 s"):
            client.receive()
        speak.set()
        client.timeout = DEADLINE
        assert client.receive() == b"half"


@pytest.mark.parametrize(
    ("framing", "begun"), [("line", b"acc"), ("length", b"\0\0\0"), ("fixed:5", b"acc")]
)
def test_half_a_reply_is_no_reply(framing: str, begun: bytes) -> None:
    with listening(saying(begun)) as address, Client(address, framing=framing) as client:
        with pytest.raises(ConnectionEnded) as caught:
            client.ask(b"12345")
        assert str(caught.value) == (
            f"{address} ended the connection in the middle of a reply, after 3 bytes of it"
        )
        assert isinstance(caught.value, ConnectionError)


def test_half_a_reply_of_known_size_is_no_reply() -> None:
    with (
        listening(saying(b"He")) as address,
        Client(address, "echo") as client,
        pytest.raises(ConnectionEnded, match="middle of a reply, after 2 bytes of it"),
    ):
        client.ask(b"Hello")


def test_a_peer_that_hangs_up_unasked_is_told_as_such() -> None:
    with listening(saying()) as address, Client(address) as client:
        with pytest.raises(ConnectionEnded) as caught:
            client.ask(b"hello")
        assert str(caught.value) == f"{address} ended the connection"


def test_a_reset_connection_is_told_as_such() -> None:
    with listening(reset) as address, Client(address) as client:
        with pytest.raises(ConnectionEnded, match=rf"^{address} ended .*\(Connection reset"):
            client.ask(b"hello")
        with pytest.raises(ConnectionEnded):
            client.receive()


def test_iterating_tells_a_reset_from_an_end() -> None:
    with listening(reset) as address, Client(address) as client:
        client.send(b"hello")
        with pytest.raises(ConnectionEnded, match="Connection reset"):
            list(client)
        with pytest.raises(ConnectionEnded, match="Connection reset"):
            client.send(b"hello")


def test_sending_to_a_peer_that_is_gone_is_told() -> None:
    with (
        listening(reset) as address,
        Client(address) as client,
        pytest.raises(ConnectionEnded, match=r"Broken pipe|Connection reset"),
    ):
        client.send(bytes(100_000_000))


def test_a_peer_that_breaks_the_framing_is_named() -> None:
    framing = LineFraming(max_message=4)
    with listening(saying(b"abcdefgh\n")) as address, Client(address, framing=framing) as client:
        with pytest.raises(ProtocolError, match=f"{address} broke the framing: .*4 bytes"):
            client.ask(b"x")
        with pytest.raises(ConnectionEnded, match="broke the framing"):
            client.receive()


def test_a_message_that_does_not_fit_the_framing_costs_nothing() -> None:
    with listening(echo) as address, Client(address, framing="fixed:2") as client:
        with pytest.raises(ValueError, match="does not fit"):
            client.ask(b"abc")
        with pytest.raises(TypeError):
            client.ask(5)  # type: ignore[arg-type]  # the mistake
        assert client.ask(b"ok") == b"ok"


# --------------------------------------------------- send, receive, iterate, end


def test_sending_and_receiving_are_two_things() -> None:
    with listening(lines) as address, Client(address) as client:
        client.send(b"one")
        client.send("two")
        assert client.receive() == b"ONE"
        assert client.receive() == b"TWO"


def test_replies_come_until_the_peer_ends() -> None:
    with listening(lines) as address, Client(address) as client:
        client.send(b"a")
        client.send(b"b")
        client.half_close()
        assert list(client) == [b"A", b"B"]
        with pytest.raises(ConnectionEnded):
            client.receive()
        with pytest.raises(ConnectionEnded, match="nothing more can be sent"):
            client.send(b"c")


def test_an_unfinished_line_at_the_end_is_received() -> None:
    with listening(saying(b"one\ntwo")) as address, Client(address) as client:
        client.send(b"go")
        assert list(client) == [b"one", b"two"]


def test_half_a_message_at_the_end_is_not_received() -> None:
    with listening(saying(b"\0\0")) as address, Client(address, framing="length") as client:
        client.send(b"go")
        with pytest.raises(ConnectionEnded, match="middle of a reply"):
            client.receive()


def test_closing_twice_is_harmless() -> None:
    with listening(echo) as address:
        client = Client(address)
        client.close()
        client.close()
        with pytest.raises(ConnectionEnded, match=r"close\(\) was called"):
            client.ask(b"x")
        with pytest.raises(ConnectionEnded, match=r"close\(\) was called"):
            client.receive()


def test_one_thread_may_send_while_another_receives_and_a_third_closes() -> None:
    ended: list[BaseException] = []
    got: list[bytes] = []
    first = threading.Event()
    with listening(echo) as address, Client(address) as client:

        def receive() -> None:
            try:
                while True:
                    got.append(client.receive())
                    first.set()
            except ConnectionEnded as error:
                ended.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        client.send(b"hello")
        assert first.wait(DEADLINE)
        client.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert got == [b"hello"]
    assert "is closed" in str(ended[0])


# -------------------------------------------------------------------- pipeline


def test_a_pipeline_gives_the_replies_in_order() -> None:
    messages = [b"%d" % number for number in range(5000)]
    with listening(lines) as address, Client(address) as client:
        assert list(client.pipeline(messages)) == messages
        assert list(client.pipeline([])) == []
        assert client.ask(b"after") == b"AFTER"


def test_a_pipeline_of_known_sizes_needs_no_ends() -> None:
    messages = [b"x" * size for size in (0, 1, 70_000, 3, 0)]
    with listening(echo) as address, Client(address, "echo") as client:
        assert list(client.pipeline(messages)) == messages
        assert list(client.pipeline([b"", b""])) == [b"", b""]


@pytest.mark.slow
def test_a_pipeline_takes_no_more_messages_than_it_can_send() -> None:
    taken = 0

    def messages() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield bytes(100_000)

    with listening(echo) as address, Client(address, "echo") as client:
        replies = client.pipeline(messages())
        assert taken == 0
        assert len(next(replies)) == 100_000
        # What the kernel holds for both sides, at most; not all 20 MB.
        assert taken < 150
        assert sum(1 for _ in replies) == 199


def test_a_pipeline_sends_what_it_has_before_it_takes_more() -> None:
    heard = threading.Event()

    def talk(sock: socket.socket) -> None:
        data = sock.recv(1024)
        heard.set()
        sock.sendall(data)
        echo(sock)

    def messages() -> Iterator[bytes]:
        yield b"first"
        assert heard.wait(DEADLINE)
        yield b"second"

    with listening(talk) as address, Client(address) as client:
        assert list(client.pipeline(messages())) == [b"first", b"second"]


def test_a_pipeline_waits_for_no_more_replies_than_it_remembers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "MOST_DUE", 2)
    with listening(lines) as address, Client(address) as client:
        assert list(client.pipeline(iter([b"a", b"b", b"c", b"d"]))) == [b"A", b"B", b"C", b"D"]


def test_a_pipeline_needs_to_know_where_replies_end() -> None:
    sizes = {b"a": 1, b"b": None}
    protocol = Protocol("odd", lambda message: message, "raw", "raw", sizes.get)
    with listening(accepting, times=2) as address:
        with (
            Client(address, framing="raw") as client,
            pytest.raises(SettingError, match="raw framing nothing tells"),
        ):
            client.pipeline([b"a", b"b"])
        with (
            Client(address, protocol) as client,
            pytest.raises(SettingError, match="b'b' is not known"),
        ):
            list(client.pipeline(iter([b"a", b"b"])))


def test_each_reply_of_a_pipeline_has_the_deadline() -> None:
    def one(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"a\n")
        mute(sock)

    with listening(one) as address, Client(address, timeout=SHORT) as client:
        replies = client.pipeline([b"a", b"b"])
        assert next(replies) == b"a"
        with pytest.raises(TimedOut):
            next(replies)


def test_a_pipeline_whose_peer_hangs_up_is_told() -> None:
    with (
        listening(saying(b"a\n")) as address,
        Client(address) as client,
        pytest.raises(ConnectionEnded),
    ):
        list(client.pipeline([b"a", b"b"]))


def test_a_pipeline_notices_a_hang_up_between_replies() -> None:
    ended = threading.Event()

    def one(sock: socket.socket) -> None:
        sock.recv(1024)
        sock.sendall(b"a\n")

    def messages() -> Iterator[bytes]:
        yield b"a"
        assert ended.wait(DEADLINE)
        while True:
            yield bytes(100_000)

    with contextlib.ExitStack() as stack:
        address = stack.enter_context(listening(one))
        client = stack.enter_context(Client(address))
        replies = client.pipeline(messages())
        ended.set()
        with pytest.raises(ConnectionEnded):
            list(replies)


def test_closing_ends_a_pipeline() -> None:
    def one(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"a\n")
        mute(sock)

    with listening(one) as address, Client(address) as client:
        replies = client.pipeline([b"a", b"b"])
        assert next(replies) == b"a"
        client.close()
        with pytest.raises(ConnectionEnded, match=r"close\(\) was called"):
            next(replies)


def test_replies_that_nobody_took_end_the_connection() -> None:
    with listening(lines) as address, Client(address) as client:
        replies = client.pipeline([b"a", b"b"])
        assert next(replies) == b"A"
        for refused in (client.receive, lambda: client.ask(b"c"), lambda: client.send(b"c")):
            with pytest.raises(SettingError, match=f"{address} still owes replies"):
                refused()
        del replies
        for refused in (client.receive, lambda: client.ask(b"c"), lambda: client.send(b"c")):
            with pytest.raises(ConnectionEnded, match="did not come to its end"):
                refused()


def test_between_the_replies_of_a_pipeline_something_else_may_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "MOST_DUE", 1)
    with listening(lines) as address, Client(address) as client:
        replies = client.pipeline([b"a", b"c"])
        assert next(replies) == b"A"
        assert client.ask(b"b") == b"B"
        assert list(replies) == [b"C"]


def test_a_false_alarm_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Eager:
        """Call everything ready, the first few times."""

        left = 3

        def __init__(self) -> None:
            self.poller = poll()

        def register(self, sock: socket.socket, events: int) -> None:
            self.number = sock.fileno()
            self.poller.register(sock, events)

        def poll(self, milliseconds: int) -> list[tuple[int, int]]:
            if Eager.left:
                Eager.left -= 1
                return [(self.number, select.POLLIN | select.POLLOUT)]
            return self.poller.poll(milliseconds)

    poll = select.poll
    ask = threading.Event()

    def slow(sock: socket.socket) -> None:
        ask.wait(DEADLINE)
        mute(sock)

    with listening(slow) as address, Client(address, "echo", timeout=SHORT) as client:
        # Fill the way there, so that nothing can be written.
        client._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        monkeypatch.setattr(select, "poll", Eager)
        with pytest.raises(TimedOut):
            client.ask(bytes(20_000_000))
        ask.set()


# ---------------------------------------------------------------------- stream


@pytest.mark.slow
def test_a_stream_gives_an_echo_while_it_sends() -> None:
    data = os.urandom(1024) * 4096
    with listening(echo) as address, Client(address, "echo") as client:
        assert b"".join(client.stream(io.BytesIO(data))) == data
        assert list(client.stream(io.BytesIO())) == []
        assert client.ask(b"still usable") == b"still usable"


def test_a_stream_without_known_sizes_ends_when_the_peer_does() -> None:
    with listening(lines) as address, Client(address) as client:
        assert list(client.stream(io.BytesIO(b"one\ntwo\nthree"))) == [b"ONE", b"TWO", b"THREE"]
        with pytest.raises(ConnectionEnded, match="behind a stream"):
            client.ask(b"more")


def test_a_stream_of_unknown_size_ends_when_the_peer_does() -> None:
    protocol = Protocol("odd", lambda message: message, "raw", "raw", lambda message: None)
    with listening(echo) as address, Client(address, protocol) as client:
        assert b"".join(client.stream(io.BytesIO(b"abc"))) == b"abc"


def test_a_stream_sends_what_a_pipe_has_before_it_takes_more() -> None:
    inlet, outlet = os.pipe()

    def talk(sock: socket.socket) -> None:
        data = sock.recv(1024)
        assert data == b"first"
        pipe.write(b"second")
        pipe.close()
        sock.sendall(data)
        echo(sock)

    with (
        open(inlet, "rb") as file,
        open(outlet, "wb", buffering=0) as pipe,
        listening(talk) as address,
        Client(address, "echo") as client,
    ):
        pipe.write(b"first")
        assert b"".join(client.stream(file)) == b"firstsecond"


def test_a_stream_leaves_what_was_not_owed() -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(3)
        sock.sendall(b"abcdef")
        mute(sock)

    with listening(talk) as address, Client(address, "echo") as client:
        assert b"".join(client.stream(io.BytesIO(b"xyz"))) == b"abc"
        assert client.ask(b"123") == b"def"


def test_a_peer_may_end_before_the_file_does() -> None:
    heard: list[int] = []

    def sink(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        heard.append(sum(len(data) for data in iter(lambda: sock.recv(65536), b"")))

    with listening(sink) as address, Client(address) as client:
        assert list(client.stream(io.BytesIO(bytes(3_000_000)))) == []
    assert heard == [3_000_000]


def test_a_file_that_was_not_taken_whole_is_told() -> None:
    with (
        listening(reset) as address,
        Client(address) as client,
        pytest.raises(ConnectionEnded),
    ):
        list(client.stream(io.BytesIO(bytes(20_000_000))))


def test_an_echo_that_stops_in_the_middle_is_told() -> None:
    with (
        listening(saying(b"abc")) as address,
        Client(address, "echo") as client,
        pytest.raises(ConnectionEnded, match="middle of a reply, 2 bytes before its end"),
    ):
        list(client.stream(io.BytesIO(b"abcde")))


def test_a_stream_in_which_nothing_moves_is_given_up_in_time() -> None:
    with (
        listening(mute) as address,
        Client(address, "echo", timeout=SHORT) as client,
        pytest.raises(TimedOut, match=f"nothing moved to or from {address} for 0.05 s"),
    ):
        list(client.stream(io.BytesIO(b"abc")))


def test_text_is_no_stream() -> None:
    with (
        listening(echo) as address,
        Client(address, "echo") as client,
        pytest.raises(TypeError),
    ):
        list(client.stream(io.StringIO("abc")))  # type: ignore[arg-type]  # the mistake


# ------------------------------------------------------------------- unix, udp


def test_a_unix_path_is_an_address(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    source = tmp_path / "mine"
    with (
        listening(echo, listener) as address,
        Client(address, "echo", source=f"unix://{source}") as client,
    ):
        assert address == f"unix://{tmp_path}/s"
        assert client.ask(b"hello") == b"hello"
        assert client.local == Address.parse(f"unix://{source}")
    assert not source.exists()
    with pytest.raises(RefusedError, match=f"nobody listens at {address}"):
        Client(address)


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="abstract names are Linux's")
def test_an_abstract_name_is_an_address() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    with listening(lines, listener) as address, Client(address) as client:
        assert address.startswith("unix://@")
        assert client.ask(b"hello") == b"HELLO"


@contextlib.contextmanager
def udp_peer(answer: Callable[[bytes], list[bytes]]) -> Iterator[str]:
    """Answer datagrams until `stop` comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(DEADLINE)

        def serve() -> None:
            while True:
                data, sender = sock.recvfrom(65535)
                if data == b"stop":
                    return
                for reply in answer(data):
                    sock.sendto(reply, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"udp://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"stop", sock.getsockname())
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.mark.parametrize("protocol", ["echo", "command", None])
def test_a_datagram_is_a_message_whatever_the_framing(protocol: str | None) -> None:
    with udp_peer(lambda data: [data]) as address, Client(address, protocol) as client:
        assert client.ask(b"no end") == b"no end"
        assert client.ask(b"") == b""
        largest = os.urandom(60_000)
        assert client.ask(largest) == largest
        messages = [b"%d" % number for number in range(300)]
        assert list(client.pipeline(messages)) == messages
        client.send(b"a")
        assert client.receive() == b"a"


def test_a_lost_datagram_costs_only_its_own_reply() -> None:
    heard: list[bytes] = []

    def answer(data: bytes) -> list[bytes]:
        heard.append(data)
        return [data] if len(heard) > 1 else []

    with udp_peer(answer) as address, Client(address, timeout=SHORT) as client:
        with pytest.raises(TimedOut, match=address):
            client.ask(b"lost")
        client.timeout = DEADLINE
        assert client.ask(b"found") == b"found"


def test_a_datagram_to_nobody_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{sock.getsockname()[1]}"
    with Client(address) as client:
        with pytest.raises(RefusedError, match=f"nobody listens at {address}"):
            client.ask(b"hello?")
        client.send(b"hello?")
        # On the loopback the refusal is there before send() returns.
        with pytest.raises(RefusedError, match=f"nobody listens at {address}"):
            client.send(b"still nobody?")


def test_a_message_that_fits_no_datagram_is_told() -> None:
    with udp_peer(lambda data: [data]) as address, Client(address) as client:
        with pytest.raises(SettingError) as caught:
            client.ask(bytes(70_000))
        assert str(caught.value) == (
            f"a message of 70,000 bytes does not fit into a datagram to {address}; "
            "over IPv4 the longest has 65,507"
        )
        assert client.ask(b"short") == b"short"


def test_datagrams_have_no_end() -> None:
    with (
        udp_peer(lambda data: [data]) as address,
        Client(address) as client,
        pytest.raises(SettingError, match=f"cannot be streamed to {address}"),
    ):
        client.stream(io.BytesIO(b"x"))


# ----------------------------------------------------------------------- probe


def test_a_probe_tells_open_refused_and_filtered() -> None:
    closed = unused_port()
    with full_backlog() as silent, socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        found = probe("127.0.0.1", [taken, closed, silent], timeout=0.2)
    assert found == {taken: "open", closed: "refused", silent: "filtered"}
    assert list(found) == [taken, closed, silent]


def test_a_probe_asks_all_ports_at_once() -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(full_backlog()) for _ in range(5)]
        begin = time.monotonic()
        assert set(probe("127.0.0.1", ports, timeout=0.2).values()) == {"filtered"}
        assert time.monotonic() - begin < 0.8


def test_more_ports_than_sockets_at_once_are_asked_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("echoframe.probing.PROBES_AT_ONCE", 1)
    with full_backlog() as one, full_backlog() as two:
        ports = [one, two]
        assert probe("127.0.0.1", ports, timeout=SHORT) == dict.fromkeys(ports, "filtered")


def test_a_probe_takes_text_and_names() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = probe("localhost", f"{port - 1}-{port}, {port}")
        assert list(found) == [port - 1, port]
        assert found[port] == "open"
        assert probe("", port)[port] == "open"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_probe_takes_ipv6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with listener:
        port = listener.getsockname()[1]
        assert probe("::1", port) == {port: "open"}
        assert probe("[::1]", port) == {port: "open"}


def test_a_socket_that_reached_itself_is_no_open_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoframe.probing.is_its_own_peer", lambda sock: True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert probe("127.0.0.1", port) == {port: "refused"}


def test_a_probe_makes_do_with_few_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with full_backlog() as silent:
        spare = os.dup(0)
        os.close(spare)
        ports = [silent, unused_port(), unused_port()]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
            assert probe("127.0.0.1", ports, timeout=SHORT) == {
                port: "filtered" if port == silent else "refused" for port in ports
            }
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
            with pytest.raises(OSError, match="Too many open files"):
                probe("127.0.0.1", ports)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_way_leads_is_filtered() -> None:
    assert probe("255.255.255.255", 80) == {80: "filtered"}


def test_an_interrupted_probe_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        register = staticmethod(lambda *_: None)

        def poll(self, milliseconds: int) -> None:
            raise KeyboardInterrupt

    with full_backlog() as silent:
        monkeypatch.setattr(select, "poll", Interrupted)
        # A socket left open would be a warning, and those are errors.
        with pytest.raises(KeyboardInterrupt):
            probe("127.0.0.1", silent)


def test_an_address_family_that_is_missing_is_no_way_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    monkeypatch.setattr(socket, "socket", refuse)
    assert probe("127.0.0.1", 80) == {80: "filtered"}


@pytest.mark.parametrize(
    ("ports", "sentence"),
    [
        ("", "write numbers and ranges"),
        ("80,http", "write numbers and ranges"),
        ("1-2-3", "write numbers and ranges"),
        ("123456", "write numbers and ranges"),
        ("30-20", "the range 30-20 runs backwards"),
        (0, "port 0 is not a number between 1 and 65535"),
        ([80, 65536], "port 65536 is not"),
        ([None], "port None is not"),
        ([], "no ports to probe"),
    ],
)
def test_ports_that_are_none_are_told(ports: Any, sentence: str) -> None:
    with pytest.raises(AddressError, match=sentence):
        probe("127.0.0.1", ports)


def test_a_probe_has_a_deadline_and_a_host() -> None:
    with pytest.raises(SettingError, match="timeout="):
        probe("127.0.0.1", 80, timeout=0)
    with pytest.raises(AddressError, match=r"nowhere\.invalid"):
        probe("nowhere.invalid", 80)
    with pytest.raises(AddressError, match="is not a host name"):
        probe("no host", 80)


@pytest.mark.parametrize("message", ["hello\n", b"a\nb"])
def test_a_message_that_would_be_two_is_refused(message: bytes | str) -> None:
    with running("upper") as up, up.client(timeout=DEADLINE) as client:
        with pytest.raises(SettingError, match="holds the end of a message"):
            client.ask(message)
        assert client.ask("fine") == b"FINE"
        with pytest.raises(SettingError, match="holds the end of a message"):
            client.send(message)
        assert client.ask("fine") == b"FINE"
        with pytest.raises(SettingError, match="holds the end of a message"):
            list(client.pipeline(["fine", message]))
    with running("echo") as up, up.client("echo", timeout=DEADLINE) as client:
        assert client.ask(message) == (message.encode() if isinstance(message, str) else message)


def test_what_is_no_message_is_named() -> None:
    wrong: Any = 5
    with (
        running("echo") as up,
        up.client("echo") as client,
        pytest.raises(TypeError, match="a message is bytes or str, not int"),
    ):
        client.ask(wrong)
