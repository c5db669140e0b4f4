"""Connections that a program has taken out of our hands, to converse in a frame of its own.

Nobody tells when such a conversation is over. Its permit comes back when its socket is
closed, by the program or because it was dropped; so what is kept here is the number of
the socket, and not the socket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stray"]


class Stray:
    """In the place of a connection's socket: what can be asked and ordered without holding it."""

    def __init__(self, number: int) -> None:
        """Errors: OSError when the descriptor is closed."""
        self._number = number
        # One of its kind while it lives: it tells a socket from the next one that has its
        # number. And it survives what takes the number out of a socket object (detach(),
        # encryption), where that only looks closed.
        self._inode = os.fstat(number).st_ino

    def fileno(self) -> int:
        """Give the descriptor, -1 when it is closed."""
        try:
            return self._number if os.fstat(self._number).st_ino == self._inode else -1
        except OSError:
            return -1

    @contextmanager
    def _copy(self) -> Iterator[socket.socket]:
        # The program may close it at any moment, and the number be another one's.
        number = os.dup(self._number)
        if os.fstat(number).st_ino != self._inode:
            os.close(number)
            raise OSError(errno.EBADF, "closed meanwhile")
        with socket.socket(fileno=number) as copy:
            yield copy

    def shutdown(self, how: int) -> None:
        with self._copy() as copy:
            copy.shutdown(how)

    def getsockopt(self, *what: Any) -> Any:
        with self._copy() as copy:
            return copy.getsockopt(*what)
