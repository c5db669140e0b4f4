"""What clients do, each as a script: a generator that yields while it waits.

A script does its own sending and receiving and stops at `yield` until its socket can be
read (or written, if it said WRITE). That it keeps its place and its names between two
messages is what makes a client fast: for each reply the loop makes one call, and no
object is made. Whatever goes wrong is raised, and counted in one place.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from array import array
from collections import deque
from collections.abc import Callable, Generator
from itertools import cycle
from time import monotonic as clock
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import ProtocolError
from ..framing import Framing
from ..transports.certificates import client_context
from .plan import CheckFailed, Exchange, Group, Moment
from .workload import CHURN, CROWD, HOLD, SIP

if TYPE_CHECKING:
    from .load import Load

__all__ = ["Client", "Target", "kind_of"]

Script = Generator[None, Any, None]

# More than this and malloc() maps memory for each read.
CHUNK = 64 * 1024
READ, WRITE = select.EPOLLIN, select.EPOLLOUT

# A slow reader takes so much, so often.
SIP_SIZE, SIP_PAUSE = 4096, 0.005
# After an error: so long until the next try, doubled each time.
PAUSE, LONGEST_PAUSE = 0.01, 0.2
# So many connections from one source address, before their ports run out: the system
# keeps each for a minute, and has 28,000 of them.
FROM_ONE_SOURCE = 10_000
SOURCES = 250


class Wrong(Exception):
    """Something came back that is not the reply."""


class Ended(Exception):
    """The server has hung up before it answered."""


# What an error is called in the tally; the first that fits.
KINDS: list[tuple[type[Exception], str]] = [
    (Wrong, "wrong"),
    (ProtocolError, "wrong"),
    (Ended, "ended"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (TimeoutError, "timeout"),
    (ssl.SSLError, "tls"),
    (OSError, "failed"),
]


class Target:
    """The server, as somebody who connects sees it."""

    def __init__(self, place: Address, ca: str | None = "") -> None:
        self.datagrams = place.scheme == "udp"
        # As Client's, but that "" trusts anybody.
        self.context = client_context(False if ca == "" else ca) if place.scheme == "tls" else None
        self.host = place.host
        kind = socket.SOCK_DGRAM if self.datagrams else socket.SOCK_STREAM
        self.where: Any
        if place.scheme == "unix":
            self._made = (socket.AF_UNIX, kind, 0)
            self.where = place.sockaddr_un
        else:
            found = socket.getaddrinfo(place.host, place.port, type=kind)[0]
            self._made = (found[0], kind, found[2])
            self.where = found[4]
        self._loopback = self._made[0] == socket.AF_INET and str(self.where[0]).startswith("127.")
        self.delays = place.scheme in ("tcp", "tls")
        self._from_here = self._source = 0

    def open(self) -> socket.socket:
        """Give a socket that has begun to connect. Errors: OSError."""
        sock = socket.socket(*self._made)
        try:
            sock.setblocking(False)
            if self._loopback and not self.datagrams:
                self._choose_source(sock)
            if self.delays:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failure = sock.connect_ex(self.where)
            if failure == errno.EADDRNOTAVAIL and self._loopback:
                # Its ports are all in use.
                sock.close()
                if self._source >= SOURCES:
                    raise OSError(failure, os.strerror(failure))
                self._from_here = FROM_ONE_SOURCE
                return self.open()
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, os.strerror(failure))
        except BaseException:
            sock.close()
            raise
        return sock

    def _choose_source(self, sock: socket.socket) -> None:
        # All of 127.0.0.0/8 is this machine, and each address has ports of its own.
        self._from_here += 1
        if self._from_here > FROM_ONE_SOURCE:
            self._from_here = 0
            self._source += 1
        if self._source:
            # The port is chosen when it connects, and so may serve several peers.
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.1.{self._source % SOURCES + 1}", 0))


IP_BIND_ADDRESS_NO_PORT = 24


class Client:
    """One client: its script, and what it has seen."""

    def __init__(self, load: Load, group: Group, number: int) -> None:
        self.group = group
        # Packed: there are millions of them in a minute.
        self.times = array("d")
        self.from_send = array("d")
        self.moment: Moment | None = None
        # It has heard a word of the server's.
        self.served = False
        # It waits for something to be asked of it, or for its time: nothing is late.
        self.resting = False
        self.through = False
        self.progress = -1
        self._load = load
        self._number = number
        self._sock: Any = None
        self._exchanges = self._tagged() if group.tagged else list(group.exchanges)
        self._framing: Framing | None = None
        ways: dict[str, Callable[[], Script]] = {
            CHURN: self._churn,
            CROWD: self._crowd,
            HOLD: self._hold,
            SIP: self._sip,
        }
        self._way = ways.get(group.way, self._talk)
        self._script = self._live()
        self.step = self._script.send
        self.throw = self._script.throw

    def _tagged(self) -> list[Exchange]:
        # Two that differ, in turn, so that a reply that comes twice is noticed.
        made = []
        for turn in range(2):
            tag = b"%08d.%d." % (self._number, turn)
            for one in self.group.exchanges:
                out = tag + one.out[len(tag) :]
                made.append(Exchange(out, out, out))
        return made

    # ---------------------------------------------------------------- its life

    def _live(self) -> Script:
        pause = PAUSE
        load = self._load
        while True:
            said = len(self.times)
            try:
                yield from self._way()
                break
            except BlockingIOError:
                # A backlog that is full: over a Unix socket one is told.
                pass
            except tuple(kind for kind, _ in KINDS) as error:
                load.errors[kind_of(error, load.target.datagrams)] += 1
            finally:
                self._close()
            if load.stops or (self.group.way == CROWD):
                break
            pause = PAUSE if len(self.times) > said else min(2 * pause, LONGEST_PAUSE)
            yield from self._sleep(pause)
        self.through = True
        load.through += 1

    def leave(self) -> None:
        """Close whatever is open, and come no more."""
        self._script.close()

    def _open(self) -> Script:
        load = self._load
        sock = self._sock = load.target.open()
        load.watch(sock.fileno(), self.step)
        context = load.target.context
        if context is not None:
            yield from self._until_writable()
            sock = self._sock = context.wrap_socket(
                sock, do_handshake_on_connect=False, server_hostname=load.target.host
            )
            while True:
                try:
                    sock.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    yield
                except ssl.SSLWantWriteError:
                    yield from self._until_writable()
        self._framing = None
        for _ in range(load.plan.greetings):
            yield
            yield from self._framed(None, (yield from self._receive()))

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._load.forget(sock.fileno())
            sock.close()

    def _sleep(self, seconds: float) -> Script:
        self._load.wake_at(clock() + seconds, self.step)
        yield from self._rest_until_woken()

    def _let_others_come(self) -> Script:
        # Or those who are in would take all of the server's time, and it would seem that
        # it serves nobody else.
        load = self._load
        if load.preparing:
            load.early.append(self)
            yield from self._rest_until_woken()

    def _rest_until_woken(self) -> Script:
        # Whatever comes meanwhile can wait.
        load, sock = self._load, self._sock
        if sock is not None:
            load.forget(sock.fileno())
        self.resting = True
        yield
        self.resting = False
        if sock is not None:
            load.watch(sock.fileno(), self.step)

    def _until_writable(self) -> Script:
        load, number = self._load, self._sock.fileno()
        load.epoll.modify(number, WRITE)
        yield
        load.epoll.modify(number, READ)

    # ------------------------------------------------------------- to be in one's way

    def _send(self, data: bytes) -> Script:
        # What the first try left over, or was not ready for.
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield from self._until_writable()
            except ssl.SSLWantReadError:
                yield

    def _rest(self, exchange: Exchange, data: bytes) -> Script:
        # A reply that did not come in one piece, or whose text nobody knows.
        reply = exchange.reply
        if reply is None:
            yield from self._framed(exchange, data)
            return
        pieces, size = [data], len(data)
        while size < len(reply):
            data = yield from self._receive()
            pieces.append(data)
            size += len(data)
        if b"".join(pieces) != reply:
            raise Wrong

    def _framed(self, exchange: Exchange | None, data: bytes) -> Script:
        framing = self._framing
        if framing is None:
            framing = self._framing = self._load.framing()
        framing.feed(data)
        while (reply := framing.next()) is None:
            framing.feed((yield from self._receive()))
        if exchange and not self._fits(exchange.message, reply):
            raise Wrong

    def _fits(self, message: bytes, reply: bytes) -> bool:
        load = self._load
        if load.check is None:
            return True
        try:
            return bool(load.check(message, reply))
        except Exception as error:
            # Whatever it is, it is neither the server's nor the loop's.
            raise CheckFailed(f"--check: {load.plan.check} has raised {error!r}") from None

    def _receive(self) -> Generator[None, Any, bytes]:
        while True:
            try:
                data: bytes = self._sock.recv(CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield
                continue
            if not data and not self._load.target.datagrams:
                raise Ended
            return data

    # ------------------------------------------------------------ what they do

    def _ask(self, exchange: Exchange) -> Script:
        out = exchange.out
        try:
            sent = self._sock.send(out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            # Not connected yet, or full.
            sent = 0
        if sent != len(out):
            yield from self._send(out[sent:])
        yield
        data = yield from self._receive()
        if data != exchange.reply:
            yield from self._rest(exchange, data)
        self.served = True

    def _talk(self) -> Script:
        group = self.group
        yield from self._open()
        # The first word takes the time of the connection, and counts for nothing.
        yield from self._ask(self._exchanges[-1])
        yield from self._let_others_come()
        # Room for one byte too many, and for no more: it is allocated for each read.
        size = max(CHUNK if one.reply is None else len(one.reply) + 1 for one in self._exchanges)
        size = min(size, CHUNK)
        if self._load.planned:
            yield from self._talk_as_planned(size)
        elif group.pipeline > 1:
            yield from self._talk_ahead()
        recv, send, record = self._sock.recv, self._sock.send, self.times.append
        think = group.think
        start = clock()
        for exchange in cycle(self._exchanges):
            out, reply = exchange.out, exchange.reply
            try:
                sent = send(out)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent = 0
            if sent != len(out):
                yield from self._send(out[sent:])
            yield
            try:
                data = recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                data = yield from self._receive()
            if data != reply:
                if not data and not self._load.target.datagrams:
                    raise Ended
                yield from self._rest(exchange, data)
            now = clock()
            record(now - start)
            start = now
            if think:
                yield from self._sleep(think)
                start = clock()

    def _talk_ahead(self) -> Script:
        # Several under way: with each reply goes the next message.
        exchanges = cycle(self._exchanges)
        waiting: deque[tuple[float, Exchange]] = deque()
        held = b""
        while True:
            out = []
            now = clock()
            while len(waiting) < self.group.pipeline:
                exchange = next(exchanges)
                out.append(exchange.out)
                waiting.append((now, exchange))
            yield from self._send(b"".join(out))
            if not held:
                held = yield from self._receive()
            start, exchange = waiting.popleft()
            reply = exchange.reply
            if reply is None:
                yield from self._framed(exchange, held)
                held = b""
            else:
                while len(held) < len(reply):
                    held += yield from self._receive()
                if not held.startswith(reply):
                    raise Wrong
                held = held[len(reply) :]
            self.times.append(clock() - start)

    def _talk_as_planned(self, size: int) -> Script:
        # As in _talk(), nothing is called between the planned moment and the message's
        # leaving that need not be: what it takes would count as the server's.
        load = self._load
        recv, send, due, rest = self._sock.recv, self._sock.send, load.due, load.free.append
        record, record_send = self.times.append, self.from_send.append
        for exchange in cycle(self._exchanges):
            out, reply = exchange.out, exchange.reply
            if due:
                intended = due.popleft()
            else:
                rest(self)
                self.resting = True
                intended = yield
                self.resting = False
                if intended is None:
                    # Nothing was asked, and its socket can be read.
                    load.free.remove(self)
                    raise Ended if not recv(CHUNK) else Wrong
            start = clock()
            try:
                sent = send(out)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent = 0
            if sent != len(out):
                yield from self._send(out[sent:])
            yield
            try:
                data = recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                data = yield from self._receive()
            now = clock()
            if data != reply:
                if not data and not load.target.datagrams:
                    raise Ended
                yield from self._rest(exchange, data)
                now = clock()
            record(now - intended)
            record_send(now - start)

    def _churn(self) -> Script:
        planned = self._load.planned
        due, free = self._load.due, self._load.free
        if self._load.preparing and not self.served:
            yield from self._open()
            yield from self._ask(self._exchanges[-1])
            self._close()
            yield from self._let_others_come()
        for exchange in cycle(self._exchanges):
            intended = 0.0
            if due:
                intended = due.popleft()
            elif planned:
                free.append(self)
                self.resting = True
                intended = yield
                self.resting = False
            start = clock()
            yield from self._open()
            for _ in range(self.group.stay):
                yield from self._ask(exchange)
                now = clock()
                self.times.append(now - (intended or start))
                if planned:
                    self.from_send.append(now - start)
                start = now
            self._close()

    def _crowd(self) -> Script:
        self.resting = True
        yield from self._load.gate(self)
        self.resting = False
        came = clock()
        port = 0
        try:
            yield from self._open()
            name = self._sock.getsockname()
            port = name[1] if isinstance(name, tuple) else 0
            self.moment = Moment(port, came, None)
            yield from self._ask(self._exchanges[0])
        finally:
            self.moment = Moment(port, came, clock() if self.served else None)
        self.times.append(clock() - came)

    def _hold(self) -> Script:
        yield from self._open()
        yield from self._ask(self._exchanges[0])
        self.resting = True
        yield
        raise Ended if not self._sock.recv(CHUNK) else Wrong

    def _sip(self) -> Script:
        yield from self._open()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP_SIZE)
        for exchange in cycle(self._exchanges):
            yield from self._send(exchange.out)
            reply, seen = exchange.reply, 0
            while reply is None or seen < len(reply):
                yield from self._sleep(SIP_PAUSE)
                yield
                data = self._sock.recv(SIP_SIZE)
                if not data:
                    raise Ended
                self.served = True
                if reply is None:
                    break
                if data != reply[seen : seen + len(data)]:
                    raise Wrong
                seen += len(data)


def kind_of(error: Exception, datagrams: bool) -> str:
    """Give what an error is called in the tally."""
    if datagrams and isinstance(error, TimeoutError):
        return "lost"
    return next(name for kind, name in KINDS if isinstance(error, kind))
