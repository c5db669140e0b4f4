"""What clients do to a server. Everything waits for no longer than the server's `patience`."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from ..helpers import read_line, read_to_end, reset
from .scenario import Failed, need
from .subject import Up

__all__ = [
    "HELLO",
    "Load",
    "all_at_once",
    "ask",
    "crowd",
    "hears",
    "hung_up",
    "load",
    "milliseconds",
    "over_tls",
    "read_line",
    "read_to_end",
    "reset",
    "seconds_to_serve",
    "serves_again",
    "stay",
]

HELLO = b"hello\n"


def ask(peer: socket.socket, message: bytes) -> bytes:
    """Send a line and give the line that comes back, both without their ends."""
    peer.sendall(message + b"\n")
    got = b""
    while not got.endswith(b"\n"):
        more = peer.recv(4096)
        if not more:
            break
        got += more
    return got.rstrip(b"\n")


def over_tls(sock: socket.socket) -> ssl.SSLSocket:
    """Shake hands with whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def seconds_to_serve(up: Up, source: str = "") -> float:
    """A healthy client connects, asks, and has its reply. Errors: Failed when it has not."""
    began = time.monotonic()
    try:
        with up.connect(source) as peer:
            got = ask(peer, b"hello")
    except OSError as error:
        raise Failed(f"a healthy client was not served: {error}") from None
    need(got == b"hello", f"a healthy client was told {got!r}")
    return time.monotonic() - began


def serves_again(up: Up, within: float = 1.0) -> str:
    """Errors: Failed if a healthy client is not served within so many seconds."""
    took = seconds_to_serve(up)
    need(took < within, f"a healthy client was served {took:.1f} s later only")
    return milliseconds(took)


@contextlib.contextmanager
def crowd(up: Up, count: int, say: bytes = b"", buffer: int = 0) -> Iterator[list[socket.socket]]:
    """Come with so many, one right behind the other, and each says this once it is let in.

    `buffer` makes what they can receive small, and what the kernel keeps for them.

    Who finds the door closed comes again, for a tenth of a second; then all the others stay
    where they are, and knock no more than the kernel does.
    """
    peers: list[socket.socket] = []
    waiting: list[socket.socket] = []
    try:
        for _ in range(count):
            for _ in range(1 if waiting else 20):
                sock = _set_out(up, buffer)
                if _is_in(sock, 0 if waiting else 5):
                    break
                sock.close()
            else:
                sock = _set_out(up, buffer)
                waiting.append(sock)
            peers.append(sock)
            if say and sock not in waiting:
                sock.send(say)
        for sock in waiting:
            if say and _is_in(sock, 0):
                with contextlib.suppress(OSError):
                    sock.send(say)
        for sock in peers:
            sock.settimeout(up.patience)
        yield peers
    finally:
        for sock in [*peers, *waiting]:
            sock.close()


def _set_out(up: Up, buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    try:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            # The kernel makes room for some segments at the other end, and loopback has large ones.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        sock.setblocking(False)
        result = sock.connect_ex(up.where)
        if result not in (0, errno.EINPROGRESS):
            raise OSError(result, "cannot connect")
    except BaseException:
        sock.close()
        raise
    return sock


def _is_in(sock: socket.socket, pause: float) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(pause))


def all_at_once(up: Up, count: int) -> float:
    """So many come in the same instant, ask, and leave with their replies.

    Gives the seconds until the last one has it. Errors: Failed when somebody has none.
    """
    began = time.monotonic()
    end = began + up.patience
    coming = select.poll()
    peers: dict[int, socket.socket] = {}
    served = 0
    try:
        for _ in range(count):
            sock = _set_out(up)
            peers[sock.fileno()] = sock
            coming.register(sock, select.POLLOUT)
        while peers:
            found = coming.poll(max((end - time.monotonic()) * 1000, 0))
            need(found, f"{served} of {count} were answered within {up.patience:g} s")
            for number, event in found:
                sock = peers[number]
                try:
                    if event & select.POLLOUT:
                        sock.send(HELLO)
                        coming.modify(sock, select.POLLIN)
                        continue
                    got = sock.recv(100)
                except OSError as error:
                    raise Failed(f"{served} of {count} were answered, then: {error}") from None
                need(got == HELLO, f"{served} of {count} were answered, then {got!r} came")
                served += 1
                coming.unregister(sock)
                peers.pop(number).close()
    finally:
        for sock in peers.values():
            sock.close()
    return time.monotonic() - began


def stay(peers: Sequence[socket.socket]) -> None:
    """Errors: Failed when the server has hung up on one of them."""
    poller = select.poll()
    for peer in peers:
        poller.register(peer, select.POLLRDHUP)
    gone = len(poller.poll(0))
    need(not gone, f"the server hung up on {gone} of {len(peers)}")


def hears(peer: socket.socket, whole: bytes, size: int) -> None:
    """Read so many bytes, which are this again and again. Errors: Failed when they are not."""
    got = 0
    while got < size:
        try:
            data = peer.recv(min(size - got, 1 << 18))
        except OSError as error:
            raise Failed(f"when it read, after {got:,} of {size:,} bytes: {error}") from None
        need(data, f"it was hung up on after {got:,} of {size:,} bytes")
        place = got % len(whole)
        expected = whole[place : place + len(data)]
        while len(expected) < len(data):
            expected += whole[: len(data) - len(expected)]
        need(data == expected, f"a byte was wrong behind {got:,}")
        got += len(data)


def hung_up(peer: socket.socket, within: float) -> float:
    """The seconds until the server has ended a conversation, in whatever way, if nobody reads.

    Errors: Failed when it has not within so many seconds.
    """
    began = time.monotonic()
    poller = select.poll()
    poller.register(peer, select.POLLRDHUP)
    need(poller.poll(within * 1000), f"it was not cut within {within:.2f} s")
    return time.monotonic() - began


class Load:
    """Clients who connect, ask, check the reply, and come again, until `least` were served."""

    def __init__(self, up: Up, least: int, crowds: int) -> None:
        self._up = up
        self._least = least
        self._over = threading.Event()
        self._served = [0] * crowds
        self._wrong: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._come_again, args=[number], daemon=True)
            for number in range(crowds)
        ]
        for thread in self._threads:
            thread.start()

    def _come_again(self, number: int) -> None:
        while not self._over.is_set() or sum(self._served) < self._least:
            wrong = self._come(b"%d of %d" % (self._served[number], number))
            if not wrong:
                self._served[number] += 1
            else:
                self._wrong[wrong] += 1
                if self._wrong.total() > 100:
                    break

    def _come(self, message: bytes) -> str:
        try:
            with self._up.connect() as peer:
                got = ask(peer, message)
        except ConnectionRefusedError:
            return "refused"
        except ConnectionError:
            return "reset"
        except OSError:
            return "never served"
        return "" if got == message else "wrong" if got else "ended"

    def finish(self) -> str:
        """Wait until enough have come. Errors: Failed if anything went wrong."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            need(not thread.is_alive(), "some are never served")
        served = sum(self._served)
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._wrong.items()))
        need(not self._wrong, f"{kinds}, of {served + self._wrong.total():,}")
        return f"0 of {served:,} refused, reset or wrong"

    def give_up(self) -> None:
        self._least = 0
        self._over.set()


@contextlib.contextmanager
def load(up: Up, least: int, crowds: int = 4) -> Iterator[Load]:
    """Have so many clients come, from several places at once, while the block runs."""
    made = Load(up, least, crowds)
    try:
        yield made
    finally:
        made.give_up()
