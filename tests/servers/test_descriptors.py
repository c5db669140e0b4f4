"""Room for connections: the limit of descriptors, raised, and what is kept of it."""

from __future__ import annotations

import resource

import pytest

from echoframe import AioServer
from echoframe.servers.descriptors import room_for_connections

from ..helpers import Log, Notes, echo, forked


@pytest.mark.parametrize(
    ("soft", "hard", "room"), [(100, 1000, 936), (100, 100, 50), (200, 200, 136), (64, 128, 64)]
)
def test_all_but_64_are_for_connections_and_never_less_than_half(
    soft: int, hard: int, room: int, log: Log
) -> None:
    def work(notes: Notes) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        notes.write(room_for_connections(), *resource.getrlimit(resource.RLIMIT_NOFILE))

    with forked(work) as child:
        assert child.notes.next() == f"{room} {hard} {hard}"
        assert child.wait() == 0
    said = f"INFO The limit of open descriptors was raised from {soft} to {hard}\n"
    assert log.text == (said if soft < hard else "")


def test_a_server_on_a_loop_takes_what_there_is_unless_it_is_told(notes: Notes) -> None:
    def work(notes: Notes) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
        with AioServer("tcp://127.0.0.1:0", echo) as server:
            notes.write(server.max_connections)
        with AioServer("tcp://127.0.0.1:0", echo, max_connections=7) as server:
            notes.write(server.max_connections)

    with forked(work) as child:
        assert child.notes.take(2) == ["236", "7"]
        assert child.wait() == 0
