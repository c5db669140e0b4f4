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
from typing import Any

from ..address import Address
from ..errors import ListenError
from .base import ListenOptions, Transport, connect_error, listen_error

__all__ = ["Unix"]

# How long a socket file may take to show that somebody is behind it. A live
# server's kernel answers at once, unless its backlog is full.
STALE_CHECK_TIMEOUT = 1.0


class Unix(Transport):
    """A stream to another program on this machine."""

    scheme = "unix"

    def bind(self, address: Address, options: ListenOptions) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, self.kind)
        try:
            abstract = address.path.startswith("@")
            if not abstract:
                _remove_stale(address)
                if options.unix_mode is not None:
                    # Before bind(), so that the file is never open to more people
                    # than it should be, not even for a moment.
                    os.fchmod(sock.fileno(), options.unix_mode)
            sock.bind(address.sockaddr_un)
            if not abstract:
                if options.unix_owner is not None:
                    os.chown(address.path, *options.unix_owner)
                if options.unix_mode is not None:
                    os.chmod(address.path, options.unix_mode)
        except OSError as error:
            sock.close()
            raise listen_error(address, error) from None
        except BaseException:
            sock.close()
            raise
        return sock

    def mark(self, address: Address) -> object:
        if address.path.startswith("@"):
            return None
        found = os.stat(address.path)
        return found.st_dev, found.st_ino

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
        sock = socket.socket(socket.AF_UNIX, self.kind)
        try:
            sock.settimeout(timeout)
            if source is not None:
                sock.bind(source.sockaddr_un)
            sock.connect(address.sockaddr_un)
        except OSError as error:
            sock.close()
            raise connect_error(address, error, timeout) from None
        return sock

    def peer_name(self, request: Any, client_address: Any) -> str:
        # A client's end seldom has a name; its process does.
        try:
            found = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return f"process {struct.unpack('3i', found)[0]}"
        except (OSError, AttributeError):
            return "a process on this machine"


def _remove_stale(address: Address) -> None:
    # A server that was killed leaves its file behind, and bind() would refuse.
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a file that is no socket"
        raise ListenError(f"{address} is {what}; choose another path", errno.EADDRINUSE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(STALE_CHECK_TIMEOUT)
        try:
            knock.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except FileNotFoundError:
            return
        except OSError:
            # It does not say that nobody is there, so somebody may be.
            pass
    raise listen_error(address, OSError(errno.EADDRINUSE, ""))
