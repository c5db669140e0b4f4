from __future__ import annotations

import signal

import pytest

from .certificates import Certificates


def pytest_configure() -> None:
    # A shell has what it starts in the background ignore Ctrl-C, and all that starts in
    # turn; the tests are about programs that do not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        import uvloop
    except ImportError:
        return
    # Its first loop opens two descriptors for good, which no test has to answer for.
    uvloop.new_event_loop().close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("trustme", reason="tests with certificates need trustme: pip install it")
    return Certificates(tmp_path_factory.mktemp("certificates"))
