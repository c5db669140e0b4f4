"""What only loop promises: one poller for everybody."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from echoframe.servers import LoopServer
from echoframe.servers import loop as loop_module
from echoframe.testing import running

from ..helpers import (
    DEADLINE,
    Gate,
    Log,
    ask,
    echo,
    eventually,
    raw_connection,
    read_to_end,
    slow,
)


def test_who_finds_the_poller_full_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "the poller takes no more")

    with running(echo, "loop", max_connections=1) as up:
        server = up.server
        assert isinstance(server, LoopServer)
        with monkeypatch.context() as patched:
            patched.setattr(loop_module._LoopWatch, "poll_for", refuse)
            with raw_connection(up) as peer:
                assert read_to_end(peer) == b""
            eventually(lambda: not server._life.open)
        with raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"


def test_a_handler_that_close_did_not_wait_for_leaves_nothing_behind(gate: Gate) -> None:
    server = LoopServer("tcp://127.0.0.1:0", slow(gate))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with raw_connection(server) as peer:
        peer.sendall(b"hello\n")
        eventually(server._is_running)
        server.close(drain=0)
        gate.open()
        assert read_to_end(peer) in (b"hello\n", b"")
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not server._life.open
