"""echoframe compare: one handler on every model, measured, with a verdict."""

from __future__ import annotations

import os
import shlex
import shutil
import socketserver
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from ..compare.loaders import LoadFailed
from ..compare.run import AND_THEN_NO_MORE, Order, compare, planned
from ..compare.workload import DEFAULTS, WORKLOADS
from ..errors import SettingError, suggest
from ..handlers import registry
from ..servers import MODELS, SETTINGS, means_something, model_class
from .exports import Exports, add_exports, can_write
from .failure import CommandFailed, UsageError, in_flags, near
from .measuring import (
    add_measuring,
    check_handler,
    duration,
    ended_in_order,
    order_of,
    progress_on,
    workloads,
)
from .parsing import Parser, read_number

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe compare game:Handler --message 'look around' -c 1,10,100"

_MORE = f"""\
Without a handler of yours, each workload brings its own. The workloads:
{chr(10).join(f"  {one.name:9} {one.what}" for one in WORKLOADS.values())}

Each server is a process of its own, and so is the load. Rounds are interleaved, every
reply is verified, and what is said to differ has to differ in the rounds as well.

exit codes: 0 measured, 1 a --fail-if is true or nobody had a reply, 2 usage,
130 after Ctrl-C or SIGTERM, with what was measured until then"""

# Longer than the default takes on a slow machine, and less than anybody would wait.
BUDGET, BUDGET_THOROUGH = 60.0, 1800.0

# Where the page goes if nobody says so.
PAGE = "echoframe-compare.html"


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "compare",
        "Serve the same handler in every way, ask all servers the same, and tell what changes.",
        EXAMPLE,
        _MORE,
    )
    made.add_argument(
        "handler", nargs="?", metavar="HANDLER", help="a name or module:attribute, as for serve"
    )
    made.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        action="append",
        help=f"only this one; repeat, or write commas ({', '.join(MODELS)})",
    )
    made.add_argument(
        "--workload",
        metavar="NAME",
        action="append",
        help=f"repeat, or write commas ({', '.join(DEFAULTS)})",
    )
    made.add_argument(
        "--thorough",
        action="store_true",
        help="every workload, 1 to 1,000 connections, 5 rounds: takes minutes",
    )
    add_measuring(made)
    made.add_argument(
        "--against",
        metavar="NAME=COMMAND",
        action="append",
        help="somebody else's echo server as well, as in 'mine=./server {port}', beside our "
        "own handlers that echo; {port} is where it shall listen, and {python} is this Python",
    )
    made.add_argument(
        "--budget",
        metavar="SECONDS",
        help=f"for all of it; what is not measured by then stays out ({BUDGET:g})",
    )
    made.add_argument(
        "--pin", action="store_true", help="the servers and the load have cores of their own"
    )
    made.add_argument(
        "--transport", metavar="NAME", default="tcp", help="tcp, unix, tls or udp (tcp)"
    )
    made.add_argument("--tls-cert", metavar="FILE.pem", help="the servers', for --transport tls")
    made.add_argument("--tls-key", metavar="FILE.pem", help="its key")
    made.add_argument(
        "--setting",
        metavar="NAME=VALUE",
        action="append",
        help="of the servers that have it, as in threads=64 or workers=4",
    )
    add_exports(made)
    made.add_argument(
        "--no-page", action="store_true", help=f"write no {PAGE} if no --export-html is given"
    )
    return made


def run(given: Any) -> int:
    """Measure and tell."""
    order = _order(given)
    no_page = ""
    if given.export_html is None and not given.no_page:
        no_page = _why_no_page()
        if not no_page:
            given.export_html = PAGE
    exports = Exports.of(given)
    exports.check_criteria(planned(order))
    _check_servers(order)
    with ended_in_order(), progress_on(sys.stderr, given.quiet) as progress:
        try:
            result = compare(order, progress)
        except SettingError as error:
            raise UsageError(str(error)) from None
        except LoadFailed as error:
            raise CommandFailed(str(error)) from None
    code = exports.finish([result])
    if given.export_html is not None and not exports.to_stdout:
        print(f"\nThe page: {os.path.abspath(given.export_html)}")
    if no_page and not exports.to_stdout:
        print(f"\nNo page: {no_page}")
    if not result.complete and "interrupted" in " ".join(result.remarks):
        return 130
    if not any(one.messages for cell in result.cells for one in cell.rounds):
        return 1
    # That the time was up is as it was asked for.
    return code or int(any(AND_THEN_NO_MORE in one for one in result.remarks))


def _why_no_page() -> str:
    if find_spec("plotly") is None:
        return "pip install 'echoframe[report]'"
    return "" if can_write(PAGE) else f"{PAGE} cannot be written here; --export-html says where"


def _check_servers(order: Order) -> None:
    """Find out whether any of the servers could be made at all. Errors: UsageError."""
    settings: dict[str, Any] = {}
    if order.framing is not None:
        settings["framing"] = order.framing
    if order.transport == "tls":
        settings.update(tls_cert=order.tls_cert, tls_key=order.tls_key)
    scheme = "tcp" if order.transport == "unix" else order.transport
    place, why = f"{scheme}://127.0.0.1:0", ""
    for model in order.models:
        try:
            made: Any = model_class(model)
            made(place, order.handler or "echo", bind_and_activate=False, **settings).server_close()
            return
        except SettingError as error:
            why = why or str(error)
    raise UsageError(in_flags(why))


def _order(given: Any) -> Order:
    order = order_of(given, shlex.join(["echoframe", *sys.argv[1:]]))
    thorough = given.thorough
    names = workloads(given.workload)
    if given.handler is not None:
        check_handler(given.handler)
    if thorough and not names:
        names = list(WORKLOADS)
    if order.rate is not None and any(WORKLOADS[name].way == "crowd" for name in names or DEFAULTS):
        if names:
            raise UsageError("--rate plans a stream of messages, and a crowd comes only once")
        names = ["echo"]
    _check_transport(given)
    models = _models(given.model)
    budget = _budget(given)
    if order.seconds is not None and order.seconds > budget:
        raise UsageError(
            f"--duration: a round of {given.duration} is longer than the budget of {budget:g} "
            "seconds for all of them; give more with --budget"
        )
    return replace(
        order,
        handler=given.handler,
        models=models,
        workloads=names,
        against=_against(given.against),
        axis=thorough and not order.connections,
        rounds=order.rounds if given.rounds else 5 if thorough else 3,
        budget=budget,
        pin=given.pin,
        transport=given.transport,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        settings=_settings(given.setting, models),
    )


def _budget(given: Any) -> float:
    if given.budget is not None:
        return duration(given.budget, "--budget")
    return BUDGET_THOROUGH if given.thorough else BUDGET


def _models(texts: list[str] | None) -> list[str]:
    names = [part.strip() for text in texts or MODELS for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"--model: takes names; known: {', '.join(MODELS)}")
    for name in names:
        try:
            model_class(name)
        except SettingError as error:
            raise UsageError(f"--model: {error}") from None
    return list(dict.fromkeys(names))


def _against(texts: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, command = text.partition("=")
        if not equals or not name.strip() or not command.strip():
            raise UsageError(f"--against: takes NAME=COMMAND, not {text!r}")
        if "{port}" not in command:
            raise UsageError(
                f"--against: {name} must be told where to listen; write {{port}} into {command!r}"
            )
        if name in MODELS or name in found:
            raise UsageError(f"--against: the name {name!r} is taken; choose another one")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--against: {command!r} is no command: {error}") from None
        program = words[0].replace("{python}", sys.executable)
        if shutil.which(program) is None:
            raise UsageError(f"--against: {name}: there is no program {program!r}")
        found[name] = command
    return found


def _check_transport(given: Any) -> None:
    known = ("tcp", "unix", "tls", "udp")
    if given.transport not in known:
        hint = near(given.transport, known)
        takes = f"--transport: takes {', '.join(known)}, not {given.transport!r}"
        raise UsageError(f"{takes}; {hint}".rstrip("; "))
    if given.transport == "udp" and given.handler is not None:
        found = registry.resolve(given.handler)
        if isinstance(found, type) and issubclass(found, socketserver.StreamRequestHandler):
            raise UsageError(
                f"{given.handler} reads a stream, and --transport udp has none; "
                "choose another transport, or write a DatagramRequestHandler"
            )
    if (given.tls_cert is not None) != (given.transport == "tls"):
        raise UsageError("--transport tls and --tls-cert FILE.pem need each other")
    if given.against and given.transport != "tcp":
        raise UsageError(f"--against is for tcp; other servers know nothing of {given.transport}")
    for flag, path in (("--tls-cert", given.tls_cert), ("--tls-key", given.tls_key)):
        if path is not None and not os.access(path, os.R_OK):
            raise UsageError(f"{flag}: {path} cannot be read")


def _settings(texts: list[str] | None, models: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--setting: takes NAME=VALUE, not {text!r}")
        if name not in SETTINGS and name != "inner":
            known = suggest(name, [*SETTINGS, "inner"])
            raise UsageError(f"--setting: there is no {name!r}; {known}")
        if not any(_has_setting(model, name) for model in models):
            raise UsageError(
                f"--setting: {name} means nothing to {', '.join(models)}, "
                "and nobody else is measured"
            )
        if name == "inner":
            found[name] = value
            continue
        setting = SETTINGS[name]
        try:
            if setting.read is None:
                found[name] = setting.check(read_number(value, setting.unit))
            else:
                setting.check(value)
                # Its text, which a result can keep.
                found[name] = value
        except SettingError as error:
            said = str(error)
            where = "" if said.startswith(name) else f"{name} "
            raise UsageError(f"--setting: {where}{said}") from None
    return found


def _has_setting(model: str, name: str) -> bool:
    # Who serves one after the other has no use for a number of them.
    useless = (model, name) == ("single", "max_connections")
    return means_something(model_class(model), name) and not useless
