"""The three standard streams, which may be closed, broken or full.

A server outlives its log and a command its reader; what has to be said about it
is said once, if there is still somebody to say it to.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ..printing import visible

__all__ = ["Streams", "write_through"]

_NAMES = ("stdin", "stdout", "stderr")


class Streams:
    """Makes the standard streams usable: from the constructor to settle()."""

    def __init__(self) -> None:
        for number, name in enumerate(_NAMES):
            self._fill(number, name)
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                # A letter that the terminal's encoding lacks is no reason to fail.
                reconfigure(errors="backslashreplace")

    def _fill(self, number: int, name: str) -> None:
        # A descriptor below 3 that is closed is the next one given out, and then a
        # socket would have the number to which everybody writes errors.
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # for good
            setattr(sys, name, stream)

    def flush(self) -> None:
        """Bring out what was printed. Errors: OSError when that cannot be."""
        sys.stdout.flush()

    def complain(self, sentence: str) -> None:
        """Say a sentence on stderr, if anybody can hear it."""
        # It may hold what a peer said, or a file of somebody else's.
        write_through(sys.stderr, f"echoframe: {visible(sentence)}\n")

    def settle(self) -> None:
        """Make the interpreter's last flush succeed, whatever became of the streams.

        It would make exit code 120 of any other.
        """
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                # What is still in its buffer is lost, and goes where that is said
                # to go.
                try:
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, number)
                    os.close(nowhere)
                except OSError:
                    pass


def write_through(stream: Any, text: str) -> None:
    """Write at once or not at all: what cannot be written is dropped, without an error.

    Threads: may be called from any; and in a forked child, since nothing is kept in
    a buffer that parent and child would both write.
    """
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        # None, closed, or no file: a test's or a notebook's.
        number = None
    try:
        if number is None:
            stream.write(text)
            stream.flush()
            return
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(number, data) :]
    except (AttributeError, OSError, ValueError):
        # Nobody reads it, or its disk is full. The next one may find it well again.
        pass
