"""Echo servers with one fault each, to see whether whoever measures them notices.

    python -m tests.compare.faulty stall 0
    python -m tests.compare.faulty corrupt 0 --every 1000000 --seed 7

stall    stands still, all of it, at every whole --every seconds (1) for --length (0.2)
corrupt  gives back one wrong byte in each --every (1,000,000), chosen by --seed (0)
die      ends, with exit code 1, instead of answering the message after --after (1,000)
silent   reads everything and never answers
refuse   holds the port, and nobody can connect

Bytes and messages are counted over all connections, and a message is what one read
brings. The server is at 127.0.0.1, at the port behind the fault (0: the kernel chooses);
it prints the port as soon as it is there, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

# What comes back for what was read.
Answer = Callable[[bytes], bytes]


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer(data))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Corrupt:
    """Turns a bit of one byte in each `every`; which byte it is depends on the seed alone."""

    def __init__(self, every: int, seed: int) -> None:
        self._every = every
        self._random = random.Random(seed)
        self._seen = 0
        self._wrong = self._random.randrange(every)

    def __call__(self, data: bytes) -> bytes:
        begin, self._seen = self._seen, self._seen + len(data)
        if self._wrong >= self._seen:
            return data
        changed = bytearray(data)
        while self._wrong < self._seen:
            changed[self._wrong - begin] ^= 1
            block = self._wrong // self._every + 1
            self._wrong = block * self._every + self._random.randrange(self._every)
        return bytes(changed)


class Die:
    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self, data: bytes) -> bytes:
        if not self._left:
            os._exit(1)
        self._left -= 1
        return data


def echo(data: bytes) -> bytes:
    return data


def silent(data: bytes) -> bytes:
    return b""


def stall(every: float, length: float) -> None:
    """Let the running loop stand still; planned ahead, so that no stall delays the next."""
    loop = asyncio.get_running_loop()
    due = loop.time()

    def again() -> None:
        nonlocal due
        due += every
        loop.call_at(due, stand_still)

    def stand_still() -> None:
        time.sleep(length)
        again()

    again()


async def serve(options: argparse.Namespace) -> None:
    answers: dict[str, Callable[[], Answer]] = {
        "corrupt": lambda: Corrupt(options.every, options.seed),
        "die": lambda: Die(options.after),
        "silent": lambda: silent,
        "stall": lambda: echo,
    }
    answer = answers[options.fault]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(answer), "127.0.0.1", options.port, backlog=1024)
    if options.fault == "stall":
        stall(options.every, options.length)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def refuse(port: int) -> None:
    # Bound and not listening: nobody else gets the port, and nobody answers there.
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        print(holder.getsockname()[1], flush=True)
        signal.pause()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compare.faulty")
    faults = parser.add_subparsers(dest="fault", required=True)
    parsers = {
        name: faults.add_parser(name) for name in ("stall", "corrupt", "die", "silent", "refuse")
    }
    for fault in parsers.values():
        fault.add_argument("port", type=int)
    parsers["stall"].add_argument("--every", type=float, default=1.0)
    parsers["stall"].add_argument("--length", type=float, default=0.2)
    parsers["corrupt"].add_argument("--every", type=int, default=1_000_000)
    parsers["corrupt"].add_argument("--seed", type=int, default=0)
    parsers["die"].add_argument("--after", type=int, default=1000)
    options = parser.parse_args()
    if options.fault == "refuse":
        refuse(options.port)
    else:
        asyncio.run(serve(options))


def command(fault: str, port: int | str, *options: str) -> list[str]:
    """Give the words that start such a server, from the top folder of a clone."""
    return [sys.executable, "-W", "error", "-m", "tests.compare.faulty", fault, str(port), *options]


class Faulty(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 15)


@contextlib.contextmanager
def running(fault: str, *options: str) -> Iterator[Faulty]:
    """Run one for the length of the with block."""
    # Not for the server itself, which starts twice as fast without it.
    from ..cli.programs import ROOT, Reader, surroundings

    with subprocess.Popen(
        command(fault, 0, *options), cwd=ROOT, env=surroundings(), stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None  # a pipe
            yield Faulty(int(Reader(process.stdout.fileno()).until("\n")), process)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
