"""The transports, by the first part of an address."""

from __future__ import annotations

import os
import socket

from ..address import Address
from ..errors import AddressError, ListenError
from .base import Listener, ListenOptions, Transport
from .tcp import Tcp
from .tls import Tls
from .udp import Udp
from .unix import Unix

__all__ = ["TRANSPORTS", "Listener", "ListenOptions", "Transport", "bind", "take", "transport_of"]

TRANSPORTS: dict[str, Transport] = {
    transport.scheme: transport for transport in (Tcp(), Tls(), Unix(), Udp())
}


def transport_of(address: Address) -> Transport:
    """Give the transport that reaches an address.

    Errors: AddressError for an address that only a server can use.
    """
    transport = TRANSPORTS.get(address.scheme)
    if transport is None:
        raise AddressError(f"{address} names an inherited socket; nobody can connect to that")
    return transport


def bind(address: Address, options: ListenOptions) -> Listener:
    """Give a listener that is bound to the address and does not listen yet.

    Errors: ListenError or AddressError, in a sentence with the address in it.
    """
    if address.scheme == "fd":
        return _inherit(address)
    transport = transport_of(address)
    listener = _listener(transport, transport.bind(address, options), options)
    listener.mark = transport.mark(address)
    return listener


def take(address: Address, number: int, options: ListenOptions) -> Listener:
    """Give a listener of a socket that another program has bound for this address.

    A socket file that goes with it stays when the listener is closed, unless somebody
    gives it its mark.

    Errors: ListenError when it is of another kind; the descriptor is closed then.
    """
    transport = transport_of(address)
    sock = None
    try:
        sock = socket.socket(fileno=number)
        is_unix = sock.family == getattr(socket, "AF_UNIX", None)
        if sock.type == transport.kind and is_unix == (transport.scheme == "unix"):
            return _listener(transport, sock, options)
        reason = "it is of another kind"
    except OSError as error:
        reason = str(error.strerror)
    if sock is None:
        os.close(number)
    else:
        sock.close()
    raise ListenError(f"{address}: the socket that was handed over cannot be used: {reason}")


def _listener(transport: Transport, bound: socket.socket, options: ListenOptions) -> Listener:
    sock = _quick_to_accept(bound)
    # Readiness is no promise: a connection that was reset, or taken by another
    # process, must not leave accept() waiting.
    sock.setblocking(False)
    listener = Listener(transport, sock, transport.place_of(sock, sock.getsockname()))
    if transport.scheme == "tls":
        listener.tls = options.tls
    return listener


def _quick_to_accept(sock: socket.socket) -> socket.socket:
    # accept() asks the listener for its family and type, and finds an enum's member for
    # each: a tenth of what a short connection costs. A listener's do not change.
    facts = {"family": sock.family, "type": sock.type, "__slots__": ()}
    kind = type("ListeningSocket", (socket.socket,), facts)
    quick: socket.socket = kind(sock.family, sock.type, sock.proto, fileno=sock.detach())
    return quick


def _inherit(address: Address) -> Listener:
    number = int(address.path)
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise ListenError(
            f"{address}: descriptor {number} is not a socket that was inherited ({error.strerror})",
            error.errno,
        ) from None
    scheme = "unix" if sock.family == getattr(socket, "AF_UNIX", None) else "tcp"
    if sock.type == socket.SOCK_DGRAM:
        scheme = "udp"
    known = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
    if (
        sock.family not in known
        or sock.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        or (scheme == "udp" and sock.family == known[2])
    ):
        sock.detach()
        raise ListenError(f"{address}: a socket of that kind cannot be served here")
    try:
        sock.getpeername()
    except OSError:
        pass
    else:
        sock.detach()
        raise ListenError(f"{address}: that socket is connected; a listening one is needed")
    if sock.family != known[2] and sock.getsockname()[1] == 0:
        sock.detach()
        raise ListenError(f"{address}: that socket is not bound to a port")
    if scheme == "tcp":
        # As for a listener of our own, see Tcp.bind().
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.set_inheritable(number, False)
    sock.setblocking(False)
    return Listener(
        TRANSPORTS[scheme], sock, Address.of(sock.getsockname(), sock.family, sock.type)
    )
