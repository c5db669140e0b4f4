"""A descriptor that wakes whoever polls it: no polling, no delay, safe in a signal handler."""

from __future__ import annotations

import os
import signal
import threading
from typing import ClassVar

__all__ = ["RELOAD", "STOP", "WAKE", "Wake"]

WAKE = b"."
# From a forked child, whose stop() means its parent.
STOP = b"s"
# What can be read anew (certificates, say) is to be read anew.
RELOAD = b"r"


class Wake:
    """A pipe; set() from anywhere, also from forked children."""

    # The one that signals write to, or wrote to before this process was forked.
    _hears: ClassVar[int] = -1

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    @property
    def written_to(self) -> int:
        """The descriptor for signal.set_wakeup_fd()."""
        return self._write

    def hear_signals(self) -> int | None:
        """Be woken by signals, if this is the main thread; gives what leave_signals() is to get.

        Python handles them in that thread, and one that comes just before it begins to wait
        does not wake it. (The stdlib's loop looks up twice a second all the same.)
        """
        if threading.current_thread() is not threading.main_thread():
            return None
        try:
            before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        except BaseException:
            # Ctrl-C, as soon as it was done.
            signal.set_wakeup_fd(Wake._hears)
            raise
        if before not in (-1, self._write, Wake._hears):
            # The program's own, which tells whom it likes.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
            return None
        Wake._hears = self._write
        return before

    def leave_signals(self, before: int | None) -> None:
        """Behind hear_signals(): leave them to whoever was woken before."""
        if before is not None:
            Wake._hears = before
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def set(self, what: bytes = WAKE) -> None:
        """Wake the reader. Never blocks; harmless after close()."""
        try:
            os.write(self._write, what)
        except OSError:
            # Full: the reader will wake anyway. Closed: nobody is left to wake.
            pass

    def clear(self) -> bytes:
        """Take what was written since the last call."""
        try:
            return os.read(self._read, 4096)
        except OSError:
            return b""

    def __del__(self) -> None:
        # Of a server that nobody has closed, and nobody has any more.
        self.close()

    def close(self) -> None:
        if (
            self._write == Wake._hears >= 0
            and threading.current_thread() is threading.main_thread()
        ):
            # Ctrl-C has come while they were being left.
            self.leave_signals(-1)
        read, write = self._read, self._write
        # First the numbers, then the descriptors: a late set() must not write to
        # whatever gets the number next.
        self._read = self._write = -1
        if read >= 0:
            os.close(read)
            os.close(write)
