"""Very many connections, one after the other: what is left of them."""

from __future__ import annotations

import socket
import threading
import time

from ..helpers import reset
from .crowds import few_threads, given_back
from .peers import ask, read_to_end, seconds_to_serve
from .scenario import need, scenario
from .stage import Stage
from .subject import Up

COUNTS = dict.fromkeys(("fork", "ForkingTCPServer"), 10_000)
THREADS = 4


def _visit(up: Up, number: int) -> None:
    # A host of its own for each few: nobody waits for ports that are still in use.
    with up.connect(f"127.0.0.{2 + number % 200}") as peer:
        match number % 8:
            case 0:
                peer.sendall(b"hello\n")
                peer.shutdown(socket.SHUT_WR)
                need(read_to_end(peer, up.patience) == b"hello\n", "a reply was wrong")
            case 1:
                peer.sendall(b"close\n")
                need(read_to_end(peer, up.patience) == b"closed\n", "a last reply was wrong")
            case 2:
                peer.sendall(b"half")
                reset(peer)
            case 3:
                pass
            case _:
                said = b"%d" % number
                need(ask(peer, said) == said, "a reply was wrong")


def _visits(up: Up, count: int) -> None:
    wrong: list[Exception] = []

    def come(first: int) -> None:
        try:
            for number in range(first, count, THREADS):
                if wrong:
                    break
                _visit(up, number)
        except Exception as error:
            wrong.append(error)

    threads = [
        threading.Thread(target=come, args=[number], daemon=True) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        wrong.append(RuntimeError(str(error)))
        raise
    if wrong:
        raise wrong[0]


@scenario(deadline=600)
def soak(on: Stage) -> str:
    """100,000 connections (--soak; a twentieth else; of forks a tenth): nothing left, < 5 MiB"""
    count = COUNTS.get(on.name, 100_000)
    if not on.whole:
        count //= on.count(20, 400)
    with on.serve(*few_threads(on)) as up:
        _visits(up, max(count // 10, 200))
        seconds_to_serve(up)
        time.sleep(0.2)
        before = up.at_rest()
        _visits(up, count)
        grown = given_back(up, on, before)
        return f"{count:,}: nothing left, memory grew by {grown}"
