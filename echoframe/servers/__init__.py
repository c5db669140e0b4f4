"""The models side by side, and the table of them.

single    accept → converse → accept → converse …
thread    accept → thread: converse
fork      accept → process: converse
pool      accept → queue → one of N threads: a step → parked until the peer speaks
prefork   N processes, each:  accept → converse, in a model of its own
loop      wait for whoever is ready → one step of that conversation → wait
aio       wait for whoever is ready → one call of that conversation → wait, on asyncio's loop
"""

from __future__ import annotations

from typing import Any

from ..errors import SettingError, suggest
from ..handlers import HandlerSpec
from .aio import AioServer
from .base import Server
from .fork import ForkingMixIn, ForkServer
from .life import Report
from .lifecycle import Lifecycle
from .loop import LoopServer
from .pool import PoolMixIn, PoolServer
from .prefork import PreforkMixIn, PreforkServer
from .settings import SETTINGS, Setting, means_something
from .single import SingleServer
from .thread import ThreadingMixIn, ThreadServer

__all__ = [
    "MODELS",
    "SETTINGS",
    "AioServer",
    "ForkServer",
    "ForkingMixIn",
    "Lifecycle",
    "LoopServer",
    "PoolMixIn",
    "PoolServer",
    "PreforkMixIn",
    "PreforkServer",
    "Report",
    "Server",
    "Setting",
    "SingleServer",
    "ThreadServer",
    "ThreadingMixIn",
    "means_something",
    "model_class",
    "serve",
]

# Read by the command line, the tests and the docs: a new model is one file and
# one line here.
MODELS: dict[str, type[Server]] = {
    server.model: server
    for server in (
        SingleServer,
        ThreadServer,
        ForkServer,
        PoolServer,
        PreforkServer,
        LoopServer,
        AioServer,
    )
}


def model_class(model: str | type[Server]) -> type[Server]:
    """Give the server class of a model's name; a class is given back.

    Errors: SettingError for an unknown name.
    """
    if isinstance(model, type) and issubclass(model, Server):
        return model
    if model not in MODELS:
        raise SettingError(f"unknown model {model!r}; {suggest(str(model), MODELS)}")
    return MODELS[model]


def serve(
    handler: HandlerSpec, address: Any, model: str | type[Server] = "thread", **settings: Any
) -> Server:
    """Give a server that listens at the address; call its run() or serve_forever().

    `model` is a name in MODELS or a server class of one's own; `handler`, `address`
    and `settings` are what the server classes take.

    Errors: an EchoframeError, in a sentence, for what cannot work.
    """
    return model_class(model)(address, handler, **settings)
