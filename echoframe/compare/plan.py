"""What a load process is told and what it tells, as plain values that are pickled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from .histogram import Histogram
from .workload import CHURN

__all__ = ["CheckFailed", "Exchange", "Group", "Moment", "Plan", "Tally"]


class CheckFailed(Exception):
    """A check of replies has raised; a sentence says what."""


@dataclass(frozen=True)
class Exchange:
    """A message as it goes out, and what must come back."""

    out: bytes
    # None: whatever it is, the framing says where it ends.
    reply: bytes | None
    # The message without its framing, for a check of the reply.
    message: bytes = b""


@dataclass(frozen=True)
class Group:
    """Clients that are alike. See workload.Clients."""

    count: int
    way: str
    exchanges: tuple[Exchange, ...]
    pipeline: int = 1
    think: float = 0.0
    stay: int = 1
    measured: bool = True
    # Every client says something that only it says, so that replies which went to the
    # wrong one are seen.
    tagged: bool = False

    def visitor(self) -> Group:
        """Give one more like these, who comes and goes."""
        return replace(self, count=1, way=CHURN)


@dataclass(frozen=True)
class Plan:
    """One measurement by one load process."""

    address: str
    groups: tuple[Group, ...]
    seconds: float
    warmup: float = 0.03
    # Messages a second, planned ahead; None: each client asks when it has its reply.
    rate: float | None = None
    # Where replies end that are not known beforehand.
    framing: str = "line"
    # module:function(message, reply) -> bool
    check: str | None = None
    # So long may one reply take.
    patience: float = 5.0
    # The preparations end when nobody was served for the first time for so long.
    settle: float = 0.15
    # The server will be told to stop: what ends, ends.
    stops: bool = False
    # TLS, whom to trust: the CA in this file; None: those that this machine trusts; "": anybody.
    ca: str | None = ""
    seed: int = 1
    # The number of its first client, by which what they say differs.
    first: int = 0
    # So many messages the server says by itself when somebody comes.
    greetings: int = 0


@dataclass(frozen=True)
class Moment:
    """What a client of a crowd saw, on the machine's monotonic clock."""

    # By this port the server knows it.
    port: int
    came: float
    replied: float | None


@dataclass
class Tally:
    """What one load process counted."""

    seconds: float = 0.0
    messages: int = 0
    latency: Histogram = field(default_factory=Histogram)
    from_send: Histogram = field(default_factory=Histogram)
    errors: Counter[str] = field(default_factory=Counter)
    unserved: int = 0
    # Replies of each measured client.
    each: list[int] = field(default_factory=list)
    cpu: float = 0.0
    # 99 of 100 planned messages left not later than this.
    lag: float = 0.0
    moments: list[Moment] = field(default_factory=list)
    # When the crowd was let go.
    began: float = 0.0
    # The share of the time in which there was something to do.
    busy: float = 0.0
    # Until the last reply, which may be later than what was measured.
    took: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            max(self.seconds, other.seconds),
            self.messages + other.messages,
            self.latency + other.latency,
            self.from_send + other.from_send,
            self.errors + other.errors,
            self.unserved + other.unserved,
            self.each + other.each,
            # Whoever is at its end first is what the figures show.
            max(self.cpu, other.cpu),
            max(self.lag, other.lag),
            self.moments + other.moments,
            min(self.began, other.began),
            max(self.busy, other.busy),
            max(self.took, other.took),
        )
