"""Write a conversation once; serve it every way; see what changes.

How the package is built, from the bottom up; imports only ever point down:

    cli                           words on a command line
    testing        adopt          try things out | programs that exist already
    servers        client probing who waits for whom | who asks
    session        transports     bytes in, bytes out | how a socket is made
    framing  handlers  address    bytes and messages | message to reply | text to place
    errors  printing              what can go wrong | text that no terminal obeys

framing, handlers and session hold no socket, no thread and no clock. Concurrency
lives in servers and nowhere else: one file for each model.
"""

from __future__ import annotations

from .address import Address
from .client import Client
from .errors import (
    AddressError,
    ConnectError,
    ConnectionEnded,
    EchoframeError,
    ListenError,
    ProtocolError,
    RefusedError,
    SettingError,
    TimedOut,
    TlsError,
    UnknownHandler,
    WorkersFailed,
)
from .framing import (
    AutoFraming,
    DelimiterFraming,
    FixedFraming,
    LengthFraming,
    LineFraming,
    RawFraming,
)
from .handlers import CommandHandler, EchoHandler, Handler, Registry, Reply, command, handler
from .probing import probe
from .servers import (
    MODELS,
    AioServer,
    ForkingMixIn,
    ForkServer,
    LoopServer,
    PoolMixIn,
    PoolServer,
    PreforkMixIn,
    PreforkServer,
    Report,
    Server,
    SingleServer,
    ThreadingMixIn,
    ThreadServer,
    serve,
)
from .session import Session
from .version import VERSION as __version__

__all__ = [
    # serving: one class for each model, and the table of them
    "serve",
    "Server",
    "SingleServer",
    "ThreadServer",
    "ForkServer",
    "PoolServer",
    "PreforkServer",
    "LoopServer",
    "AioServer",
    "MODELS",
    # the same mechanisms for servers that exist already
    "ThreadingMixIn",
    "ForkingMixIn",
    "PoolMixIn",
    "PreforkMixIn",
    # answering: what a handler is, and how it gets a name
    "Handler",
    "Reply",
    "Registry",
    "handler",
    "EchoHandler",
    "CommandHandler",
    "command",
    # asking
    "Client",
    "probe",
    # bytes on the wire
    "Session",
    "RawFraming",
    "LineFraming",
    "LengthFraming",
    "AutoFraming",
    "DelimiterFraming",
    "FixedFraming",
    # places, and what a stop reports
    "Address",
    "Report",
    # what can go wrong
    "EchoframeError",
    "AddressError",
    "UnknownHandler",
    "ProtocolError",
    "SettingError",
    "ListenError",
    "ConnectError",
    "RefusedError",
    "TlsError",
    "ConnectionEnded",
    "TimedOut",
    "WorkersFailed",
    "__version__",
]
