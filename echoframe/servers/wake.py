"""A descriptor that wakes whoever polls it: no polling, no delay, safe in a signal handler."""

from __future__ import annotations

import os
import signal

__all__ = ["NUDGE", "RELOAD", "STOP", "WAKE", "Wake"]

WAKE = b"."
# From a forked child, whose stop() means its parent.
STOP = b"s"
# What can be read anew (certificates, say) is to be read anew.
RELOAD = b"r"

# Gets the main thread out of whatever it waits in, and means nothing by itself.
NUDGE = signal.SIGURG


class Wake:
    """A pipe; set() from anywhere, also from forked children."""

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
        read, write = self._read, self._write
        # First the numbers, then the descriptors: a late set() must not write to
        # whatever gets the number next.
        self._read = self._write = -1
        if read >= 0:
            os.close(read)
            os.close(write)
