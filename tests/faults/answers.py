"""What every server here serves: lines, which come back, and a few words that do more.

Nothing of echoframe is imported unless it serves: the memory of the other servers is theirs.
"""

from __future__ import annotations

import os
import socketserver
import time
from typing import Any

__all__ = ["Datagrams", "Lines", "answer"]


def _reply(message: bytes) -> bytes:
    word, _, number = message.partition(b" ")
    if word == b"size" and number.isdigit():
        return b"x" * int(number)
    if word == b"wait" and number.isdigit():
        time.sleep(int(number) / 1000)
    elif message == b"raise":
        raise RuntimeError("asked to raise")
    elif message == b"die":
        os._exit(1)
    return b"closed" if message == b"close" else message


def answer(message: bytes) -> Any:
    """The message handler, for echoframe."""
    if message == b"close":
        import echoframe

        return echoframe.Reply(_reply(message), close=True)
    return _reply(message)


class Lines(socketserver.StreamRequestHandler):
    """The same for socketserver."""

    def handle(self) -> None:
        for line in self.rfile:
            message = line.rstrip(b"\r\n")
            self.wfile.write(_reply(message) + line[len(message) :])
            if message == b"close":
                break


class Datagrams(socketserver.DatagramRequestHandler):
    """And for datagrams."""

    def handle(self) -> None:
        self.wfile.write(_reply(self.rfile.read()))
