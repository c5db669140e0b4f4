from __future__ import annotations

import copy
import errno
import pickle

import pytest

from echoframe import errors
from echoframe.errors import (
    AddressError,
    ConnectError,
    ConnectionEnded,
    EchoframeError,
    ListenError,
    ProtocolError,
    RefusedError,
    SettingError,
    TimedOut,
    UnknownHandler,
    suggest,
)

FAMILY = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
OF_THE_SYSTEM = [ListenError, ConnectError, RefusedError, ConnectionEnded, TimedOut]


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_is_an_echoframe_error_and_prints_its_sentence(
    kind: type[EchoframeError],
) -> None:
    error = kind("a sentence")
    assert isinstance(error, EchoframeError)
    assert str(error) == "a sentence"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (AddressError, ValueError),
        (SettingError, ValueError),
        (UnknownHandler, LookupError),
        (ProtocolError, EchoframeError),
        (ListenError, OSError),
        (ConnectError, ConnectionError),
        (RefusedError, ConnectionRefusedError),
        (RefusedError, ConnectError),
        (ConnectionEnded, ConnectionError),
        (TimedOut, TimeoutError),
    ],
)
def test_an_error_is_also_the_built_in_one_that_fits(
    kind: type[EchoframeError], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", OF_THE_SYSTEM)
def test_a_system_error_carries_its_number(kind: type[ListenError]) -> None:
    error = kind("it is in use", errno.EADDRINUSE)
    assert error.errno == errno.EADDRINUSE
    assert str(error) == "it is in use"
    assert kind("no number").errno is None


@pytest.mark.parametrize("kind", OF_THE_SYSTEM)
def test_a_system_error_survives_copying_and_pickling(kind: type[ListenError]) -> None:
    error = kind("it is in use", errno.EADDRINUSE)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is kind
        assert (str(again), again.errno) == ("it is in use", errno.EADDRINUSE)


def test_a_suggestion_names_the_near_misses_and_then_all_that_is_known() -> None:
    assert suggest("ech", ["echo", "command"]) == "did you mean 'echo'? known: command, echo"
    assert suggest("tread", ["thread", "read"]).startswith("did you mean 'thread' or 'read'? ")
    assert suggest("zzz", iter(["echo"])) == "known: echo"
    assert suggest("zzz", []) == "known: none"
