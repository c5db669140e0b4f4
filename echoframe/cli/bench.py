"""echoframe bench: the load of compare, against one server that runs already."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import Any

from ..address import Address
from ..client import Client
from ..compare.loaders import LoadFailed
from ..compare.run import Order, bench, planned
from ..compare.workload import WORKLOADS
from ..errors import EchoframeError, SettingError
from .exports import Exports, add_exports
from .failure import CommandFailed, UsageError
from .measuring import add_measuring, check_handler, order_of, progress_on, workloads
from .parsing import Parser, add_trust, read_place, trust

__all__ = ["EXAMPLE", "parser", "run"]

EXAMPLE = "echoframe bench 127.0.0.1:7007 -c 50 -d 5 --rate 10000"

# What needs a server that was started for it.
_NOT_HERE = ("drain",)
_NOT_SEEN = (
    *("cpu", "switches", "threads", "processes", "descriptors", "memory", "memory-each"),
    *("ready", "stop"),
)


def parser() -> Parser:
    """What can be said."""
    made = Parser(
        "bench",
        "Ask one server as quickly as it answers, or at a rate, and tell how it took it.",
        EXAMPLE,
        "It speaks echo, unless told otherwise by --handler. Ask only servers that are yours.\n\n"
        "exit codes: 0 measured, 1 nobody answered or a --fail-if is true, 2 usage",
    )
    made.add_argument("address", metavar="ADDRESS", help="of the server, as for send")
    made.add_argument(
        "--handler",
        metavar="HANDLER",
        default="echo",
        help="what the server answers as: echo, command, upper, or module:attribute (echo)",
    )
    made.add_argument(
        "--workload", metavar="NAME", help=f"{', '.join(_known())} (echo: {WORKLOADS['echo'].what})"
    )
    add_measuring(made)
    add_trust(made)
    add_exports(made)
    return made


def run(given: Any) -> int:
    """Measure and tell."""
    place = read_place(given.address)
    check_handler(given.handler)
    exports = Exports.of(given)
    names = workloads(["echo"] if given.workload is None else [given.workload])
    if len(names) != 1 or names[0] not in _known():
        raise UsageError(f"--workload: takes one of {', '.join(_known())}, not {given.workload!r}")
    order = order_of(given, shlex.join(["echoframe", *sys.argv[1:]]))
    order = replace(
        order,
        handler=given.handler,
        workloads=names,
        seconds=order.seconds or 2.0,
        transport=place.scheme,
        tls_ca="" if given.tls_insecure else given.tls_ca,
    )
    _check_criteria(exports, order, str(place))
    _knock(place, given)
    try:
        with progress_on(sys.stderr, given.quiet) as progress:
            result = bench(str(place), order, progress)
    except LoadFailed as error:
        raise CommandFailed(str(error)) from None
    except SettingError as error:
        raise UsageError(str(error)) from None
    except EchoframeError as error:
        raise CommandFailed(str(error)) from None
    code = exports.finish([result])
    if not result.complete:
        return 130
    return code if any(one.messages for cell in result.cells for one in cell.rounds) else 1


def _check_criteria(exports: Exports, order: Order, place: str) -> None:
    for one in exports.criteria:
        if one.measure.name in _NOT_SEEN:
            raise UsageError(
                f"--fail-if: {one.text!r}: bench does not see what a server uses, and has no "
                f"{one.measure.name}; compare starts its servers itself, and does"
            )
    exports.check_criteria(planned(order, place))


def _knock(place: Address, given: Any) -> None:
    """Find out whether anybody is there, and is who they should be. Errors: as of a Client."""
    Client(place, tls=trust(given)).close()


def _known() -> list[str]:
    return [name for name in WORKLOADS if name not in _NOT_HERE]
