"""unix: a path on this machine, or a name in Linux's abstract namespace.

Only what was made here is removed: a file that something else put there in the
meantime stays.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from typing import Any

from ..address import Address
from ..errors import ListenError
from .base import ListenOptions, Transport, connect_error, listen_error

__all__ = ["Unix", "credentials"]

# How long a socket file may take to show that somebody is behind it. A live
# server's kernel answers at once, unless its backlog is full.
STALE_CHECK_TIMEOUT = 1.0

# How long to wait before asking again whether a backlog has a place.
FULL_BACKLOG_PAUSE = 0.01

# Linux: struct ucred. Of its user ids the highest is nobody's.
_CREDENTIALS = struct.Struct("=iII")
_NOBODYS = 2**32 - 1


class Unix(Transport):
    """A stream to another program on this machine."""

    scheme = "unix"

    def bind(self, address: Address, options: ListenOptions) -> socket.socket:
        abstract = address.path.startswith("@")
        mark: object = None
        if not abstract:
            _remove_stale(address)
        sock = socket.socket(socket.AF_UNIX, self.kind)
        try:
            sock.bind(address.sockaddr_un)
            if not abstract:
                mark = self.mark(address)
                # In time: nobody gets in before listen().
                self.permit(address, options)
        except OSError as error:
            self.unbind(sock, address, mark)
            raise listen_error(address, error, address.sockaddr_un) from None
        return sock

    def mark(self, address: Address) -> object:
        if address.path.startswith("@"):
            return None
        found = os.stat(address.path)
        return found.st_dev, found.st_ino

    def permit(self, address: Address, options: ListenOptions) -> None:
        if options.unix_owner is not None:
            os.chown(address.path, *options.unix_owner)
        mode = options.unix_mode
        if mode is None:
            # As with loopback: open to more than this only when somebody said so.
            mode = os.stat(address.path).st_mode & 0o770
        os.chmod(address.path, mode)

    def unbind(self, sock: socket.socket, address: Address, mark: object) -> None:
        try:
            # Before the socket is closed: as long as somebody answers there, no
            # other server takes the path over.
            if mark is not None and self.mark(address) == mark:
                os.unlink(address.path)
        except OSError:
            # Gone already, or not ours to remove.
            pass
        sock.close()

    def connect(self, address: Address, timeout: float, source: Address | None) -> socket.socket:
        deadline = time.monotonic() + timeout
        sock = socket.socket(socket.AF_UNIX, self.kind)
        try:
            sock.settimeout(timeout)
            if source is not None:
                sock.bind(source.sockaddr_un)
            while True:
                try:
                    sock.connect(address.sockaddr_un)
                    break
                except BlockingIOError:
                    # The backlog is full. A socket with a timeout is not made to
                    # wait for a place in it, and there is nothing to poll for.
                    if time.monotonic() > deadline:
                        raise TimeoutError from None
                    time.sleep(FULL_BACKLOG_PAUSE)
        except OSError as error:
            sock.close()
            raise connect_error(address, error, timeout, source) from None
        return sock

    def peer_name(self, request: Any, client_address: Any) -> str:
        # A client's end seldom has a name; its process does.
        found = credentials(request)
        return "a process on this machine" if found is None else f"process {found[0]}"


def credentials(sock: Any) -> tuple[int, int, int] | None:
    """Process, user and group at the other end; None where the kernel does not tell."""
    try:
        said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, user, group = _CREDENTIALS.unpack(said)
    except (OSError, AttributeError, struct.error):
        return None
    return None if user == _NOBODYS else (pid, user, group)


def _remove_stale(address: Address) -> None:
    # A server that was killed leaves its file behind, and bind() would refuse.
    try:
        found = os.lstat(address.path)
    except OSError:
        # Nothing there, or nothing that can be seen: bind() will say what is wrong.
        return
    if not stat.S_ISSOCK(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a file that is no socket"
        raise ListenError(f"{address} is {what}; choose another path", errno.EADDRINUSE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(STALE_CHECK_TIMEOUT)
        try:
            knock.connect(address.path)
        except ConnectionRefusedError:
            try:
                os.unlink(address.path)
            except OSError as error:
                raise listen_error(address, error) from None
            return
        except FileNotFoundError:
            return
        except OSError:
            # It does not say that nobody is there, so somebody may be.
            pass
    raise listen_error(address, OSError(errno.EADDRINUSE, ""), address.path)
