"""What the kernel knows about a connection and a handler class does not tell."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from functools import lru_cache
from typing import Any

# From there, where peers are named by it: what servers ask the kernel, they ask here.
from ..transports.unix import credentials

if sys.platform == "linux":
    # Not where it is used: a forked child would load it, and each child anew.
    import fcntl

__all__ = [
    "credentials",
    "has_gone",
    "hurry",
    "limit_writing",
    "progress",
    "quiet_for",
    "received",
    "reset_on_close",
    "sent_ago",
    "shut",
    "somaxconn",
    "unread",
    "unsent",
    "wait_until_sent",
]

# Linux: struct tcp_info has last_data_sent at 44, last_ack_sent at 48 and
# last_data_recv at 52, in milliseconds.
_QUIET = struct.Struct("=44xI4xI")

# The same, tcpi_bytes_acked and tcpi_bytes_received, which a kernel may be too old for.
_COUNTS = struct.Struct("=120xQQ")

_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)

# The requests behind these names are in no module of every Python we run on.
_FIONREAD = 0x541B
_TIOCOUTQ = 0x5411


def quiet_for(request: Any) -> float | None:
    """Seconds since data last went either way; None where the kernel does not say."""
    try:
        info = request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUIET.size)
        sent, received = _QUIET.unpack(info)
        return float(min(sent, received)) / 1000
    except (OSError, AttributeError, struct.error):
        return None


def sent_ago(request: Any) -> float | None:
    """Seconds since data last left for the peer; None where the kernel does not say."""
    try:
        info = request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUIET.size)
        return float(_QUIET.unpack(info)[0]) / 1000
    except (OSError, AttributeError, struct.error):
        return None


def received(request: Any) -> int:
    """Bytes that have come from a peer; very many where nobody knows."""
    try:
        return _counts(request)[1]
    except (OSError, AttributeError, struct.error):
        return sys.maxsize


def progress(request: Any, given: int) -> tuple[object, bool]:
    """What changes when a peer takes something of what the kernel was given, and whether
    it has taken it all.
    """
    if sys.platform != "linux":
        return given, False
    left = _count(request, _TIOCOUTQ)
    if request.family == socket.AF_UNIX:
        return (given, left), not left
    try:
        return _counts(request)[0], not left
    except (OSError, struct.error):
        return given, not left


def _counts(request: Any) -> tuple[int, int]:
    info = request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTS.size)
    acked, received = _COUNTS.unpack(info)
    return acked, received


def unsent(request: Any) -> int:
    """Bytes that the peer's kernel has not acknowledged yet; 0 where nobody knows."""
    if getattr(request, "family", None) == getattr(socket, "AF_UNIX", None):
        # What was written is with the peer already; the count would be of what it
        # has not read.
        return 0
    return _count(request, _TIOCOUTQ)


def unread(request: Any) -> int:
    """Bytes that have arrived and were not read; 0 where nobody knows."""
    return _count(request, _FIONREAD)


def _count(request: Any, question: int) -> int:
    if sys.platform != "linux":
        return 0
    try:
        return int(struct.unpack("=i", fcntl.ioctl(request.fileno(), question, bytes(4)))[0])
    except (OSError, ValueError, AttributeError):
        return 0


def shut(request: Any, how: int) -> None:
    """Shut a connection, or a side of it. Errors: OSError when it is not connected."""
    if isinstance(request, socket.socket):
        # Not by way of an SSLSocket: that would forget its encryption, and whoever
        # is reading from it would be given what was meant to be secret.
        socket.socket.shutdown(request, how)
    else:
        request.shutdown(how)


def has_gone(request: Any) -> bool:
    """A connection is over on both sides, by a reset or by the kernel."""
    try:
        watch = select.poll()
        watch.register(request, select.POLLIN)
        return any(what & (select.POLLHUP | select.POLLERR) for _, what in watch.poll(0))
    except (OSError, ValueError, TypeError, AttributeError):
        # Closed; a datagram; or a system without poll().
        return False


def reset_on_close(request: Any) -> None:
    """Have close() send a reset and free what waits to be sent. Errors: OSError."""
    request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hurry(request: Any) -> None:
    """Have what is written leave at once, and not wait until what left before has arrived.

    Whoever writes a head and then a body would otherwise wait for the peer, which says
    that it has the first only 40 ms later. Harmless for what is no TCP.
    """
    try:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, AttributeError):
        pass


def limit_writing(request: Any, seconds: float, looks: bool) -> None:
    """Have send() fail where a peer takes nothing for so long, on a socket that blocks.

    Who `looks` what became of it has it give up, with EAGAIN, and can tell the peer. Others
    would have to know that a part may be gone by then: for them the kernel ends a TCP
    connection with ETIMEDOUT, of which the peer hears nothing, and only on a Unix socket, where
    there is nothing else, send() gives up, after up to twice the time. Harmless for what is
    no socket.
    """
    try:
        unix = request.family == getattr(socket, "AF_UNIX", None)
        if looks or unix or _USER_TIMEOUT is None:
            request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
        else:
            millis = max(int(seconds * 1000), 1)
            request.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, millis)
    except (OSError, AttributeError):
        # A datagram, or something of the program's own.
        pass


@lru_cache(8)
def _timeval(seconds: float) -> bytes:
    micros = max(int(seconds * 1_000_000), 1)
    return struct.pack("ll", micros // 1_000_000, micros % 1_000_000)


def wait_until_sent(request: Any, timeout: float) -> None:
    """Wait until the peer's kernel has everything, and no longer than the timeout."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    while unsent(request) and time.monotonic() < deadline:
        # Nothing wakes us when the last byte is acknowledged, so look now and then.
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def somaxconn() -> int | None:
    """The longest backlog this kernel grants; None where it does not say."""
    try:
        with open("/proc/sys/net/core/somaxconn") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
