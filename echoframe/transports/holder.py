"""Who holds an address that is taken, where Linux tells.

/proc/net has a line for every socket, with the number of its inode; a process that has
the socket has a link with that number. Those of other users cannot be seen, and then
nothing is known. A look takes no longer than PATIENCE.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from ..printing import visible

__all__ = ["OURSELVES", "holder_of"]

# A machine with very many processes is not searched for longer (seconds).
PATIENCE = 0.5

PROC = "/proc"

OURSELVES = "this very process"

# How /proc/net writes that a socket listens, or waits for datagrams.
_LISTENS, _WAITS = "0A", "07"
_UNIX_LISTENS = 1 << 16


class _TooLong(Exception):
    pass


def holder_of(scheme: str, where: Any) -> str:
    """Name the process that has the address, as in "process 42 (nginx)"; "" if nobody knows.

    `where` is what bind() was given. Of several processes that share the socket it is the
    oldest, from which the others have it.
    """
    deadline = time.monotonic() + PATIENCE
    try:
        inodes = set(_unix(where) if scheme == "unix" else _inet(scheme, where, deadline))
        found = [pid for pid in _processes() if inodes and _has(pid, inodes, deadline)]
        if not found:
            return ""
        pid = min(found, key=_started)
        if int(pid) == os.getpid():
            return OURSELVES
        with open(f"{PROC}/{pid}/comm", errors="backslashreplace") as file:
            return f"process {pid} ({visible(file.read().strip())})"
    except (OSError, ValueError, IndexError, _TooLong):
        # Another kind of system, or a process that has just gone.
        return ""


def _unix(path: str) -> Iterator[str]:
    # An abstract name's zero byte is written as an "@".
    wanted = "@" + path[1:] if path.startswith("\0") else path
    with open(f"{PROC}/net/unix", errors="surrogateescape") as file:
        next(file)
        for line in file:
            # Num RefCount Protocol Flags Type St Inode Path
            fields = line.rstrip("\n").split(None, 7)
            if fields[7:] == [wanted] and int(fields[3], 16) & _UNIX_LISTENS:
                yield fields[6]


def _inet(scheme: str, where: Any, deadline: float) -> list[str]:
    table, state = ("udp", _WAITS) if scheme == "udp" else ("tcp", _LISTENS)
    host = where[0].partition("%")[0] or "0.0.0.0"
    ours = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    waiting: list[str] = []
    others: list[str] = []
    port = f":{where[1]:04X} "
    for name in (table, table + "6"):
        try:
            file = open(f"{PROC}/net/{name}")  # noqa: SIM115  # closed below
        except FileNotFoundError:
            # A kernel without IPv6.
            continue
        with file:
            next(file)
            for line in file:
                if time.monotonic() > deadline:
                    raise _TooLong
                if port not in line:
                    # There may be many thousands, of connections that are over.
                    continue
                # sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
                fields = line.split()
                theirs, its_port = fields[1].split(":")
                if int(its_port, 16) == where[1] and _meet(ours, _packed(theirs)):
                    (waiting if fields[3] == state else others).append(fields[9])
    # A connection may hold a port too, if nobody listens there.
    return [inode for inode in waiting or others if inode != "0"]


def _packed(text: str) -> bytes:
    # Words of four bytes, each written as a number of this machine's.
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return raw


def _meet(one: bytes, other: bytes) -> bool:
    """Tell whether two addresses, with the same port, exclude each other."""
    one, other = (
        name[12:] if name.startswith(b"\0" * 10 + b"\xff\xff") else name for name in (one, other)
    )
    if len(one) == len(other):
        return one == other or not any(one) or not any(other)
    # Of IPv6, every interface may stand for IPv4 as well.
    return not any(one if len(one) == 16 else other)


def _processes() -> list[str]:
    return [name for name in os.listdir(PROC) if name.isdigit()]


def _has(pid: str, inodes: set[str], deadline: float) -> bool:
    if time.monotonic() > deadline:
        raise _TooLong
    try:
        numbers = os.listdir(f"{PROC}/{pid}/fd")
    except OSError:
        # Another user's, or gone.
        return False
    for number in numbers:
        try:
            name = os.readlink(f"{PROC}/{pid}/fd/{number}")
        except OSError:
            continue
        if name.startswith("socket:[") and name[8:-1] in inodes:
            return True
    return False


def _started(pid: str) -> tuple[int, int]:
    with open(f"{PROC}/{pid}/stat", errors="replace") as file:
        # The name in the brackets may hold anything.
        return int(file.read().rpartition(")")[2].split()[19]), int(pid)
