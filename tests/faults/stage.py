"""What a scenario is given: whom it is about, how much to do, and servers to start."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .scenario import Absent
from .subject import THEIRS, Up, command_of, start

__all__ = ["Stage"]


class Stage:
    """The stage on which one subject is tried.

    `quick` is for small counts; `whole` for the largest, as --soak has them.
    """

    def __init__(self, name: str, folder: Path, quick: bool = False, whole: bool = False) -> None:
        self.name = name
        self.ours = name not in THEIRS
        self.folder = folder
        self.quick = quick
        self.whole = whole
        # How long a client waits for what it is owed. Behind thousands of others, each with
        # a process of its own, it is its turn when it is its turn.
        self.patience = (30.0 if self.forks else 10.0) if self.ours else 2.5
        self._numbers = itertools.count()
        self._kept: dict[str, tuple[contextlib.ExitStack, Up]] = {}

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def one_at_a_time(self) -> bool:
        return self.name in ("single", "TCPServer")

    @property
    def forks(self) -> bool:
        """A process for each connection."""
        return self.name in ("fork", "ForkingTCPServer")

    @contextlib.contextmanager
    def serve(
        self,
        *words: str,
        place: str = "tcp://127.0.0.1:0",
        shell: str = "",
        stderr: int | None = None,
    ) -> Iterator[Up]:
        """Start a server for the length of the with block; words are flags of ours.

        `shell` is what a shell does first, to start the server as "$@".
        Errors: Failed when it does not start.
        """
        certificate = self.certificate() if place.startswith("tls://") else None
        read, write = os.pipe()
        log = self.folder / f"log-{self.name}-{next(self._numbers)}"
        command = command_of(self.name, place, write, certificate, list(words))
        if shell:
            command = ["sh", "-c", shell, "sh", *command]
        with start(command, log, (read, write), self.patience, stderr) as up:
            yield up

    def kept(self, scheme: str) -> Up:
        """A server that is kept for the scenarios that come, which start none of their own."""
        if scheme not in self._kept:
            stack = contextlib.ExitStack()
            up = stack.enter_context(self.serve("-v", place=f"{scheme}://127.0.0.1:0"))
            self._kept[scheme] = stack, up
        return self._kept[scheme][1]

    def forget(self, scheme: str) -> None:
        """That one has suffered: the next scenario has a new one."""
        if found := self._kept.pop(scheme, None):
            found[0].close()

    def close(self) -> None:
        for scheme in list(self._kept):
            self.forget(scheme)

    def certificate(self) -> tuple[Path, Path]:
        """Certificate and key, for tls."""
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        if not cert.exists():
            try:
                import trustme
            except ImportError:
                raise Absent("trustme is not installed, which makes certificates") from None
            made: Any = trustme.CA().issue_cert("localhost", "127.0.0.1")
            made.private_key_pem.write_to_path(str(key))
            made.cert_chain_pems[0].write_to_path(str(cert))
        return cert, key
