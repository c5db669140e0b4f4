"""The servers that are measured, each in a process of its own, and what the system says of them."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import EchoframeError
from .loaders import surroundings
from .subject import SEEN

__all__ = ["Sample", "Server", "SubjectFailed", "psutil_or_none"]

# So long may a server take until it listens, and until it has ended.
PATIENCE = 15.0
# What a server says before it shows what its handler raised; and so much of its last
# words is read.
RAISED = "the handler raised"
LAST_WORDS = 64 * 1024


class SubjectFailed(EchoframeError, RuntimeError):
    """A server could not be measured; a sentence says why."""


@dataclass(frozen=True)
class Sample:
    """What a server's processes have used so far, and what they hold now."""

    cpu: float
    switches: int
    # Seconds that all cores together were busy, for whomever.
    busy: float
    threads: int = 0
    processes: int = 0
    descriptors: int = 0
    memory: int = 0
    memory_kind: str = ""


def psutil_or_none() -> Any:
    """Give psutil, if it is installed."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None


def _cpu(one: Any) -> float:
    # The kernel counts nanoseconds, and its files tell hundredths of a second: too
    # coarse for a child that has lived for a fifth of one. So its clock is read, under
    # the number that clock_getcpuclockid(3) would make of the process's.
    used = one.cpu_times()
    ended: float = used.children_user + used.children_system
    if sys.platform == "linux":
        try:
            return ended + time.clock_gettime((~one.pid << 3) | 2)
        except OSError:
            pass
    own: float = used.user + used.system
    return ended + own


class Server:
    """A server process: ours by its settings, or a command of somebody else's.

    Errors: SubjectFailed, with a sentence, if it does not come to listen.
    """

    def __init__(
        self,
        place: str,
        *,
        ours: dict[str, Any] | None = None,
        command: str = "",
        drawn: bool = False,
        cores: set[int] | None = None,
    ) -> None:
        self.address = ""
        self.runs_on = ""
        self.cpu: float | None = None
        # What its handler raised last, if it did: known at the end.
        self.raised = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in stop()
        self._answers, self._seen = -1, -1
        self._psutil = psutil_or_none()
        began = time.monotonic()
        try:
            if ours is not None:
                self._start_ours({**ours, "address": place}, drawn, cores)
            else:
                self._start_theirs(place, command, cores)
        except BaseException:
            self.stop()
            raise
        self.ready = time.monotonic() - began

    # --------------------------------------------------------------- the start

    _process: subprocess.Popen[bytes] | None = None
    _told = False

    def _start_ours(self, told: dict[str, Any], drawn: bool, cores: set[int] | None) -> None:
        self._answers, answers = os.pipe()
        passed = [answers]
        seen = None
        try:
            if drawn:
                self._seen, seen = os.pipe()
                os.set_blocking(self._seen, False)
                passed.append(seen)
            told = {**told, "answers": answers, "witness": seen}
            words = [sys.executable, "-m", "echoframe.compare.subject", json.dumps(told)]
            self._launch(words, passed, cores)
        finally:
            for number in passed:
                os.close(number)
        facts = self._answer()
        self.address, self.runs_on = facts["address"], facts["runs_on"]

    def _start_theirs(self, place: str, command: str, cores: set[int] | None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        known = {"{port}": str(port), "{python}": sys.executable}
        words = shlex.split(command)
        for name, value in known.items():
            words = [word.replace(name, value) for word in words]
        try:
            self._launch(words, [], cores)
        except OSError as error:
            raise SubjectFailed(f"{words[0]} cannot be started: {error.strerror}") from None
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as peer:
                peer.settimeout(1.0)
                if peer.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.ended:
                raise SubjectFailed(self.why())
            if time.monotonic() > deadline:
                raise SubjectFailed(f"it does not listen at port {port} after {PATIENCE:g} s")
            time.sleep(0.001)

    def _launch(self, words: list[str], passed: list[int], cores: set[int] | None) -> None:
        # A session of its own: a Ctrl-C is not for it, and its children can be ended with it.
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=surroundings(),
            pass_fds=passed,
            start_new_session=True,
        )
        if cores:
            os.sched_setaffinity(self._process.pid, cores)

    def _answer(self) -> dict[str, Any]:
        line = b""
        deadline = time.monotonic() + PATIENCE
        while not line.endswith(b"\n"):
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self._answers], [], [], left)[0]:
                raise SubjectFailed(f"it does not listen after {PATIENCE:g} s")
            more = os.read(self._answers, 4096)
            if not more:
                raise SubjectFailed(self.why())
            line += more
        answer: dict[str, Any] = json.loads(line)
        return answer

    # ------------------------------------------------------------------ its life

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """It is no longer there."""
        return self._process is None or self._process.poll() is not None

    def why(self) -> str:
        """Say why it has ended, in a sentence: its own last words, if there are any."""
        assert self._process is not None
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = 0
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        last = said[-1].strip() if said else ""
        return last if code == 3 and last else f"it has ended {how}" + (f": {last}" if last else "")

    def seen(self) -> list[tuple[int, float, float]]:
        """Give what the witness has seen since the last time: port, began, ended."""
        if self._seen < 0:
            return []
        data = b""
        try:
            while more := os.read(self._seen, 1 << 16):
                data += more
        except BlockingIOError:
            pass
        return list(SEEN.iter_unpack(data))

    def tell(self) -> None:
        """Tell it to end; stop() waits for it. Once: a second word might mean "at once"."""
        if self._process is not None and not self._told:
            self._told = True
            self._process.terminate()

    def stop(self) -> float | None:
        """End it and wait for it; seconds from SIGTERM to its end, None if it had to be killed.

        A Ctrl-C meanwhile ends the waiting, and the server all the same.
        """
        try:
            return None if self._process is None else self._end(self._process)
        finally:
            for number in (self._answers, self._seen):
                if number >= 0:
                    os.close(number)
            self._answers = self._seen = -1
            self._process = None
            if not self._errors.closed:
                self.raised = _raised(self._errors)
                self._errors.close()

    def _end(self, process: subprocess.Popen[bytes]) -> float | None:
        taken = None
        began = time.monotonic()
        try:
            self.tell()
            if self._gone_within(PATIENCE):
                taken = time.monotonic() - began
        finally:
            # Whatever it has left behind, too; as long as it is unburied, its number
            # is nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._answers >= 0:
            with contextlib.suppress(SubjectFailed, ValueError):
                self.cpu = self._answer().get("cpu")
        return taken

    def _gone_within(self, seconds: float) -> bool:
        if self.ended:
            return True
        deadline = time.monotonic() + seconds
        how = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, self.pid, how) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    # ------------------------------------------------------------- what it uses

    def sample(self, whole: bool = False) -> Sample | None:
        """Give what it has used so far; with `whole`, also what it holds (takes longer).

        None without psutil, and of what has ended.
        """
        if self._psutil is None or self.ended:
            return None
        with _undisturbed():
            return self._sampled(self._psutil, whole)

    def _sampled(self, psutil: Any, whole: bool) -> Sample | None:
        try:
            root = psutil.Process(self.pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        cpu = 0.0
        switches = threads = descriptors = memory = 0
        kind = "PSS"
        for one in family:
            try:
                with one.oneshot():
                    cpu += _cpu(one)
                    turns = one.num_ctx_switches()
                    switches += turns.voluntary + turns.involuntary
                    if whole:
                        threads += one.num_threads()
                        descriptors += one.num_fds()
                        own, own_kind = _memory(one)
                        memory += own
                        kind = own_kind if own_kind != "PSS" else kind
            except psutil.Error:
                # It has ended in between, and is its parent's from now on.
                continue
        everybody = psutil.cpu_times()
        busy = sum(everybody) - everybody.idle - getattr(everybody, "iowait", 0.0)
        busy -= getattr(everybody, "guest", 0.0) + getattr(everybody, "guest_nice", 0.0)
        return Sample(cpu, switches, busy, threads, len(family), descriptors, memory, kind)


def _raised(errors: BinaryIO) -> str:
    """Give the last line of the last traceback of a handler, "" if there is none."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - LAST_WORDS, 0))
    _, raised, said = errors.read().decode(errors="replace").rpartition(RAISED)
    _, shown, after = said.rpartition("Traceback (most recent call last):\n")
    if not (raised and shown):
        return ""
    return next((line for line in after.splitlines() if line.strip() and line[0] != " "), "")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    # A Ctrl-C would come in the middle of a file that psutil reads, and leave it open.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _memory(one: Any) -> tuple[int, str]:
    # What is shared with other processes counts in parts, where the system tells.
    try:
        whole = one.memory_full_info()
        return whole.pss, "PSS"
    except (AttributeError, PermissionError):
        return one.memory_info().rss, "RSS"
