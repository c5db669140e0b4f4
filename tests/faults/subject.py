"""Who is tried, and a server of it that runs: a process group of its own, watched from outside.

What is read in /proc here is Linux's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from echoframe import MODELS, Address

from ..cli.programs import ROOT, surroundings
from .scenario import Failed, need, until
from .stdlib import SERVERS

__all__ = ["OURS", "SUBJECTS", "THEIRS", "Held", "Up", "command_of", "start"]

OURS = tuple(MODELS)
THEIRS = tuple(SERVERS)
SUBJECTS = (*OURS, *THEIRS)

TICKS = os.sysconf("SC_CLK_TCK")
# In which a server says that it listens.
STARTS = 15.0


class Held(NamedTuple):
    """What all processes of a server have between them; memory in bytes."""

    processes: int
    threads: int
    descriptors: int
    zombies: int
    memory: int


def _stat(pid: int) -> list[str]:
    # Behind the name, which may have anything in it: state, parent, group, ...
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _group(number: int) -> dict[int, list[str]]:
    """The processes of a group, also those whose parent is gone; what /proc says of each."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = _stat(int(name))
                if int(stat[2]) == number:
                    found[int(name)] = stat
    return found


def _memory(pid: int) -> int:
    """Its own memory and its share of what it has in common with its children; no code."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return 1024 * sizes.get("Pss_Anon:", sizes["Pss:"])


class Up:
    """A server that runs."""

    def __init__(
        self, process: subprocess.Popen[bytes], address: Address, log: Path, patience: float
    ) -> None:
        self.process = process
        self.pid = process.pid
        self.address = address
        self.patience = patience
        self._log = log

    @property
    def log(self) -> str:
        """What it has said on stderr so far."""
        return self._log.read_text(errors="backslashreplace")

    def connect(self, source: str = "", buffer: int = 0) -> socket.socket:
        """Give a connected socket; `buffer` makes what it can receive small."""
        sock = socket.socket(self.family)
        try:
            sock.settimeout(self.patience)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            if source:
                sock.bind((source, 0))
            sock.connect(self.where)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def family(self) -> int:
        return socket.AF_UNIX if self.address.scheme == "unix" else socket.AF_INET

    @property
    def where(self) -> Any:
        if self.address.scheme == "unix":
            return self.address.sockaddr_un
        return (self.address.host, self.address.port)

    # ------------------------------------------------------------ from outside

    def pids(self) -> list[int]:
        """The processes that it has, but for the dead; the first is the one that was started."""
        found = [pid for pid, stat in _group(self.pid).items() if stat[0] != "Z"]
        return sorted(found, key=lambda pid: (pid != self.pid, pid))

    def children(self) -> list[int]:
        return [pid for pid in self.pids() if pid != self.pid]

    def held(self) -> Held:
        while True:
            group = _group(self.pid)
            alive = [pid for pid, stat in group.items() if stat[0] != "Z"]
            try:
                return Held(
                    len(alive),
                    sum(int(group[pid][17]) for pid in alive),
                    sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in alive),
                    len(group) - len(alive),
                    sum(map(_memory, alive)),
                )
            except OSError:
                # One of them has just ended.
                continue

    def at_rest(self) -> Held:
        """What it has when nothing comes or goes, nor waits for a moment whether it is needed."""
        last = [self.held()]

        def same() -> Held | None:
            before, last[0] = last[0], self.held()
            return last[0] if last[0][:4] == before[:4] else None

        found = until(same, self.patience, "its processes, threads and descriptors never rest", 0.6)
        assert isinstance(found, Held)
        return found

    def gives_back(self, before: Held, threads: int = 0) -> int:
        """Wait until it has no more than before, but for so many threads.

        Gives by how much its memory has grown. Errors: Failed when something else is left.
        """
        most = before._replace(threads=before.threads + threads, zombies=0)

        def left() -> list[str]:
            has = zip(Held._fields[:-1], self.held(), most, strict=False)
            return [f"{now - then} {name}" for name, now, then in has if now > then]

        end = time.monotonic() + self.patience
        while more := left():
            need(time.monotonic() < end, f"{', '.join(more)} are left")
            time.sleep(0.05)
        return self.held().memory - before.memory

    def in_kernel(self) -> Counter[int]:
        """By the port of a peer (tcp): the bytes sent to it that it has not read."""
        found: Counter[int] = Counter()
        port = f"{self.address.port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            here, there = local[-4:], remote[-4:]
            to_send, to_read = queues.split(":")
            if here == port:
                found[int(there, 16)] += int(to_send, 16)
            elif there == port:
                found[int(here, 16)] += int(to_read, 16)
        return found

    def cpu(self) -> float:
        """The seconds of CPU that it has used, with all its processes, also those that ended."""
        stats = _group(self.pid).values()
        return sum(sum(map(int, stat[11:15])) for stat in stats) / TICKS

    # ------------------------------------------------------------------ its end

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code. Errors: Failed when it does not end within so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"it had not ended {seconds:.1f} s later") from None

    def stop(self, seconds: float = 5.0) -> float:
        """SIGTERM: the seconds until it has ended. Errors: Failed unless the exit code is 0."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.wait(seconds)
        need(code == 0, f"its exit code was {code}")
        return time.monotonic() - began

    def kill(self) -> None:
        """End all that is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def start(
    command: list[str],
    log: Path,
    ready: tuple[int, int],
    patience: float,
    stderr: int | None = None,
) -> Iterator[Up]:
    """Start a server, which writes where it is to the second descriptor of `ready`."""
    read, write = ready
    try:
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file if stderr is None else stderr,
                cwd=ROOT,
                env=surroundings(PYTHONUNBUFFERED="1"),
                pass_fds=(write,),
                start_new_session=True,
            )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    try:
        said = _first_line(read)
        if not said:
            process.kill()
            code = process.wait()
            last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise Failed(f"it did not start (exit code {code}): {last}")
        up = Up(process, Address.parse(said), log, patience)
        yield up
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _first_line(read: int) -> str:
    end = time.monotonic() + STARTS
    said = b""
    while b"\n" not in said:
        if not select.select([read], [], [], max(end - time.monotonic(), 0))[0]:
            return ""
        more = os.read(read, 4096)
        if not more:
            break
        said += more
    return said.decode().partition("\n")[0]


def command_of(
    name: str, place: str, ready: int, certificate: tuple[Path, Path] | None, words: list[str]
) -> list[str]:
    """How to start a server of this subject; whoever knows no settings is given none."""
    python = sys.executable
    address = Address.parse(place)
    pair = [str(path) for path in certificate or ()]
    if name in THEIRS:
        where = [address.scheme, str(address.port), str(ready)]
        return [python, "-m", "tests.faults.stdlib", name, *where, *pair]
    if pair:
        pair = ["--tls-cert", pair[0], "--tls-key", pair[1]]
    return [
        *(python, "-m", "echoframe", "serve", "tests.faults.answers:answer"),
        *("--model", name, "--bind", place, "--ready-fd", str(ready), *pair, *words),
    ]
