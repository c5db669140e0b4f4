"""echoframe connect: the tutorial's client, which asks for messages until it is over."""

from __future__ import annotations

import sys
from typing import Any

from ..client import Client
from ..errors import ConnectionEnded, TimedOut
from ..servers.base import printable
from .failure import CommandFailed
from .parsing import Parser, add_patience, patience, read_place
from .streams import write_through

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe connect 127.0.0.1:8000"

# The tutorial's server takes a message with one recv(1024); what is longer would
# be two messages to it.
LONGEST = 1024

# Behind `closed` the server hangs up; so long (seconds) for that to arrive.
FAREWELL = 1.0


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "connect",
        "Ask for messages and send each as it is, without a line end, to a server that "
        "speaks `command`.",
        EXAMPLE,
        "`close` ends it, and so do Ctrl-D and the end of standard input.",
    )
    made.add_argument("address", metavar="ADDR", help="as in 127.0.0.1:8000 or unix:///PATH")
    add_patience(made)
    return made


def run(given: Any) -> int:
    """Talk until one of the two has enough."""
    terminal = sys.stdin.isatty()
    if terminal:
        try:
            import readline  # noqa: F401  # input() uses it if it is there
        except ImportError:
            pass
    place = read_place(given.address)
    with Client(place, "command", framing="raw", **patience(given)) as client:
        try:
            _talk(client, terminal)
        except ConnectionEnded as error:
            _say("Connection to server closed")
            raise CommandFailed(str(error)) from None
        except KeyboardInterrupt:
            if terminal:
                # The shell's prompt should not begin behind ours.
                _say("")
            raise
    _say("Connection to server closed")
    return 0


def _talk(client: Client, terminal: bool) -> None:
    while True:
        try:
            text = input("Enter message: " if terminal else "")
        except EOFError:
            if terminal:
                _say("")
            return
        message = text.encode(errors="surrogateescape")
        if not message:
            continue
        # A greeting, or a reply that came too late, is not the answer to this one.
        _hear(client, 0.001)
        reply = client.ask(_cut(message))
        _show(reply)
        if reply.strip().lower() == b"closed" and _hear(client, FAREWELL):
            return


def _hear(client: Client, patience: float) -> bool:
    """Show what comes within `patience` seconds; tell whether it was the end."""
    usual, client.timeout = client.timeout, patience
    try:
        while True:
            _show(client.receive())
    except TimedOut:
        return False
    except ConnectionEnded:
        if patience == FAREWELL:
            return True
        raise
    finally:
        client.timeout = usual


def _cut(message: bytes) -> bytes:
    if len(message) <= LONGEST:
        return message
    end = LONGEST
    # Not in the middle of a letter: the tutorial's server would not survive that.
    while end > LONGEST - 4 and message[end] & 0xC0 == 0x80:
        end -= 1
    write_through(
        sys.stderr,
        f"echoframe: the message has {len(message):,} bytes and is cut to {end:,}, since the "
        f"server takes {LONGEST:,} in one piece\n",
    )
    return message[:end]


def _show(reply: bytes) -> None:
    text = printable(reply.removesuffix(b"\n").removesuffix(b"\r"))
    _say(f"Received: {text}")


def _say(line: str) -> None:
    # Flushed, since whoever reads the other end of a pipe may be waiting for it.
    print(line, flush=True)
