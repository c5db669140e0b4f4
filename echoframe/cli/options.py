"""Options that can be given three ways: as a flag, as a variable, in a file.

Flags win over ECHOFRAME_ variables, and those win over the file. Which options
there are, the command says; here is only how their values are found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import AddressError, SettingError
from .failure import UsageError, near
from .parsing import Parser

__all__ = ["COUNT", "FILE", "FLAG", "LIST", "SWITCH", "VALUE", "VARIABLE", "Choice", "Option"]

# What an option takes: a value, several, nothing, or nothing several times.
VALUE, LIST, SWITCH, COUNT = "value", "list", "switch", "count"

# All variables begin so; this one names the file.
_PREFIX = "ECHOFRAME_"
CONFIG = f"{_PREFIX}CONFIG"

# As near to a variable's name is a slip of the finger, but not a variable that something
# else has made, such as a Kubernetes service that is called echoframe too (_SERVICE_PORT).
_NEAR = 0.75

# Where a value came from, the higher the more it counts.
FILE, VARIABLE, FLAG = 1, 2, 3

_YES = {"1": True, "true": True, "yes": True, "on": True}
_NO = {"0": False, "false": False, "no": False, "off": False}


class Option(NamedTuple):
    """One option: its name, with underscores, and how its text is read."""

    name: str
    what: str
    # Text to value. Errors: SettingError or AddressError, without saying where.
    read: Callable[[str], Any] = str
    metavar: str = "TEXT"
    letter: str = ""
    kind: str = VALUE
    # Other names for it.
    aliases: tuple[str, ...] = ()
    # A word by itself and not a flag.
    positional: bool = False
    # What it takes in a file that is not written as a text.
    takes: str = "text or a number"
    # In a file a number would mean something else: how it is written instead.
    quoted: str = ""

    @property
    def flags(self) -> list[str]:
        letters = [f"-{self.letter}"] if self.letter else []
        return letters + [f"--{name.replace('_', '-')}" for name in (self.name, *self.aliases)]

    def add_to(self, parser: Parser) -> None:
        """Make it an argument of a parser."""
        what = self.what.replace("%", "%%")
        if self.positional:
            parser.add_argument(self.name, nargs="?", metavar=self.metavar, help=what)
        elif self.kind == SWITCH:
            parser.add_argument(
                *self.flags, dest=self.name, action="store_const", const=True, help=what
            )
        elif self.kind == COUNT:
            parser.add_argument(*self.flags, dest=self.name, action="count", help=what)
        else:
            action = "append" if self.kind == LIST else "store"
            parser.add_argument(
                *self.flags, dest=self.name, action=action, metavar=self.metavar, help=what
            )


class Choice(NamedTuple):
    """A value, how much its source counts, and the source in words."""

    value: Any
    rank: int
    where: str


def choose(
    options: Sequence[Option],
    given: Any,
    variables: Mapping[str, str],
    file: str | None,
    command: str = "serve",
) -> dict[str, Choice]:
    """Give the value of every option of a command that has one.

    Errors: UsageError, with the place where the value stands.
    """
    _check_names(variables, options, command)
    found = _read_file(file, options) if file else {}
    for option in options:
        for name in (option.name, *option.aliases):
            variable = f"{_PREFIX}{name.upper()}"
            # Empty is how many tools write "not set".
            if variables.get(variable):
                text: Any = variables[variable]
                if option.kind == LIST:
                    text = [part.strip() for part in text.split(",") if part.strip()]
                found[option.name] = Choice(text, VARIABLE, variable)
                break
        value = getattr(given, option.name)
        if value is not None:
            where = option.metavar if option.positional else option.flags[bool(option.letter)]
            found[option.name] = Choice(value, FLAG, where)
    # Read at the end: what is overruled may be wrong.
    return {
        option.name: found[option.name]._replace(value=_value(option, found[option.name]))
        for option in options
        if option.name in found
    }


def _check_names(variables: Mapping[str, str], options: Sequence[Option], command: str) -> None:
    """Errors: UsageError for a variable whose name is nearly one of ours."""
    known = {name.upper() for option in options for name in (option.name, *option.aliases)}
    known.add(CONFIG.removeprefix(_PREFIX))
    for variable, text in variables.items():
        name = variable.removeprefix(_PREFIX)
        if name == variable or name in known or not text:
            continue
        if hint := near(name, known, _NEAR, _PREFIX):
            raise UsageError(f"unknown variable {variable!r}; {hint}see echoframe {command} --help")


def _value(option: Option, choice: Choice) -> Any:
    raw = choice.value
    try:
        if option.kind in (SWITCH, COUNT):
            return _switched(option, raw)
        if option.kind == LIST:
            texts = raw if isinstance(raw, list) else [raw]
            return [option.read(_text(text, option.takes)) for text in texts]
        if option.quoted and not isinstance(raw, str):
            example = f'{option.name} = "{option.quoted}"'
            raise SettingError(f"takes a text in quotes, as in {example}, not {_shown(raw)}")
        return option.read(_text(raw, option.takes))
    except (SettingError, AddressError) as error:
        sentence = str(error).removeprefix(f"{option.name} ")
        raise UsageError(f"{choice.where}: {sentence}") from None


def _switched(option: Option, raw: Any) -> int:
    if isinstance(raw, int):
        if option.kind == COUNT or isinstance(raw, bool):
            return raw
    elif isinstance(raw, str):
        word = raw.strip().lower()
        if option.kind == COUNT and word.isascii() and word.isdigit():
            return int(word[:3])
        known = {**_YES, **_NO}
        if word in known:
            return known[word]
    raise SettingError(f"takes true or false, not {_shown(raw)}")


def _text(raw: Any, takes: str) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            return str(raw)
        except ValueError:
            # Said below: it has more digits than Python writes.
            pass
    raise SettingError(f"takes {takes}, not {_shown(raw)}")


def _shown(raw: Any) -> str:
    if isinstance(raw, bool):
        # As TOML writes it.
        return str(raw).lower()
    try:
        return repr(raw)
    except ValueError:
        return "a number of thousands of digits"
    except RecursionError:
        return "tables in tables in tables"


def _read_file(path: str, options: Sequence[Option]) -> dict[str, Choice]:
    import tomllib

    try:
        with open(path, "rb") as file:
            tables: dict[str, Any] = tomllib.load(file)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}; give --config (or {CONFIG}) "
            "another file, or none"
        ) from None
    # Not only TOMLDecodeError: there are numbers that Python does not read, and paths
    # that no system takes.
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is not TOML: it is nested too deeply") from None
    own = tables.pop("serve", {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: serve is a table, as in [serve]")
    names = {name: option for option in options for name in (option.name, *option.aliases)}
    found: dict[str, Choice] = {}
    for key, raw in [*tables.items(), *own.items()]:
        option = names.get(key.replace("-", "_"))
        if option is None:
            if isinstance(raw, dict):
                hint = "did you mean [serve]? " if near(key, ["serve"]) else ""
                raise UsageError(
                    f"{path}: unknown table {key!r}; {hint}options stand at the top or in [serve]"
                )
            hint = near(key.replace("-", "_"), names)
            raise UsageError(f"{path}: unknown key {key!r}; {hint}see echoframe serve --help")
        if option.name in found:
            raise UsageError(f"{path}: {option.name} is there twice")
        found[option.name] = Choice(raw, FILE, f"{path}: {key}")
    return found
