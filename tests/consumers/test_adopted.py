"""Every program, as it is, under `echoframe adopt`; with more clients than threads.

Each is started once for what clients do with it, and once more for its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .clients import curl, peers, silent, wrk
from .consumer import CONSUMERS, Consumer, Running, running

# Each starts programs.
pytestmark = pytest.mark.slow

MODELS = {"thread": ["--model", "thread"], "pool": ["--model", "pool", "--threads", "3"]}
# What reloads serves as the same does without that.
SERVERS = [name for name in CONSUMERS if not name.endswith("-reload")]
# More than threads.
MANY = 20


def _pair(consumer: Consumer, request: pytest.FixtureRequest) -> Any:
    if not consumer.tls:
        return None
    made = request.getfixturevalue("certificates")
    return made.cert, made.key


@pytest.fixture(
    scope="module",
    params=[(name, model) for name in SERVERS for model in MODELS],
    ids="-".join,
)
def up(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    name, model = request.param
    consumer = CONSUMERS[name]
    folder = tmp_path_factory.mktemp(name)
    with running(consumer, MODELS[model], folder, _pair(consumer, request)) as made:
        assert f"has the model {model}" in made.log
        yield made


def test_more_clients_than_threads(up: Running) -> None:
    with peers(up, MANY) as crowd:
        for _ in range(3):
            crowd.ask()
            assert crowd.answers() == [(200, True)] * MANY
        # Only where threads are scarce, and kept by those who are silent.
        assert crowd.again == 0 or ("model pool" in up.log and not up.consumer.parts)


def test_curl(up: Running) -> None:
    assert curl(up, 5) == ["200"] * 5


def test_who_says_nothing_holds_nobody_up(up: Running) -> None:
    # More than threads. Over TLS, they never shake hands.
    with silent(up, 5), peers(up, 2) as crowd:
        crowd.ask()
        assert crowd.answers() == [(200, True)] * 2


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk(up: Running) -> None:
    if not up.consumer.loads:
        pytest.skip("a second for each kind of server is enough")
    found = wrk(up.url(up.consumer.quick), MANY, 1)
    assert found.requests > MANY
    assert found.errors == ""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CONSUMERS)
def test_sigterm_waits_for_a_request(
    name: str, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    consumer = CONSUMERS[name]
    with ExitStack() as stack:
        pair = _pair(consumer, request)
        site = stack.enter_context(running(consumer, MODELS[model], tmp_path, pair))
        # One that only keeps its connection, and holds up nothing.
        idle = stack.enter_context(peers(site, 1))
        idle.ask()
        assert idle.answers() == [(200, True)]
        busy = stack.enter_context(peers(site, 1))
        busy.ask(word="slow")
        site.expect("begun")
        site.terminate()
        assert busy.answers() == [(200, True)]
        assert site.end() == 0
        assert "Traceback" not in site.log
