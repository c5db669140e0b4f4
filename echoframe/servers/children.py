"""Processes of one's own: to signal them, to learn of their end, and of nobody else's."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

if sys.platform == "linux":
    # Not where it is used: a forked child would load it, and each child anew.
    import fcntl

__all__ = ["be_told_of_end", "ended", "flush", "handle_of", "kill", "leave", "words_for"]

# What a child may be sent while it is on its way out.
_LATE = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that has not been waited for."""
    try:
        # It cannot be another process by now: its number is free only when it has been
        # waited for, and that is done here (unless the program does it as well).
        os.kill(pid, number)
    except OSError:
        # Gone, or somebody else by now.
        pass


def ended(pid: int) -> int | None:
    """Give the exit code of a process that has ended, minus a signal's number; else None.

    0 where somebody else has waited for it. Never waits.
    """
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def handle_of(pid: int) -> int | None:
    """Give a descriptor that is readable when the process has ended; None where there is none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # Only Linux has it, and only while there are descriptors left.
        return None


def words_for(code: int) -> str:
    """An exit code as a log says it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def be_told_of_end(number: int, told: int) -> None:
    """Get a signal when the other end of a pipe is closed, by its process's end at the latest.

    The descriptor is closed here. Where that cannot be had, nobody is told.
    """
    try:
        # One of our own: who is told is a matter of what several processes share otherwise.
        own = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, told)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except (OSError, AttributeError, NameError):
        # Only Linux has it, and only with /proc.
        pass
    os.close(number)


def flush() -> None:
    """Write what waits in standard output, so that no fork copies it and no exit loses it."""
    # Only stdout: stderr holds back no whole lines.
    try:
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):
        # None, closed, or its disk is full: not for a server to die of.
        pass


def leave(status: int) -> NoReturn:
    """End this process, a child, without what its parent has registered for its own end."""
    # Nothing calls back from here on: who has changed os._exit (a tool that measures
    # coverage) may hold a lock in it that the code of a signal handler waits for.
    signal.pthread_sigmask(signal.SIG_BLOCK, _LATE)
    os._exit(status)
