"""Two profiles: a quick one for every run, and --hypothesis-profile=deep, which searches."""

from __future__ import annotations

import pytest


def _register() -> bool:
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:
        # Each file here is skipped, and says so.
        return False
    # The same examples each time: what fails, fails for everybody.
    settings.register_profile(
        "quick",
        max_examples=60,
        stateful_step_count=12,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    # Others each time, and what failed is kept and tried first.
    settings.register_profile(
        "deep",
        max_examples=3_000,
        stateful_step_count=40,
        derandomize=False,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    return True


# Before the plugin looks for the profile that the command line names.
_HAVE_HYPOTHESIS = _register()


def pytest_configure(config: pytest.Config) -> None:
    if _HAVE_HYPOTHESIS and not config.getoption("--hypothesis-profile", None):
        from hypothesis import settings

        settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _HAVE_HYPOTHESIS and config.getoption("--hypothesis-profile", None):
        for item in items:
            item.add_marker(pytest.mark.timeout(0))
