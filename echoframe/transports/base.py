"""How bytes travel: the moments in which one transport differs from another.

A server asks its transport to listen and to accept, a client asks the same
transport to connect. What is said over the socket belongs to session.py, and who
waits for it to servers/.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from typing import Any, ClassVar, NamedTuple

from ..address import Address
from ..errors import AddressError, ConnectError, EchoframeError, ListenError, RefusedError, TimedOut

__all__ = ["Listener", "ListenOptions", "Transport", "connect_error", "remaining"]


class ListenOptions(NamedTuple):
    """What a listener may be told; a transport takes what concerns it."""

    backlog: int = 4096
    reuse_address: bool = True
    # Permission bits and (user id, group id) of a socket file; None leaves what
    # the process's umask and user give, less what that gives to all others.
    unix_mode: int | None = None
    unix_owner: tuple[int, int] | None = None
    # An ssl.SSLContext, for the addresses that begin with tls://.
    tls: Any = None
    # Several listeners at the same address, which share its connections.
    reuse_port: bool = False


class Transport:
    """One way for bytes to travel. Stateless; one instance of each serves everybody.

    Subclasses replace what differs. `scheme` is the first part of an address,
    `kind` the type of its sockets.
    """

    scheme: ClassVar[str]
    kind: ClassVar[int] = socket.SOCK_STREAM
    # One socket serves all peers, and each datagram is a message.
    datagrams: ClassVar[bool] = False

    def bind(self, address: Address, options: ListenOptions) -> socket.socket:
        """Give a socket that is bound there and does not listen yet.

        Errors: ListenError or AddressError, in a sentence with the address in it.
        """
        raise NotImplementedError

    def listen(self, sock: socket.socket, options: ListenOptions) -> None:
        """Start to take connections."""
        sock.listen(options.backlog)

    def accept(self, sock: socket.socket) -> tuple[Any, Any]:
        """Take what arrived: (request, client address), as socketserver knows them."""
        accepted = sock.accept()
        if sys.platform != "linux" or accepted[0].gettimeout() is not None:
            # Elsewhere the listener's non-blocking flag may be handed on as well; and
            # the program may have set a default timeout, for its own sockets.
            accepted[0].setblocking(True)
        return accepted

    def finish(self, request: Any) -> None:
        """Say that nothing more will be sent to this peer."""
        try:
            request.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer has gone already.
            pass

    def close(self, request: Any) -> None:
        """Release what accept() gave."""
        request.close()

    def mark(self, address: Address) -> object:
        """What will tell later that the thing at this address is still what bind() made."""
        return None

    def permit(self, address: Address, options: ListenOptions) -> None:
        """Give a socket file the mode and the owner that it was told to have."""

    def unbind(self, sock: socket.socket, address: Address, mark: object) -> None:
        """Release what bind() gave, and what it made besides."""
        sock.close()

    def connect(self, address: Address, timeout: float, source: Address | None) -> socket.socket:
        """Give a socket that is connected to the address.

        Errors: ConnectError, RefusedError or TimedOut, in a sentence.
        """
        raise NotImplementedError

    def place_of(self, sock: socket.socket, name: Any) -> Address:
        """The address behind what a socket of this transport gave as its own or its peer's."""
        return Address.of(name, sock.family, sock.type)

    def peer_name(self, request: Any, client_address: Any) -> str:
        """The peer as it stands in logs and reports."""
        raise NotImplementedError


class Listener:
    """A socket at which a server waits for connections, and how to use it."""

    __slots__ = ("address", "encrypts", "mark", "owner", "socket", "tls", "transport")

    def __init__(
        self, transport: Transport, sock: socket.socket, address: Address, mark: object = None
    ) -> None:
        self.transport = transport
        self.socket = sock
        # Where it really is: with port 0, the port that the kernel chose.
        self.address = address
        self.mark = mark
        # The process that made it: only there does closing remove a socket file.
        self.owner = os.getpid()
        # The ssl.SSLContext for the next connections; may be replaced at any time.
        self.tls: Any = None
        # accept() sees to it, and not whoever takes the connection.
        self.encrypts = True

    def accept(self) -> tuple[Any, Any]:
        """Take what arrived: (request, client address), as socketserver knows them.

        Over TLS the request is an SSLSocket that has not shaken hands: that needs the
        peer, and nobody here waits for one. An end of input that the peer has not
        announced is an error there, since it may be anybody's doing.
        """
        request, client_address = self.transport.accept(self.socket)
        if self.tls is not None and self.encrypts:
            try:
                # Of who has gone again wrap_socket() would lose the socket.
                request.getpeername()
            except OSError:
                request.close()
                raise
            request = self.tls.wrap_socket(
                request,
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        return request, client_address

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        if os.getpid() == self.owner:
            # Once only: after that, a file there is somebody else's, even if its
            # inode's number is the same again.
            mark, self.mark = self.mark, None
            self.transport.unbind(self.socket, self.address, mark)
        else:
            self.socket.close()


# What bind() may refuse, and what to do about it.
_ADVICE = {
    errno.EADDRINUSE: "is in use; stop whoever listens there, or choose another one",
    errno.EACCES: "needs a permission that this user lacks",
    errno.EPERM: "needs a permission that this user lacks",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EAFNOSUPPORT: "is of a kind that this machine does not support",
    errno.ENOENT: "is in a folder that does not exist; make it, or choose another path",
}


def listen_error(address: Address, error: OSError, where: Any = None) -> EchoframeError:
    """Turn what bind() or listen() raised into a sentence with advice.

    `where` is what bind() was given: then the sentence says who is there, if that is known.
    """
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return ListenError(f"cannot listen at {address}: {error.strerror or error}", error.errno)
    if error.errno == errno.EADDRINUSE and where is not None:
        from .holder import OURSELVES, holder_of

        holder = holder_of(address.scheme, where)
        if holder:
            stop = "" if holder == OURSELVES else "stop it, or "
            advice = f"is in use by {holder}; {stop}choose another one"
    if error.errno == errno.EACCES and 0 < address.port < 1024:
        advice += "; ports below 1024 are for root, so choose one above"
    return ListenError(f"{address} {advice}", error.errno)


def connect_error(
    address: Address, error: OSError, timeout: float, source: Address | None = None
) -> EchoframeError:
    """Turn what connect() raised into a sentence that names the address."""
    if isinstance(error, TimeoutError):
        return TimedOut(f"no answer from {address} within {timeout:g} s", errno.ETIMEDOUT)
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        return RefusedError(f"nobody listens at {address}", error.errno)
    place = f"{address} from {source.name}" if source is not None else str(address)
    return ConnectError(f"cannot connect to {place}: {error.strerror or error}", error.errno)


def look_up(address: Address, kind: int, passive: bool) -> list[tuple[Any, ...]]:
    """Resolve the host of a tcp or udp address.

    Errors: AddressError when nobody knows the name.
    """
    flags = socket.AI_PASSIVE if passive else 0
    # For text, Python loads half a megabyte about international names: not if there
    # is nothing international in it.
    host = address.host.encode() if address.host.isascii() else address.host
    try:
        found = socket.getaddrinfo(host or None, address.port, type=kind, flags=flags)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(f"cannot find the host of {address}: {reason}") from None
    return found


def remaining(deadline: float) -> float:
    """Seconds to a deadline of time.monotonic(), and never less than a little.

    A socket timeout of 0 would mean "do not wait at all".
    """
    return max(deadline - time.monotonic(), 0.001)
