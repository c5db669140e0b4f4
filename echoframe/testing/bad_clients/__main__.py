"""python -m echoframe.testing.bad_clients: the zoo as a command."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ...errors import AddressError, EchoframeError, SettingError, suggest
from .healthy import Healthy
from .visits import ZOO, Visit, visits

__all__ = ["main"]

COMMAND = "python -m echoframe.testing.bad_clients"

_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}

# Keywords of the library at which its sentences begin, and which are flags here.
_KEYWORDS = re.compile(r"(?:many|mib|pace|seconds|within|tls)\b")


class _Parser(argparse.ArgumentParser):
    # argparse would print all its flags before the one sentence.
    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message.removeprefix('argument ')}; see --help")


def main(argv: list[str] | None = None) -> int:
    """Let the zoo loose, print what came of it, and give the exit code."""
    try:
        given = _parsed(argv)
        if given.list:
            _print_zoo(given.json)
            return 0
        if given.address is None:
            raise SettingError("name the server to visit, as in 127.0.0.1:7007")
        return _visit(given)
    except (SettingError, AddressError) as error:
        # Of a host that nobody knows the system has said so, and it is no usage.
        asked = isinstance(error, AddressError) and isinstance(error.__context__, OSError)
        return _complain(error, 1 if asked else 2)
    except EchoframeError as error:
        return _complain(error, 1, "a healthy client was not served before the first animal came: ")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads it any more; neither should the interpreter's last flush try.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    given, unknown = parser.parse_known_args(argv)
    for word in unknown:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            known = suggest(flag, parser._option_string_actions)
            raise SettingError(f"unknown flag {flag!r}; {known}")
        parser.error(f"one word too many: {word!r}")
    return given


def _number(unit: str, whole: bool = False) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        # As it is written, so that sentences about it say the same.
        for kind in (int,) if whole else (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        raise argparse.ArgumentTypeError(
            f"takes a {'whole ' if whole else ''}number of {unit}, not {text!r}"
        )

    return read


def _parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog=COMMAND,
        description="Let bad clients loose on a server, and see whether a healthy one is served "
        "meanwhile and afterwards.",
        epilog="exit codes: 0 if nothing failed, 1 if something did, 2 usage. Each animal is at "
        "work for --seconds at most, then it is taken away; a wait for what the server owes it "
        "or the healthy client ends after --within. A server with a limit of connections for "
        "each peer takes all of them for one.",
        allow_abbrev=False,
    )
    add = made.add_argument
    seconds, crowd = _number("seconds"), _number("connections", whole=True)
    add("address", nargs="?", metavar="ADDRESS", help="HOST:PORT, tcp://, tls://, unix://, udp://")
    add("--list", action="store_true", help="tell what animals there are, and visit nobody")
    add("--only", metavar="NAME", action="append", help="release this one; may be repeated")
    said = r"what the healthy client says, as it stands; \r, \n, \xNN are read (hello\n)"
    add("--say", metavar="TEXT", help=said)
    add("--expect", metavar="TEXT", help="what must be in the reply (as before the animals)")
    add("--only-connect", action="store_true", help="the healthy client expects no reply")
    add("--within", metavar="SECONDS", type=seconds, help="in which it must be served (5)")
    add("--after-only", action="store_true", help="it does not ask while an animal is there")
    add("--tls-ca", metavar="FILE", help="verify the server; otherwise nobody is verified")
    add("--many", metavar="N", type=crowd, help="connections of a crowd, at most 100,000 (200)")
    add("--seconds", metavar="SECONDS", type=seconds, help="an animal is at work, at most (10)")
    add("--pace", metavar="SECONDS", type=seconds, help="between the bytes of those who dawdle (1)")
    add("--mib", metavar="N", type=_number("MiB"), help="MiB that one of them sends, at most (64)")
    add("--json", action="store_true", help="print an object")
    add(
        "--yes-it-is-my-server",
        action="store_true",
        help="visit an address that is not this machine's loopback",
    )
    return made


def _visit(given: Any) -> int:
    healthy = Healthy(
        **_said(
            say=None if given.say is None else _bytes(given.say),
            expect=None if given.expect is None else _bytes(given.expect),
            only_connect=given.only_connect,
            within=given.within,
            tls=given.tls_ca,
        )
    )
    found = visits(
        given.address,
        given.only,
        healthy=healthy,
        during=not given.after_only,
        yes_it_is_my_server=given.yes_it_is_my_server,
        **_said(many=given.many, seconds=given.seconds, pace=given.pace, mib=given.mib),
    )
    seen = list(found) if given.json else list(_printed(found))
    if given.json:
        ok = all(visit.ok for visit in seen)
        shown = [visit._asdict() for visit in seen]
        print(json.dumps({"address": given.address, "ok": ok, "visits": shown}, indent=2))
    else:
        counts = [
            f"{number} {verdict}"
            for verdict in ("ok", "failed", "skipped")
            if (number := sum(visit.verdict == verdict for visit in seen))
        ]
        print(", ".join(counts))
    return 0 if all(visit.ok for visit in seen) else 1


def _printed(found: Iterator[Visit]) -> Iterator[Visit]:
    # Each line as soon as it is known.
    width = max(map(len, ZOO))
    heading = f"{'animal':{width}}  verdict  slowest reply"
    for visit in found:
        if heading:
            print(heading)
            heading = ""
        slowest = "–" if visit.slowest is None else f"{visit.slowest * 1000:,.1f} ms"
        line = f"{visit.animal:{width}}  {visit.verdict:7}  {slowest:>13}  {visit.said}"
        print(line.rstrip(), flush=True)
        yield visit


def _print_zoo(as_json: bool) -> None:
    if as_json:
        shown = [each._asdict() for each in ZOO.values()]
        for each in shown:
            # A function, which is nothing to be shown.
            del each["behaviour"]
        print(json.dumps(shown, indent=2))
        return
    for one in ZOO.values():
        print(f"{one.name} ({', '.join(one.on)})")
        print(f"    {one.does}")
        print(f"    a good server {one.good}")


def _said(**settings: Any) -> dict[str, Any]:
    """Those that were given; the library has defaults for the others."""
    return {name: value for name, value in settings.items() if value is not None}


def _bytes(text: str) -> bytes:
    return re.sub(
        rb"\\(?:x([0-9a-fA-F]{2})|([nrt0\\]))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else _ESCAPES[found[2]],
        text.encode(errors="surrogateescape"),
    )


def _complain(error: EchoframeError, code: int, before: str = "") -> int:
    sentence = str(error).replace("yes_it_is_my_server=True", "--yes-it-is-my-server")
    if keyword := _KEYWORDS.match(sentence):
        flag = "--tls-ca" if keyword[0] == "tls" else f"--{keyword[0]}"
        sentence = flag + sentence[keyword.end() :]
    print(f"{COMMAND}: {before}{sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
