"""echo: every byte comes back, in order, to the end of input."""

from __future__ import annotations

from .base import Handler

__all__ = ["EchoHandler"]


class EchoHandler(Handler):
    """Send back what arrives."""

    framing = "raw"
    reply_size = len

    def on_message(self, message: bytes) -> bytes:
        return message
