"""socketserver with our mix-ins in place of its own.

Done once in a process, right behind its import: whatever is derived from them later,
http.server's classes and everybody's, is derived from ours.
"""

from __future__ import annotations

import atexit
import logging
import os
import socketserver
import time
import weakref
from functools import wraps
from typing import Any

from ..printing import visible
from ..servers import (
    SETTINGS,
    ForkingMixIn,
    Lifecycle,
    PoolMixIn,
    PreforkMixIn,
    ThreadingMixIn,
)
from ..servers.tending import counted
from .ending import has_sigterm, hooks, is_ending, say, take_sigterm
from .wish import VARIABLE, Wish

__all__ = ["KINDS", "USABLE", "has_made_some", "kinds_of", "quiet", "replace"]

THREADING, FORKING = "ThreadingMixIn", "ForkingMixIn"

# By model: the mix-in, and what it takes the place of.
KINDS: dict[str, tuple[type[Lifecycle], str]] = {
    "thread": (ThreadingMixIn, THREADING),
    "pool": (PoolMixIn, THREADING),
    "fork": (ForkingMixIn, FORKING),
    "prefork": (PreforkMixIn, FORKING),
}

# A handler class reads its messages itself.
USABLE = [name for name in SETTINGS if name not in ("max_message", "write_buffer")]

# What reloaders say, in the environment, to the process that they end and begin anew.
RELOADED = ("WERKZEUG_RUN_MAIN", "RUN_MAIN")

# What the line about a server says of its settings, where its model has them.
_TOLD = ("max_connections", "threads", "workers", "drain_timeout")

_LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}


def kinds_of(wish: Wish) -> dict[str, str]:
    """Give the model that takes the place of each of socketserver's mix-ins."""
    own = {THREADING: "thread", FORKING: "fork"}
    if not wish.model:
        return own
    if wish.force:
        return dict.fromkeys(own, wish.model)
    return {**own, KINDS[wish.model][1]: wish.model}


def replace() -> None:
    """Do it, unless it was done."""
    if "wish" in vars(_known):
        return
    _known.wish = wish = Wish.from_text(os.environ[VARIABLE])
    hooks.servers, hooks.close = _known.serving, _close
    hooks.stop, hooks.cut = _stop, _cut
    _log(wish)
    replaced: dict[Any, type] = {
        vars(socketserver)[name]: _mixin(name, model, wish)
        for name, model in kinds_of(wish).items()
        if name in vars(socketserver)
    }
    # The ready classes that are made of them.
    for name, cls in vars(socketserver).copy().items():
        if isinstance(cls, type) and not replaced.keys().isdisjoint(cls.__bases__):
            bases = tuple(replaced.get(base, base) for base in cls.__bases__)
            replaced[cls] = type(name, bases, _body(cls))
    for cls, ours in replaced.items():
        setattr(socketserver, cls.__name__, ours)
    if wish.plain:
        side = KINDS[wish.model][1] if wish.model else THREADING
        _take_plain(getattr(socketserver, side))
    elif not quiet():
        _tell_of_plain()


def _mixin(name: str, model: str, wish: Wish) -> type:
    kind, _ = KINDS[model]
    original = vars(socketserver)[name]
    body: dict[str, Any] = {"__module__": "socketserver", "__doc__": original.__doc__}
    for setting, value in wish.settings.items():
        if hasattr(kind, setting):
            body[setting] = value
    if wish.resolve_names:
        body["resolve_names"] = True
    # In each worker as the program expects it: with threads, or one after the other.
    inner = (ThreadingMixIn,) if kind is PreforkMixIn and name == THREADING else ()
    return type(name, (_Noticed, kind, *inner), body)


def _body(cls: type) -> dict[str, Any]:
    own = ("__dict__", "__weakref__")
    return {name: value for name, value in vars(cls).items() if name not in own}


def _take_plain(mixin: type) -> None:
    """Have servers without a mix-in get one when they are made."""
    begin: Any = socketserver.BaseServer.__init__
    made: dict[type, type] = {}

    @wraps(begin)
    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        cls = type(self)
        if not isinstance(self, Lifecycle):
            if cls not in made:
                names = ("__module__", "__qualname__", "__doc__")
                body = {name: getattr(cls, name) for name in names}
                metaclass: Any = type(cls)
                made[cls] = metaclass(cls.__name__, (mixin, cls), body)
                _known.plain.add(made[cls])
            self.__class__ = made[cls]
        begin(self, *arguments, **keywords)

    vars(socketserver)["BaseServer"].__init__ = __init__


def _tell_of_plain() -> None:
    """Have servers without a mix-in say so when they serve, and not only at their end."""
    serve: Any = socketserver.BaseServer.serve_forever

    @wraps(serve)
    def serve_forever(self: Any, *arguments: Any, **keywords: Any) -> None:
        if not isinstance(self, Lifecycle):
            _known.tell_of_plain(self)
        serve(self, *arguments, **keywords)

    vars(socketserver)["BaseServer"].serve_forever = serve_forever


# ----------------------------------------------------------- servers that serve


class _Noticed(Lifecycle):
    """A server that is known from when it serves."""

    knows_no_names = True

    def handle_request(self) -> None:
        _leave_if_ending()
        super().handle_request()

    def serve_forever(self, *arguments: Any, **keywords: Any) -> None:
        _leave_if_ending()
        super().serve_forever(*arguments, **keywords)

    def server_bind(self) -> None:
        # It may never serve: its address may be taken.
        _known.made = True
        super().server_bind()

    def _adopt(self) -> None:
        super()._adopt()
        _known.add(self)


def _leave_if_ending() -> None:
    # Of a loop around it, which would go on for ever.
    if is_ending():
        raise SystemExit(0)


class _Known:
    """The servers of this process, and what was said about them."""

    wish: Wish

    def __init__(self) -> None:
        self._servers: dict[int, weakref.ref[Any]] = {}
        # The process that has said that it serves; some were made, here or where it was forked.
        self.told = self.told_of_plain = 0
        self.made = False
        # The classes that had no mix-in.
        self.plain: set[type] = set()

    def add(self, server: Any) -> None:
        key = id(server)
        if getattr(server, "_post", None) is not None:
            # A worker obeys its supervisor.
            return
        if key not in self._servers:
            self._servers[key] = weakref.ref(server, lambda _: self._servers.pop(key, None))
        if self.told == os.getpid():
            return
        self.told = os.getpid()
        # A child may have none yet.
        take_sigterm()
        # Behind what the program has to do at its end comes what others do there.
        atexit.register(_close_all, os.getpid())
        if not quiet():
            say(visible(_line(server)))

    def tell_of_plain(self, server: Any) -> None:
        if os.getpid() not in (self.told, self.told_of_plain):
            self.told_of_plain = os.getpid()
            # And so nothing is left to be said at its end.
            self.made = True
            say(
                visible(
                    f"{type(server).__name__} at {_place(server)} has none of "
                    "socketserver's mix-ins, and stays as it is; --plain gives it one"
                )
            )

    def serving(self) -> list[Any]:
        """Those that have served here and are not closed. From a signal handler, too."""
        servers = [found() for found in list(self._servers.values())]
        return [
            server
            for server in servers
            if server is not None and server._life.pid == os.getpid() and not server._life.closed
        ]


_known = _Known()


def has_made_some() -> bool:
    """Tell whether this process has made a server that has a mix-in of ours."""
    return _known.made


def quiet() -> bool:
    """Tell whether nothing is to be said but what is wrong."""
    return _known.wish.loudness < 0


def _place(server: Any) -> Any:
    # What is only said must not end a program; one of its own kind may have none.
    return getattr(server, "server_address", "?")


def _line(server: Any) -> str:
    kinds = kinds_of(_known.wish)
    side = next(name for name in kinds if isinstance(server, getattr(socketserver, name, ())))
    values = {name: getattr(server, name) for name in _TOLD if hasattr(server, name)}
    if values.get("workers") == 0:
        values["workers"] = "auto"
    if getattr(server, "parks_requests", False):
        values["threads"] = f"{values['threads']} (none between two requests)"
    told = [f"{name} {value}" for name, value in values.items()]
    place = f"in place of socketserver.{side}"
    if not _known.plain.isdisjoint(type(server).__mro__):
        place = "and had no mix-in"
    wanted, other = _known.wish.model, ""
    if wanted and kinds[side] != wanted:
        other = f"; {wanted} is for {KINDS[wanted][1]}, or for both with --force"
    return (
        f"{type(server).__name__} at {_place(server)} has the model {kinds[side]} "
        f"{place} ({', '.join(told)}); "
        f"SIGTERM {'drains' if has_sigterm() else 'is left to the program'}{other}"
    )


def _close_all(pid: int) -> None:
    # Of daemon threads, which would end in the middle of a reply. But not those that the
    # program has closed itself, without waiting for them.
    if os.getpid() != pid or "true" in map(os.environ.get, RELOADED):
        # A reloader begins anew, and is waited for.
        return
    servers = [server for server in _known.serving() if not server._life.draining]
    talking = sum(len(server._life.open) for server in servers)
    if talking and not quiet():
        say(f"waiting for {counted(talking, 'conversation')} to finish; Ctrl-C cuts")
        for server in servers:
            # The log need not say it again.
            server._life.told = True
    try:
        for server in servers:
            _close(server)
    except (KeyboardInterrupt, SystemExit):
        # The second is what the program makes of a signal.
        for server in servers:
            server.close(drain=0)


# These are asked from here, and so they are ours; see apart.py.


def _stop(server: Any) -> None:
    server.stop()


def _close(server: Any) -> None:
    try:
        server.close()
    except Exception:
        logging.getLogger("echoframe.adopt").exception("a server could not be closed")


def _cut(server: Any) -> None:
    server._life.cutting = True
    server._life.deadline = time.monotonic()
    server._wake()


# ------------------------------------------------------------------------ log


class _Unheard(logging.Handler):
    """What nobody else would write: a program's own log has it otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers:
            return
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            say("\n  ".join(visible(line) for line in text.split("\n")))


def _log(wish: Wish) -> None:
    logger = logging.getLogger("echoframe")
    logger.addHandler(_Unheard())
    if logger.level == logging.NOTSET:
        # A program that logs its own doings has not asked for ours.
        logger.setLevel(_LEVELS[wish.loudness])
