"""Where Python keeps what it has compiled, since these tests start many programs; and tidiness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..adopt.conftest import _compiled_once
from ..helpers import nothing_left_behind

__all__ = ["_compiled_once", "tidy"]


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    with nothing_left_behind():
        yield
