"""What compare and bench have in common: flags that say what clients do."""

from __future__ import annotations

import contextlib
import inspect
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..compare.run import Order, Progress
from ..compare.workload import WORKLOADS
from ..errors import EchoframeError, SettingError
from ..framing import make_framing
from ..handlers import registry
from .failure import UsageError, near
from .parsing import Parser, read_int, read_number

__all__ = [
    "add_measuring",
    "check_handler",
    "duration",
    "ended_in_order",
    "order_of",
    "progress_on",
    "workloads",
]

# Whoever asks for more has mistyped.
MOST_CONNECTIONS = 500_000
MOST_PROCESSES = 64


def add_measuring(parser: Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        "-c",
        "--connections",
        metavar="N,N…",
        help="how many clients at once; several are measured one after the other",
    )
    parser.add_argument("-n", "--rounds", metavar="N", help="how often each is measured (3)")
    parser.add_argument(
        "-d", "--duration", metavar="SECONDS", help="of a round, as in 2 or 500ms (0.15 to 0.5)"
    )
    parser.add_argument(
        "--rate",
        metavar="PER_SECOND",
        help="plan so many messages a second, answered or not (an open loop), and count "
        "latency from the planned moment; without it each client waits for its reply",
    )
    parser.add_argument(
        "--message", metavar="TEXT", action="append", help="what clients say; repeat for several"
    )
    parser.add_argument(
        "--messages",
        metavar="FILE|MODULE:FUNCTION",
        help="a file with a message on each line, or a function that gives messages",
    )
    parser.add_argument(
        "--check",
        metavar="MODULE:FUNCTION",
        help="called with each message and its reply; a reply for which it gives false is wrong",
    )
    parser.add_argument("--framing", metavar="FRAMING", help="where messages end")
    parser.add_argument(
        "--pipeline", metavar="N", default="1", help="messages under way in a connection (1)"
    )
    parser.add_argument(
        "--think", metavar="SECONDS", default="0", help="between a reply and the next message (0)"
    )
    parser.add_argument("--processes", metavar="N", default="1", help="of the load generator (1)")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing while it is measured"
    )


def order_of(given: Any, command: str) -> Order:
    """Read them. Errors: UsageError."""
    return Order(
        connections=_connections(given.connections),
        rounds=_count(given.rounds or "3", "--rounds"),
        seconds=None if given.duration is None else duration(given.duration, "--duration"),
        rate=None if given.rate is None else _rate(given.rate),
        messages=_messages(given),
        check=_check(given.check),
        framing=_framing(given.framing),
        pipeline=_count(given.pipeline, "--pipeline"),
        think=duration(given.think, "--think", least=0.0),
        processes=_processes(given.processes),
        command=command,
    )


def check_handler(handler: str) -> None:
    """Find out whether there is such a handler. Errors: UsageError."""
    try:
        registry.resolve(handler)
    except EchoframeError as error:
        raise UsageError(str(error)) from None
    except SystemExit as error:
        raise UsageError(_has_exited(handler, error)) from None


def _has_exited(path: str, error: SystemExit) -> str:
    module = path.partition(":")[0]
    return f"{path!r} cannot be imported: {module} ends the program with {error!r}"


def workloads(texts: list[str] | None) -> list[str]:
    """Read names of workloads. Errors: UsageError."""
    names = [part.strip() for text in texts or [] for part in text.split(",") if part.strip()]
    if texts and not names:
        raise UsageError(f"--workload: takes names, as in {', '.join(list(WORKLOADS)[:2])}")
    for name in names:
        if name not in WORKLOADS:
            hint = near(name, WORKLOADS)
            raise UsageError(
                f"--workload: there is no {name!r}; {hint}known are {', '.join(WORKLOADS)}"
            )
    return names


def duration(text: str, flag: str, least: float = 0.01) -> float:
    """Read a time: 2, 0.5, 500ms, 10s or 2m. Errors: UsageError."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0}
    number = text.strip()
    factor = 1.0
    for unit, value in units.items():
        if number.endswith(unit) and number[: -len(unit)][-1:].isdigit():
            number, factor = number[: -len(unit)], value
            break
    try:
        seconds = read_number(number, "seconds") * factor
    except SettingError:
        raise UsageError(f"{flag}: takes a time, as in 2, 0.5 or 500ms, not {text!r}") from None
    if not least <= seconds <= 86_400:
        raise UsageError(f"{flag}: {text} is not between {least:g} seconds and a day")
    return seconds


def _connections(text: str | None) -> list[int]:
    if text is None:
        return []
    counts = [_count(part, "--connections") for part in text.split(",") if part.strip()]
    if not counts:
        raise UsageError("--connections: takes numbers, as in 50 or 1,10,100,1000")
    if max(counts) > MOST_CONNECTIONS:
        raise UsageError(f"--connections: {max(counts):,} is more than {MOST_CONNECTIONS:,}")
    return counts


def _count(text: str, flag: str) -> int:
    try:
        value = read_int(text.strip(), "times")
    except SettingError:
        raise UsageError(f"{flag}: takes a whole number, not {text!r}") from None
    if value < 1:
        raise UsageError(f"{flag}: takes 1 or more, not {value}")
    return value


def _processes(text: str) -> int:
    value = _count(text, "--processes")
    if value > MOST_PROCESSES:
        raise UsageError(f"--processes: {value:,} is more than {MOST_PROCESSES}")
    return value


def _rate(text: str) -> float:
    number = text.strip()
    factor = {"k": 1e3, "M": 1e6}.get(number[-1:], 1.0)
    if factor > 1.0:
        number = number[:-1]
    try:
        value = float(read_number(number, "messages a second")) * factor
    except SettingError:
        raise UsageError(
            f"--rate: takes a number of messages a second, as in 5000 or 5k, not {text!r}"
        ) from None
    if not 0 < value < math.inf:
        raise UsageError(f"--rate: takes more than 0, not {text}")
    return value


def _framing(text: str | None) -> str | None:
    if text is not None:
        try:
            make_framing(text)()
        except SettingError as error:
            raise UsageError(f"--framing: {error}") from None
    return text


def _check(path: str | None) -> str | None:
    if path is not None:
        function = _load(path, "--check")
        if inspect.iscoroutinefunction(function):
            raise UsageError(f"--check: {path} is async; a check is called, and not awaited")
        try:
            inspect.signature(function).bind(b"", b"")
        except TypeError as error:
            raise UsageError(
                f"--check: {path} is called with a message and its reply, and cannot be: {error}"
            ) from None
        except ValueError:
            # Nobody knows what it takes: the first reply will show.
            pass
    return path


def _load(path: str, flag: str) -> Callable[..., Any]:
    if ":" not in path:
        raise UsageError(f"{flag}: takes module:function, not {path!r}")
    try:
        found = registry.resolve(path)
    except SettingError:
        # It is there, and nothing that can be called.
        raise UsageError(f"{flag}: {path} is no function") from None
    except EchoframeError as error:
        module, _, name = path.partition(":")
        if isinstance(getattr(sys.modules.get(module), name, None), str):
            # A text there would be a handler's name.
            raise UsageError(f"{flag}: {path} is a text, and no function") from None
        raise UsageError(f"{flag}: {error}") from None
    except SystemExit as error:
        raise UsageError(f"{flag}: {_has_exited(path, error)}") from None
    if not callable(found):
        raise UsageError(f"{flag}: {path} is no function")
    function: Callable[..., Any] = found
    return function


def _messages(given: Any) -> tuple[bytes, ...]:
    if given.message is not None and given.messages is not None:
        raise UsageError("--message and --messages both say what clients say; give one of them")
    if given.message is not None:
        return tuple(text.encode() for text in given.message)
    if given.messages is None:
        return ()
    try:
        found = [line for line in Path(given.messages).read_bytes().splitlines() if line]
    except OSError as error:
        if ":" not in given.messages:
            raise UsageError(f"--messages: {given.messages}: {error.strerror}") from None
        found = _made(given.messages)
    if not found:
        raise UsageError(f"--messages: {given.messages} gives no message at all")
    return tuple(found)


def _made(path: str) -> list[bytes]:
    function = _load(path, "--messages")
    try:
        made = function()
        made = list(made) if isinstance(made, Iterable) else [made]
    except Exception as error:
        raise UsageError(f"--messages: {path} has raised {error!r}") from None
    if not all(isinstance(one, str | bytes) for one in made):
        raise UsageError(f"--messages: {path} gives no messages, that is, bytes or texts")
    return [one.encode() if isinstance(one, str) else one for one in made]


# ------------------------------------------------------------------ while it runs


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is measured as a Ctrl-C does: no server stays behind."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for word in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(word) == signal.SIG_DFL:
                before[word] = signal.signal(word, signal.default_int_handler)
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def progress_on(stream: Any, quiet: bool) -> ProgressLine:
    """Give what shows how far it has come: a bar if rich is there and somebody looks."""
    if quiet:
        return ProgressLine()
    if stream.isatty():
        try:
            return _Bar(stream)
        except ImportError:
            pass
    return _Lines(stream)


class ProgressLine:
    """Says nothing. A context manager that can be called as a Progress."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Say how far it has come."""

    def close(self) -> None:
        """Say no more."""


class _Lines(ProgressLine):
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._last = ""

    def __call__(self, done: int, total: int, what: str) -> None:
        # A line for each workload: nobody reads a line for each fifth of a second.
        subject = what.partition(" ")[0]
        if subject != self._last:
            self._last = subject
            print(f"measuring {subject} ({done} of {total})", file=self._stream, flush=True)


class _Bar(ProgressLine):
    def __init__(self, stream: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("measuring"),
            BarColumn(30),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._bar.add_task("")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __call__(self, done: int, total: int, what: str) -> None:
        self._bar.update(self._task, completed=done - 1, total=total, description=what)

    def close(self) -> None:
        self._bar.stop()
