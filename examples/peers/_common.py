"""What the peers share: their port, and one sentence where they cannot serve."""

import contextlib
import errno
import resource
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

# As many may wait as the kernel lets, which is 4,096 on most machines.
BACKLOG = 4096

# Enough for every connection of a comparison; some systems refuse "no limit".
DESCRIPTORS = 65536

REFUSALS = {
    errno.EADDRINUSE: "is in use; choose another port",
    errno.EACCES: "needs a permission that this user lacks; choose a port above 1023",
}


def prepare() -> int:
    """Give the port from the command line, and make room for many connections.

    Ctrl-C and SIGTERM end the process at once, as they end a program in C.
    """
    words = sys.argv[1:]
    if len(words) != 1:
        leave(2, f"one argument is needed, the port: {sys.argv[0]} 7100")
    if not (words[0].isdecimal() and 1 <= int(words[0]) <= 65535):
        leave(2, f"port {words[0]} is not a number between 1 and 65535")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(words[0])


def cannot(sentence: str) -> NoReturn:
    """End: the sentence says why there is no server, and what would help."""
    leave(3, sentence)


@contextlib.contextmanager
def listening(port: int) -> Iterator[None]:
    """End with a sentence where the port cannot be had."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        cannot(f"127.0.0.1:{port} {REFUSALS[error.errno]}")


def leave(code: int, sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)
