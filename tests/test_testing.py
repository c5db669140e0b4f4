"""What echoframe.testing promises to the tests of other programs."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.errors import ListenError, SettingError, UnknownHandler
from echoframe.handlers import Answer, CommandHandler, Handler, Peer, Registry, Reply
from echoframe.servers import MODELS, Report
from echoframe.testing import running, talk

from .helpers import HAS_IPV6, ask, echo, nothing_left_behind, raw_connection, read_to_end

TRANSPORTS = ["tcp", "tcp6", "unix", "abstract", "udp"]

every_model = pytest.mark.parametrize("model", MODELS)


# ------------------------------------------------------------------------ talk


def test_talk_gives_all_replies_in_order() -> None:
    assert talk(echo, b"one", "zwölf") == [b"one", "zwölf".encode()]
    assert talk("echo") == []


def test_talk_gives_each_piece_of_an_answer() -> None:
    def answer(message: bytes) -> Iterator[Any]:
        yield b"a"
        yield None
        yield "b"
        yield Reply(bytearray(b"c"))

    assert talk(answer, b"") == [b"a", b"b", b"c"]


def test_talk_says_nothing_after_a_reply_that_hangs_up() -> None:
    assert talk(CommandHandler, b"hello", b"CLOSE", b"more") == [b"accepted", b"closed"]


class Noting(Handler):
    seen: list[Any]

    def __init__(self) -> None:
        Noting.seen = []

    def on_open(self) -> Answer:
        self.seen.append(self.peer.remote)
        return b"welcome"

    def on_message(self, message: bytes) -> Answer:
        if message == b"boom":
            raise RuntimeError("boom")
        return Reply(close=message == b"bye")

    def on_close(self, reason: str) -> None:
        self.seen.append(reason)


def test_talk_greets_and_tells_why_it_ended() -> None:
    assert talk(Noting, b"hm") == [b"welcome"]
    assert Noting.seen == ["test", "peer"]
    assert talk(Noting, b"bye", peer=Peer("someone", "here", "pigeon")) == [b"welcome"]
    assert Noting.seen == ["someone", "reply"]


def test_talk_lets_through_what_the_handler_raises() -> None:
    with pytest.raises(RuntimeError, match="boom"):
        talk(Noting, b"boom")
    assert Noting.seen == ["test", "error"]


def test_talk_looks_names_up_where_it_is_told() -> None:
    own = Registry()
    own.add("shout", bytes.upper)
    assert talk("shout", b"hey", own=own) == [b"HEY"]
    with pytest.raises(UnknownHandler, match="shout"):
        talk("shout", b"hey")


# --------------------------------------------------------------------- running


@pytest.mark.parametrize("transport", TRANSPORTS)
@every_model
def test_a_server_runs_for_the_length_of_the_block(model: str, transport: str) -> None:
    if transport == "tcp6" and not HAS_IPV6:
        pytest.skip("this machine has no IPv6")
    with nothing_left_behind():
        with running(echo, model, transport) as up:
            with raw_connection(up) as peer:
                peer.sendall(b"hello\n")
                assert peer.recv(100) == b"hello\n"
            path = up.address.path
        assert up.report is not None
        assert up.report.served == 1
        assert up.report.cut == 0
        if transport == "unix":
            assert not Path(path).parent.exists()


@every_model
def test_the_address_may_be_ones_own(model: str, tmp_path: Path) -> None:
    place = f"unix://{tmp_path}/mine"
    with running(echo, model, place) as up:
        assert str(up.address) == place


@every_model
def test_a_client_speaks_what_the_handler_does(model: str) -> None:
    with running("command", model) as up, up.client("command") as client:
        assert client.ask(b"hello") == b"accepted"
        assert client.ask(b"close") == b"closed"


@every_model
def test_where_the_server_is_can_be_told(model: str) -> None:
    with running(echo, model) as up:
        apart = MODELS[model].forks
        assert (up.server is None) is apart
        assert (up.pid != os.getpid()) is apart


@every_model
@pytest.mark.parametrize(
    ("handler", "transport", "settings", "error", "sentence"),
    [
        ("ecco", "tcp", {}, UnknownHandler, "unknown handler 'ecco'; did you mean 'echo'"),
        ("echo", "tcp", {"backlog": 0}, SettingError, "backlog must be between 1 and"),
        ("echo", "tcp", {"back_log": 1}, TypeError, "did you mean 'backlog'"),
        ("echo", "tcp://192.0.2.1:0", {}, ListenError, "is not an address of this machine"),
    ],
)
def test_errors_of_the_constructor_come_through(
    model: str,
    handler: str,
    transport: str,
    settings: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with (
        nothing_left_behind(),
        pytest.raises(error, match=sentence),
        running(handler, model, transport, **settings),
    ):
        pass


def test_an_unknown_model_is_a_sentence() -> None:
    with pytest.raises(SettingError, match="unknown model 'tread'; did you mean 'thread'"):
        running(echo, "tread").__enter__()


@every_model
def test_an_error_in_the_block_comes_through_and_the_server_ends(model: str) -> None:
    with nothing_left_behind():
        with pytest.raises(KeyError, match="mine"), running(echo, model) as up:
            raise KeyError("mine")
        assert up.report is not None


@every_model
def test_the_report_tells_who_was_cut(model: str) -> None:
    with running(echo, model, drain=0.0) as up:
        peer = raw_connection(up)
        assert ask(peer, b"hello") == b"hello"
        peer.sendall(b"unfinished")
        name = "{}:{}".format(*peer.getsockname())
    with peer:
        assert read_to_end(peer) == b""
    assert isinstance(up.report, Report)
    assert up.report[:3] == (1, 0, 1)
    assert up.report.who == ((name, "cut"),)


def test_a_server_that_was_killed_has_no_report() -> None:
    with nothing_left_behind():
        with running(echo, "fork") as up:
            os.kill(up.pid, signal.SIGKILL)
        assert up.report is None


def test_a_server_that_does_not_stop_is_an_error_and_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deaf(message: bytes) -> bytes:
        os.kill(os.getppid(), signal.SIGSTOP)
        return message

    # The package gives the function the name that its module has.
    monkeypatch.setattr(sys.modules["echoframe.testing.running"], "PATIENCE", 0.2)
    with (
        nothing_left_behind(),
        pytest.raises(TimeoutError),
        running(deaf, "fork") as up,
        raw_connection(up) as peer,
    ):
        assert ask(peer, b"stop") == b"stop"


def closures() -> tuple[Callable[[bytes], bytes], str]:
    word = os.urandom(4).hex()
    return lambda message: word.encode(), word


@every_model
def test_a_closure_is_a_handler_on_every_model(model: str) -> None:
    handler, word = closures()
    with running(handler, model) as up, raw_connection(up) as peer:
        assert ask(peer, b"?") == word.encode()


@every_model
def test_a_port_that_is_taken_is_a_sentence(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ListenError, match=f"127.0.0.1:{port} is in use"),
            running(echo, model, f"tcp://127.0.0.1:{port}"),
        ):
            pass
