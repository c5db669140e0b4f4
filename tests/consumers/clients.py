"""Who asks: http.client, curl and wrk. Every wait has a deadline."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ..helpers import DEADLINE
from .consumer import Running

__all__ = ["Peers", "Wrk", "curl", "peers", "silent", "wrk"]


class Peers:
    """Clients that keep their connections, as far as the server does."""

    def __init__(self, up: Running, clients: list[http.client.HTTPConnection]) -> None:
        self._up = up
        self._clients = clients
        self._used: set[http.client.HTTPConnection] = set()
        # How often somebody found the connection closed that it had kept, and asked anew, as
        # browsers do.
        self.again = 0

    def ask(self, word: str = "quick") -> None:
        """Have all of them ask at once, before the first of them listens."""
        self._used = {client for client in self._clients if client.sock is not None}
        for client in self._clients:
            try:
                self._ask(client, word)
            except ConnectionError as error:
                self._ask_again(client, word, error)

    def answers(self, word: str = "quick") -> list[tuple[int, bool]]:
        """Of each: the status, and whether it said what it should."""
        found = []
        for client in self._clients:
            try:
                reply = client.getresponse()
            except ConnectionError as error:
                self._ask_again(client, word, error)
                reply = client.getresponse()
            found.append((reply.status, self._up.consumer.says in reply.read().decode()))
        return found

    def _ask(self, client: http.client.HTTPConnection, word: str) -> None:
        consumer = self._up.consumer
        verb, call = ("POST", consumer.call.format(word=word)) if consumer.call else ("GET", None)
        client.request(verb, getattr(consumer, word), call)

    def _ask_again(
        self, client: http.client.HTTPConnection, word: str, error: ConnectionError
    ) -> None:
        if client not in self._used:
            # It was a new one.
            raise error
        self._used.discard(client)
        self.again += 1
        client.close()
        self._ask(client, word)


@contextlib.contextmanager
def peers(up: Running, count: int, patience: float = DEADLINE) -> Iterator[Peers]:
    made: list[http.client.HTTPConnection] = []
    for _ in range(count):
        if up.consumer.tls:
            # The default one reads the certificates of all the world.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            made.append(
                http.client.HTTPSConnection("127.0.0.1", up.port, timeout=patience, context=context)
            )
        else:
            made.append(http.client.HTTPConnection("127.0.0.1", up.port, timeout=patience))
    try:
        yield Peers(up, made)
    finally:
        for client in made:
            client.close()


@contextlib.contextmanager
def silent(up: Running, count: int) -> Iterator[list[socket.socket]]:
    """Some who connect and say nothing, not even a handshake."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", up.port), DEADLINE))
            for _ in range(count)
        ]


def curl(up: Running, count: int) -> list[str]:
    """Have curl ask so many times, on one connection if it can; gives the answers' statuses."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    consumer = up.consumer
    words = ["curl", "-sSk", "--fail-with-body", "--max-time", str(DEADLINE), "-g"]
    if consumer.call:
        words += ["--data", consumer.call.format(word="quick")]
    words += ["-w", "\n%{http_code}\n", *[up.url(consumer.quick)] * count]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(consumer.says) >= count
    return re.findall(r"^\d{3}$", done.stdout, re.MULTILINE)


class Wrk(NamedTuple):
    requests: int
    per_second: float
    # What it says of errors; empty if there were none.
    errors: str


def wrk(url: str, connections: int, seconds: int, *words: str, core: int | None = None) -> Wrk:
    """Have wrk ask as often as it can, in one thread."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *words, url]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + DEADLINE, check=True
    ).stdout
    count, rate = (re.search(p, said) for p in (r"(\d+) requests in", r"Requests/sec: +([\d.]+)"))
    assert count
    assert rate, said
    errors = re.findall(r"Socket errors: .*|Non-2xx.*", said)
    return Wrk(int(count[1]), float(rate[1]), "; ".join(errors))
