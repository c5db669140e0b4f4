"""A descriptor that wakes whoever polls it: no polling, no delay, safe in a signal handler."""

from __future__ import annotations

import os
import struct

__all__ = ["STOP", "WAKE", "Wake"]

# Records are four bytes: one of these, or the row of a conversation that ended in
# another process.
WAKE = 0xFFFFFFFF
STOP = 0xFFFFFFFE

_RECORD = struct.Struct("=I")


class Wake:
    """A pipe of records; set() from anywhere, also from forked children."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def set(self, record: int = WAKE) -> None:
        """Wake the reader. Never blocks; harmless after close()."""
        try:
            os.write(self._write, _RECORD.pack(record))
        except OSError:
            # Full: the reader will wake anyway. Closed: nobody is left to wake.
            pass

    def clear(self) -> list[int]:
        """Take what was written since the last call."""
        try:
            # Writes are shorter than PIPE_BUF, so records are never torn.
            data = os.read(self._read, 65536)
        except OSError:
            return []
        return [record for (record,) in _RECORD.iter_unpack(data)]

    def close(self) -> None:
        read, write = self._read, self._write
        # First the numbers, then the descriptors: a late set() must not write to
        # whatever gets the number next.
        self._read = self._write = -1
        if read >= 0:
            os.close(read)
            os.close(write)
