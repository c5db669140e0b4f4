"""Flags, as every command has them: argparse, with sentences for errors."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

from ..address import Address
from ..errors import SettingError
from .failure import UsageError, near

__all__ = [
    "Parser",
    "add_patience",
    "add_trust",
    "patience",
    "read_int",
    "read_number",
    "read_place",
    "read_seconds",
    "trust",
]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        # Given a width, argparse need not import shutil to find one; it makes a
        # formatter for every flag, whether help is wanted or not.
        super().__init__(prog, max_help_position=28, width=_width())


def _width() -> int:
    try:
        return int(os.environ["COLUMNS"]) - 2
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size().columns - 2
    except (OSError, ValueError):
        return 98


class Parser(argparse.ArgumentParser):
    """A command's parser. What is wrong is raised as a UsageError, in a sentence."""

    def __init__(self, command: str, what: str, example: str, more: str = "") -> None:
        super().__init__(
            prog=f"echoframe {command}",
            description=what,
            epilog=f"example: {example}" + (f"\n\n{more}" if more else ""),
            formatter_class=_HelpFormatter,
            # A shortened flag may mean two things in the next version.
            allow_abbrev=False,
        )

    def parse_args(  # type: ignore[override]  # the other signatures are for namespaces
        self, words: Sequence[str] | None = None
    ) -> argparse.Namespace:
        # Intermixed: `ADDR --timeout 5 TEXT` has words on both sides of a flag.
        given, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            self._refuse(unknown)
        return given

    def print_help(self, file: Any = None) -> None:
        # argparse's own keeps it to itself when that cannot be written.
        print(self.format_help(), end="", file=file)

    def _refuse(self, unknown: list[str]) -> NoReturn:
        for word in unknown:
            if word.startswith("-") and word != "-":
                flag = word.partition("=")[0]
                hint = near(flag, self._option_string_actions)
                raise UsageError(f"unknown flag {flag!r}; {hint}see {self.prog} --help")
        self.error(f"one word too many: {unknown[0]!r}")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def read_place(text: str) -> Address:
    """Read the address of a server that somebody wants to reach."""
    place = Address.parse(text)
    if place.scheme == "fd":
        raise UsageError(f"{place} names an inherited socket; nobody can connect to that")
    return place


def read_seconds(text: str) -> float:
    """Read a time. Errors: SettingError."""
    return float(read_number(text, "seconds"))


def read_int(text: str, unit: str) -> int:
    """Read a whole number. Errors: SettingError."""
    value = read_number(text, unit)
    if not isinstance(value, int):
        raise SettingError(f"takes a whole number of {unit}, not {text!r}")
    return value


def read_number(text: str, unit: str) -> int | float:
    """Read a number, whole if it is written so. Errors: SettingError."""
    # Not all that float() takes: 1_000, nan and 1e400 are no limits.
    digits = text.strip().removeprefix("-").replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
        raise SettingError(f"takes a number of {unit}, not {text!r}")
    return float(text) if "." in text else int(text)


def add_trust(parser: Parser) -> None:
    """Add the flags that say whom to believe over TLS."""
    parser.add_argument(
        "--tls-ca",
        metavar="FILE.pem",
        help="over tls://: trust the CA, or the certificate, in this file and no other",
    )
    parser.add_argument(
        "--tls-insecure", action="store_true", help="encrypt, and verify nobody: for trials"
    )


def trust(given: Any) -> str | Literal[False] | None:
    """What those flags mean to a Client, as its `tls`. Errors: UsageError."""
    if not given.tls_insecure:
        ca: str | None = given.tls_ca
        return ca
    if given.tls_ca is not None:
        raise UsageError("--tls-insecure verifies nobody, so --tls-ca has no meaning")
    return False


def add_patience(parser: Parser) -> None:
    """Add the flags of every command that connects."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        default="10",
        help="to connect, and then for each reply (10)",
    )
    parser.add_argument(
        "--retry", metavar="N", default="0", help="try to connect N more times, with pauses (0)"
    )
    add_trust(parser)
    parser.add_argument(
        "--tls-cert", metavar="FILE.pem", help="our own certificate, for servers that want one"
    )
    parser.add_argument("--tls-key", metavar="FILE.pem", help="its key, if in a file of its own")


def patience(given: Any) -> dict[str, Any]:
    """What those flags mean to a Client. Errors: UsageError."""
    found: dict[str, Any] = {"tls_cert": given.tls_cert, "tls_key": given.tls_key}
    if (tls := trust(given)) is not None:
        found["tls"] = tls
    for name, read in (("timeout", read_seconds), ("retry", lambda text: read_int(text, "times"))):
        try:
            found[name] = read(getattr(given, name))
        except SettingError as error:
            raise UsageError(f"--{name}: {error}") from None
    return found
