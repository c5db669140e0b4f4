"""udp: one datagram, one message; one socket for all peers."""

from __future__ import annotations

import socket
from typing import Any

from ..address import Address
from .base import ListenOptions, Transport
from .tcp import bind_inet, connect_inet

__all__ = ["LARGEST_DATAGRAM", "Udp"]

# No IP datagram is longer, so nothing is cut on its way in.
LARGEST_DATAGRAM = 65535


class Udp(Transport):
    """Datagrams. A request is (data, socket), as in socketserver's UDPServer."""

    scheme = "udp"
    kind = socket.SOCK_DGRAM
    datagrams = True

    def bind(self, address: Address, options: ListenOptions) -> socket.socket:
        return bind_inet(address, self.kind, options)

    def listen(self, sock: socket.socket, options: ListenOptions) -> None:
        # Datagrams need no listening.
        pass

    def accept(self, sock: socket.socket) -> tuple[Any, Any]:
        data, client_address = sock.recvfrom(LARGEST_DATAGRAM)
        return (data, sock), client_address

    def finish(self, request: Any) -> None:
        # The socket serves everybody else too.
        pass

    def close(self, request: Any) -> None:
        # Nor is it this peer's to close.
        pass

    def connect(self, address: Address, timeout: float, source: Address | None) -> socket.socket:
        return connect_inet(address, self.kind, timeout, source)

    def peer_name(self, request: Any, client_address: Any) -> str:
        return Address.of(client_address, socket.AF_INET, self.kind).name
