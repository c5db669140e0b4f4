from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

import pytest

from .certificates import Certificates


def pytest_configure() -> None:
    # A shell has what it starts in the background ignore Ctrl-C, and all that starts in
    # turn; the tests are about programs that do not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _have_coverage_wait_for_nobody()
    try:
        import uvloop
    except ImportError:
        return
    # Its first loop opens two descriptors for good, which no test has to answer for.
    uvloop.new_event_loop().close()


# One with threads, one that polls, one of asyncio's.
SOME = {"thread", "pool", "aio"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") is not None:
            given = getattr(item, "callspec").params  # noqa: B009  # it is a function's
            if SOME.isdisjoint((given.get("model"), given.get("inner"))):
                item.add_marker("slow")


class _LosableLock:
    """A lock that does not wait for ever for somebody who has lost it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self) -> None:
        self._lock.acquire(timeout=0.5)

    def release(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _have_coverage_wait_for_nobody() -> None:
    # It takes a lock whenever a thread comes into a file for the first time. A signal whose
    # handler raises there, or calls what is in another new file, or a fork in another
    # thread, and the lock is never given back. Some of the tests do just that.
    coverage = sys.modules.get("coverage")
    current: Any = coverage.Coverage.current() if coverage is not None else None
    collector = getattr(current, "_collector", None)
    if collector is None:
        return

    def renew() -> None:
        collector.data_lock = _LosableLock()

    renew()
    os.register_at_fork(after_in_child=renew)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("trustme", reason="tests with certificates need trustme: pip install it")
    return Certificates(tmp_path_factory.mktemp("certificates"))
