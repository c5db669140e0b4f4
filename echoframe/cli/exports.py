"""What the commands that measure, and `report`, do with results: print, write files, judge.

exports = Exports.of(given)       before anything is measured: what cannot work is said now
code = exports.finish([result])   afterwards
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..compare.criteria import Criterion, check, parse
from ..compare.result import Result, ResultError
from ..errors import EchoframeError, SettingError
from .failure import CommandFailed, UsageError
from .log import wants_colour
from .parsing import Parser, read_int
from .streams import write_through

__all__ = ["STDOUT", "Exports", "add_exports", "can_write", "read_result"]

# As the name of a file: standard output, or standard input.
STDOUT = "-"

_COLOURS = ("auto", "always", "never")
# Wider lines are not read any better.
_WIDEST = 160
_USUAL_WIDTH = 80
_WIDTHS = range(60, 1001)


def add_exports(parser: Parser) -> None:
    """Add the flags."""
    for kind, what in (
        ("json", "the whole result, for echoframe report and --baseline"),
        ("csv", "a line for each workload, model and number of connections"),
        ("markdown", "the verdict and the tables"),
        ("html", "one page with drawings, which needs no network (needs plotly)"),
    ):
        parser.add_argument(
            f"--export-{kind}",
            metavar="FILE",
            help=f"write {what}; - is standard output" if kind == "json" else f"write {what}",
        )
    parser.add_argument(
        "--json", action="store_true", help="print the whole result and nothing else"
    )
    parser.add_argument(
        "--baseline", metavar="FILE.json", help="an earlier result: say what has changed"
    )
    parser.add_argument(
        "--fail-if",
        metavar="CRITERION",
        action="append",
        default=[],
        help="exit with 1 if it is so, as in 'p99>50ms', 'echo/loop:throughput<100k' or "
        "'throughput<0.9*baseline'; may be given several times",
    )
    parser.add_argument(
        "--color",
        metavar="WHEN",
        default="auto",
        help="auto, always or never; auto is on a terminal, unless NO_COLOR is set (auto)",
    )
    parser.add_argument(
        "--width", metavar="COLUMNS", help=f"of the tables (the terminal's, or {_USUAL_WIDTH})"
    )


@dataclass
class Exports:
    """What is to be done with results. Made before anything is measured."""

    # Kind to path: json, csv, markdown, html.
    paths: dict[str, str]
    criteria: list[Criterion]
    baseline: Result | None
    colour: bool
    width: int

    @classmethod
    def of(cls, given: Any) -> Exports:
        """Read the flags, and try whatever could fail after a long run. Errors: UsageError."""
        if given.color not in _COLOURS:
            raise UsageError(f"--color: takes auto, always or never, not {given.color!r}")
        if given.json:
            if given.export_json is not None:
                raise UsageError("--json and --export-json both take the result; give one of them")
            given.export_json = STDOUT
        paths = {
            kind: path for kind in _KINDS if (path := getattr(given, f"export_{kind}")) is not None
        }
        _check_paths(paths)
        if "html" in paths:
            _check_plotly()
        criteria = []
        for text in given.fail_if:
            try:
                criteria.append(parse(text))
            except SettingError as error:
                raise UsageError(f"--fail-if: {error}") from None
        baseline = None
        if given.baseline is not None:
            baseline = read_result(given.baseline, "--baseline: ")
        for criterion in criteria:
            if criterion.relative and baseline is None:
                raise UsageError(
                    f"--fail-if: {criterion.text!r} compares with a baseline; add --baseline FILE"
                )
        colour = wants_colour(given.color, sys.stdout)
        return cls(paths, criteria, baseline, colour, _width(given.width))

    @property
    def to_stdout(self) -> bool:
        """Tell whether standard output is one of the files, and so nothing else goes there."""
        return STDOUT in self.paths.values()

    def check_criteria(self, planned: Result) -> None:
        """Find out whether each is about something that will be measured. Errors: UsageError."""
        # Of a server that was not measured it could be told, if it is about that server.
        cells = [replace(cell, failure="not measured yet") for cell in planned.cells]
        self._judge([replace(planned, cells=cells)], ())

    def finish(self, results: Sequence[Result], titles: Sequence[str] = ()) -> int:
        """Print, write what was asked for, judge; give the exit code.

        Errors: CommandFailed if a file could not be written, when all others are;
        UsageError for a criterion that is about nothing.
        """
        failures = self._write(results, titles)
        if not self.to_stdout:
            print(self._text(results, titles), end="")
        failed = self._judge(results, titles)
        for sentence in failed:
            write_through(sys.stderr, f"echoframe: {sentence}\n")
        if failures:
            raise CommandFailed("; ".join(failures))
        return 1 if failed else 0

    def _text(self, results: Sequence[Result], titles: Sequence[str]) -> str:
        from ..compare import terminal, timeline
        from ..compare.units import plainly
        from ..compare.verdict import changes, recommend, verdict

        parts = [terminal.render(results, self.width, self.colour, titles=titles)]
        said: list[tuple[str, list[str]]] = []
        if len(results) == 1:
            parts.append(timeline.render(results[0], self.width, self.colour))
            said.append(("Verdict", verdict(results[0])))
            said.append(("For your handler", recommend(results[0])))
        else:
            letters = [terminal.label(at) for at in range(len(results))]
            for letter, result in list(zip(letters, results, strict=True))[1:]:
                said.append((f"{letter} against {letters[0]}", changes(result, results[0])))
        if self.baseline is not None:
            for number, result in enumerate(results):
                name = f"{terminal.label(number)} against" if len(results) > 1 else "Against"
                said.append((f"{name} the baseline", changes(result, self.baseline)))
        for title, sentences in said:
            lines = [terminal.paint(title, "title", self.colour)]
            for sentence in sentences:
                lines += terminal.wrap(sentence, self.width, "* ", "  ")
            if sentences:
                parts.append("\n".join(lines) + "\n")
        text = "\n".join(part for part in parts if part)
        return text if _can_show(text) else plainly(text)

    def _write(self, results: Sequence[Result], titles: Sequence[str]) -> list[str]:
        failures = []
        for kind, path in self.paths.items():
            try:
                text = _KINDS[kind](results, titles)
            except EchoframeError as error:
                # What was measured is worth more than one of its pictures.
                failures.append(f"cannot write {path}: {error}")
                continue
            if path == STDOUT:
                print(text, end="")
                continue
            try:
                _write_whole(path, text)
            except OSError as error:
                failures.append(f"cannot write {path}: {error.strerror or error}")
        return failures

    def _judge(self, results: Sequence[Result], titles: Sequence[str]) -> list[str]:
        failed = []
        for number, result in enumerate(results):
            title = titles[number] if len(results) > 1 and number < len(titles) else ""
            for criterion in self.criteria:
                try:
                    found = check(result, criterion, self.baseline)
                except SettingError as error:
                    raise UsageError(f"--fail-if: {error}") from None
                failed += [f"{title}: {one}" if title else one for one in found]
        return failed


def read_result(path: str, where: str = "") -> Result:
    """Read a file that was made with --export-json; - is standard input. Errors: UsageError."""
    name = "standard input" if path == STDOUT else path
    try:
        if path == STDOUT:
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
        return Result.from_json(data.decode(), name)
    except OSError as error:
        raise UsageError(f"{where}cannot read {name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(
            f"{where}{name} holds no result; make one with echoframe compare --export-json FILE"
        ) from None
    except ResultError as error:
        raise UsageError(f"{where}{error}") from None


def _json(results: Sequence[Result], titles: Sequence[str]) -> str:
    if len(results) != 1:
        # Each of them is one already.
        raise UsageError(f"--export-json: takes one result, and there are {len(results)}")
    return results[0].to_json()


def _csv(results: Sequence[Result], titles: Sequence[str]) -> str:
    from ..compare.tables import to_csv

    return to_csv(results)


def _markdown(results: Sequence[Result], titles: Sequence[str]) -> str:
    from ..compare.tables import to_markdown

    return to_markdown(results, titles)


def _html(results: Sequence[Result], titles: Sequence[str]) -> str:
    from importlib import import_module

    from ..compare.verdict import changes, recommend, verdict

    sentences = [*verdict(results[0]), *recommend(results[0])] if len(results) == 1 else []
    for number, result in enumerate(results[1:], 1):
        name = f"{titles[number]}: " if len(results) > 2 and number < len(titles) else ""
        sentences += [f"{name}{one}" for one in changes(result, results[0])]
    text: str = import_module("echoframe.compare.page").render(results, titles, sentences)
    return text


_KINDS: dict[str, Callable[[Sequence[Result], Sequence[str]], str]] = {
    "json": _json,
    "csv": _csv,
    "markdown": _markdown,
    "html": _html,
}


def _width(said: str | None) -> int:
    if said is None:
        # COLUMNS, or the terminal's, or neither in a pipe.
        found = shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns
        return min(max(found, _WIDTHS[0]), _WIDEST)
    try:
        width = read_int(said, "columns")
    except SettingError as error:
        raise UsageError(f"--width: {error}") from None
    if width not in _WIDTHS:
        raise UsageError(f"--width: takes {_WIDTHS[0]} to {_WIDTHS[-1]:,} columns, not {width:,}")
    return width


def _can_show(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# ------------------------------------------------------------------ files


def _check_paths(paths: dict[str, str]) -> None:
    known: dict[str, str] = {}
    for kind, path in paths.items():
        flag = f"--export-{kind}"
        where = path if path == STDOUT else os.path.realpath(path)
        if where in known:
            raise UsageError(f"{known[where]} and {flag} both name {path}; give each its own")
        known[where] = flag
        if path == STDOUT:
            continue
        if not path:
            raise UsageError(f"{flag}: takes a file's name, not ''")
        try:
            _try(where)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{flag}: cannot write {path}: {reason}; choose another") from None


def can_write(path: str) -> bool:
    """Tell whether a file could be written."""
    try:
        _try(os.path.realpath(path))
    except (OSError, ValueError):
        return False
    return True


def _try(path: str) -> None:
    """Find out whether a file could be written, and leave nothing behind."""
    if _is_special(path):
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise IsADirectoryError(21, os.strerror(21))
        if not os.access(path, os.W_OK):
            raise PermissionError(13, os.strerror(13))
        return
    beside = _beside(path)
    with open(beside, "w", encoding="utf-8"):
        pass
    os.unlink(beside)


def _is_special(path: str) -> bool:
    """Tell whether something is there that must not be replaced: a device, a pipe, a folder."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _beside(path: str) -> str:
    return f"{path}.{os.getpid()}"


def _write_whole(path: str, text: str) -> None:
    """Write all of it or nothing: who reads the file meanwhile sees the old one, or the new."""
    where = os.path.realpath(path)
    if _is_special(where):
        with open(where, "w", encoding="utf-8") as file:
            file.write(text)
        return
    beside = _beside(where)
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.exists(where):
            shutil.copymode(where, beside)
        os.replace(beside, where)
    except BaseException:
        try:
            os.unlink(beside)
        except OSError:
            # It was never made, or has its name already.
            pass
        raise


def _check_plotly() -> None:
    from importlib.util import find_spec

    if find_spec("plotly") is None:
        raise UsageError(
            "--export-html: the page is drawn by plotly, which is not installed; "
            "pip install 'echoframe[report]'"
        )
