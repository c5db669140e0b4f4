"""What only single promises: one after the other, and `once`."""

from __future__ import annotations

import socket
import threading

import pytest

from echoframe.servers import SingleServer, serve
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    Notes,
    ask,
    crash_on,
    echo,
    noting,
    raw_connection,
    read_line,
    read_to_end,
    served,
)


def test_once_ends_after_the_first_conversation() -> None:
    server = SingleServer("tcp://127.0.0.1:0", echo, once=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with raw_connection(server) as first, raw_connection(server) as second:
        assert ask(first, b"one") == b"one"
        second.sendall(b"two\n")
        first.shutdown(socket.SHUT_WR)
        thread.join(DEADLINE)
        assert not thread.is_alive()
        server.close()
        # Nobody took it from the backlog, which is gone with the listener.
        with pytest.raises(ConnectionResetError):
            read_to_end(second)
    assert server.report is not None
    assert (server.report.served, server.report.cut) == (1, 0)


def test_once_ends_after_a_conversation_that_failed() -> None:
    with (
        served(SingleServer, crash_on(b"boom"), once=True, alone=True) as up,
        raw_connection(up) as peer,
    ):
        peer.sendall(b"boom\n")
        assert read_to_end(peer) == b""
        up.stopped = True
    assert up.report is not None
    assert up.report.served == 1


def test_once_may_be_the_class_own() -> None:
    class Once(SingleServer):
        once = True

    with Once("tcp://127.0.0.1:0", echo) as server:
        assert server.once
    with Once("tcp://127.0.0.1:0", echo, once=False) as server:
        assert not server.once
    with serve(echo, "tcp://127.0.0.1:0", "single", once=True) as made:
        assert isinstance(made, SingleServer)
        assert made.once


def test_conversations_come_one_after_the_other(notes: Notes) -> None:
    with running(noting(notes), "single") as up:
        peers = [raw_connection(up) for _ in range(5)]
        for peer in peers:
            peer.sendall(b"hello\n")
            peer.shutdown(socket.SHUT_WR)
        for peer in peers:
            with peer:
                assert read_line(peer) == b"hello\n"
        assert notes.take(10) == ["open", "close peer"] * 5


def test_all_handlers_run_in_the_serving_thread() -> None:
    names: list[str] = []

    def handler(message: bytes) -> bytes:
        names.append(threading.current_thread().name)
        return message

    with running(handler, "single") as up:
        for _ in range(2):
            with raw_connection(up) as peer:
                assert ask(peer, b"hello") == b"hello"
    assert names == ["running", "running"]
