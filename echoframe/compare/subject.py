"""A server of ours in a process of its own, to be measured.

    python -m echoframe.compare.subject '{"handler": "echo", "model": "loop", ...}'

It is the server that `echoframe serve` would start, with nothing added: where it is, and
what it used of the processor, go by a descriptor. Only if somebody wants to draw who was
served when is its handler wrapped, and tells by another descriptor when it began with a
message and when it ended.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import resource
import signal
import socketserver
import struct
import sys
from collections.abc import Callable
from time import monotonic as clock
from typing import Any

from ..errors import EchoframeError
from ..handlers import Handler, Protocol, registry
from ..servers import serve
from ..servers.descriptors import room_for_connections

__all__ = ["SEEN", "main", "witnessed"]

# What a witness writes for each message: the peer's port, began, ended.
SEEN = struct.Struct("<Hdd")

# What a program ends with that could not start.
COULD_NOT_START = 3

# How often to see whether there still is somebody who measures.
LOOK = 1.0

Tell = Callable[[int, float], None]


def main() -> int:
    """Serve until SIGTERM."""
    told = json.loads(sys.argv[1])
    answers = told["answers"]
    # A workload may have more clients than a server has by default.
    room_for_connections()
    try:
        handler = registry.resolve(told["handler"])
        if told["witness"] is not None:
            os.set_blocking(told["witness"], False)
            handler = witnessed(handler, functools.partial(_tell, told["witness"]))
        server = serve(handler, told["address"], model=told["model"], **told["settings"])
    except (EchoframeError, OSError) as error:
        print(error, file=sys.stderr)
        return COULD_NOT_START
    with server:
        # From the moment that the address is known, the end may come.
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        _end_with(os.getppid(), server.stop)
        before = _used()
        facts = {"address": str(server.address), "runs_on": server.runs_on}
        os.write(answers, json.dumps(facts).encode() + b"\n")
        server.run()
    os.write(answers, json.dumps({"cpu": _used() - before}).encode() + b"\n")
    return 0


def _end_with(parent: int, stop: Callable[[], None]) -> None:
    # Whoever measures may be killed, and then nobody is left to end this. (A thread that
    # looked would be there at each fork.)
    def look(number: int, frame: object) -> None:
        if os.getppid() != parent:
            stop()

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)


def _used() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _tell(number: int, port: int, began: float) -> None:
    try:
        os.write(number, SEEN.pack(port, began, clock()))
    except OSError:
        # Nobody reads, or not quickly enough: no drawing is worth a server that waits.
        pass


def witnessed(handler: Any, tell: Tell) -> Any:
    """Give the handler with a witness: it calls tell(the peer's port, when it began)."""
    if isinstance(handler, Protocol):
        return handler._replace(handler=witnessed(handler.handler, tell))
    if isinstance(handler, functools.partial) and isinstance(handler.func, type):
        made = witnessed(handler.func, tell)
        return functools.partial(made, *handler.args, **handler.keywords)
    kind: Any = handler
    if not isinstance(handler, type):
        kind = Protocol.of(handler)
        return _class_of_messages(_Asks, handler, tell, kind.framing, kind.client_framing)
    if issubclass(handler, socketserver.BaseRequestHandler):
        return _class_of_connections(handler, tell)
    return _class_of_messages(kind, kind.on_message, tell, kind.framing, kind.client_framing)


class _Asks(Handler):
    """A handler whose answers are a function's, which does not know of it."""


def _class_of_messages(
    base: type, answer: Callable[..., Any], tell: Tell, framing: Any, client_framing: Any
) -> type:
    if base is _Asks:
        function = answer

        def answer_of(self: Handler, message: bytes) -> Any:
            return function(message)

        asked = answer_of
    else:
        asked = answer

    def on_message(self: Handler, message: bytes) -> Any:
        began = clock()
        try:
            return asked(self, message)
        finally:
            tell(_port(self.peer.remote), began)

    async def awaited(self: Handler, message: bytes) -> Any:
        began = clock()
        try:
            return await asked(self, message)
        finally:
            tell(_port(self.peer.remote), began)

    async def iterated(self: Handler, message: bytes) -> Any:
        began = clock()
        try:
            async for one in asked(self, message):
                yield one
        finally:
            tell(_port(self.peer.remote), began)

    wrapped: Any = on_message
    if inspect.iscoroutinefunction(answer):
        wrapped = awaited
    elif inspect.isasyncgenfunction(answer):
        wrapped = iterated
    names = {"on_message": wrapped, "framing": framing, "client_framing": client_framing}
    # Under the name by which its author knows it.
    known = getattr(answer if base is _Asks else base, "__name__", base.__name__)
    return type(known, (base,), names)


def _class_of_connections(handler: type, tell: Tell) -> type:
    class Witnessed(handler):  # type: ignore[misc]  # known when it runs
        def handle(self) -> None:
            began = clock()
            try:
                super().handle()
            finally:
                tell(_port(str(self.client_address)), began)

    Witnessed.__name__ = handler.__name__
    return Witnessed


def _port(name: str) -> int:
    # Of "127.0.0.1:4711" and of "('127.0.0.1', 4711)"; 0 of what has none.
    digits = name.rstrip(")").rpartition(":")[2].rpartition(" ")[2]
    return int(digits) if digits.isdigit() else 0


if __name__ == "__main__":
    sys.exit(main())
