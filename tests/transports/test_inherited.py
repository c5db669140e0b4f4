from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echoframe.address import Address
from echoframe.errors import ListenError
from echoframe.transports import TRANSPORTS, ListenOptions, bind

from .sockets import DEADLINE, accept, bound, exchange, needs_ipv6


@contextmanager
def made_by_somebody_else(
    family: int, kind: int, where: object, backlog: int | None = 5
) -> Iterator[str]:
    """A socket as a supervisor hands it down; give the address that names it."""
    sock = socket.socket(family, kind)
    sock.bind(where)  # type: ignore[arg-type]  # of whatever family
    if backlog is not None:
        sock.listen(backlog)
    number = sock.detach()
    os.set_inheritable(number, True)
    try:
        yield f"fd://{number}"
    finally:
        try:
            os.close(number)
        except OSError:
            # Whoever took it over has closed it.
            pass


def refused(place: str) -> ListenError:
    with pytest.raises(ListenError) as caught:
        bind(Address.parse(place), ListenOptions())
    # What was not taken over stays as it is.
    return caught.value


def test_a_listening_tcp_socket_is_served_as_one_of_our_own() -> None:
    with (
        made_by_somebody_else(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as place,
        bound(place) as listener,
    ):
        assert listener.transport is TRANSPORTS["tcp"]
        assert listener.address.port > 0
        assert listener.socket.gettimeout() == 0
        assert not os.get_inheritable(listener.fileno())
        exchange(listener)
        with listener.transport.connect(listener.address, DEADLINE, None):
            far, _ = accept(listener)
            with far:
                assert far.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@needs_ipv6
def test_a_listening_ipv6_socket_is_served() -> None:
    with (
        made_by_somebody_else(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)) as place,
        bound(place) as listener,
    ):
        assert str(listener.address).startswith("tcp://[::1]:")
        exchange(listener)


def test_a_listening_unix_socket_is_served_and_its_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        made_by_somebody_else(socket.AF_UNIX, socket.SOCK_STREAM, "x.sock") as place,
        bound(place) as listener,
    ):
        assert str(listener.address) == "unix://x.sock"
        exchange(listener)
    assert os.path.lexists("x.sock")


def test_a_udp_socket_is_served() -> None:
    where = ("127.0.0.1", 0)
    with (
        made_by_somebody_else(socket.AF_INET, socket.SOCK_DGRAM, where, None) as place,
        bound(place) as listener,
    ):
        assert listener.transport is TRANSPORTS["udp"]
        with listener.transport.connect(listener.address, DEADLINE, None) as near:
            near.send(b"hello")
            assert accept(listener)[0][0] == b"hello"


def test_a_closed_descriptor_is_a_sentence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    error = refused(f"fd://{writer}")
    assert str(error) == (
        f"fd://{writer}: descriptor {writer} is not a socket that was inherited "
        f"({os.strerror(errno.EBADF)})"
    )
    assert error.errno == errno.EBADF


def test_a_descriptor_that_is_no_socket_is_a_sentence_and_stays_open() -> None:
    reader, writer = os.pipe()
    try:
        assert f"descriptor {reader} is not a socket that was inherited" in str(
            refused(f"fd://{reader}")
        )
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_connected_socket_is_a_sentence_and_stays_open() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert str(refused(f"fd://{near.fileno()}")) == (
            f"fd://{near.fileno()}: that socket is connected; a listening one is needed"
        )
        far.sendall(b"x")
        assert near.recv(1) == b"x"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_unix_socket_that_is_no_stream_is_a_sentence(
    kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with made_by_somebody_else(socket.AF_UNIX, kind, "x.sock", None) as place:
        assert str(refused(place)) == f"{place}: a socket of that kind cannot be served here"
        os.fstat(int(place.removeprefix("fd://")))
