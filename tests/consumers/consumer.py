"""Which programs there are, and one of them that runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ..cli.programs import PATIENCE, ROOT, surroundings
from ..helpers import eventually

__all__ = ["CONSUMERS", "Consumer", "Running", "needs", "running"]

# Where it is, as it says itself; and as our line about it does.
PORT = r"//127\.0\.0\.1:(\d+)"
TAKEN = r"at \('127\.0\.0\.1', (\d+)\)"

SITES = "tests.consumers.sites"


class Consumer(NamedTuple):
    """A program, and what is asked of it."""

    # What it stands on, to import.
    library: str
    # Behind the interpreter; {cert} and {key} are for TLS.
    words: str
    quick: str = "/"
    slow: str = "/slow"
    # What is in the answer.
    says: str = "hello"
    # Sent as a POST, with {word} in it.
    call: str = ""
    # It has no thread while its client is silent, on pool.
    parts: bool = True

    @property
    def loads(self) -> bool:
        """It is the one of its kind that wrk is let loose on; that only GETs."""
        others = (
            self.library == "flask"
            or self.library.startswith("prom")
            or (self.tls and self.library != "http.server")
        )
        return not (self.call or others)

    @property
    def tls(self) -> bool:
        return "{cert}" in self.words


_PAIR = "{cert} {key}"
_DJANGO = f"-m {SITES}.manage runserver"
_FLASK = f"-m flask --app {SITES}.flasksite"
_METRICS: Any = {"quick": "/metrics?name[]=quick", "slow": "/metrics?name[]=slow"}
_CALL = (
    "<?xml version='1.0'?><methodCall><methodName>say</methodName>"
    "<params><param><value>{word}</value></param></params></methodCall>"
)

CONSUMERS = {
    "http": Consumer("http.server", f"-m {SITES}.standard http"),
    "https": Consumer("http.server", f"-m {SITES}.standard http {_PAIR}"),
    "wsgiref": Consumer("wsgiref", f"-m {SITES}.standard wsgi"),
    "xmlrpc": Consumer("xmlrpc", f"-m {SITES}.standard xmlrpc", "/RPC2", "/RPC2", call=_CALL),
    "werkzeug": Consumer("werkzeug", f"-m {SITES}.werk"),
    "werkzeug-tls": Consumer("werkzeug", f"-m {SITES}.werk {_PAIR}"),
    "flask": Consumer("flask", f"{_FLASK} run -p 0"),
    "flask-reload": Consumer("flask", f"{_FLASK} --debug run -p 0"),
    "django": Consumer("django", f"{_DJANGO} --noreload 127.0.0.1:0", parts=False),
    "django-reload": Consumer("django", f"{_DJANGO} 127.0.0.1:0", parts=False),
    "prometheus": Consumer("prometheus_client", f"-m {SITES}.metrics", **_METRICS),
    "prometheus-tls": Consumer("prometheus_client", f"-m {SITES}.metrics {_PAIR}", **_METRICS),
}


def needs(name: str) -> None:
    """Skip a test where a library is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'echoframe[consumers]'")


class Running:
    """A program that runs, in a session of its own."""

    def __init__(self, consumer: Consumer, process: subprocess.Popen[bytes], log: Path) -> None:
        self.consumer = consumer
        self.process = process
        self._log = log
        self.port = 0

    @property
    def log(self) -> str:
        """What it has said so far, on both streams."""
        return self._log.read_text(errors="replace")

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until it says something."""

        def find() -> re.Match[str] | None:
            found = re.search(pattern, self.log)
            assert found or self.process.poll() is None, f"it has ended:\n{self.log}"
            return found

        return eventually(find, f"{pattern!r} in what it says")  # type: ignore[no-any-return]

    def url(self, path: str) -> str:
        return f"http{'s' * self.consumer.tls}://127.0.0.1:{self.port}{path}"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end, and for that of all that it has started; gives its exit code."""
        code = self.process.wait(PATIENCE)
        eventually(lambda: not _lives(self.process.pid), "the end of its children")
        return code


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def running(
    consumer: Consumer,
    flags: list[str] | None,
    folder: Path,
    pair: tuple[Path, Path] | None = None,
    *,
    shell: str = "",
    **variables: str,
) -> Iterator[Running]:
    """Run a program for the length of the with block, adopted with these flags; None is not.

    `shell` is what a shell does first, to start it as "$@".
    """
    needs(consumer.library)
    cert, key = pair or ("", "")
    words = consumer.words.format(cert=cert, key=key).split()
    before = [] if flags is None else ["-m", "echoframe", "adopt", *flags, "--", sys.executable]
    command = [sys.executable, *before, *words]
    if shell:
        command = ["sh", "-c", shell, "sh", *command]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env=surroundings(PYTHONUNBUFFERED="1", **variables),
            start_new_session=True,
        )
    try:
        up = Running(consumer, process, log)
        # It serves behind this line, and listens before the other.
        place = PORT if flags is None else TAKEN
        up.port = int(up.expect(place)[1])
        yield up
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
