"""What the kernel is asked, against sockets that show it."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from echoframe.servers import kernel
from echoframe.servers.handover import NOBODY, _who
from echoframe.servers.kernel import (
    credentials,
    quiet_for,
    sent_ago,
    somaxconn,
    unread,
    unsent,
    wait_until_sent,
)
from echoframe.servers.turnstile import peer_key

from ..helpers import eventually

Pair = tuple[socket.socket, socket.socket]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


@linux
def test_a_connection_is_quiet_since_data_last_went_either_way(pair: Pair) -> None:
    near, far = pair
    near.sendall(b"hello")
    eventually(lambda: (quiet_for(far) or 0) > 0.05)
    assert (quiet_for(near) or 0) > 0.04
    near.sendall(b"hello")
    assert far.recv(100)
    assert far.recv(100) if unread(far) else True
    assert (quiet_for(near) or 0) < 0.05
    assert (quiet_for(far) or 0) < 0.05


@linux
def test_when_data_was_last_sent(pair: Pair) -> None:
    near, far = pair
    near.sendall(b"hello")
    eventually(lambda: (sent_ago(near) or 0) > 0.05)
    far.sendall(b"hello")
    assert near.recv(100)
    # What comes is nothing that was sent.
    assert (sent_ago(near) or 0) > 0.05
    near.sendall(b"hello")
    assert (sent_ago(near) or 0) < 0.05


def test_nobody_knows_how_long_something_else_has_been_quiet() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert quiet_for(near) is None
        assert sent_ago(near) is None
    assert quiet_for(near) is None
    assert quiet_for((b"datagram", near)) is None


@linux
def test_what_has_arrived_and_was_not_read_is_counted(pair: Pair) -> None:
    near, far = pair
    assert unread(far) == 0
    near.sendall(b"hello")
    eventually(lambda: unread(far) == 5)
    far.recv(2)
    assert unread(far) == 3


@linux
def test_what_the_other_side_does_not_have_yet_is_counted(pair: Pair) -> None:
    near, far = pair
    near.setblocking(False)
    try:
        while True:
            near.send(b"x" * 65536)
    except BlockingIOError:
        pass
    assert unsent(near) > 0
    began = time.monotonic()
    wait_until_sent(near, 0.02)
    assert time.monotonic() - began >= 0.02
    assert unsent(near) > 0

    def read() -> None:
        far.settimeout(0.2)
        try:
            while far.recv(1 << 20):
                pass
        except TimeoutError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    wait_until_sent(near, 10)
    assert unsent(near) == 0
    reader.join()


def test_a_closed_socket_has_nothing_left() -> None:
    near, far = socket.socketpair()
    near.close()
    far.close()
    assert unread(near) == 0
    assert unsent(near) == 0
    wait_until_sent(near, 10)


def test_elsewhere_nobody_knows(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pair
    near.sendall(b"hello")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert unread(far) == 0


@linux
def test_the_longest_backlog_is_the_kernels() -> None:
    with open("/proc/sys/net/core/somaxconn") as file:
        assert somaxconn() == int(file.read())


def test_a_kernel_that_does_not_say_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(kernel, "open", missing, raising=False)
    assert somaxconn() is None


class Theirs(socket.socket):
    """A Unix socket whose peer is said to be this process, user and group."""

    said = (7, 2**31 + 5, 2**32 - 2)

    def getsockopt(self, *_: Any) -> Any:
        return struct.pack("=iII", *self.said)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this kernel does not tell")
def test_the_highest_users_are_users_too() -> None:
    with Theirs(socket.AF_UNIX) as sock:
        assert credentials(sock) == sock.said
        assert _who(sock) == sock.said[:2]
        assert peer_key(sock, "") == sock.said[1]


@linux
def test_of_a_socket_that_has_no_peer_with_a_user_nothing_is_told(pair: Pair) -> None:
    near, far = socket.socketpair(socket.AF_UNIX)
    with near, far:
        assert credentials(near) == (os.getpid(), os.geteuid(), os.getegid())
    # Closed; TCP; and no socket at all.
    for sock in (near, pair[0], object()):
        assert credentials(sock) is None
    # And so it is nobody who is trusted.
    assert _who(near) == (0, NOBODY)
