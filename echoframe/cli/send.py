"""echoframe send: messages, or standard input, to a server; what comes back to standard output.

Standard output is nothing but what the server said, so that it can go into a file
or a pipe; at a terminal, without what that would obey.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable
from typing import Any

from ..client import Client
from ..framing import LengthFraming, RawFraming, make_framing
from ..handlers import registry
from ..printing import visible
from .failure import CommandFailed
from .parsing import Parser, add_patience, patience, read_place

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe send --protocol command 127.0.0.1:8000 hello close"

_MORE = """\
Without --protocol and --framing it does what nc does: each TEXT is a line, standard
input is sent as it is, then the server is told that no more will come, and
everything that comes back until it hangs up is printed as it is.

With one of them each TEXT is a message and its reply is printed on a line. Standard
input is sent as it is; with the framing `length`, as one message.

Who hangs up without having said anything has not answered: that is exit code 1."""


def parser() -> Parser:
    """What can be said."""
    made = Parser("send", "Send messages and print what comes back.", EXAMPLE, _MORE)
    made.add_argument("address", metavar="ADDR", help="as in 127.0.0.1:7007 or unix:///PATH")
    made.add_argument(
        "texts", nargs="*", default=[], metavar="TEXT", help="messages; - or none is standard input"
    )
    made.add_argument(
        "--protocol", metavar="NAME", help="whose framing to use: see echoframe handlers"
    )
    made.add_argument(
        "--framing",
        metavar="FRAMING",
        help="raw, line, length, fixed:SIZE or delimiter:TEXT; wins over --protocol's",
    )
    add_patience(made)
    return made


def run(given: Any) -> int:
    """Send all of it, and print all that comes back."""
    place = read_place(given.address)
    protocol = None if given.protocol is None else registry.find(given.protocol)
    framing = given.framing
    plain = protocol is None and framing is None
    if framing is None:
        framing = "raw" if protocol is None else protocol.client_framing
    kind = type(make_framing(framing)())
    texts = [] if given.texts == ["-"] else given.texts
    with Client(place, protocol, framing=framing, **patience(given)) as client:
        if place.scheme == "udp" or (texts and not plain):
            messages = [_bytes(text) for text in texts] or [sys.stdin.buffer.read()]
            _print(map(client.ask, messages), b"\n" if texts else b"")
        elif texts:
            lines = b"".join(_bytes(text) + b"\n" for text in texts)
            _stream(client, io.BytesIO(lines))
        elif kind is LengthFraming:
            _print([client.ask(sys.stdin.buffer.read())])
        else:
            ends = b"" if kind is RawFraming or framing.startswith("fixed") else b"\n"
            _stream(client, sys.stdin.buffer, ends)
    return 0


class _Noted:
    """A file, and whether there was anything in it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.any = False

    def read1(self, size: int) -> bytes:
        data: bytes = self._file.read1(size)
        self.any = self.any or bool(data)
        return data

    read = read1


def _stream(client: Client, file: Any, end: bytes = b"") -> None:
    noted: Any = _Noted(file)
    if not _print(client.stream(noted), end) and noted.any:
        raise CommandFailed(f"{client.address} ended the connection without a reply")


def _print(replies: Iterable[bytes], end: bytes = b"") -> bool:
    """Print them; tell whether there were any."""
    any_came = False
    out: Any = _Screen() if sys.stdout.isatty() else sys.stdout.buffer
    try:
        for reply in replies:
            any_came = True
            out.write(reply + end)
            # Each at once: the next one may be long in coming.
            out.flush()
    finally:
        if isinstance(out, _Screen):
            out.finish()
    return any_came


class _Screen:
    """A terminal, for bytes of somebody else's."""

    def __init__(self) -> None:
        # A letter may come in pieces.
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def write(self, data: bytes) -> None:
        self._show(self._decode(data))

    def finish(self) -> None:
        """Show also what is no letter because the rest of it has not come."""
        self._show(self._decode(b"", final=True))
        self.flush()

    def _show(self, text: str) -> None:
        sys.stdout.write(visible(text.replace("\r\n", "\n"), keep="\n\t"))

    def flush(self) -> None:
        sys.stdout.flush()


def _bytes(text: str) -> bytes:
    # Words of a command line that are not UTF-8 go out as they came in.
    return text.encode(errors="surrogateescape")
