"""command: each message is answered `accepted`; `close`, in any letter case, ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from .base import Answer, Handler, Reply

__all__ = ["CommandHandler", "command"]

Method = TypeVar("Method", bound=Callable[..., Any])


def command(name: str) -> Callable[[Method], Method]:
    """Make a method of a CommandHandler the answer to a message that equals `name`.

    Letter case does not matter. The method is called without arguments, or with
    the message as it came, if it takes one.
    """

    def mark(method: Method) -> Method:
        method.__command__ = name  # type: ignore[attr-defined]  # read by __init_subclass__
        return method

    return mark


class CommandHandler(Handler):
    """Answer `accepted` to every message but the commands.

    Subclasses add commands, and may replace otherwise():

        class Clock(CommandHandler):
            @command("time")
            def tell_time(self):
                return time.ctime()
    """

    framing = "auto"
    client_framing = "line"

    # What is asked for, in lower case, and the name of the method that answers.
    commands: ClassVar[dict[bytes, str]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.commands = _commands_of(cls)

    def on_message(self, message: bytes) -> Answer:
        # bytes.lower() knows only ASCII letters and never fails: bytes that are
        # not UTF-8 are a message like another.
        name = self.commands.get(message.lower())
        if name is None:
            return self.otherwise(message)
        method = getattr(self, name)
        # Arguments besides self or cls, which a static method does not have.
        code = getattr(method, "__code__", None)
        if code is not None and code.co_argcount > hasattr(method, "__self__"):
            return method(message)  # type: ignore[no-any-return]  # the user's method
        return method()  # type: ignore[no-any-return]  # the user's method

    def otherwise(self, message: bytes) -> Answer:
        """Answer a message that is no command. May be replaced."""
        return b"accepted"

    @command("close")
    def close(self) -> Answer:
        """Hang up."""
        return Reply(b"closed", close=True)


def _commands_of(cls: type) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    # From the root to the leaf, so that a subclass wins; by attribute name, so
    # that replacing a method replaces the command's answer.
    for kind in reversed(cls.__mro__):
        for attribute, value in vars(kind).items():
            # @staticmethod and @classmethod do not show the marks of what they wrap.
            marked = value if hasattr(value, "__command__") else getattr(value, "__func__", None)
            name = getattr(marked, "__command__", None)
            if isinstance(name, str):
                found[name.encode().lower()] = attribute
    return found


CommandHandler.commands = _commands_of(CommandHandler)
