"""The names that other people's programs are written against."""

from __future__ import annotations

import inspect

import pytest

import echoframe

NAMES = [
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
    "ThreadingMixIn",
    "ForkingMixIn",
    "PoolMixIn",
    "PreforkMixIn",
    "Handler",
    "Reply",
    "Registry",
    "handler",
    "EchoHandler",
    "CommandHandler",
    "command",
    "Client",
    "probe",
    "Session",
    "RawFraming",
    "LineFraming",
    "LengthFraming",
    "AutoFraming",
    "DelimiterFraming",
    "FixedFraming",
    "Address",
    "Report",
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


def test_the_names_are_these_and_in_this_order() -> None:
    assert echoframe.__all__ == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("MODELS", "__version__")])
def test_each_says_what_it_promises(name: str) -> None:
    assert inspect.getdoc(getattr(echoframe, name))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if inspect.isclass(getattr(echoframe, name))]
)
def test_what_is_public_of_a_class_says_what_it_promises(name: str) -> None:
    cls = getattr(echoframe, name)
    silent = [
        attribute
        for attribute, value in vars(cls).items()
        if not attribute.startswith("_") and inspect.isfunction(value) and not inspect.getdoc(value)
    ]
    # What replaces a documented method of a base is documented there.
    assert [a for a in silent if not any(hasattr(base, a) for base in cls.__mro__[1:])] == []


def test_the_version_is_the_metadatas() -> None:
    assert echoframe.__version__.count(".") == 2
