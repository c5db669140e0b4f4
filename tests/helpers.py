"""What the tests share: bare peers, odd handlers, and a count of what is left behind.

Everything here that waits has a deadline. What handlers tell a test goes through
pipes, so that it does not matter in which thread or process they run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from echoframe.address import Address
from echoframe.handlers import Answer, Handler, Reply
from echoframe.servers import MODELS, Report, Server
from echoframe.testing.running import let_threads_end

# For what must happen; never the time that something is expected to take.
DEADLINE = 15.0


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = _has_ipv6()


def eventually(ask: Callable[[], Any], what: str = "it", deadline: float = DEADLINE) -> Any:
    """Give the first true answer. Errors: AssertionError when there is none in time."""
    end = time.monotonic() + deadline
    while not (answer := ask()):
        assert time.monotonic() < end, f"{what} has not happened within {deadline:g} s"
        time.sleep(0.002)
    return answer


def one_worker(model: str) -> dict[str, Any]:
    """The settings with which all connections of a server meet in one process."""
    return {"workers": 1} if hasattr(MODELS[model], "workers") else {}


# ------------------------------------------------------------------ bare peers


class HasAddresses(Protocol):
    @property
    def addresses(self) -> list[Address]: ...


def raw_connection(up: HasAddresses, at: int = 0, deadline: float = DEADLINE) -> socket.socket:
    """Give a bare socket, connected to one of the addresses of a server."""
    address = up.addresses[at]
    kind = socket.SOCK_DGRAM if address.scheme == "udp" else socket.SOCK_STREAM
    where: Any
    if address.scheme == "unix":
        family, where = socket.AF_UNIX, address.sockaddr_un
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        where = (address.host, address.port)
    sock = socket.socket(family, kind)
    try:
        sock.settimeout(deadline)
        sock.connect(where)
        if address.scheme == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def read_line(sock: socket.socket) -> bytes:
    """Read to the first LF, and no further; without one, what came before the end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        line += byte
    return line


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            break
        data += more
    return bytes(data)


def read_to_end(sock: socket.socket, deadline: float = DEADLINE) -> bytes:
    """Read everything. Errors: TimeoutError when the end has not come by the deadline."""
    end = time.monotonic() + deadline
    data = bytearray()
    while True:
        if time.monotonic() > end:
            raise TimeoutError(f"no end of input within {deadline:g} s, after {len(data)} bytes")
        more = sock.recv(1 << 18)
        if not more:
            return bytes(data)
        data += more


def ask(sock: socket.socket, line: bytes) -> bytes:
    """Send a line and give the line that comes back, both without their ends."""
    sock.sendall(line + b"\n")
    return read_line(sock).rstrip(b"\n")


def pump(sock: socket.socket, data: bytes, half_close: bool = True) -> bytes:
    """Send all this and read at the same time, to the end of input.

    Whoever only sends meets a peer who only sends, and both wait for ever.
    """
    end = time.monotonic() + DEADLINE
    rest = memoryview(data)
    got = bytearray()
    sock.setblocking(False)
    try:
        while time.monotonic() < end:
            wants = [sock] if rest else []
            readable, writable, _ = select.select([sock], wants, [], DEADLINE)
            if writable:
                rest = rest[sock.send(rest[: 1 << 18]) :]
                if not rest and half_close:
                    sock.shutdown(socket.SHUT_WR)
            if readable:
                more = sock.recv(1 << 18)
                if not more:
                    return bytes(got)
                got += more
    finally:
        sock.settimeout(DEADLINE)
    raise TimeoutError(f"{len(got)} bytes came back within {DEADLINE:g} s, and no end")


def reset(sock: socket.socket) -> None:
    """Break a connection off: the other side gets an error, not an end of input."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ------------------------------------------- what handlers tell, and wait for


class Notes:
    """Lines that handlers write down, in the order in which they do, in any process."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._rest = b""

    def write(self, *words: object) -> None:
        # One write of a short line is never mixed with another.
        os.write(self._write, " ".join(map(str, words)).encode() + b"\n")

    def next(self, deadline: float = DEADLINE) -> str:
        """Wait for one more line."""
        end = time.monotonic() + deadline
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._read], [], [], max(left, 0))
            assert ready, f"nothing was written down within {deadline:g} s"
            self._rest += os.read(self._read, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def take(self, count: int) -> list[str]:
        return [self.next() for _ in range(count)]

    def so_far(self) -> list[str]:
        """Give what is there now, without waiting."""
        try:
            self._rest += os.read(self._read, 1 << 20)
        except BlockingIOError:
            pass
        lines, _, self._rest = self._rest.rpartition(b"\n")
        return lines.decode().split("\n") if lines else []

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Gate:
    """What a handler waits at until the test opens it; works across a fork."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def open(self) -> None:
        os.write(self._write, b".")

    def wait(self, deadline: float = DEADLINE) -> bool:
        # The byte stays where it is, so it lets everybody through.
        return bool(select.select([self._read], [], [], deadline)[0])

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


# ---------------------------------------------------------------- odd handlers


def echo(message: bytes) -> bytes:
    return message


def silent(message: bytes) -> None:
    """Never answer."""


def close_now(message: bytes) -> Reply:
    return Reply(close=True)


def crash_on(word: bytes) -> Callable[[bytes], bytes]:
    """Echo, but raise at this word."""

    def handler(message: bytes) -> bytes:
        if message == word:
            raise RuntimeError(f"crashed on {word.decode()}")
        return message

    return handler


def slow(gate: Gate, notes: Notes | None = None) -> Callable[[bytes], bytes]:
    """Echo when the gate is open; write `begun` when a message has come."""

    def handler(message: bytes) -> bytes:
        if notes is not None:
            notes.write("begun")
        assert gate.wait()
        return message

    return handler


def never_ending(message: bytes) -> Answer:
    while True:
        yield message * 1024


def noting(notes: Notes, answer: Callable[[bytes], Answer] = echo) -> type[Handler]:
    """Write `open` and `close REASON` around the messages that `answer` answers."""

    class Noting(Handler):
        def on_open(self) -> None:
            notes.write("open")

        def on_message(self, message: bytes) -> Answer:
            return answer(message)

        def on_close(self, reason: str) -> None:
            notes.write("close", reason)

    return Noting


# ---------------------------------------------- servers of one's own making


class Served:
    """A server that serves, and can be told to stop before its end is waited for.

    `server` is None where it is in a process of its own.
    """

    def __init__(self, addresses: list[Address], server: Server | None, pid: int) -> None:
        self.addresses = addresses
        self.server = server
        self.pid = pid
        self.report: Report | None = None
        self.stopped = False

    def stop(self) -> None:
        """Begin to drain, and do not wait."""
        self.stopped = True
        if self.server is not None:
            self.server.stop()
        else:
            os.kill(self.pid, signal.SIGTERM)


@contextlib.contextmanager
def served(
    cls: type[Server],
    handler: Any,
    place: Any = "tcp://127.0.0.1:0",
    *,
    alone: bool = False,
    **settings: Any,
) -> Iterator[Served]:
    """Serve with a class of one's own for the length of the with block.

    A server that forks, or is `alone`, has a process of its own, in which run()
    handles the signals; any other has a thread.
    """
    if cls.forks or alone:
        with forked(lambda told: _run(told, cls, handler, place, settings)) as child:
            addresses = [Address.parse(text) for text in json.loads(child.notes.next())]
            up = Served(addresses, None, child.pid)
            try:
                yield up
            finally:
                if not up.stopped:
                    up.stop()
                served_, finished, cut, who, seconds = json.loads(child.notes.next())
                pairs = tuple((name, how) for name, how in who)
                up.report = Report(served_, finished, cut, pairs, seconds)
                assert child.wait() == 0
        return
    server = cls(place, handler, **settings)
    thread = threading.Thread(target=server.serve_forever, name="served")
    thread.start()
    up = Served(server.addresses, server, os.getpid())
    try:
        yield up
    finally:
        up.report = server.close()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def _run(told: Notes, cls: type[Server], handler: Any, place: Any, settings: Any) -> None:
    server = cls(place, handler, **settings)
    # Until run() does it: whoever knows the address may already want it to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    told.write(json.dumps([str(address) for address in server.addresses]))
    told.write(json.dumps(server.run()))


class Child:
    """A forked process; `notes` is what it writes down."""

    def __init__(self, pid: int, notes: Notes) -> None:
        self.pid = pid
        self.notes = notes
        self.status: int | None = None

    def wait(self) -> int:
        """Give its exit code, or minus the number of the signal that ended it."""

        def look() -> bool:
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
            return self.status is not None

        eventually(look, f"the end of process {self.pid}")
        assert self.status is not None
        return self.status


@contextlib.contextmanager
def forked(work: Callable[[Notes], object]) -> Iterator[Child]:
    """Do some work in a forked process; its exit code is 0 unless the work raised.

    A closure works here, and what it spoils (limits, signal handlers) is spoilt for
    nobody else. It is killed if it has not ended with the with block.
    """
    notes = Notes()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    let_threads_end()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work(notes)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    child = Child(pid, notes)
    try:
        yield child
    finally:
        if child.status is None:
            os.kill(pid, signal.SIGKILL)
            child.wait()
        notes.close()


def fail_first_fork() -> None:
    """Let the next os.fork() of this process fail, for want of processes."""
    fork = os.fork

    def fail() -> int:
        os.fork = fork
        raise OSError(errno.EAGAIN, "too many processes")

    os.fork = fail


class Log:
    """What servers log, whichever of their processes does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def tracebacks(self) -> int:
        return self.text.count("Traceback (most recent call last)")

    def expect(self, phrase: str) -> None:
        """Wait until it says so."""
        eventually(lambda: phrase in self.text, f"{phrase!r} in the log")


@contextlib.contextmanager
def logged(path: Path, level: int = logging.DEBUG) -> Iterator[Log]:
    """Write what echoframe logs, from this level on, into a file; forked processes inherit it."""
    logger = logging.getLogger("echoframe")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield Log(path)
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


# ----------------------------------------------------- what is left behind


def stopped(pid: int) -> bool:
    """Tell whether a process stands still, as SIGSTOP makes it a moment after it was sent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Census(NamedTuple):
    """What this process has: names of threads, numbers of children and of descriptors."""

    threads: tuple[str, ...]
    children: tuple[int, ...]
    descriptors: tuple[int, ...]


def census() -> Census:
    return Census(
        tuple(sorted(thread.name for thread in threading.enumerate())), children(), descriptors()
    )


def children() -> tuple[int, ...]:
    """The processes that this one started and has not waited for, dead or alive."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this kernel does not tell which children a process has")
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "children").read_text().split()
        except OSError:
            # That thread has just ended.
            pass
    return tuple(sorted(map(int, found)))


def descriptors() -> tuple[int, ...]:
    # The listing's own descriptor is among them, and closed by now.
    return tuple(sorted(number for number in map(int, os.listdir("/dev/fd")) if _is_open(number)))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def nothing_left_behind(deadline: float = DEADLINE) -> Iterator[None]:
    """Wait, at the end, until threads, children and descriptors are what they were.

    Errors: AssertionError, with what is left, when they are not by the deadline.
    """
    before = census()
    yield
    end = time.monotonic() + deadline
    while (after := left_of(before)) != Census((), (), ()):
        if time.monotonic() > end:
            raise AssertionError(f"left behind: {after}")
        time.sleep(0.005)


def left_of(before: Census) -> Census:
    """Give what is there now and was not then."""
    now = census()
    threads = list(now.threads)
    for name in before.threads:
        if name in threads:
            threads.remove(name)
    return Census(
        tuple(threads),
        tuple(pid for pid in now.children if pid not in before.children),
        tuple(number for number in now.descriptors if number not in before.descriptors),
    )


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


class Place:
    """Where a server of another process is, for raw_connection()."""

    def __init__(self, text: str) -> None:
        self.addresses = [Address.parse(text)]
