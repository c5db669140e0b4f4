"""What is measured, as plain values: how many clients there are and what each does.

A workload says nothing of models. Its handler is what is served if nobody names one of
their own; the others stay as they are, whoever answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["CHURN", "CROWD", "DEFAULTS", "HOLD", "SIP", "TALK", "WORKLOADS", "Clients", "Workload"]

# What a client does, over and over.
TALK = "talk"  # stay, ask, read the reply
CHURN = "churn"  # connect, ask, read the reply, close
CROWD = "crowd"  # all come at the same moment: connect, ask once, close
HOLD = "hold"  # ask once, stay, say nothing more
SIP = "sip"  # ask for much and read it slowly

SMALL = b"0123456789abcdef" * 4


@dataclass(frozen=True)
class Clients:
    """Some clients that are alike."""

    count: int
    way: str = TALK
    # What they say, in turn, as messages, without what the framing adds.
    messages: tuple[bytes, ...] = (SMALL,)
    # So many messages are under way at once.
    pipeline: int = 1
    # Seconds between a reply and the next message.
    think: float = 0.0
    # Messages in one connection, of those who come and go.
    stay: int = 1
    # The figures are theirs; the others are there to be in the way.
    measured: bool = True


@dataclass(frozen=True)
class Workload:
    """Clients, and what they ask."""

    name: str
    # What clients do, for people, and what they ask the handler for if it is ours.
    what: str
    asked: str
    handler: str
    clients: tuple[Clients, ...]
    # Seconds that one round is measured, if nobody says otherwise.
    seconds: float = 0.2
    # Settings of the server besides those of the run.
    settings: dict[str, Any] = field(default_factory=dict)
    # Numbers of clients that show how it scales, for those who have the time.
    axis: tuple[int, ...] = ()
    # The server is told to stop in the middle.
    stops: bool = False
    # Who waited and who was served is drawn.
    drawn: bool = False

    @property
    def connections(self) -> int:
        """How many clients the figures are of."""
        return sum(group.count for group in self.clients if group.measured)

    @property
    def way(self) -> str:
        """What the clients do whose figures these are."""
        return next(group.way for group in self.clients if group.measured)

    def with_connections(self, count: int) -> Workload:
        """Give the same with another number of measured clients."""
        groups = tuple(
            replace(group, count=count) if group.measured else group for group in self.clients
        )
        return replace(self, clients=groups)

    def with_messages(self, messages: tuple[bytes, ...]) -> Workload:
        """Give the same with other words."""
        return replace(
            self, clients=tuple(replace(group, messages=messages) for group in self.clients)
        )


WORKLOADS = {
    one.name: one
    for one in [
        Workload(
            "echo",
            "each client stays and asks again and again",
            "",
            "echo",
            (Clients(50),),
            seconds=0.15,
            axis=(1, 10, 100, 1000),
        ),
        Workload(
            "churn",
            "a connection for each message",
            "",
            "echo",
            (Clients(50, CHURN),),
            seconds=0.15,
            axis=(1, 10, 100, 1000),
        ),
        Workload(
            "wait",
            "all clients come at once, and each asks once",
            "for a wait of 20 ms",
            "wait",
            (Clients(20, CROWD, (b"20",)),),
            drawn=True,
        ),
        Workload(
            "work",
            "each client asks three times, goes and comes again",
            "for 10 ms of CPU",
            "work",
            # Who stayed would have to stay where it came first, and four who come at
            # once may all come to one of the workers of prefork.
            (Clients(4, CHURN, (b"10",), stay=3),),
        ),
        Workload(
            "idle",
            "each client asks once, stays, and says nothing more",
            "",
            "echo",
            (Clients(1000, HOLD),),
        ),
        Workload(
            "mixed",
            "clients with short questions, beside 2 with long ones",
            "of 50 ms of CPU each",
            "work",
            (Clients(20, TALK, (b"0",)), Clients(2, CHURN, (b"50",), measured=False)),
            seconds=0.5,
        ),
        Workload(
            "slow",
            "clients with short questions, beside 20 who read long replies slowly",
            "",
            "echo",
            (Clients(20), Clients(20, SIP, (bytes(range(256)) * 256,), measured=False)),
        ),
        Workload(
            "burst",
            "very many clients come at once, and each asks once",
            "",
            "echo",
            (Clients(200, CROWD),),
            drawn=True,
        ),
        Workload(
            "overload",
            "a connection for each message, where 25 may be open",
            "",
            "echo",
            (Clients(100, CHURN),),
            settings={"max_connections": 25},
        ),
        Workload(
            "drain",
            "the server is told to stop while clients talk to it",
            "",
            "echo",
            (Clients(50),),
            stops=True,
        ),
    ]
}

DEFAULTS = ("echo", "churn", "wait", "work")
