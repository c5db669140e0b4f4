"""Client: one conversation, from the side that asks.

Rule 1: every wait has a deadline.
Rule 2: it reads while it writes. Two programs that only write, each waiting for
        the other to read, would wait for ever.
Rule 3: it never guesses whose reply comes next. A connection on which a reply is
        still due when its asker has given up is closed.

Where messages end belongs to framing.py, how a connection is made to transports/.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from .address import Address
from .deadlines import checked_seconds, milliseconds
from .errors import (
    ConnectError,
    ConnectionEnded,
    ProtocolError,
    SettingError,
    TimedOut,
    TlsError,
)
from .framing import Framing, FramingSpec, RawFraming, make_framing
from .handlers import HandlerSpec, Registry
from .handlers import registry as shared_registry
from .transports import transport_of
from .transports.base import connect_error
from .transports.certificates import client_context
from .transports.tls import TlsFacts, TlsStream, secure
from .transports.udp import LARGEST_DATAGRAM

__all__ = ["Client"]

log = logging.getLogger("echoframe.client")

# What one read asks for, and what is sent in one piece of a stream: the longest
# raw message, so that a raw reply is cut by the network alone. A datagram fits.
CHUNK = 64 * 1024
assert CHUNK > LARGEST_DATAGRAM

# How many replies a pipeline may be behind: the sizes that are remembered for
# them take little, and no peer that answers is kept waiting by so many.
MOST_DUE = 1024

# The pause before the second attempt to connect; it doubles up to the longest. A
# server that is being restarted is back within a few of them.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class Client:
    """A connection to a server, made by the constructor, and a context manager that closes it.

    `address` is anything that Address.parse() reads. `protocol` is a name, a
    "module:attribute", a handler or a Protocol, found in `registry` (the shared
    one); it says where replies end. Without one they are lines. `framing`
    overrides it. Over udp each datagram is a message, whatever the framing.

    Over a raw framing a reply is as long as the protocol's reply_size says and,
    where nothing says it, what one read brings: a part of a reply, or two at once.

    `timeout` is in seconds, for connecting and for each thing asked afterwards. If
    connecting fails, it is tried `retry` more times, with pauses of 0.1 s, 0.2 s,
    0.4 s and so on up to 2 s; each attempt has the whole timeout. `source` is the
    local address to connect from; without a port, any.

    Over tls:// the server's certificate is verified, and that it is for the host of
    the address. `tls` says by whom it must be signed: None by a CA that this machine
    trusts; the path of a file (or folder) by the CA in it, or it is that very
    certificate; False encrypts and verifies nobody; an ssl.SSLContext is taken as it
    is. `tls_cert` and `tls_key` are the files of the client's own certificate and its
    key, for a server that asks for one. The handshake is a part of connecting.

    `address`, `local` and `peer` are Addresses: where it was told to go, and the
    two ends of what came of it. `tls` is the facts about the connection, or None.

    Errors: AddressError, SettingError and UnknownHandler for what cannot work;
    RefusedError, TimedOut, TlsError or ConnectError when no connection comes about.
    TlsError is not tried again. Later, ConnectionEnded when the peer is gone,
    TimedOut when it is late, ProtocolError when it breaks the framing. When an ask(),
    a send(), a pipeline() or a stream() does not come to its end, a late reply would
    be taken for the next one, so the connection is closed. (Not over udp, where
    replies get lost anyway.)

    Threads: one thread may send() while another receives. All else is for one
    thread at a time; close() is for any.
    """

    def __init__(
        self,
        address: Any,
        protocol: HandlerSpec | None = None,
        *,
        timeout: float = 10.0,
        retry: int = 0,
        source: Any = None,
        tls: Any = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        framing: FramingSpec | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.address = Address.parse(address)
        self.timeout = checked_seconds(timeout)
        if retry < 0:
            raise SettingError(f"retry={retry}: a number of further attempts, so 0 or more")
        known = shared_registry if registry is None else registry
        self.protocol = None if protocol is None else known.find(protocol)
        if framing is None:
            framing = "line" if self.protocol is None else self.protocol.client_framing
        self._transport = transport_of(self.address)
        self._framing = make_framing(framing)()
        if self._transport.datagrams:
            self._framing = _Datagrams()
        self._reply_size: Callable[[bytes], int | None] | None = None
        if self.protocol is not None and isinstance(self._framing, RawFraming):
            self._reply_size = self.protocol.reply_size
        self._source = None if source is None else _parse_source(source, self.address)
        self._context: Any = None
        if self.address.scheme == "tls":
            self._context = client_context(tls, tls_cert, tls_key)
        elif (tls, tls_cert, tls_key) != (None, None, None):
            raise SettingError(
                f"tls, tls_cert and tls_key are for addresses that begin with tls://, not for "
                f"{self.address}"
            )

        # Bytes that arrived behind a reply whose size was known.
        self._surplus = bytearray()
        # What is being sent; None when nothing is. Empty is an empty datagram.
        self._out: memoryview | None = None
        # We said that nothing more will be sent; the peer said that nothing more
        # will come; what the system said when either was no longer possible.
        self._finished = False
        self._ended = False
        self._lost: OSError | None = None
        # The first that came looks like a word of TLS.
        self._alerted = False
        self._heard = False
        # Why the socket is closed.
        self._closed: str | None = None
        # The replies that are being waited for.
        self._due: _Whole | _Flow | None = None

        # Encryption, if there is any, and what is told to read and to write.
        self._secured: TlsStream | None = None
        self._sock = self._connect(retry)
        self._sock.setblocking(False)
        self._wire: socket.socket | TlsStream = self._secured or self._sock
        self.tls: TlsFacts | None = None if self._secured is None else self._secured.facts()
        # A file that connecting from a unix path has made is ours to remove.
        self._mark = None if self._source is None else self._transport.mark(self._source)
        self.local = self._transport.place_of(self._sock, self._sock.getsockname())
        try:
            peer = self._sock.getpeername()
        except OSError:
            # It has hung up already; that is told when something is asked.
            self.peer = self.address
        else:
            self.peer = self._transport.place_of(self._sock, peer)

    def _connect(self, retry: int) -> socket.socket:
        pause = FIRST_PAUSE
        for left in range(retry, 0, -1):
            try:
                return self._attempt()
            except TlsError:
                # The next attempt would meet the same certificate.
                raise
            except (ConnectError, TimedOut) as error:
                log.debug("%s; trying again in %g s, %d attempts left", error, pause, left)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return self._attempt()

    def _attempt(self) -> socket.socket:
        deadline = self._deadline()
        sock = self._transport.connect(self.address, self.timeout, self._source)
        if self._context is not None:
            self._secured = secure(sock, self.address, self._context, deadline, self.timeout)
        return sock

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Harmless when it is closed already."""
        if self._secured is not None and self._closed is None:
            try:
                # Without it the peer would have to take what was sent for a part.
                self._secured.finish()
                # What lies unread when a socket is closed makes the kernel reset the
                # connection, and servers send a word of their own after a handshake.
                self._secured.recv(CHUNK)
            except OSError:
                # The peer has gone, or does not read.
                pass
        self._close("close() was called")

    def half_close(self) -> None:
        """Tell the peer that nothing more will be sent; its replies can still be read."""
        self._finished = True
        if self._secured is None:
            self._transport.finish(self._sock)
            return
        try:
            self._secured.finish()
        except BlockingIOError:
            # It waits its turn behind what was sent: sending nothing sends it.
            self._out = memoryview(b"")
        except OSError as error:
            self._lost = error

    def ask(self, message: bytes | str) -> bytes:
        """Send a message and give its reply, whole.

        The message must be sent and the reply be there within the timeout. An
        unfinished line at the end of what the peer sends is not a whole reply.
        """
        (reply,) = self._exchange(iter((message,)), _Whole(self))
        return reply

    def send(self, message: bytes | str) -> None:
        """Send a message, within the timeout, and wait for no reply.

        Nothing is read meanwhile: for a message longer than what fits into the
        buffers on the way, to a peer that answers while it reads, use ask().
        """
        self._check_usable()
        self._out = memoryview(self._wrap(_as_bytes(message)))
        try:
            self._flush()
        finally:
            self._forget(self._out is not None)
        if self._lost is not None:
            raise self._gone()

    def receive(self) -> bytes:
        """Give the next message of the peer, within the timeout.

        An unfinished line at the end of what it sends is a message. After TimedOut
        nothing is lost: it may be called again.
        """
        message = self._receive()
        if message is None:
            raise self._gone()
        return message

    def __iter__(self) -> Iterator[bytes]:
        """Receive until the peer ends; each message has the timeout."""
        while (message := self._receive()) is not None:
            yield message

    def pipeline(self, messages: Iterable[bytes | str]) -> Iterator[bytes]:
        """Give the replies to many messages, in order, without waiting for one to send the next.

        Nothing happens before the first reply is asked for. Each must be there
        within the timeout. Messages are taken as they can be sent, and at most
        1,024 replies are awaited at once; over udp one, since nobody holds
        datagrams back for a receiver that is behind.

        Errors: SettingError when nothing tells where a reply ends.
        """
        if self._reply_size is None and not self._framing.has_boundaries:
            raise SettingError(
                f"over a {self._framing.name} framing nothing tells the replies of a pipeline "
                "apart; name a protocol that has a reply_size, or a framing such as line"
            )
        # Small messages of a list share a packet. A generator may take its time
        # over each of them, so what it has given is sent first.
        ahead = CHUNK if isinstance(messages, list | tuple) else 1
        return self._exchange(iter(messages), _Whole(self, pipelined=True), ahead)

    def stream(self, file: BinaryIO) -> Iterator[bytes]:
        """Send all that a file holds, as it is, and give what comes back meanwhile.

        Where a reply_size says how much comes back (echo), gives bytes as they
        arrive, until there are as many; the connection stays usable. Otherwise says
        after the file that nothing more will be sent, and gives messages until the
        peer ends.

        The timeout is for seconds in which nothing moves in either direction.
        Reading the file has no deadline, and what comes back meanwhile waits.

        Errors: SettingError over udp, where nothing tells the end.
        """
        if self._transport.datagrams:
            raise SettingError(
                f"a file cannot be streamed to {self.address}: datagrams have no end; "
                "send its messages with pipeline()"
            )
        # Of a pipe, what is there and not only all that was asked for.
        read = getattr(file, "read1", file.read)
        return self._exchange(iter(lambda: read(CHUNK), b""), _Flow(self))

    def _wrap(self, message: bytes) -> bytes:
        if not self._framing.carries(message):
            # Sent all the same, it would be answered as two, and each later reply
            # would be taken for the one before.
            raise SettingError(
                f"{message[:40]!r} holds the end of a message, so over a {self._framing.name} "
                'framing it would be two; send it without, or with framing="raw"'
            )
        try:
            return self._framing.wrap(message)
        except ValueError as error:
            # Of a size that the framing does not have.
            raise SettingError(str(error)) from None

    # The one loop behind ask, pipeline and stream.
    def _exchange(
        self, pieces: Iterator[bytes | str], due: _Whole | _Flow, ahead: int = 1
    ) -> Iterator[bytes]:
        self._check_usable()
        try:
            yield from self._exchange_all(pieces, due, ahead)
        finally:
            if self._due is due:
                self._due = None
                self._forget(self._out is not None or due.owed)

    def _exchange_all(
        self, pieces: Iterator[bytes | str], due: _Whole | _Flow, ahead: int
    ) -> Iterator[bytes]:
        more = True
        deadline = self._deadline()
        while True:
            while (reply := due.take()) is not None:
                yield reply
                deadline = self._deadline()
            if self._out is None:
                if more and self._lost is None and due.room:
                    more = self._load(pieces, due, ahead)
                    deadline = self._deadline()
                    continue
                if due.until_end and not more and not self._finished:
                    self.half_close()
                if not due.owed:
                    # A peer that answered in full may hang up on the rest of
                    # the last message, but not on a file or a whole message.
                    if self._lost is not None and (
                        due.until_end or (more and next(pieces, None) is not None)
                    ):
                        raise self._gone()
                    return
            if self._ended and due.owed:
                raise self._gone(due.missing)
            if not self._move(deadline, reading=due.owed):
                raise self._late(due.late)
            if due.in_parts:
                deadline = self._deadline()

    def _load(self, pieces: Iterator[bytes | str], due: _Whole | _Flow, ahead: int) -> bool:
        if self._due is not due:
            # Somebody may have asked something else since the last reply was given.
            self._check_usable()
            self._due = due
        packed: list[bytes] = []
        size = 0
        more = True
        while more and size < ahead and due.room:
            piece = next(pieces, None)
            if piece is None:
                more = False
            else:
                packed.append(due.pack(piece))
                size += len(packed[-1])
        if size or (packed and self._transport.datagrams):
            self._out = memoryview(packed[0] if len(packed) == 1 else b"".join(packed))
        return more

    def _flush(self) -> None:
        deadline = self._deadline()
        while self._out is not None:
            if not self._move(deadline, reading=False):
                raise self._late("a message could not be sent to %s within %g s")

    def _receive(self) -> bytes | None:
        self._check_turn()
        deadline = self._deadline()
        while (message := self._take(None)) is None:
            if self._ended:
                message = self._rest()
                if message is None and self._lost is not None:
                    raise self._gone()
                return message
            # Another thread may be sending; but behind half_close() there is none.
            if not self._move(deadline, writing=self._finished):
                raise self._late("nothing whole came from %s within %g s")
        return message

    # Wait until something can be read or written, and do it; False at the deadline.
    def _move(self, deadline: float, reading: bool = True, writing: bool = True) -> bool:
        if self._closed is not None:
            raise self._gone()
        writing = writing and self._out is not None
        if reading and self._secured is not None and self._secured.ready:
            self._read()
            return True
        poller = select.poll()
        poller.register(
            self._sock, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0)
        )
        found = poller.poll(milliseconds(deadline))
        if not found:
            return False
        # Errors and hang-ups are reported to whoever waits: reading and writing
        # will tell which it is.
        if writing and found[0][1] & ~select.POLLIN:
            self._write()
        if reading and found[0][1] & ~select.POLLOUT:
            self._read()
        return True

    def _write(self) -> None:
        assert self._out is not None
        try:
            sent = self._wire.send(self._out)
        except BlockingIOError:
            return
        except OSError as error:
            size, self._out = len(self._out), None
            if error.errno == errno.EMSGSIZE:
                raise SettingError(
                    f"a message of {size:,} bytes does not fit into a datagram to {self.address}; "
                    "over IPv4 the longest has 65,507"
                ) from None
            if self._transport.datagrams:
                raise connect_error(self.address, error, self.timeout) from None
            # What the peer said before it went may still be there to be read.
            self._lost = error
        else:
            self._out = self._out[sent:] if sent < len(self._out) else None

    def _read(self) -> None:
        try:
            data = self._wire.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if self._transport.datagrams and self._closed is None:
                raise connect_error(self.address, error, self.timeout) from None
            self._lost = error
            data = b""
            self._ended = True
        if data:
            self._alerted = not self._heard and self._secured is None and _is_alert(data)
            self._heard = True
        if data or self._transport.datagrams:
            self._framing.feed(data)
        else:
            self._ended = True

    # A message; or `size` bytes of a raw framing, whose pieces mean nothing.
    def _take(self, size: int | None) -> bytes | None:
        surplus = self._surplus
        if size is None and not surplus:
            return self._next()
        while size is not None and len(surplus) < size:
            piece = self._next()
            if piece is None:
                return None
            surplus += piece
        reply = bytes(surplus[:size])
        del surplus[:size]
        return reply

    def _next(self) -> bytes | None:
        try:
            return self._framing.next()
        except ProtocolError as error:
            self._close("the peer broke the framing")
            raise ProtocolError(f"{self.address} broke the framing: {error}") from None

    # What is left at the end of input, if the framing takes it for a message. What
    # a connection that broke has left is none.
    def _rest(self) -> bytes | None:
        if self._lost is not None:
            return None
        try:
            return self._framing.end()
        except ProtocolError:
            raise self._gone() from None

    def _check_usable(self) -> None:
        self._check_turn()
        if self._lost is not None:
            raise self._gone()
        if self._finished:
            raise ConnectionEnded(
                f"nothing more can be sent to {self.address}: its end was announced, by "
                "half_close() or behind a stream"
            )

    def _check_turn(self) -> None:
        if self._closed is not None:
            # What had arrived before that is nobody's reply any more.
            raise self._gone()
        if self._due is not None and (self._due.owed or self._out is not None):
            raise SettingError(
                f"{self.address} still owes replies to a pipeline or a stream; "
                "take all of them first"
            )

    def _gone(self, missing: int = 0) -> ConnectionEnded:
        if self._closed is not None:
            return ConnectionEnded(f"the connection to {self.address} is closed: {self._closed}")
        sentence = f"{self.address} ended the connection"
        begun = self._framing.unfinished + len(self._surplus)
        if begun:
            sentence += f" in the middle of a reply, after {begun:,} bytes of it"
        elif missing:
            sentence += f" in the middle of a reply, {missing:,} bytes before its end"
        if self._alerted:
            return ConnectionEnded(
                f"{sentence}; what it said is an alert of TLS, so try tls://{self.address.name}"
            )
        if self._lost is None:
            return ConnectionEnded(sentence)
        return ConnectionEnded(f"{sentence} ({self._lost.strerror})", self._lost.errno)

    def _late(self, sentence: str) -> TimedOut:
        return TimedOut(sentence % (self.address, self.timeout), errno.ETIMEDOUT)

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _forget(self, unfinished: bool) -> None:
        if unfinished and not self._transport.datagrams:
            self._close("something asked earlier did not come to its end")
        self._out = None

    def _close(self, why: str) -> None:
        if self._closed is not None:
            return
        self._closed = why
        try:
            # A thread that waits in receive() would not notice close() alone.
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The peer has gone already.
            pass
        self._transport.unbind(self._sock, self._source or self.address, self._mark)


class _Whole:
    """What is owed: one whole reply for each message."""

    late = "no whole reply came from %s within %g s"
    until_end = False
    in_parts = False
    missing = 0

    def __init__(self, client: Client, pipelined: bool = False) -> None:
        self._client = client
        self._pipelined = pipelined
        self._most = 1 if client._transport.datagrams else MOST_DUE
        self._sizes: deque[int | None] = deque()

    @property
    def owed(self) -> bool:
        return bool(self._sizes)

    @property
    def room(self) -> bool:
        return len(self._sizes) < self._most

    def pack(self, message: bytes | str) -> bytes:
        data = _as_bytes(message)
        packed = self._client._wrap(data)
        size = None
        if self._client._reply_size is not None:
            size = self._client._reply_size(data)
            if size is None and self._pipelined:
                raise SettingError(
                    f"the reply_size of {data[:40]!r} is not known, so its reply cannot be told "
                    "from the next one in a pipeline; use ask()"
                )
        self._sizes.append(size)
        return packed

    def take(self) -> bytes | None:
        # An empty reply is there as soon as its message is sent.
        if not self._sizes or (self._sizes[0] == 0 and self._client._out is not None):
            return None
        reply = self._client._take(self._sizes[0])
        if reply is not None:
            self._sizes.popleft()
        return reply


class _Flow:
    """What is owed: as many bytes as reply_size says, or all until the peer ends."""

    late = "nothing moved to or from %s for %g s"
    in_parts = True
    room = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self.until_end = client._reply_size is None
        self.missing = 0

    @property
    def owed(self) -> bool:
        return not self._client._ended if self.until_end else self.missing > 0

    def pack(self, piece: bytes | str) -> bytes:
        # No text: how a text file's line ends were written is lost.
        data = bytes(memoryview(piece))  # type: ignore[arg-type]  # tells what else was read
        size = None if self.until_end else self._client._reply_size(data)  # type: ignore[misc]  # see until_end
        if size is None:
            self.until_end = True
        else:
            self.missing += size
        return data

    def take(self) -> bytes | None:
        client = self._client
        if self.until_end:
            message = client._take(None)
            if message is None and client._ended:
                message = client._rest()
            return message
        part = client._take(None) if self.missing else None
        if part is None:
            return None
        # More than was owed belongs to whatever is asked next.
        client._surplus[:0] = part[self.missing :]
        part = part[: self.missing]
        self.missing -= len(part)
        return part


class _Datagrams(Framing):
    """Each datagram is a message, and an empty one too."""

    name = "datagram"

    def __init__(self, max_message: int = CHUNK) -> None:
        super().__init__(max_message)
        self._arrived: deque[bytes] = deque()

    def feed(self, data: bytes) -> None:
        self._arrived.append(data)

    def next(self) -> bytes | None:
        return self._arrived.popleft() if self._arrived else None

    def wrap(self, message: bytes) -> bytes:
        return message


def _parse_source(source: Any, address: Address) -> Address:
    if isinstance(source, str):
        # Without a port any will do, not the port where servers listen.
        scheme, _, place = source.rpartition("://")
        if scheme in ("", "tcp", "tls", "udp") and ":" not in place.rpartition("]")[2]:
            source += ":0"
    found = Address.parse(source)
    if found.scheme == "fd" or (found.scheme == "unix") != (address.scheme == "unix"):
        raise SettingError(f"source {found} cannot reach {address}: they are of different kinds")
    return found


def _is_alert(data: bytes) -> bool:
    # A record of type 21, of version 3.something, with a fatal alert's two bytes.
    return len(data) == 7 and data[:2] == b"\x15\x03" and data[3:6] == b"\x00\x02\x02"


def _as_bytes(message: bytes | str) -> bytes:
    if isinstance(message, str):
        return message.encode()
    try:
        return bytes(memoryview(message))
    except TypeError:
        raise TypeError(f"a message is bytes or str, not {type(message).__name__}") from None
