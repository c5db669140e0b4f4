"""What an animal may use, and how far it may go: sockets, with bounds in number and time.

Rule 1: nothing waits for ever. An animal is at work for `seconds`, and a wait for what the
        server owes it takes no longer than a healthy client's.
Rule 2: a server may hang up on any animal at any moment. That is no error here.
Rule 3: all that was opened is closed, and the limit of descriptors is what it was, when
        the visit ends.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...address import Address
from ...deadlines import milliseconds
from ...transports import transport_of
from ...transports.base import connect_error, look_up
from ...transports.certificates import client_context
from ...transports.tls import TlsStream, secure
from .healthy import Healthy, common

__all__ = ["Fault", "Leash", "Peer"]

CHUNK = 64 * 1024

# What is kept of the end of what was heard; a reply is looked for there.
KEPT = 64 * 1024

# A server that takes nothing for so long does not read: what is on the way is full.
STUCK = 0.05

# So long a crowd waits for its last ones to be let in: whom the kernel has turned away
# for want of room comes again after a second, and is a part of the attack as it is.
CROWDED = 0.5

# A receive buffer that is full soon (kernels take a little more than they are told).
SMALL = 4096

# Descriptors that this process may need besides an animal's.
SPARE = 64


class Fault(Exception):
    """What a good server would not have done, or not left undone, in a sentence."""


class Peer:
    """One conversation of an animal: a socket, and TLS over it where it has shaken hands.

    `ended` is true once the server has hung up, in whatever way; `heard` is the end of
    what it has said, and `size` how many bytes that was in all.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.socket = sock
        # What is written to and read from; the leash puts TLS there.
        self.wire: socket.socket | TlsStream = sock
        self._deadline = deadline
        self._datagrams = sock.type == socket.SOCK_DGRAM
        self.ended = False
        self.heard = b""
        self.size = 0

    def say(self, pieces: bytes | Iterable[bytes], stuck: float | None = None) -> int:
        """Send and read nothing; give how many bytes were taken.

        Until the server has hung up, the time is over, or, if `stuck` is given, it has
        taken nothing for so many seconds. Over udp each piece is a datagram.
        """
        taken = 0
        for piece in [pieces] if isinstance(pieces, bytes) else pieces:
            done = self._send(piece, stuck)
            taken += done
            # A datagram that cannot be sent holds no other one back.
            if self.ended or (done < len(piece) and not self._datagrams):
                break
        return taken

    def _send(self, piece: bytes, stuck: float | None) -> int:
        rest = memoryview(piece)
        while not self.ended:
            try:
                rest = rest[self.wire.send(rest) :]
            except BlockingIOError:
                until = self._deadline
                if stuck is not None:
                    until = min(until, time.monotonic() + stuck)
                if not self._wait(self._want(), until):
                    break
            except OSError:
                self.ended = not self._datagrams
                break
            if not rest:
                break
        return len(piece) - len(rest)

    def pump(
        self,
        pieces: bytes | Iterable[bytes] = b"",
        until: Callable[[], bool] | None = None,
        within: float | None = None,
    ) -> bool:
        """Send all this and read at the same time; then read on until that is true.

        Gives whether it came so far: False if the server hung up, or the time (or what
        `within` says, in seconds) was over.
        """
        deadline = self._deadline if within is None else time.monotonic() + within
        source = iter([pieces] if isinstance(pieces, bytes) else pieces)
        rest = memoryview(next(source, b""))
        while True:
            while self._read():
                pass
            if until is not None and until():
                return True
            if self.ended:
                return False
            if rest:
                try:
                    rest = rest[self.wire.send(rest) :] or memoryview(next(source, b""))
                    continue
                except BlockingIOError:
                    pass
                except OSError:
                    # What it said before it went may still be there.
                    rest, source = memoryview(b""), iter(())
                    continue
            elif until is None:
                return True
            if not self._wait(select.POLLIN | (self._want() if rest else 0), deadline):
                return False

    def _read(self) -> bool:
        if self.ended:
            return False
        try:
            data = self.wire.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            self.ended = not self._datagrams
            return False
        if not data and not self._datagrams:
            self.ended = True
        self.heard = (self.heard + data)[-KEPT:]
        self.size += len(data)
        return not self.ended

    def _want(self) -> int:
        if isinstance(self.wire, TlsStream) and not self.wire.writes:
            # It is TLS that has to read first.
            return select.POLLIN
        return select.POLLOUT

    def _wait(self, events: int, deadline: float) -> bool:
        poller = select.poll()
        poller.register(self.socket, events)
        return bool(poller.poll(milliseconds(deadline)))

    def finish(self) -> None:
        """Half-close: say that nothing more will be said."""
        try:
            if isinstance(self.wire, TlsStream):
                self.wire.finish()
            elif not self._datagrams:
                self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            # It has gone, or its buffers are full.
            pass

    def reset(self) -> None:
        """Break off: the server gets an error and no end. (Unix sockets do not know that.)"""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self.socket.close()


class Leash:
    """One animal's visit: where the server is, what may be done to it, and how much.

    `many` is how many connections a crowd has, `few` how often an animal does what takes
    time, `mib` how many MiB one of them sends at most, `pace` the seconds between the
    bytes of those who dawdle.
    """

    def __init__(
        self, address: Address, healthy: Healthy, many: int, seconds: float, pace: float, mib: float
    ) -> None:
        self.address = address
        self.healthy = healthy
        self.many = many
        self.few = min(many, 20)
        self.seconds = seconds
        self.pace = pace
        self.mib = mib
        # What went otherwise than planned, and is nobody's fault.
        self.notes: list[str] = []
        self.context = client_context(healthy.tls) if address.scheme == "tls" else None
        self._transport = transport_of(address)
        # A name may stand for several addresses: the one that serves. Asked rightly, since
        # whoever only looks in there is an animal already.
        first = healthy.ask(address, self.context)
        peer = first.peer
        # What the healthy client has to be told from now on.
        self.usual = b""
        if not healthy.expect:
            self.usual = common(first.heard, healthy.ask(address, self.context).heard)
        if address.scheme == "unix":
            self._family: int = socket.AF_UNIX
            self._where: Any = address.sockaddr_un
        else:
            (self._family, *_, self._where), *_ = look_up(peer, self._transport.kind, passive=False)
        self._peers: list[Peer] = []
        self._limits: tuple[int, int] | None = None
        self._deadline = time.monotonic() + seconds

    # ------------------------------------------------------------------ time

    def begin(self) -> None:
        """A visit begins: the time runs from here."""
        self.notes = []
        self._deadline = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds until the animal has to leave."""
        return max(self._deadline - time.monotonic(), 0.0)

    @property
    def is_crowd(self) -> bool:
        """Whether it came with so many that they alone may fill a server."""
        return len(self._peers) >= max(self.many // 4, 2)

    def times(self, count: int) -> Iterator[int]:
        """Count, as long as there is time."""
        for number in range(count):
            if not self.left:
                self.notes.append(f"{number:,} of {count:,} times in {self.seconds:g} s")
                return
            yield number

    def pause(self) -> None:
        """Dawdle."""
        time.sleep(min(self.pace, self.left))

    # --------------------------------------------------------------- messages

    @property
    def message(self) -> bytes:
        """What a healthy client says."""
        return self.healthy.say or b"hello\n"

    @property
    def half(self) -> bytes:
        """The first half of a message."""
        return self.message[: max(len(self.message) // 2, 1)]

    @property
    def long_message(self) -> bytes:
        """A message of 4 KiB where messages are lines, so that there is much to be answered."""
        if self.message.find(b"\n") == len(self.message) - 1:
            return b"x" * 4095 + b"\n"
        return self.message

    def pieces(self, message: bytes) -> Iterator[bytes]:
        """The message again and again, in pieces, `mib` MiB in all."""
        piece = message * max(CHUNK // len(message), 1)
        for _ in range(max(int(self.mib * 1024 * 1024) // len(piece), 1)):
            yield piece

    def note_taken(self, size: int) -> None:
        """Note how much the server, or what is on the way to it, has taken."""
        self.notes.append(f"it was taken {size / 1024 / 1024:,.1f} MiB")

    # ------------------------------------------------------------ connections

    def bare(self, small: bool = False) -> Peer:
        """Give a connected peer that has not shaken hands; `small` has a small buffer to read.

        Errors: an EchoframeError when there is no connection in time.
        """
        peer = self._open(small)
        sock = peer.socket
        try:
            sock.settimeout(self.healthy.within)
            sock.connect(self._where)
        except OSError as error:
            sock.close()
            raise connect_error(self.address, error, self.healthy.within) from None
        sock.setblocking(False)
        return peer

    def connect(self, small: bool = False) -> Peer:
        """Give a connected peer, over TLS where the address says so. Errors: as of bare()."""
        peer = self.bare(small)
        if self.context is not None:
            within = self.healthy.within
            deadline = time.monotonic() + within
            peer.wire = secure(peer.socket, self.address, self.context, deadline, within)
        return peer

    def crowd(self, count: int, say: bytes = b"", bare: bool = False) -> list[Peer]:
        """Come with so many at once, or as many as are let in; each says this.

        Over TLS they shake hands, one after the other, unless they are `bare`.
        """
        count = self._room(count)
        if self.context is not None and not bare:
            return self._polite_crowd(count, say)
        peers: list[Peer] = []
        poller = select.poll()
        for _ in self.times(count):
            try:
                peer = self._open()
                self._set_out(peer)
            except OSError as error:
                self._note_crowd(peers, count, error.strerror or str(error))
                break
            poller.register(peer.socket, select.POLLOUT)
            peers.append(peer)
        waiting = {peer.socket.fileno(): peer for peer in peers}
        deadline = time.monotonic() + min(CROWDED, self.left)
        while waiting and (found := poller.poll(milliseconds(deadline))):
            for number, _ in found:
                poller.unregister(number)
                peer = waiting.pop(number)
                if say:
                    peer.say(say, stuck=0.0)
        if waiting:
            self.notes.append(f"{len(waiting):,} of {count:,} were not let in yet")
        return peers

    def _polite_crowd(self, count: int, say: bytes) -> list[Peer]:
        peers: list[Peer] = []
        for _ in self.times(count):
            try:
                peer = self.connect()
            except OSError as error:
                self._note_crowd(peers, count, error.strerror or str(error))
                break
            peer.say(say, stuck=0.0)
            peers.append(peer)
        return peers

    def _note_crowd(self, peers: list[Peer], count: int, reason: str) -> None:
        self.notes.append(f"{len(peers):,} of {count:,} came: {reason}")

    def _set_out(self, peer: Peer) -> None:
        """Begin to connect, and do not wait until somebody lets it in."""
        until = time.monotonic() + CROWDED
        while (result := peer.socket.connect_ex(self._where)) not in (0, errno.EINPROGRESS):
            # The backlog of a Unix socket is full: the kernel has nobody wait there who
            # does not block.
            if result != errno.EAGAIN or time.monotonic() > until or not self.left:
                peer.close()
                raise OSError(result, os.strerror(result))
            time.sleep(0.002)

    def _open(self, small: bool = False) -> Peer:
        sock = socket.socket(self._family, self._transport.kind)
        sock.setblocking(False)
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        peer = Peer(sock, self._deadline)
        self._peers.append(peer)
        return peer

    def _room(self, count: int) -> int:
        """Raise this process's limit of descriptors for so many, as far as it may."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = len(os.listdir("/dev/fd")) + SPARE + count
        if soft == resource.RLIM_INFINITY or needed <= soft:
            return count
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            most = soft
        else:
            self._limits = self._limits or (soft, hard)
        if most < needed:
            room = max(count - (needed - most), 1)
            self.notes.append(
                f"{room:,} of {count:,} came: this process may open {most:,} descriptors"
            )
            return room
        return count

    # ----------------------------------------------------- what a server owes

    def must_reply(self, peer: Peer) -> None:
        """Errors: Fault when what a healthy client expects does not come."""
        if self.healthy.only_connect:
            return
        if not peer.pump(
            until=lambda: self.healthy.answered(peer.heard), within=self.healthy.within
        ):
            how = "hung up" if peer.ended else f"gave none within {self.healthy.within:g} s"
            raise Fault(f"it was owed a reply, and the server {how}")

    def must_end(self, peer: Peer) -> None:
        """Errors: Fault when the server does not end what its peer has ended."""
        if self._transport.datagrams:
            return
        peer.pump(until=lambda: peer.ended, within=self.healthy.within)
        if not peer.ended:
            raise Fault(
                "it had ended its side, and the server did not end its own within "
                f"{self.healthy.within:g} s"
            )

    # ------------------------------------------------------------------- end

    def let_go(self) -> None:
        """The visit ends: nobody of this animal's is left."""
        while self._peers:
            self._peers.pop().close()
        if self._limits is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
            self._limits = None
