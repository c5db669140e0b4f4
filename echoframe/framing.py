"""Bytes to messages and back.

Rule 1: nothing here knows about sockets, threads or time.
Rule 2: a framing never keeps more than max_message bytes of an unfinished message.
Rule 3: feed() takes what arrived, next() gives one whole message or None ("not
        enough yet"), end() says that no more will come, wrap() is the way out.

Here belong the rules that find messages in bytes. What a message means belongs
to handlers/, and when bytes are read and written to servers/conversation.py.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from functools import partial

from .errors import ProtocolError, SettingError, suggest

__all__ = [
    "FRAMINGS",
    "MAX_MESSAGE",
    "AutoFraming",
    "DelimiterFraming",
    "FixedFraming",
    "Framing",
    "FramingSpec",
    "LengthFraming",
    "LineFraming",
    "RawFraming",
    "make_framing",
]

# 1 MiB: more than any text protocol needs in one piece, little enough that a
# thousand peers who send messages without end cost a gigabyte and not a machine.
MAX_MESSAGE = 1024 * 1024

# What one read brings. It is also the longest raw message, so that "what
# arrived" means the same for every model.
CHUNK = 64 * 1024


class Framing:
    """The rule that finds messages in bytes; one instance for each conversation.

    Subclasses replace feed(), next(), end() and wrap(). All state is about the
    peer's bytes, so a framing may serve either side of a conversation.
    """

    name = ""
    # May a conversation be ended between two messages? For raw there is no
    # "between": it ends when it has been quiet for a while.
    has_boundaries = True
    max_message = MAX_MESSAGE
    # How many bytes of an unfinished message are kept.
    unfinished = 0

    def feed(self, data: bytes) -> None:
        """Take what arrived. What next() has not given yet comes before it."""
        raise NotImplementedError

    def next(self) -> bytes | None:
        """Give the next whole message, or None when more bytes are needed.

        Errors: ProtocolError when the bytes break the rule; the framing is of no
        use afterwards.
        """
        raise NotImplementedError

    def end(self) -> bytes | None:
        """Say that no more bytes will come: the unfinished rest is a message or an error."""
        raise NotImplementedError

    def wrap(self, message: bytes) -> bytes:
        """Give the bytes that carry this message to the peer."""
        raise NotImplementedError

    def carries(self, message: bytes) -> bool:
        """Tell whether the peer will find this as one message."""
        return True

    def fresh(self) -> Framing:
        """Give a new framing with the same parameters, for another conversation."""
        return type(self)(max_message=self.max_message)

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        if max_message < 1:
            raise SettingError(f"max_message must be at least 1 byte, not {max_message}")
        self.max_message = max_message

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_message={self.max_message})"

    def _too_long(self) -> ProtocolError:
        return ProtocolError(f"a message is longer than {self.max_message:,} bytes (max_message)")


class RawFraming(Framing):
    """What arrived is the message, cut at 64 KiB (or at max_message, if that is less)."""

    name = "raw"
    has_boundaries = False

    # What waits for next(), one by one and never joined: the same chunks give the
    # same messages, however late it is called. None until there is something.
    _messages: deque[bytes] | None = None

    max_message = CHUNK

    def __init__(self, max_message: int = CHUNK) -> None:
        # Mostly there is nothing to do, and a server makes many of these.
        if max_message < CHUNK:
            super().__init__(max_message)

    def feed(self, data: bytes) -> None:
        if self._messages is None:
            self._messages = deque()
        self._messages.extend(_cut(data, self.max_message))

    def next(self) -> bytes | None:
        return self._messages.popleft() if self._messages else None

    def end(self) -> bytes | None:
        return None

    def wrap(self, message: bytes) -> bytes:
        return message


def _cut(data: bytes, longest: int) -> list[bytes]:
    # Mostly one piece, and slicing the whole of bytes copies nothing.
    return [data[at : at + longest] for at in range(0, len(data), longest)]


class DelimiterFraming(Framing):
    """Messages end with a delimiter, which is not part of them; replies end with it too."""

    name = "delimiter"

    def __init__(self, delimiter: bytes = b"\n", max_message: int = MAX_MESSAGE) -> None:
        super().__init__(max_message)
        if not delimiter:
            raise SettingError("a delimiter must have at least one byte, as in delimiter:;")
        self.delimiter = delimiter
        # The chunk in hand and how far it is used up; the beginning of a message
        # whose end is still to come. The rest never holds a whole delimiter, so
        # no byte is searched twice, however small the pieces.
        self._chunk = b""
        self._at = 0
        self._rest = bytearray()
        # How the message that next() gave last was ended: the reply ends so too.
        self.ending = delimiter

    def carries(self, message: bytes) -> bool:
        # Together with the delimiter: the end of "a" before "aa" begins with that "a".
        return (message + self.delimiter).find(self.delimiter) == len(message)

    def fresh(self) -> Framing:
        return type(self)(self.delimiter, max_message=self.max_message)

    def feed(self, data: bytes) -> None:
        if self._at < len(self._chunk):
            data = self._chunk[self._at :] + data
        overlap = min(len(self.delimiter) - 1, len(self._rest))
        if overlap:
            # A delimiter may begin in the rest: search its last bytes once more.
            data = bytes(self._rest[-overlap:]) + data
            del self._rest[-overlap:]
        self._chunk = data
        self._at = 0

    def next(self) -> bytes | None:
        chunk = self._chunk
        at = self._at
        found = chunk.find(self.delimiter, at)
        if found < 0:
            self._keep(chunk, at)
            return None
        self._at = found + len(self.delimiter)
        message = chunk[at:found]
        if self._rest:
            message = bytes(self._rest) + message
            self._rest.clear()
            self.unfinished = 0
        if len(message) > self.max_message:
            raise self._too_long()
        self.ending = self.delimiter
        return message

    def _keep(self, chunk: bytes, at: int) -> None:
        if at < len(chunk):
            self._rest += chunk[at:] if at else chunk
        self._chunk = b""
        self._at = 0
        self.unfinished = len(self._rest)
        if self.unfinished > self._longest_rest():
            raise self._too_long()

    def _longest_rest(self) -> int:
        # All but the last byte of a delimiter may have arrived.
        return self.max_message + len(self.delimiter) - 1

    def end(self) -> bytes | None:
        if not self._rest:
            return None
        if len(self._rest) > self.max_message:
            raise self._too_long()
        message = bytes(self._rest)
        self._rest.clear()
        self.unfinished = 0
        # Nobody ended this message, so its reply has no end either.
        self.ending = b""
        return message

    def wrap(self, message: bytes) -> bytes:
        return message + self.ending


class LineFraming(DelimiterFraming):
    """LF or CRLF ends a message; the reply ends as the message did."""

    name = "line"

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        super().__init__(b"\n", max_message)

    def fresh(self) -> Framing:
        return type(self)(max_message=self.max_message)

    def feed(self, data: bytes) -> None:
        if self._at < len(self._chunk):
            data = self._chunk[self._at :] + data
        self._chunk = data
        self._at = 0

    # Not the general next() with a hook in it: this one runs for every line of
    # a pipelining peer, and a hook would cost as much as the line.
    def next(self) -> bytes | None:
        chunk = self._chunk
        at = self._at
        found = chunk.find(b"\n", at)
        if found < 0:
            self._keep(chunk, at)
            return None
        self._at = found + 1
        if self._rest:
            message = bytes(self._rest) + chunk[at:found]
            self._rest.clear()
            self.unfinished = 0
        else:
            message = chunk[at:found]
        if message.endswith(b"\r"):
            self.ending = b"\r\n"
            message = message[:-1]
        else:
            self.ending = b"\n"
        if len(message) > self.max_message:
            raise self._too_long()
        return message

    def _longest_rest(self) -> int:
        # A CR in the last place may be half of the line's end.
        return self.max_message + self._rest.endswith(b"\r")


class _CountedFraming(Framing):
    # Messages whose length is known: a buffer, and how far it is used up.

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        super().__init__(max_message)
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data


class LengthFraming(_CountedFraming):
    """Four bytes, big-endian, say how long the message behind them is."""

    name = "length"

    def next(self) -> bytes | None:
        buffer = self._buffer
        start = self._at + 4
        if len(buffer) >= start:
            size = int.from_bytes(buffer[self._at : start], "big")
            if size > self.max_message:
                raise self._too_long()
            if len(buffer) >= start + size:
                self._at = start + size
                self.unfinished = 0
                return bytes(buffer[start : self._at])
        self.unfinished = len(buffer) - self._at
        return None

    def end(self) -> bytes | None:
        if self.unfinished:
            raise ProtocolError(
                f"the input ended in the middle of a message, after {self.unfinished} bytes of it"
            )
        return None

    def wrap(self, message: bytes) -> bytes:
        return len(message).to_bytes(4, "big") + message


class FixedFraming(_CountedFraming):
    """Every message has the same size, and so has every reply."""

    name = "fixed"

    def __init__(self, size: int = 1, max_message: int = MAX_MESSAGE) -> None:
        super().__init__(max_message)
        if not 1 <= size <= max_message:
            raise SettingError(
                f"fixed messages of {size:,} bytes: the size must be between 1 and "
                f"{max_message:,} (max_message), as in fixed:16"
            )
        self.size = size

    def fresh(self) -> Framing:
        return type(self)(self.size, max_message=self.max_message)

    def next(self) -> bytes | None:
        end = self._at + self.size
        if len(self._buffer) < end:
            self.unfinished = len(self._buffer) - self._at
            return None
        message = bytes(self._buffer[self._at : end])
        self._at = end
        self.unfinished = 0
        return message

    def end(self) -> bytes | None:
        if self.unfinished:
            raise ProtocolError(
                f"the input ended after {self.unfinished} of the {self.size} bytes of a message"
            )
        return None

    def wrap(self, message: bytes) -> bytes:
        # Our own side's mistake, not the peer's: anything else would shift every
        # message after it.
        if len(message) != self.size:
            raise ValueError(
                f"a message of {len(message)} bytes does not fit a framing of {self.size}"
            )
        return message


class AutoFraming(Framing):
    """For programs that send no line ends and people who do.

    Until the first LF each chunk is one message, answered without an end. The
    chunk that brings the first LF, and everything after it, is lines. A chunk of
    only CR and LF right after an unended message is that message's end, typed
    late, and not a message of its own.
    """

    name = "auto"

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        super().__init__(max_message)
        self._line: LineFraming | None = None
        # Chunks that next() has not looked at yet, and the messages that the one
        # it looked at last was cut into. The switch happens in next(), so that
        # what was asked before it is also answered as before it.
        self._chunks: deque[bytes] = deque()
        self._messages: deque[bytes] = deque()
        self._after_message = False

    @property
    def has_boundaries(self) -> bool:  # type: ignore[override]  # changes with the switch
        return self._line is not None

    @property
    def unfinished(self) -> int:  # type: ignore[override]  # the lines' own count
        return 0 if self._line is None else self._line.unfinished

    def feed(self, data: bytes) -> None:
        if self._line is not None:
            self._line.feed(data)
        elif data:
            self._chunks.append(data)

    def next(self) -> bytes | None:
        if self._line is not None:
            return self._line.next()
        if self._messages:
            return self._messages.popleft()
        while self._chunks:
            data = self._chunks.popleft()
            if b"\n" in data:
                return self._switch(data)
            # A lone CR behind a message is the first half of its end.
            if data.strip(b"\r") or not self._after_message:
                self._after_message = True
                self._messages.extend(_cut(data, min(self.max_message, CHUNK)))
                return self._messages.popleft()
        return None

    def _switch(self, data: bytes) -> bytes | None:
        if self._after_message and not data.strip(b"\r\n"):
            # Only the first end belongs to the message before; more of them are
            # empty lines.
            data = data[data.index(b"\n") + 1 :]
        self._line = LineFraming(self.max_message)
        self._line.feed(data + b"".join(self._chunks))
        self._chunks.clear()
        return self._line.next()

    def end(self) -> bytes | None:
        return None if self._line is None else self._line.end()

    def wrap(self, message: bytes) -> bytes:
        return message if self._line is None else self._line.wrap(message)


FRAMINGS: dict[str, type[Framing]] = {
    framing.name: framing
    for framing in (
        RawFraming,
        LineFraming,
        LengthFraming,
        DelimiterFraming,
        FixedFraming,
        AutoFraming,
    )
}

# How a framing is named: "line", "fixed:16", "delimiter:;", a class, an example
# of one, or anything that makes one when called.
FramingSpec = str | Framing | Callable[[], Framing]


def make_framing(spec: FramingSpec, max_message: int = MAX_MESSAGE) -> Callable[[], Framing]:
    """Give a factory that makes a framing for each conversation.

    An example (`LineFraming(max_message=80)`) and a function keep their own
    max_message; a name and a class get the one given here.

    Errors: SettingError for a name that is not a framing's, or a parameter it
    cannot use.
    """
    if isinstance(spec, Framing):
        return spec.fresh
    if isinstance(spec, type) and issubclass(spec, Framing):
        return partial(spec, max_message=max_message)
    if not isinstance(spec, str):
        if not callable(spec):
            raise SettingError(f"{spec!r} is not a framing; {suggest('', FRAMINGS)}")
        return spec  # type: ignore[return-value]  # a class that is no Framing was given
    name, colon, parameter = spec.partition(":")
    if name not in FRAMINGS:
        raise SettingError(f"unknown framing {spec!r}; {suggest(name, FRAMINGS)}")
    kind = FRAMINGS[name]
    if kind is FixedFraming:
        if not (parameter.isascii() and parameter.isdigit()) or len(parameter) > 18:
            raise SettingError(f"framing {spec!r} needs a size, as in fixed:16")
        return FixedFraming(int(parameter), max_message=max_message).fresh
    if kind is DelimiterFraming:
        # Escapes, because the delimiters people use are hard to type: \0, \t, \x1e.
        # By way of latin-1, so that every byte that is not an escape stays as it is.
        # An escape that Python does not know is only a warning to the codec.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                delimiter = parameter.encode().decode("unicode_escape").encode("latin-1")
        except (UnicodeError, DeprecationWarning):
            raise SettingError(
                f"framing {spec!r}: cannot read that delimiter; write it as in delimiter:; "
                "or delimiter:\\x1e"
            ) from None
        return DelimiterFraming(delimiter, max_message=max_message).fresh
    if colon:
        raise SettingError(f"framing {name!r} takes no parameter, so not {spec!r}")
    return partial(kind, max_message=max_message)
