"""running(): a server of any model and transport, for the length of a with block."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..address import Address
from ..client import Client
from ..handlers import HandlerSpec
from ..servers import Report, Server, model_class

__all__ = ["Running", "running"]

# Longer than any server takes to start or to stop; what takes longer hangs.
PATIENCE = 20.0


class Running:
    """A server that serves. `address` is where; `server` is the object, if it is in
    this process (a fork server has one of its own, since it must not fork a program
    that has threads)."""

    def __init__(self, addresses: list[Address], server: Server | None, pid: int | None) -> None:
        self.addresses = addresses
        self.server = server
        # The process that serves: this one, or a child.
        self.pid = os.getpid() if pid is None else pid
        # How the stop went; set when the with block has ended.
        self.report: Report | None = None

    @property
    def address(self) -> Address:
        return self.addresses[0]

    def client(self, protocol: HandlerSpec | None = None, **keywords: Any) -> Client:
        """Give a Client that is connected to the first address."""
        return Client(self.address, protocol, **keywords)


@contextlib.contextmanager
def running(
    handler: HandlerSpec,
    model: str | type[Server] = "thread",
    transport: str = "tcp",
    *,
    drain: float | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Serve a handler for the length of the with block, at an address of its own.

    `model` is a name in MODELS or a server class of one's own.

    `transport` is "tcp", "tcp6", "tls" (with the certificates in the settings),
    "unix", "abstract" or "udp", or an address.
    `drain` is what close() gets at the end; `settings` are the server's.

    Errors: what the server's constructor raises; TimeoutError if the server does
    not stop.
    """
    folder = tempfile.mkdtemp(prefix="echoframe-") if transport == "unix" else None
    try:
        place = _place(transport, folder)
        serve = _in_a_process if model_class(model).forks else _in_a_thread
        with serve(handler, model, place, drain, settings) as up:
            yield up
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _place(transport: str, folder: str | None) -> Any:
    places = {
        "tcp": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "tls": "tls://127.0.0.1:0",
        "udp": "udp://127.0.0.1:0",
        "unix": f"unix://{folder}/socket",
        "abstract": f"unix://@echoframe-{os.getpid()}-{time.monotonic_ns()}",
    }
    return places.get(transport, transport)


@contextlib.contextmanager
def _in_a_thread(
    handler: HandlerSpec,
    model: str | type[Server],
    place: Any,
    drain: float | None,
    settings: dict[str, Any],
) -> Iterator[Running]:
    server = model_class(model)(place, handler, **settings)
    up = Running(server.addresses, server, None)
    thread = threading.Thread(target=server.serve_forever, name="running", daemon=True)
    thread.start()
    try:
        yield up
    finally:
        up.report = server.close(drain)
        thread.join(PATIENCE)
        if thread.is_alive():
            raise TimeoutError(f"the {model} server has not stopped within {PATIENCE:g} s")


@contextlib.contextmanager
def _in_a_process(
    handler: HandlerSpec,
    model: str | type[Server],
    place: Any,
    drain: float | None,
    settings: dict[str, Any],
) -> Iterator[Running]:
    # Forked, not spawned: the handler may be a function that no other program
    # could import.
    read, write = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    let_threads_end()
    pid = os.fork()
    if pid == 0:
        _serve_and_exit(write, handler, model, place, drain, settings)
    os.close(write)
    answers = _Answers(read)
    try:
        addresses = answers.next()
        if isinstance(addresses, BaseException):
            raise addresses
        up = Running(addresses, None, pid)
        try:
            yield up
        finally:
            _signal(pid, signal.SIGTERM)
            report = answers.next()
            up.report = report if isinstance(report, Report) else None
    finally:
        answers.close()
        _wait_for(pid)


def let_threads_end() -> None:
    """Wait, but not long, for threads that are over and not quite gone.

    On its way out a thread takes locks of the C library's and of OpenSSL's, and a process
    that is forked then finds them taken, for good.
    """
    end = time.monotonic() + 0.05
    try:
        while len(os.listdir("/proc/self/task")) > threading.active_count():
            if time.monotonic() > end:
                # They are no threads of Python's.
                break
            time.sleep(0.0005)
    except OSError:
        # This system does not show them.
        pass


def _serve_and_exit(
    write: int,
    handler: HandlerSpec,
    model: str | type[Server],
    place: Any,
    drain: float | None,
    settings: dict[str, Any],
) -> None:
    status = 1
    try:
        try:
            server = model_class(model)(place, handler, **settings)
        except Exception as error:
            _tell(write, error)
            return
        if drain is not None:
            server.drain_timeout = drain
        # From the moment that the address is known, the end of the block may come.
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        _tell(write, server.addresses)
        _tell(write, server.run())
        status = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


class _Answers:
    """What a child says, pickled behind its length, read with a deadline."""

    def __init__(self, read: int) -> None:
        self._read = read

    def next(self) -> Any:
        """Give what it says next; None if it has ended without a word."""
        size = int.from_bytes(self._exactly(4), "big")
        return pickle.loads(self._exactly(size)) if size else None

    def _exactly(self, size: int) -> bytes:
        deadline = time.monotonic() + PATIENCE
        data = b""
        while len(data) < size:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"the server's process has not answered within {PATIENCE:g} s")
            more = os.read(self._read, size - len(data))
            if not more:
                return b""
            data += more
        return data

    def close(self) -> None:
        os.close(self._read)


def _tell(write: int, what: Any) -> None:
    data = pickle.dumps(what)
    os.write(write, len(data).to_bytes(4, "big") + data)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _wait_for(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    try:
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimeoutError(f"the server's process has not ended within {PATIENCE:g} s")
            time.sleep(0.002)
    except ChildProcessError:
        # Somebody else has waited for it.
        pass
