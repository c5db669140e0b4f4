"""Programs started for a test: every wait has a deadline, and none outlives its test."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echoframe import Address

ROOT = Path(__file__).resolve().parents[2]

# Longer than anything here takes, even on a busy machine.
PATIENCE = 15.0


def surroundings(**variables: str) -> dict[str, str]:
    """The environment of a program: no settings of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ECHOFRAME_") and name not in ("NO_COLOR", "COLUMNS")
    }
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **variables}


def command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "echoframe", *words]


def run(*words: str, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    keywords.setdefault("stdin", subprocess.DEVNULL)
    if "input" in keywords:
        del keywords["stdin"]
    keywords.setdefault("stdout", subprocess.PIPE)
    keywords.setdefault("stderr", subprocess.PIPE)
    keywords.setdefault("env", surroundings())
    return subprocess.run(command(*words), timeout=PATIENCE, check=False, **keywords)


class Reader:
    """What a program says into a pipe."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.text = ""

    def until(self, wanted: str) -> str:
        """Wait for some text, and give all that came so far."""
        while wanted not in self.text:
            if not self.more():
                raise AssertionError(f"{wanted!r} never came; this did:\n{self.text}")
        return self.text

    def rest(self) -> str:
        """Wait for the end, and give all of it."""
        while self.more():
            pass
        return self.text

    def more(self) -> bool:
        """Wait for some more; False at the end."""
        if not select.select([self._number], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing more came within {PATIENCE} s; this did:\n{self.text}")
        try:
            data = os.read(self._number, 65536)
        except OSError:
            # The other end of a terminal is gone.
            data = b""
        self.text += data.decode()
        return bool(data)


class Serving:
    """An `echoframe serve` that listens."""

    def __init__(self, process: subprocess.Popen[bytes], addresses: list[Address]) -> None:
        self.process = process
        self.addresses = addresses
        self.log = Reader(process.stderr.fileno()) if process.stderr else None

    @property
    def address(self) -> Address:
        return self.addresses[0]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.address.host, self.address.port), PATIENCE)

    def until(self, wanted: str) -> str:
        assert self.log is not None
        return self.log.until(wanted)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def stop(self) -> tuple[int, str]:
        """SIGTERM: the exit code, and the whole log."""
        self.signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        log = self.log.rest() if self.log else ""
        return self.wait(), log


@contextlib.contextmanager
def started(*words: str, **keywords: Any) -> Iterator[subprocess.Popen[bytes]]:
    keywords.setdefault("stdin", subprocess.DEVNULL)
    keywords.setdefault("env", surroundings())
    process = subprocess.Popen(command(*words), **keywords)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def serving(*words: str, **keywords: Any) -> Iterator[Serving]:
    """Start a server at a port that the kernel chooses, unless there is a --bind."""
    read, write = os.pipe()
    place = [] if "--bind" in words else ["--port", "0"]
    keywords.setdefault("stderr", subprocess.PIPE)
    pass_fds = (write, *keywords.pop("pass_fds", ()))
    words = ("serve", *words, *place, "--ready-fd", str(write))
    try:
        try:
            context = started(*words, pass_fds=pass_fds, **keywords)
            process = context.__enter__()
        finally:
            os.close(write)
        try:
            lines = Reader(read).rest().split()
            if not lines:
                said = Reader(process.stderr.fileno()).rest() if process.stderr else ""
                raise AssertionError(f"no server: exit code {process.wait(PATIENCE)}\n{said}")
            yield Serving(process, [Address.parse(line) for line in lines])
        finally:
            context.__exit__(None, None, None)
    finally:
        os.close(read)


def echoes(peer: socket.socket, message: bytes = b"hello") -> bool:
    """Tell whether a message comes back."""
    peer.sendall(message)
    got = b""
    while len(got) < len(message):
        more = peer.recv(len(message) - len(got))
        if not more:
            return False
        got += more
    return got == message


def refused(address: Address) -> bool:
    """Wait until nobody listens at an address any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address.host, address.port), PATIENCE).close()
        except OSError:
            return True
    return False
