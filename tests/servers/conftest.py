"""Every test of a server shows, besides its claim, that nothing is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..helpers import Gate, Log, Notes, logged, nothing_left_behind


@pytest.fixture(scope="session", autouse=True)
def uvloop_has_settled() -> None:
    # The first of its loops opens two descriptors that the process keeps for good.
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture
def notes(tidy: None) -> Iterator[Notes]:
    made = Notes()
    yield made
    made.close()


@pytest.fixture
def gate(tidy: None) -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()
    made.close()


@pytest.fixture
def log(tidy: None, tmp_path: Path) -> Iterator[Log]:
    with logged(tmp_path / "log") as made:
        yield made
