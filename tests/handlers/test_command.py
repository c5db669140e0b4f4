from __future__ import annotations

from typing import Any

import pytest

from echoframe.framing import Framing, make_framing
from echoframe.handlers import CommandHandler, Reply, command, registry
from echoframe.session import Session


def ask(handler: CommandHandler, *chunks: bytes, framing: str = "auto") -> list[bytes]:
    made: Framing = make_framing(framing)()
    session = Session(handler, made)
    session.open()
    return [session.feed(chunk) for chunk in chunks]


def test_the_tutorials_client_sends_no_line_ends_and_gets_none() -> None:
    assert ask(CommandHandler(), b"hello", b"again", b"close") == [
        b"accepted",
        b"accepted",
        b"closed",
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_people_at_nc_and_telnet_send_line_ends_and_get_them(end: bytes) -> None:
    assert ask(CommandHandler(), b"hello" + end, b"close" + end) == [
        b"accepted" + end,
        b"closed" + end,
    ]


@pytest.mark.parametrize("close", [b"close", b"CLOSE", b"Close", b"cLoSe"])
@pytest.mark.parametrize("framing", ["auto", "raw"])
def test_close_in_any_letter_case_hangs_up(close: bytes, framing: str) -> None:
    session = Session(CommandHandler(), make_framing(framing)())
    assert session.feed(close) == b"closed"
    assert (session.closing, session.reason) == (True, "reply")


@pytest.mark.parametrize(
    "message", [b"", b"closed", b" close", b"close ", b"\xff\xfe", "é".encode()]
)
def test_every_other_message_is_accepted_whatever_its_bytes(message: bytes) -> None:
    assert ask(CommandHandler(), message + b"\n", framing="line") == [b"accepted\n"]


def test_both_sides_know_their_framing() -> None:
    protocol = registry.find("command")
    assert (protocol.framing, protocol.client_framing) == ("auto", "line")
    assert protocol.reply_size is None


class Clock(CommandHandler):
    """The commands that a user may add, in all shapes."""

    @command("time")
    def tell_time(self) -> str:
        return "noon"

    @command("Say")
    def say(self, message: bytes) -> bytes:
        return message

    @command("maybe")
    def maybe(self, message: bytes = b"?") -> bytes:
        return message

    @command("größe")
    def size(self) -> str:
        return "groß"

    @command("class")
    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @staticmethod
    @command("static")
    def static() -> str:
        return "nothing"

    @staticmethod
    @command("mirror")
    def mirror(message: bytes) -> bytes:
        return message[::-1]

    def otherwise(self, message: bytes) -> bytes:
        return b"what?"


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (b"time", b"noon"),
        (b"TIME", b"noon"),
        (b"sAy", b"sAy"),
        (b"maybe", b"maybe"),
        ("größe".encode(), "groß".encode()),
        (b"class", b"Clock"),
        (b"static", b"nothing"),
        (b"Mirror", b"rorriM"),
        (b"anything", b"what?"),
        (b"close", b"closed"),
    ],
)
def test_a_command_is_a_method_found_by_name(message: bytes, reply: bytes) -> None:
    assert ask(Clock(), message) == [reply]


def test_a_subclass_adds_and_replaces_and_leaves_its_parent_alone() -> None:
    class Sundial(Clock):
        def tell_time(self) -> str:
            return "cloudy"

        @command("quit")
        def close(self) -> Any:
            return Reply(b"bye", close=True)

    assert ask(Sundial(), b"time", b"say") == [b"cloudy", b"say"]
    assert ask(Sundial(), b"close") == ask(Sundial(), b"quit") == [b"bye"]
    assert ask(Clock(), b"time", b"quit") == [b"noon", b"what?"]
    assert list(CommandHandler.commands) == [b"close"]


def test_a_callable_that_is_no_function_is_called_without_arguments() -> None:
    class Shape(CommandHandler):
        kind = command("kind")(type("Made", (), {"__str__": lambda self: "made"}))

        def on_message(self, message: bytes) -> Any:
            return str(super().on_message(message))

    assert ask(Shape(), b"kind") == [b"made"]
