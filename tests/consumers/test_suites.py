"""Other people's tests, with servers of their own: they pass, adopted, and stop at once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ..cli.programs import PATIENCE, ROOT, surroundings
from .consumer import needs

# Each starts programs.
pytestmark = pytest.mark.slow

POOL = ["--model", "pool", "--threads", "3"]


def said_by(flags: list[str], *words: str) -> str:
    """Run a test suite, adopted, to its end; gives what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "echoframe", "adopt", *flags, "--", sys.executable, *words],
        cwd=ROOT,
        env=surroundings(PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def slowest(said: str) -> int:
    """Milliseconds that the slowest of the servers took to stop."""
    return max(map(int, re.findall(r"stopped in (\d+) ms", said)))


@pytest.mark.parametrize("flags", [["--model", "thread"], POOL], ids=["thread", "pool"])
def test_djangos_live_server(flags: list[str]) -> None:
    needs("django")
    site = "tests.consumers.sites"
    said = said_by(flags, "-m", f"{site}.manage", "test", f"{site}.live")
    assert "Ran 3 tests" in said
    assert ("PoolMixIn" if flags is POOL else "Threaded") in said
    # socketserver takes up to half a second.
    assert slowest(said) < 250


@pytest.mark.parametrize("flags", [["--model", "thread"], POOL], ids=["thread", "pool"])
def test_pytest_httpserver(flags: list[str]) -> None:
    needs("pytest_httpserver")
    file = ROOT / "tests/consumers/sites/check_httpserver.py"
    words = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--noconftest", str(file)]
    said = said_by(["--plain", *flags], *words)
    assert "5 passed" in said
    # Both kinds of it: the one that it would make by itself has no mix-in.
    assert said.count("PoolMixIn" if flags is POOL else "Lifecycle") == 2
    assert slowest(said) < 250
