"""Listeners for the tests of the transports, and waits that have an end."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from echoframe.address import Address
from echoframe.transports import Listener, ListenOptions, bind

DEADLINE = 5.0


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@contextlib.contextmanager
def bound(place: Any, **options: Any) -> Iterator[Listener]:
    listener = bind(Address.parse(place), ListenOptions(**options))
    try:
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def listening(place: Any, **options: Any) -> Iterator[Listener]:
    with bound(place, **options) as listener:
        listener.transport.listen(listener.socket, ListenOptions(**options))
        yield listener


def accept(listener: Listener) -> tuple[Any, Any]:
    ready, _, _ = select.select([listener], [], [], DEADLINE)
    assert ready, f"nobody came to {listener.address}"
    return listener.accept()


def exchange(listener: Listener, place: Any = None) -> str:
    """Connect, say something in both directions, and give the peer's name."""
    address = Address.parse(place) if place is not None else listener.address
    transport = listener.transport
    with transport.connect(address, DEADLINE, None) as near:
        far, client_address = accept(listener)
        try:
            far.settimeout(DEADLINE)
            near.settimeout(DEADLINE)
            near.sendall(b"there")
            assert far.recv(100) == b"there"
            far.sendall(b"back")
            transport.finish(far)
            assert near.recv(100) == b"back"
            assert near.recv(100) == b""
            return transport.peer_name(far, client_address)
        finally:
            transport.close(far)
