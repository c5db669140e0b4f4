"""Handlers, and the registry that servers and clients share."""

from __future__ import annotations

from .base import (
    Answer,
    FunctionHandler,
    Handler,
    Peer,
    Reply,
    is_asynchronous,
    replies,
    runs_async,
)
from .command import CommandHandler, command
from .echo import EchoHandler
from .registry import ENTRY_POINTS, HandlerSpec, Protocol, Registry, summary
from .samples import async_wait, upper, wait, work

__all__ = [
    "ENTRY_POINTS",
    "Answer",
    "CommandHandler",
    "EchoHandler",
    "FunctionHandler",
    "Handler",
    "HandlerSpec",
    "Peer",
    "Protocol",
    "Registry",
    "Reply",
    "async_wait",
    "command",
    "handler",
    "is_asynchronous",
    "registry",
    "replies",
    "runs_async",
    "summary",
    "upper",
    "wait",
    "work",
]

registry = Registry()
registry.add("echo", EchoHandler)
registry.add("command", CommandHandler)
registry.add("upper", upper)
registry.add("wait", wait)
registry.add("work", work)
registry.add("async-wait", async_wait)

# The decorator of the shared registry: @echoframe.handler("shout").
handler = registry.handler
