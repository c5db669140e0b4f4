"""ncat with cat behind it: two processes for each connection, one of each.

    python3 examples/peers/ncat_server.py 7100
    echoframe compare --against ncat='python3 examples/peers/ncat_server.py {port}'

What it runs is `ncat -k -l 127.0.0.1 7100 -e /bin/cat`, with a higher --max-conns. What
that means: its backlog is 10, and cannot be chosen, so of 50 who come at the same moment
about half are turned away, and try again after a second. What it has not yet sent back is
lost when the other side ends its own (before ncat 7.96). From about 128 KiB on their way,
ncat and cat can wait for each other, for ever: it is for small messages. And when ncat is
told to end, the processes of open connections stay; so this file stays too, to end them
all, and the memory of one Python is in what is measured.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys

from _common import cannot, listening, prepare


def serve(ncat: str, cat: str, port: int) -> int:
    """Run ncat till it ends, or till a signal comes; give its exit code."""
    ends = (signal.SIGINT, signal.SIGTERM)
    for number in ends:
        signal.signal(number, lambda *_: sys.exit())
    # Not between the start of ncat and the `try` that ends it.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    words = [ncat, "-k", "-l", "127.0.0.1", str(port), "--max-conns", "4096", "-e", cat]
    process = subprocess.Popen(words, process_group=0)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        return process.wait()
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It ended by itself, and left nobody.
            pass
        process.wait()


if __name__ == "__main__":
    port = prepare()
    ncat, cat = shutil.which("ncat"), shutil.which("cat")
    if ncat is None or cat is None:
        cannot("ncat is not installed: apt install ncat")
    # ncat has two sentences for this, and another exit code. Nobody listens here.
    with listening(port), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    sys.exit(3 if serve(ncat, cat, port) else 0)
