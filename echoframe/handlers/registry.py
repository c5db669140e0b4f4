"""Registry: names to protocols.

A protocol is everything both sides must agree on: the handler, where messages
end in either direction, and how long a reply is if nothing marks its end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ..errors import SettingError, UnknownHandler, suggest
from ..framing import FramingSpec
from .base import FunctionHandler, Handler, Peer

__all__ = ["ENTRY_POINTS", "HandlerSpec", "Protocol", "Registry", "summary"]

# Other packages register handlers under this name in their metadata.
ENTRY_POINTS = "echoframe.handlers"

# A module may hold hundreds of names; more than so many make no sentence.
MOST_NAMES = 8

# What may stand where a handler is wanted: a name, "module:attribute", a Handler
# subclass, a function of one message, or a Protocol.
HandlerSpec = Any

Registered = TypeVar("Registered", bound=Callable[..., Any])


class Protocol(NamedTuple):
    """A handler and what both sides must know to talk to it."""

    name: str
    handler: Callable[..., Any]
    framing: FramingSpec = "line"
    client_framing: FramingSpec = "line"
    reply_size: Callable[[bytes], int | None] | None = None

    def open(self, peer: Peer | None = None) -> Handler:
        """Make the handler of one conversation."""
        return self.opener()(peer)

    def opener(self) -> Callable[[Peer | None], Handler]:
        """Give what makes the handler of one conversation after the other.

        Errors: SettingError for a class that cannot be made an object of without arguments.
        """
        make = self.handler
        _check_takes_none(make)
        if _class_of(make) is None:
            # It knows nothing of its conversation, so one will do for all.
            function = FunctionHandler(make)
            return lambda peer: function

        def open_one(peer: Peer | None) -> Handler:
            made: Handler = make()
            if peer is not None:
                made.peer = peer
            return made

        return open_one

    @classmethod
    def of(
        cls,
        handler: Callable[..., Any],
        name: str | None = None,
        framing: FramingSpec | None = None,
        client_framing: FramingSpec | None = None,
        reply_size: Callable[[bytes], int | None] | None = None,
    ) -> Protocol:
        """Make the protocol of a handler: what is not given here, its class says.

        Errors: SettingError when it cannot answer messages at all.
        """
        if isinstance(handler, Handler):
            raise SettingError(
                f"{type(handler).__name__} was given as an object, and each connection needs one "
                "of its own: give the class, or functools.partial(the class, its arguments)"
            )
        if not callable(handler):
            raise SettingError(
                f"{handler!r} is not a handler: give a name, a function of one message, "
                "or a Handler subclass"
            )
        kind = _class_of(handler)
        if kind is not None:
            if not issubclass(kind, Handler):
                raise SettingError(f"{kind.__name__} is a class, but not a Handler subclass")
            if kind.on_message is Handler.on_message:
                raise SettingError(f"{kind.__name__} cannot answer: it has no on_message()")
        else:
            _check_takes_one(handler)
        facts = kind or handler
        framing = framing or getattr(facts, "framing", None) or "line"
        return cls(
            name or str(getattr(facts, "__name__", type(facts).__name__)),
            handler,
            framing,
            client_framing or getattr(facts, "client_framing", None) or framing,
            reply_size or getattr(facts, "reply_size", None),
        )


def _class_of(handler: Callable[..., Any]) -> type | None:
    """The class that this makes objects of, if it is one, or a partial of one."""
    while isinstance(handler, partial):
        handler = handler.func
    return handler if isinstance(handler, type) else None


def _check_takes_one(function: Any) -> None:
    code = getattr(function, "__code__", None)
    if code is None:
        return
    bound = getattr(function, "__self__", None) is not None
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    # 0x04: there is a *rest of the arguments.
    if least > 1 or (most < 1 and not code.co_flags & 0x04):
        takes = f"{least} arguments" if least else "no arguments"
        raise SettingError(
            f"{getattr(function, '__name__', function)} takes {takes}; a function that is a "
            "handler takes one, the message"
        )


def _check_takes_none(handler: Any) -> None:
    # What a partial adds, only its call would tell; and a class with a __new__ or a
    # metaclass of its own may do anything with its arguments.
    if type(handler) is not type or any("__new__" in vars(cls) for cls in handler.__mro__[:-1]):
        return
    init: Any = getattr(handler, "__init__")  # noqa: B009  # of this class, and of no subclass
    code = getattr(init, "__code__", None)
    if code is None:
        return
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    plain = names[1 : code.co_argcount]
    wanted = list(plain[: len(plain) - len(init.__defaults__ or ())])
    wanted += [
        name for name in names[code.co_argcount :] if name not in (init.__kwdefaults__ or ())
    ]
    if wanted:
        name = handler.__name__
        raise SettingError(
            f"{name} needs arguments ({', '.join(wanted)}), and each connection gets a new one "
            f"without any: give functools.partial({name}, its arguments)"
        )


class Registry:
    """Names and their protocols.

    The shared one is `echoframe.handlers.registry`; programs that want to keep to
    themselves make their own, which starts with nothing in it.

    `parent` is asked for what is not found here.
    """

    def __init__(self, parent: Registry | None = None) -> None:
        self._protocols: dict[str, Protocol] = {}
        self._parent = parent

    def add(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        framing: FramingSpec | None = None,
        client_framing: FramingSpec | None = None,
        reply_size: Callable[[bytes], int | None] | None = None,
    ) -> Protocol:
        """Register a handler under a name.

        Errors: SettingError when the name is taken, or is not a name.
        """
        if not name or ":" in name or name != name.strip():
            raise SettingError(
                f"{name!r} cannot be a handler's name: it must not be empty, hold a colon, "
                "or begin or end with a space"
            )
        if name in self:
            raise SettingError(
                f"the handler name {name!r} is taken; choose another one ({suggest('', self)})"
            )
        protocol = Protocol.of(handler, name, framing, client_framing, reply_size)
        self._protocols[name] = protocol
        return protocol

    def handler(
        self,
        name: str,
        *,
        framing: FramingSpec | None = None,
        client_framing: FramingSpec | None = None,
        reply_size: Callable[[bytes], int | None] | None = None,
    ) -> Callable[[Registered], Registered]:
        """Register what is decorated, and give it back unchanged."""

        def register(handler: Registered) -> Registered:
            self.add(
                name,
                handler,
                framing=framing,
                client_framing=client_framing,
                reply_size=reply_size,
            )
            return handler

        return register

    def find(self, handler: HandlerSpec) -> Protocol:
        """Give the protocol of a name, a "module:attribute", or a handler itself.

        The current folder is searched first for modules. A handler that is
        registered here brings its protocol with it.

        Errors: UnknownHandler, with what is known and the near misses.
        """
        found = self.resolve(handler)
        if isinstance(found, Protocol):
            return found
        for protocol in self._all().values():
            # Not `is`: a bound method is a new object each time.
            if protocol.handler == found:
                return protocol
        named = isinstance(handler, str) and ":" not in handler
        return Protocol.of(found, handler if named else None)

    def resolve(self, handler: HandlerSpec) -> Any:
        """Give what a name stands for; anything but a name is given back.

        What a "module:attribute" leads to may be anything that can be called, such as
        a socketserver handler class, which has no protocol.

        Errors: UnknownHandler, with what is known and the near misses; SettingError for
        what can be no handler at all.
        """
        if not isinstance(handler, str):
            return handler
        protocols = self._all()
        if handler in protocols:
            return protocols[handler]
        if ":" in handler:
            found = self.resolve(_load(handler))
            # An object of a Handler class has a sentence of its own, of Protocol.of().
            if not (callable(found) or isinstance(found, Protocol | Handler)):
                raise SettingError(
                    f"{handler!r} is of type {type(found).__name__!r} and not a handler: name a "
                    "function of one message, or a Handler subclass"
                )
            return found
        for entry_point in _entry_points():
            if entry_point.name == handler:
                try:
                    return self.resolve(entry_point.load())
                except Exception as error:
                    raise UnknownHandler(
                        f"cannot load {handler!r} from {entry_point.value}: "
                        f"{type(error).__name__}: {error}"
                    ) from error
        raise UnknownHandler(
            f"unknown handler {handler!r}; {_with_colon(handler)}{suggest(handler, self)}"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        """The names, without importing what other packages registered."""
        yield from self.sources()

    def _all(self) -> dict[str, Protocol]:
        if self._parent is None:
            return self._protocols
        return {**self._parent._all(), **self._protocols}

    def sources(self) -> dict[str, Protocol | str]:
        """Every name with its protocol or, if it is not imported yet, where it would come from."""
        known: dict[str, Protocol | str] = dict(self._all())
        for entry_point in _entry_points():
            known.setdefault(entry_point.name, entry_point.value)
        return known


def summary(protocol: Protocol) -> str:
    """The first line of what the handler says about itself."""
    return (protocol.handler.__doc__ or "").strip().partition("\n")[0]


def _entry_points() -> list[Any]:
    # Imported here: reading the metadata of every installed package is slow, and
    # most servers name a handler that is built in.
    from importlib.metadata import entry_points

    return list(entry_points(group=ENTRY_POINTS))


def _load(path: str) -> Any:
    import importlib

    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise UnknownHandler(f"{path!r} is not module:attribute, as in game:shout")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UnknownHandler(
                f"no module {module_name!r} in this folder or among the installed packages "
                f"(wanted for {path!r}){_without_suffix(module_name, attribute)}"
            ) from None
        raise UnknownHandler(f"{path!r} cannot be imported: {error}{_where(error)}") from error
    except Exception as error:
        raise UnknownHandler(
            f"{path!r} cannot be imported: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    finally:
        # Unless the module has tidied up itself.
        if "" in sys.path:
            sys.path.remove("")
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [name for name in dir(found) if not name.startswith("_")]
            raise UnknownHandler(
                f"{module_name!r} has no {attribute!r}; {suggest(part, names, MOST_NAMES)}"
            ) from None
    return found


def _with_colon(handler: str) -> str:
    """A question for those who wrote a handler as Python writes it, or named its file."""
    module, _, attribute = handler.rpartition(".")
    if not all(part.isidentifier() for part in handler.split(".")) or not module:
        return ""
    if attribute == "py":
        return f"a handler in that file is named as in {module}:shout; "
    return f"did you mean '{module}:{attribute}'? "


def _without_suffix(module: str, attribute: str) -> str:
    name = module.removesuffix(".py")
    return "" if name == module else f"; did you mean '{name}:{attribute}'?"


def _where(error: BaseException) -> str:
    # The innermost line of a file; a SyntaxError names its own.
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<"):
            found = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return "" if isinstance(error, SyntaxError) or __file__ in found else found
