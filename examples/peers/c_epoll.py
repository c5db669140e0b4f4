"""A server in C on epoll, one thread: c_epoll.c; this file compiles it, and becomes it.

    python3 examples/peers/c_epoll.py 7100
    echoframe compare --against c='python3 examples/peers/c_epoll.py {port}'

The program is kept in ~/.cache/echoframe, so only the first start has to compile it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from _common import cannot, prepare

SOURCE = Path(__file__).with_suffix(".c")


def program() -> Path:
    """Give the compiled program, compiled now unless this very source was before."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    mark = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    made = Path(cache, "echoframe", f"c_epoll-{os.uname().machine}-{mark}")
    if not made.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            cannot("there is no C compiler: apt install gcc")
        made.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: somebody else may be starting at the same time.
        fresh = made.with_name(f"{made.name}.{os.getpid()}")
        words = [compiler, "-O2", "-o", str(fresh), str(SOURCE)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
            cannot(f"{compiler} does not compile c_epoll.c: {reason}")
        fresh.rename(made)
    return made


if __name__ == "__main__":
    port = prepare()
    if sys.platform != "linux":
        cannot("c_epoll.c needs Linux: there is no epoll elsewhere")
    try:
        path = program()
        os.execv(path, [str(path), str(port)])
    except OSError as error:
        cannot(f"c_epoll cannot be kept and run ({error}): set XDG_CACHE_HOME to another folder")
