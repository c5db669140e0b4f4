"""Words on a command line to calls: one file for each command, and main().

A command parses, calls the library and prints; it decides nothing. Its module has
    EXAMPLE      what `echoframe --help` shows
    parser()     its flags
    run(given)   gives the exit code

Exit codes: 0 done, 1 failed, 2 usage, 3 a server could not start, 130 Ctrl-C,
141 nobody reads the output any more.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from .early import signals
from .failure import CommandFailed, UsageError, in_flags, near
from .streams import Streams

__all__ = ["COMMANDS", "main"]

# Their modules are imported when they are asked for: a server should not wait for
# what only another command needs.
COMMANDS = {
    "serve": "serve a handler until Ctrl-C",
    "connect": "talk to a command server, line by line",
    "send": "send messages or standard input, and print what comes back",
    "compare": "serve a handler in every way, measure, and say what changes",
    "bench": "measure one server that runs already",
    "report": "show results of compare and bench again, side by side, or as a file",
    "adopt": "run a program of socketserver's with our mix-ins instead",
    "probe": "tell which ports of a host take connections",
    "handlers": "list the handlers that can be served by name",
    "models": "list the ways to serve many conversations at once",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and give its exit code; what is expected to fail is one sentence on stderr.

    Without `argv` it is the program: it takes sys.argv, and does not give signals
    and broken output streams back at the end, so that nothing on the way out of the
    interpreter can change the exit code.
    """
    program = argv is None
    words = sys.argv[1:] if argv is None else argv
    streams = Streams()
    # Before anything slow: a signal that comes while the server starts ends it as
    # one that comes later does.
    if words[:1] == ["serve"]:
        signals.install()
    try:
        return _guarded(words, streams)
    finally:
        if program:
            streams.settle()
        else:
            signals.restore()


def _guarded(words: list[str], streams: Streams) -> int:
    try:
        code = _run(words)
        streams.flush()
        return code
    except CommandFailed as failure:
        streams.complain(str(failure))
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # As of a program that SIGPIPE has ended, and as quietly.
        return 141
    except OSError as error:
        # Connections have errors of their own; this one is about a stream or a file.
        streams.complain(f"cannot go on: {error.strerror or error}")
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    name = words[0]
    if name == "--version":
        from ..version import VERSION

        print(f"echoframe {VERSION}")
        return 0
    if name not in COMMANDS:
        kind = "flag" if name.startswith("-") else "command"
        known = ["--help", "--version"] if kind == "flag" else list(COMMANDS)
        raise UsageError(f"unknown {kind} {name!r}; {near(name, known)}see echoframe --help")
    return _command(importlib.import_module(f".{name}", __name__), words[1:])


def _command(command: Any, words: list[str]) -> int:
    from ..errors import AddressError, EchoframeError, SettingError, TlsError, UnknownHandler

    try:
        try:
            given = command.parser().parse_args(words)
        except SystemExit:
            # argparse has printed its help.
            return 0
        code: int = command.run(given)
    except (SettingError, UnknownHandler) as error:
        raise UsageError(in_flags(str(error))) from None
    except AddressError as error:
        # What is wrong with the text is usage. That nobody knows a host was learned
        # by asking the system, whose own error is behind ours.
        if isinstance(error.__context__, OSError):
            raise CommandFailed(str(error)) from None
        raise UsageError(str(error)) from None
    except TlsError as error:
        advice = "name its file"
        raise CommandFailed(str(error).replace(advice, f"{advice} with --tls-ca")) from None
    except EchoframeError as error:
        raise CommandFailed(str(error)) from None
    return code


def _help() -> str:
    lines = [
        "usage: echoframe COMMAND [...]",
        "",
        "Write a conversation once; serve it every way; see what changes.",
        "",
        "commands:",
    ]
    for name, what in COMMANDS.items():
        command = importlib.import_module(f".{name}", __name__)
        lines += [f"  {name:9} {what}", f"            {command.EXAMPLE}"]
    lines += [
        "",
        "Each command tells its flags: echoframe serve --help",
        "Bad clients, to try a server with: python3 -m echoframe.testing.bad_clients --help",
        "echoframe --version tells the version.",
    ]
    return "\n".join(lines)
