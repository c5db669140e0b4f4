"""echoframe adopt: words to a wish, and the program that it is for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..adopt.launch import CannotAdopt, start
from ..adopt.replacing import KINDS, USABLE, kinds_of
from ..adopt.wish import Wish
from ..servers import SETTINGS, Setting
from .failure import UsageError
from .options import COUNT, SWITCH, Choice, Option, choose
from .parsing import Parser
from .serve import one_of, setting_option

__all__ = ["EXAMPLE", "OPTIONS", "parser", "run"]

EXAMPLE = "echoframe adopt --model pool --threads 16 -- python3 -m http.server 8000"


def _as_hosted(setting: Setting) -> Setting:
    """A setting with the default that it has on somebody else's server."""
    if not setting.ours:
        return setting
    return setting._replace(default=0, reason="silence may be part of what they talk about")


OPTIONS = [
    Option(
        "model",
        "thread or pool: what ThreadingMixIn is; fork or prefork: what ForkingMixIn is (the "
        "one is thread, the other fork)",
        one_of(tuple(KINDS)),
        "MODEL",
        letter="m",
    ),
    Option(
        "force",
        "both are the model, although memory that was shared is copied then, or the other way",
        kind=SWITCH,
    ),
    Option(
        "plain",
        "servers without a mix-in get one too; their handlers no longer run one after the other",
        kind=SWITCH,
    ),
    Option(
        "resolve_names",
        "look up the name of the address at the start, as http.server does and few need",
        kind=SWITCH,
    ),
    Option("quiet", "say only what is wrong", letter="q", kind=SWITCH),
    Option("verbose", "log all there is", letter="v", kind=COUNT),
    *(setting_option(_as_hosted(SETTINGS[name])) for name in USABLE),
]

_MORE = """\
Every flag is also a variable, as in ECHOFRAME_MAX_CONNECTIONS=50.

The program becomes this process. Where it has no handler of its own, SIGTERM lets what
is going on finish, and a second one cuts that.

exit codes: the program's own; 0 after SIGTERM, 143 after a second one, 2 usage,
3 if its Python is older than 3.11"""


class _Parser(Parser):
    """Flags, and behind them a command with flags of its own."""

    def parse_args(  # type: ignore[override]  # the other signatures are for namespaces
        self, words: Sequence[str] | None = None
    ) -> Any:
        words = list(words or ())
        end = self._end_of_flags(words)
        given = super().parse_args(words[:end])
        given.command = words[end + (words[end : end + 1] == ["--"]) :]
        return given

    def _end_of_flags(self, words: list[str]) -> int:
        takes = {flag for flag, action in self._option_string_actions.items() if action.nargs != 0}
        at = 0
        while at < len(words) and words[at].startswith("-") and words[at] != "--":
            at += 2 if words[at] in takes else 1
        return min(at, len(words))


def parser() -> Parser:
    """What can be said."""
    what = "Run a Python program with our mix-ins in place of socketserver's."
    made = _Parser("adopt", what, EXAMPLE, _MORE)
    made.usage = "echoframe adopt [flags] -- COMMAND [ARGUMENT ...]"
    for option in OPTIONS:
        option.add_to(made)
    return made


def run(given: Any) -> int:
    """Become the program; gives an exit code only where that does not come about."""
    chosen = choose(OPTIONS, given, os.environ, None, "adopt")
    wish = _wish(chosen)
    try:
        start(given.command, wish)
    except CannotAdopt as error:
        raise UsageError(str(error)) from None


def _wish(chosen: dict[str, Choice]) -> Wish:
    values = {name: choice.value for name, choice in chosen.items()}
    quiet, verbose = values.get("quiet"), values.get("verbose")
    if quiet and verbose:
        raise UsageError("quiet and verbose contradict each other; choose one")
    wish = Wish(
        values.get("model", ""),
        bool(values.get("force")),
        bool(values.get("plain")),
        bool(values.get("resolve_names")),
        -1 if quiet else int(bool(verbose)),
        {name: values[name] for name in USABLE if name in values},
    )
    if wish.force and not wish.model:
        raise UsageError(f"{chosen['force'].where} is about a model; add --model")
    if wish.plain and wish.model in ("fork", "prefork") and not wish.force:
        raise UsageError(
            f"{chosen['plain'].where} with the model {wish.model} would give servers processes "
            "that have shared their memory until now; add --force, or choose thread or pool"
        )
    models = set(kinds_of(wish).values())
    for name in wish.settings:
        setting = SETTINGS[name]
        if setting.model and setting.model not in models:
            raise UsageError(
                f"{chosen[name].where} is for the model {setting.model}, not for "
                f"{' and '.join(sorted(models))}; add --model {setting.model}"
            )
    return wish
