"""tcp: IPv4, IPv6, and both at once."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from typing import Any

from ..address import Address
from .base import ListenOptions, Transport, connect_error, listen_error, look_up, remaining

__all__ = ["Tcp", "bind_inet", "connect_inet", "is_its_own_peer"]


class Tcp(Transport):
    """A stream to another program, on this machine or elsewhere."""

    scheme = "tcp"

    def bind(self, address: Address, options: ListenOptions) -> socket.socket:
        sock = bind_inet(address, self.kind, options)
        # Small replies wait for nobody's acknowledgement: without this, two small
        # writes in a row cost the second one about 40 ms. Linux hands the option
        # on to every connection accepted here, which saves a call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    if sys.platform != "linux":

        def accept(self, sock: socket.socket) -> tuple[Any, Any]:
            request, client_address = super().accept(sock)
            # Here the option may not be handed on.
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return request, client_address

    def connect(self, address: Address, timeout: float, source: Address | None) -> socket.socket:
        sock = connect_inet(address, self.kind, timeout, source)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def peer_name(self, request: Any, client_address: Any) -> str:
        return Address.of(client_address, socket.AF_INET).name


def bind_inet(address: Address, kind: int, options: ListenOptions) -> socket.socket:
    """Give a bound socket of either family; an empty host means every interface of both."""
    found = look_up(address, kind, passive=True)
    if not address.host:
        # IPv6 first: that one socket can serve IPv4 too. Where there is no IPv6,
        # IPv4 alone.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET6)
    refused: OSError | None = None
    for family, _, protocol, _, where in found:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            refused = refused or error
            continue
        try:
            if options.reuse_address and kind == socket.SOCK_STREAM:
                # Connections that linger from an earlier run do not hold the port.
                # Not for datagrams, where it would let two servers share one.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if options.reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                only = 1 if address.host else 0
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind(where)
            return sock
        except OSError as error:
            sock.close()
            refused = error
            # A name may stand for an address of a family that this machine lacks,
            # as localhost often does in containers; for all else the first counts.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    assert refused is not None  # getaddrinfo never gives an empty list
    raise listen_error(address, refused, where) from None


def connect_inet(
    address: Address, kind: int, timeout: float, source: Address | None
) -> socket.socket:
    """Connect to the first of the host's addresses that answers, all within the timeout."""
    deadline = time.monotonic() + timeout
    refused: OSError | None = None
    # An empty host is every interface to listen at; to reach it, this machine.
    target = address if address.host else Address(address.scheme, "localhost", address.port)
    for family, _, protocol, _, where in look_up(target, kind, passive=False):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            refused = refused or error
            continue
        try:
            if source is not None:
                sock.bind((source.host, source.port))
            sock.settimeout(remaining(deadline))
            sock.connect(where)
            if is_its_own_peer(sock):
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            return sock
        except OSError as error:
            sock.close()
            refused = error
    assert refused is not None  # getaddrinfo never gives an empty list
    raise connect_error(address, refused, timeout, source) from None


def is_its_own_peer(sock: socket.socket) -> bool:
    """Tell whether a connected socket reached nobody but itself.

    TCP allows that where nobody listens, when the kernel happens to choose the very
    port that is called as the one to call from.
    """
    try:
        return sock.type == socket.SOCK_STREAM and sock.getsockname() == sock.getpeername()
    except OSError:
        # Whoever was there has gone again.
        return False
