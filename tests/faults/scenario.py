"""What a scenario is: a function that is given a Stage, and returns a figure or raises Failed.

Its docstring is its title. Its name, with dashes, is how it is called for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .stage import Stage

__all__ = ["SCENARIOS", "Absent", "Failed", "Scenario", "need", "only_on", "scenario", "until"]


class Failed(Exception):
    """The server has not survived this, in a sentence."""


class Absent(Exception):
    """It cannot be tried here, in a sentence."""


Play = Callable[["Stage"], str]


class Scenario(NamedTuple):
    name: str
    title: str
    play: Play
    # It is about what echoframe alone has.
    ours: bool
    # Subjects for which it means nothing, and why.
    but: dict[str, str]
    # In which it must be over, in seconds.
    deadline: float


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, ours: bool = False, but: dict[str, str] | None = None, deadline: float = 30.0
) -> Callable[[Play], Play]:
    """Add a function to the scenarios."""

    def add(play: Play) -> Play:
        # A Callable has no __name__ for type checkers; a function has.
        name = getattr(play, "__name__", "").replace("_", "-")
        put(Scenario(name, play.__doc__ or name, play, ours, but or {}, deadline))
        return play

    return add


def put(one: Scenario) -> None:
    assert one.name not in SCENARIOS, f"two scenarios are called {one.name}"
    SCENARIOS[one.name] = one


def only_on(names: tuple[str, ...], of: tuple[str, ...], reason: str) -> dict[str, str]:
    """For `but`: of these, all the others."""
    return {name: reason for name in of if name not in names}


def need(holds: Any, sentence: str) -> None:
    """Errors: Failed, with this sentence, unless something holds."""
    if not holds:
        raise Failed(sentence)


def until(ask: Callable[[], Any], seconds: float, sentence: str, pause: float = 0.005) -> Any:
    """Give the first true answer. Errors: Failed, with this sentence, if there is none in time."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        need(time.monotonic() < end, f"{sentence} (within {seconds:g} s)")
        time.sleep(pause)
    return answer
