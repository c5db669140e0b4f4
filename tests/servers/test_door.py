"""The door that is shut behind those who have just come."""

from __future__ import annotations

import threading
import time

import pytest

from echoframe.servers import door as door_module
from echoframe.servers.door import Door
from echoframe.testing import running

from ..helpers import DEADLINE, ask, echo, eventually, raw_connection


@pytest.fixture
def door() -> Door:
    return Door()


class Passer(threading.Thread):
    """Somebody who talks already, at the door."""

    def __init__(self, door: Door, row: int = 99) -> None:
        super().__init__()
        self.door, self.row = door, row
        self.start()

    def run(self) -> None:
        for shut in self.door.shut:
            shut.pass_by(self.row)

    def passes(self) -> bool:
        self.join(DEADLINE)
        return not self.is_alive()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "HOLD", DEADLINE)
    monkeypatch.setattr(door_module, "SHUT", DEADLINE)


def test_it_is_open_when_nobody_comes(door: Door) -> None:
    assert not door.shut
    with door:
        assert door.shut
    assert not door.shut


def test_who_talks_waits_until_every_newcomer_has_been_answered(door: Door, patient: None) -> None:
    with door:
        door.expect(1)
        door.expect(2)
    passer = Passer(door)
    newcomer = Passer(door, 1)
    assert door.shut
    assert passer.is_alive()
    assert newcomer.is_alive()
    door.forget(2)
    assert passer.passes()
    assert newcomer.passes()
    assert not door.shut


def test_the_last_newcomer_opens_it_and_does_not_wait(door: Door, patient: None) -> None:
    with door:
        door.expect(1)
    door.pass_by(1)
    assert not door.shut


def test_it_stays_shut_while_more_are_being_let_in(door: Door, patient: None) -> None:
    with door:
        door.expect(1)
        door.forget(1)
        assert door.shut
        door.expect(2)
    assert door.shut
    door.forget(2)
    assert not door.shut


def test_newcomers_that_say_nothing_hold_nobody_for_ever(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "HOLD", 0.001)
    monkeypatch.setattr(door_module, "SHUT", DEADLINE)
    with door:
        door.expect(1)
    # One message is held for a moment, and the door is still shut.
    assert Passer(door).passes()
    assert door.shut
    monkeypatch.setattr(door_module, "SHUT", 0.0)
    door.forget(1)
    with door:
        door.expect(1)
    assert Passer(door).passes()
    assert not door.shut
    # And it rests, so that the next ones who say nothing cannot shut it at once.
    with door:
        assert not door.shut


def test_it_can_be_shut_again_after_its_rest(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "HOLD", 0.0)
    monkeypatch.setattr(door_module, "SHUT", 0.0)
    monkeypatch.setattr(door_module, "OPEN", 0.0)
    with door:
        door.expect(1)
    assert Passer(door).passes()
    with door:
        assert door.shut


def test_in_a_crowd_newcomers_are_let_in_and_everybody_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_module, "CROWD", 3)
    seen = []
    before = Door.__enter__

    def enter(door: Door) -> None:
        before(door)
        seen.append(bool(door.shut))

    monkeypatch.setattr(Door, "__enter__", enter)
    with running(echo, "thread") as up:
        peers = [raw_connection(up) for _ in range(3)]
        for peer in peers:
            assert ask(peer, b"one") == b"one"
        silent = raw_connection(up)
        eventually(lambda: len(seen) == 1)
        began = time.monotonic()
        for peer in peers * 5:
            assert ask(peer, b"two") == b"two"
        # Nothing like the patience of a person: a moment for each.
        assert time.monotonic() - began < DEADLINE
        silent.close()
        for peer in peers:
            peer.close()
    assert seen == [True]


def test_it_can_be_shut_again_while_somebody_opens_it(door: Door, patient: None) -> None:
    def shut_again() -> None:
        with door:
            door.expect(2)

    again = threading.Thread(target=shut_again)

    class Slow(list[Door]):
        def remove(self, one: Door) -> None:
            super().remove(one)
            if not again.ident:
                again.start()
                # It may not be let in before this is over.
                again.join(0.1)

    door.shut = Slow()
    with door:
        door.expect(1)
    door.forget(1)
    again.join(DEADLINE)
    passer = Passer(door)
    door.forget(2)
    assert passer.passes()
    assert not door.shut
