"""From a command to the program that it starts, as the same process."""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ..errors import EchoframeError
from .wish import VARIABLE, Wish

__all__ = ["CannotAdopt", "check", "start"]

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")

# What calls itself so is Python: python3.13t, pypy3, a link to one of them.
_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]?$")


class CannotAdopt(EchoframeError, ValueError):
    """A command that is not a Python program, or one that nobody can get into."""


def check(words: Sequence[str]) -> str:
    """Give the path of the program that a command runs.

    Errors: CannotAdopt for what is not Python, or does not look at its environment.
    """
    if not words:
        raise CannotAdopt(
            "adopt runs a Python program, and none is given; "
            "write it at the end, as in echoframe adopt -- python3 app.py"
        )
    path = _find(words[0])
    if _is_python(path):
        _refuse_deaf(words[1:], " ".join(words[:1]))
        return path
    line = _interpreter(path)
    python = next((at for at, word in enumerate(line) if _is_python(word)), None)
    if python is None:
        raise CannotAdopt(
            f"{words[0]!r} is not a Python program; give the one that it starts, "
            "as in echoframe adopt -- python3 app.py"
        )
    _refuse_deaf(line[python + 1 :], f"the first line of {path}")
    return path


def start(words: Sequence[str], wish: Wish) -> NoReturn:
    """Become the program that a command runs.

    Errors: CannotAdopt, as check() does, and when the system does not start it.
    """
    path = check(words)
    by = next(filter(_is_python, _interpreter(path)), None)
    if by is not None and _which(by) is None:
        # Or the system would say that of the script.
        raise CannotAdopt(
            f"{path} is run by {by}, which is not there; make its environment anew, "
            f"or say by what, as in echoframe adopt -- python3 {path}"
        )
    environment = _environment(os.environ, wish)
    # Python ignores it, and what is ignored stays so; a program's children may mind.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execve(path, list(words), environment)
    except OSError as error:
        raise CannotAdopt(
            f"{words[0]!r} cannot be started: {error.strerror}; try it without adopt"
        ) from None


def _environment(variables: Mapping[str, str], wish: Wish) -> dict[str, str]:
    rest = variables.get("PYTHONPATH")
    # Of an adopt that is around this one.
    folders = [folder for folder in (rest or "").split(os.pathsep) if folder != _FOLDER]
    path = os.pathsep.join([_FOLDER, *folders]) if rest else _FOLDER
    return {**variables, "PYTHONPATH": path, VARIABLE: wish.to_text()}


def _find(name: str) -> str:
    if "=" in name or os.path.basename(name) == "env":
        raise CannotAdopt(
            f"{name!r} gives a program its variables; write them in front of all, "
            "as in COLOR=no echoframe adopt -- python3 app.py"
        )
    path = _which(name)
    if path is not None:
        return path
    if os.path.isdir(name):
        raise CannotAdopt(f"{name!r} is a folder; name a program in it, or write python3 {name}")
    if name.endswith(".py") and os.path.exists(name):
        raise CannotAdopt(f"{name!r} is a file and no command; write python3 {name}")
    if os.path.exists(name):
        raise CannotAdopt(f"{name!r} cannot be run; write python3 {name} if it is a program")
    raise CannotAdopt(f"there is no command {name!r}; is it spelled right, and on PATH?")


def _which(name: str) -> str | None:
    from shutil import which

    return which(name)


def _is_python(path: str) -> bool:
    names = path, os.path.realpath(path)
    return any(_PYTHON.match(os.path.basename(name)) for name in names)


def _interpreter(path: str) -> list[str]:
    """The words with which a script is run, if it is one."""
    try:
        with open(path, "rb") as file:
            first, second = file.readline(4096), file.readline(4096)
    except OSError:
        return []
    if not first.startswith(b"#!"):
        return []
    words = _split(first[2:])
    # What pip writes where the path of the interpreter is too long for the system.
    if second.startswith(b"'''exec'"):
        words = _split(second[len(b"'''exec'") :])
    return words


def _split(line: bytes) -> list[str]:
    try:
        return shlex.split(os.fsdecode(line))
    except ValueError:
        return os.fsdecode(line).split()


def _refuse_deaf(words: Sequence[str], where: str) -> None:
    """Errors: CannotAdopt for flags of an interpreter that keep adopt out."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in "IES":
                raise CannotAdopt(
                    f"{where} has -{letter}, with which Python does not look where adopt "
                    "waits for it; leave it out"
                )
            if letter in "cm":
                return
            if letter in "WX":
                if at == len(word):
                    next(rest, None)
                break
