"""The log on stderr: as text or as JSON, in colour or not, and never in the server's way."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..printing import visible
from .streams import write_through

__all__ = ["FORMATS", "LEVELS", "log_to_stderr", "wants_colour"]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@contextmanager
def log_to_stderr(level: int, form: str, colour: bool) -> Iterator[None]:
    """Send every logger's records to stderr for the length of the with block.

    `form` is one of FORMATS.
    """
    root = logging.getLogger()
    before = root.level
    handler = _Stderr()
    handler.setFormatter(FORMATS[form](colour))
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def wants_colour(choice: str, stream: TextIO | None = None) -> bool:
    """Tell what auto, always or never means here and now, on stderr if nothing else is said."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return (stream or sys.stderr).isatty()


class _Stderr(logging.Handler):
    """Each record is one write, and what cannot be written is lost."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            # Looked up each time, as somebody may have replaced it.
            write_through(sys.stderr, text + "\n")


class _Text(logging.Formatter):
    """The message and nothing before it; only what is wrong has a colour.

    A record is one line, and a traceback behind it is indented: what a peer said may be
    in either, must not look like a record of its own, and is nothing that a terminal obeys.
    """

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        first, *traceback = super().format(record).split("\n")
        text = "\n".join([first, *(f"  {visible(line)}" for line in traceback)])
        if not self._colour or record.levelno < logging.WARNING:
            return text
        return f"\x1b[{33 if record.levelno < logging.ERROR else 31}m{text}\x1b[0m"


class _Json(logging.Formatter):
    """One object on one line: time, level, logger, message and, for an error, traceback."""

    def __init__(self, colour: bool) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        import json
        from datetime import UTC, datetime

        # UTC, so that logs of several machines can be merged.
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": when,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


FORMATS = {"text": _Text, "json": _Json}
