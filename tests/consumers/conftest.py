"""Where Python keeps what it has compiled, since these tests start many programs; and tidiness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..helpers import nothing_left_behind


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    with nothing_left_behind():
        yield
