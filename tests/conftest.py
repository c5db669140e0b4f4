from __future__ import annotations

import pytest

from .certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("trustme", reason="tests with certificates need trustme: pip install it")
    return Certificates(tmp_path_factory.mktemp("certificates"))
