"""Programs that know nothing of echoframe, adopted for the length of a with block."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from ..cli.programs import PATIENCE, Reader, started, surroundings

# A server whose class is given by its caller. It says its port, and when somebody waits;
# whoever asks for /wait waits for a line on the program's standard input.
SITE = """
import http.server, os, socketserver, sys, threading


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/wait":
            print("begun", flush=True)
            sys.stdin.readline()
        body = " ".join(kind.__name__ for kind in type(self.server).__mro__).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def site(kind=http.server.ThreadingHTTPServer):
    server = kind(("127.0.0.1", 0), Handler)
    # Of socketserver's five, those that knock while it ends would wait for a second.
    server.socket.listen(1000)
    print(server.server_address[1], flush=True)
    return server
"""


class Program:
    """An adopted program that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None  # pipes
        assert process.stderr is not None
        self.out = Reader(process.stdout.fileno())
        self.log = Reader(process.stderr.fileno())
        self._port = 0

    @property
    def port(self) -> int:
        if not self._port:
            self._port = int(self.out.until("\n").split()[0])
        return self._port

    @contextlib.contextmanager
    def asked(self, path: str) -> Iterator[http.client.HTTPConnection]:
        """Ask for something; the reply is still to be read."""
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(peer):
            peer.request("GET", path)
            yield peer

    def ask(self) -> list[str]:
        """Give the classes that the server is made of."""
        with self.asked("/") as peer:
            return peer.getresponse().read().decode().split()

    def let_go(self) -> None:
        """Let those who wait have their reply."""
        assert self.process.stdin is not None  # a pipe
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end; gives its exit code."""
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def adopted(*words: str, **variables: str) -> Iterator[Program]:
    """Run `echoframe adopt` with these words, until the end of the with block."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with started("adopt", *words, env=surroundings(**variables), **pipes) as process:
        yield Program(process)


def written(path: Path, text: str, *, site: bool = False) -> Path:
    """Write a program down, behind SITE if it is one of those."""
    path.write_text((SITE if site else "") + textwrap.dedent(text))
    return path


def python(*words: object) -> list[str]:
    """The words that run something with this Python, warnings being errors."""
    return [sys.executable, "-W", "error", *map(os.fspath, words)]  # type: ignore[arg-type]
