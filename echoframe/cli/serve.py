"""echoframe serve: a handler, a model and addresses to a server that runs.

What can be said is in OPTIONS, and how it is found in options.py. Here is what it
means together, and what a server does for those who started it: it says where it
is, to people and to programs.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from ..address import DEFAULT_HOST, DEFAULT_PORT, Address
from ..errors import AddressError, EchoframeError, ListenError, SettingError, suggest
from ..framing import make_framing
from ..handlers import registry
from ..servers import MODELS, SETTINGS, PreforkServer, Server, Setting, model_class
from ..servers.handover import check_path
from ..servers.privileges import Identity, find_group, find_user, identity
from ..transports.certificates import ServerTls
from .early import Interrupted, signals
from .failure import FLAGS, CannotStart, UsageError, in_flags, near
from .log import FORMATS, LEVELS, log_to_stderr, wants_colour
from .options import CONFIG, COUNT, FLAG, LIST, SWITCH, VALUE, Choice, Option, choose
from .parsing import Parser, read_int, read_number

__all__ = ["EXAMPLE", "OPTIONS", "one_of", "parser", "run", "setting_option"]

EXAMPLE = "echoframe serve command --port 8000 --model fork"

logger = logging.getLogger("echoframe.server")


def one_of(known: Any) -> Any:
    def read(text: str) -> str:
        if text.lower() not in known:
            hint = near(text, known)
            raise SettingError(f"takes {' or '.join(known)}, not {text!r}; {hint}".rstrip("; "))
        return text.lower()

    return read


def _read_host(text: str) -> str:
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif host.count(":") == 1 or "//" in host:
        raise SettingError(f"takes a host only, not {text!r}; write an address with --bind")
    return Address.parse((host, 0)).host


def _read_port(text: str) -> int:
    try:
        port = read_int(text, "ports")
    except SettingError:
        raise SettingError(f"takes a port number, not {text!r}") from None
    if not 0 <= port <= 65535:
        raise SettingError(f"port {port} is not between 0 and 65535")
    return port


def _read_framing(text: str) -> str:
    make_framing(text)()
    return text


def _read_path(text: str) -> str:
    try:
        usable = "\0" not in text and os.fsencode(text)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise SettingError(f"takes the path of a file, not {text!r}")
    return text


def _read_mode(text: str) -> int:
    if not text.isascii() or not text.isdigit() or set(text) & set("89") or int(text, 8) > 0o777:
        raise SettingError(f"takes an octal mode, as in 660, not {text!r}")
    return int(text, 8)


def _read_descriptor(text: str) -> int:
    try:
        number = read_int(text, "descriptors")
    except SettingError:
        raise SettingError(f"takes a descriptor's number, not {text!r}") from None
    try:
        os.fstat(number)
    except (OSError, OverflowError):
        raise SettingError(
            f"descriptor {number} is not open; open it for the server, as in --ready-fd 3 3>FILE"
        ) from None
    return number


def _read_inner(text: str) -> type[Server]:
    if text not in MODELS:
        known = [name for name, kind in MODELS.items() if not kind.forks]
        raise SettingError(f"unknown model {text!r}; {suggest(text, known)}")
    # For those that start processes prefork has a sentence.
    return MODELS[text]


def _read_user(text: str) -> str:
    try:
        find_user(text)
    except SettingError:
        hint = "; --group is for the group" if ":" in text else ""
        raise SettingError(
            f"takes a name or a number, and no user is named {text!r}{hint}"
        ) from None
    return text


def _read_group(text: str) -> str:
    find_group(text)
    return text


def setting_option(setting: Setting) -> Option:
    if setting.read is not None:
        return _text_setting(setting)
    unit = setting.unit
    default = f"{setting.default:g}"
    if isinstance(setting.default, int) and setting.default >= 10_000:
        default = str(setting.default)

    def read(text: str) -> int | float:
        if setting.name == "workers" and text.lower() == "auto":
            return 0
        value: int | float = setting.check(read_number(text, unit))
        return value

    return Option(
        setting.name,
        f"{unit} {setting.what} ({default}: {setting.reason})",
        read,
        unit.upper(),
        letter="w" if setting.name == "workers" else "",
        aliases=setting.aliases,
        takes="a number",
    )


def _text_setting(setting: Setting) -> Option:
    several = setting.unit == "networks"

    def read(text: str) -> Any:
        value = setting.check(text)
        # Several are put together later.
        return text if several else value

    default = setting.default or "none"
    return Option(
        setting.name,
        f"{setting.unit} {setting.what} ({default}: {setting.reason})",
        read,
        "NETWORK" if several else "HOW",
        kind=LIST if several else VALUE,
    )


OPTIONS = [
    Option(
        "handler",
        "a name (see echoframe handlers) or module:attribute, looked up in this folder "
        "first: a function of one message, a Handler or a socketserver handler class (echo)",
        metavar="HANDLER",
        positional=True,
    ),
    Option("host", f"where to listen; '' is every interface ({DEFAULT_HOST})", _read_host, "HOST"),
    Option(
        "port",
        f"0 lets the kernel choose ({DEFAULT_PORT})",
        _read_port,
        "PORT",
        takes="a number",
    ),
    Option(
        "bind",
        "instead of --host and --port, and more than once for several: HOST:PORT, "
        "tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:///PATH, unix://@NAME or fd://N",
        Address.parse,
        "ADDRESS",
        letter="b",
        kind=LIST,
    ),
    Option(
        "model",
        f"how conversations run at once: {', '.join(MODELS)} (thread)",
        model_class,
        "MODEL",
        letter="m",
    ),
    Option(
        "inner",
        "what runs in each worker: any model that does not start processes itself "
        f"({PreforkServer.inner}; model prefork only)",
        _read_inner,
        "MODEL",
    ),
    Option(
        "reuse_port",
        "a listener for each worker; the kernel shares connections out (model prefork only)",
        kind=SWITCH,
    ),
    Option("once", "stop after the first conversation (model single only)", kind=SWITCH),
    Option(
        "framing",
        "where messages end: raw, line, auto, length, fixed:SIZE or delimiter:TEXT "
        "(what the handler says)",
        _read_framing,
        "FRAMING",
    ),
    Option(
        "unix_mode", "permissions of a socket file, as in 660", _read_mode, "OCTAL", quoted="660"
    ),
    Option(
        "tls_cert",
        "for tls:// addresses: the file of the certificate, and of those between it and its CA",
        metavar="FILE.pem",
    ),
    Option("tls_key", "its key, if that is in a file of its own", metavar="FILE.pem"),
    Option(
        "tls_ca", "verify certificates that peers show: by the CA in this file", metavar="FILE.pem"
    ),
    Option("tls_require_client_cert", "turn away peers that show none", kind=SWITCH),
    Option(
        "user",
        "become this user once the server listens and has read its certificates, before "
        "anybody is accepted (for root only)",
        _read_user,
        "NAME|UID",
    ),
    Option("group", "and this group (the user's own)", _read_group, "NAME|GID"),
    Option("log_level", f"{', '.join(LEVELS)} (info)", one_of(LEVELS), "LEVEL"),
    Option("log_format", "text or json, an object on each line (text)", one_of(FORMATS), "FORMAT"),
    Option("quiet", "log warnings and errors only", letter="q", kind=SWITCH),
    Option("verbose", "log each message too; twice: all there is", letter="v", kind=COUNT),
    Option(
        "color",
        "auto, always or never; auto is on a terminal, unless NO_COLOR is set (auto)",
        one_of(("auto", "always", "never")),
        "WHEN",
    ),
    Option(
        "port_file",
        "write the port to this file once the server listens; removed at the end",
        _read_path,
        "PATH",
    ),
    Option(
        "ready_fd",
        "write the addresses, one on a line, to this descriptor once the server listens, "
        "then close it",
        _read_descriptor,
        "N",
        takes="a number",
    ),
    Option(
        "takeover",
        "a Unix socket: if a server of this user offers its listeners there, take them over, "
        "and it drains once this one serves; then offer them there to the next one",
        check_path,
        "PATH",
    ),
    *map(setting_option, SETTINGS.values()),
]

_MORE = """\
Every flag is also a variable (ECHOFRAME_MAX_CONNECTIONS=50, ECHOFRAME_BIND with
commas) and a key of the file (max_connections = 50, bind = ["..."], at the top or
in a table [serve]). Flags win over variables, and variables over the file.

exit codes: 0 after Ctrl-C or SIGTERM, 130 or 143 after a second one, 2 usage,
3 if this machine does not let it start"""


def parser() -> Parser:
    """What can be said."""
    made = Parser("serve", "Serve a handler until Ctrl-C or SIGTERM.", EXAMPLE, _MORE)
    for option in OPTIONS:
        option.add_to(made)
    made.add_argument("--config", metavar="FILE.toml", help="where options may stand as well")
    return made


def run(given: Any) -> int:
    """Serve until a signal, and give the exit code."""
    file = given.config or os.environ.get(CONFIG) or None
    chosen = choose(OPTIONS, given, os.environ, file)
    values = {name: choice.value for name, choice in chosen.items()}
    level, log_messages = _loudness(chosen)
    colour = wants_colour(values.get("color", "auto"))
    with log_to_stderr(level, values.get("log_format", "text"), colour):
        # The name under which each was said: a flag, a variable or a key.
        said = {name: choice.where for name, choice in chosen.items()}
        try:
            who = _identity(values, said)
            handler = _handler(chosen.get("handler"))
            server = _server(handler, _places(chosen), values, said, log_messages, who)
        except SettingError as error:
            sentence = in_flags(str(error), {**FLAGS, **said})
            # A setting's sentence begins with its name.
            name, _, rest = sentence.partition(" ")
            if name in said and name in (*SETTINGS, "inner"):
                sentence = f"{said[name]} {rest}"
            raise UsageError(sentence) from None
        except Interrupted:
            return 0
        if isinstance(server, PreforkServer):
            server.refresh = partial(_read_again, server, set(chosen), given, file)
        # From here on a signal stops the server, which then stops as soon as it runs.
        signals.stop = server.stop
        if signals.arrived:
            server.stop()
        with server:
            if who is not None:
                _become(who)
            with _Told(server, values.get("port_file"), values.get("ready_fd")) as told:
                if server.takeover is None:
                    told.tell()
                else:
                    server.settled = told.tell
                if server.runs_on:
                    logger.info("Running on %s", server.runs_on)
                logger.info("Try it: %s", _try_it(server, values.get("framing")))
                report = server.run()
            # What is over can no longer be stopped.
            signals.stop = _nothing
        if report.cut:
            names = ", ".join(name for name, how in report.who if how == "cut")
            what = "conversation was" if report.cut == 1 else "conversations were"
            logger.warning("%d %s cut: %s", report.cut, what, names)
        if server.overtaken:
            return CannotStart.code
    return 128 + server.cut_by if server.cut_by else 0


def _read_again(
    server: PreforkServer, known: set[str], given: Any, file: str | None
) -> Callable[[], None]:
    """Read the settings anew; give what gives them to the server, for the workers to come.

    Errors: what choose() raises.
    """
    # That descriptor was closed long ago.
    options = [one._replace(read=str) if one.name == "ready_fd" else one for one in OPTIONS]
    chosen = choose(options, given, os.environ, file)

    def change() -> None:
        for name in SETTINGS:
            if name in chosen:
                setattr(server, name, chosen[name].value)
            elif name in known:
                # It stands there no more: what the class says.
                vars(server).pop(name, None)
        known.update(chosen)

    return change


def _nothing() -> None:
    pass


def _identity(values: dict[str, Any], said: dict[str, str]) -> Identity | None:
    """Whom the server will be; None is whoever started it."""
    if "user" not in values:
        if "group" in values:
            raise UsageError(
                f"{said['group']} is the group of --user, which is not given; add --user NAME"
            )
        return None
    who = identity(values["user"], values.get("group"))
    try:
        # Before anything is imported, bound or removed.
        who.check()
    except ListenError as error:
        raise CannotStart(str(error)) from None
    return who


def _become(who: Identity) -> None:
    try:
        who.assume()
    except ListenError as error:
        raise CannotStart(str(error)) from None


def _loudness(chosen: dict[str, Choice]) -> tuple[int, bool]:
    """The level of the log, and whether messages are part of it."""
    quiet, verbose = _pick(chosen, "quiet"), _pick(chosen, "verbose")
    if quiet and verbose:
        if quiet.rank == verbose.rank:
            raise UsageError("quiet and verbose contradict each other; choose one")
        quiet, verbose = (quiet, None) if quiet.rank > verbose.rank else (None, verbose)
    level = "warning" if quiet else "debug" if verbose and verbose.value > 1 else "info"
    named = chosen.get("log_level")
    # A level that is named is more exact than -q and -v, unless those came later
    # and closer.
    if named and named.rank >= max(choice.rank for choice in (quiet, verbose, named) if choice):
        level = named.value
    return LEVELS[level], verbose is not None


def _pick(chosen: dict[str, Choice], name: str) -> Choice | None:
    choice = chosen.get(name)
    return choice if choice and choice.value else None


def _places(chosen: dict[str, Choice]) -> list[Address]:
    bind = chosen.get("bind")
    parts = [chosen[name] for name in ("host", "port") if name in chosen]
    highest = max((part.rank for part in parts), default=0)
    if bind and bind.rank == highest:
        raise UsageError(
            "bind stands for host and port together; give either bind, or host and port"
        )
    if bind and bind.rank > highest:
        if not bind.value:
            raise UsageError(f"{bind.where}: names no address")
        return list(bind.value)
    host = chosen["host"].value if "host" in chosen else DEFAULT_HOST
    port = chosen["port"].value if "port" in chosen else DEFAULT_PORT
    return [Address("tcp", host, port)]


def _handler(choice: Choice | None) -> Any:
    if choice is None:
        return registry.resolve("echo")
    if ":" in choice.value:
        import sys

        # For what the module imports later, while it answers: an installed command
        # has its own folder there instead.
        sys.path.insert(0, os.getcwd())
    # The module is a program of somebody's, and may take its time.
    signals.raises = True
    try:
        if signals.arrived:
            raise Interrupted
        return registry.resolve(choice.value)
    except EchoframeError as error:
        if choice.rank == FLAG:
            raise
        raise UsageError(f"{choice.where}: {error}") from None
    finally:
        signals.raises = False


def _server(
    handler: Any,
    places: list[Address],
    values: dict[str, Any],
    said: dict[str, str],
    log_messages: bool,
    who: Identity | None,
) -> Server:
    model: type[Server] = values.get("model", model_class("thread"))
    keywords = {
        name: values[name]
        for name in (*SETTINGS, *ServerTls._fields, "framing", "unix_mode", "takeover")
        if name in values
    }
    # The workers of prefork take what their inner model takes.
    inner = getattr(model, "inner", None)
    inside = model_class(values.get("inner") or inner) if inner else model
    for name in keywords:
        setting = SETTINGS.get(name)
        if setting is not None and not (hasattr(model, name) or hasattr(inside, name)):
            flag = "--inner" if inner else "--model"
            raise UsageError(
                f"{said[name]} is for the model {setting.model}, not for {inside.model}; "
                f"add {flag} {setting.model}"
            )
    if values.get("once"):
        if not hasattr(model, "once"):
            raise UsageError(
                f"{said['once']} is for the model single, which has one conversation at a time, "
                f"not for {model.model}; add --model single"
            )
        keywords["once"] = True
    for name in ("inner", "reuse_port"):
        if values.get(name):
            if not hasattr(model, name):
                raise UsageError(
                    f"{said[name]} is for the workers of the model prefork, not for "
                    f"{model.model}; add --model prefork"
                )
            keywords[name] = values[name]
    if values.get("max_requests_jitter") and not values.get("max_requests"):
        raise UsageError(
            f"{said['max_requests_jitter']} is added to --max-requests, which is not given; add "
            "--max-requests CONNECTIONS"
        )
    schemes = {place.scheme for place in places}
    if "framing" in values and "udp" in schemes:
        raise UsageError(
            f"{said['framing']} has no meaning for udp://, where a datagram is a message"
        )
    if "unix_mode" in values and "unix" not in schemes:
        raise UsageError(f"{said['unix_mode']} is for socket files; no address begins with unix://")
    if who is not None and ("unix" in schemes or "takeover" in values):
        keywords["unix_owner"] = (who.uid, who.gid)
    if "port_file" in values and schemes == {"unix"}:
        raise UsageError(
            f"{said['port_file']} needs an address that has a port, which unix:// has not"
        )
    try:
        if "port_file" in values:
            _check_port_file(values["port_file"], who)
        if "takeover" in values and who is not None:
            _check_takeover(values["takeover"], who)
        return model(places, handler, log_messages=log_messages, **keywords)
    except (AddressError, OSError) as error:
        # The addresses were read long ago: now it is the machine that says no.
        if isinstance(error, EchoframeError):
            raise CannotStart(str(error)) from None
        raise CannotStart(f"cannot start: {error.strerror or error}") from None


def _check_port_file(path: str, who: Identity | None) -> None:
    # Before anybody is told that the server listens; the port is not known yet. And as
    # whoever will write it, and remove it at the end.
    beside = _beside(path)
    with nullcontext() if who is None else who.for_now():
        try:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with open(beside, "wb"):
                pass
        except OSError as error:
            raise _no_port_file(path, error, who) from None
        finally:
            _remove(beside)


def _check_takeover(path: str, who: Identity) -> None:
    # Root makes the socket there, but the user offers it, and removes it at the end.
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        # What that is, is said by whoever wants to make something there.
        return
    with who.for_now():
        own = os.access in os.supports_effective_ids
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=own):
            raise CannotStart(
                f"cannot offer listeners at {path}: user {who.name} cannot write to its folder; "
                "choose a path in one of theirs"
            )


def _beside(path: str) -> str:
    return f"{path}.{os.getpid()}"


def _no_port_file(path: str, error: OSError, who: Identity | None = None) -> CannotStart:
    reason = f"{error.strerror or error}{'' if who is None else f' for user {who.name}'}"
    return CannotStart(f"cannot write the port to {path}: {reason}; choose another --port-file")


class _Told:
    """Tells, once, where the server is, by --port-file and --ready-fd; a context manager.

    With --takeover that is when nobody else has the listeners any more.
    """

    def __init__(self, server: Server, path: str | None, number: int | None) -> None:
        self._server, self._path, self._number = server, path, number
        self._mark: tuple[int, int] | None = None

    def __enter__(self) -> _Told:
        if self._path is not None:
            self._port()
        if self._number is not None and self._server.takeover is not None:
            # Its reader waits for the end, which must not need those who are forked
            # before that.
            os.register_at_fork(after_in_child=self._let_go)
        return self

    def tell(self) -> None:
        """Do it. Errors: CannotStart, but with --takeover a line of the log instead."""
        try:
            self._write_port()
        except CannotStart as error:
            if self._server.takeover is None:
                raise
            # Nobody is there any more who would serve instead.
            logger.error("%s", error)
        if self._number is not None:
            lines = "".join(f"{place}\n" for place in self._server.addresses)
            try:
                os.write(self._number, lines.encode())
            except OSError as error:
                logger.warning(
                    "nobody could be told by descriptor %d: %s", self._number, error.strerror
                )
        self._let_go()

    def _let_go(self) -> None:
        number, self._number = self._number, None
        if number is None:
            return
        if number > 2:
            os.close(number)
            return
        # A standard stream's number must not become a connection's.
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, number)
        os.close(nowhere)

    def _port(self) -> int:
        ports = [place.port for place in self._server.addresses if place.scheme != "unix"]
        if not ports:
            raise UsageError("--port-file needs an address that has a port, which unix:// has not")
        return ports[0]

    def _write_port(self) -> None:
        path = self._path
        if path is None:
            return
        # Complete from the first moment on: whoever sees the file can read the port.
        beside = _beside(path)
        try:
            # In bytes: where another user serves, Python may find no more codecs.
            with open(beside, "wb") as file:
                file.write(f"{self._port()}\n".encode())
                self._mark = _mark(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            _remove(beside)
            raise _no_port_file(path, error) from None

    def __exit__(self, *error: object) -> None:
        if self._server.handed_over:
            # What stands there is still true, and its successor's to replace.
            return
        try:
            # Another server may have written its own by now.
            if self._path is not None and _mark(self._path) == self._mark:
                os.unlink(self._path)
        except OSError:
            # Gone already.
            pass


def _mark(file: int | str) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        # It was never made.
        pass


def _try_it(server: Server, framing: str | None) -> str:
    place = server.address
    framing = framing or (server.protocol.framing if server.protocol else "raw")  # type: ignore[assignment]  # only names are compared
    if framing == "length" or str(framing).startswith(("fixed:", "delimiter:")):
        insecure = "--tls-insecure " if place.scheme == "tls" else ""
        return (
            f"python3 -m echoframe send --framing '{framing}' {insecure}{_reachable(place)} hello"
        )
    if place.scheme == "unix":
        if place.path.startswith("@"):
            return f"socat - ABSTRACT-CONNECT:{place.path[1:]}"
        return f"nc -U {place.path}"
    if place.scheme == "tls":
        return f"openssl s_client -quiet -connect {_reachable(place).name}"
    host = _reachable(place).host
    return f"nc {'-u ' if place.scheme == 'udp' else ''}{host} {place.port}"


def _reachable(place: Address) -> Address:
    # "Every interface" is no place to connect to.
    here = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "": "127.0.0.1"}
    if place.scheme == "unix":
        return place
    return Address(place.scheme, here.get(place.host, place.host), place.port)
