"""What publishers and clients know of a run, and what can be wrong with it. Times are seconds of CLOCK_MONOTONIC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"

# What can be wrong.
LOST = "lost"  # acknowledged, and an entitled client neither got it nor was told
TWICE = "twice"  # the same event again in one session, recoveries included
DISORDERED = "out of order"
LEAKED = "across tenants"
PHANTOM = "phantom"  # published by nobody, or known to have failed
EARLY = "early"  # before the CONNECT of a connection that was not recovered
MISNUMBERED = "misnumbered"  # offsets that contradict each other, or the order in which publishes happened
ANEW = "not recovered"  # though it asked to be, and its session was not lost with all of Redis
STRANDED = "stranded"  # refused for good, or not connected at the end


@dataclass(frozen=True, slots=True)
class Publish:
    """One publish as its publisher knows it. `room` is "" for a whole tenant, else what a client subscribes to."""

    id: str
    tenant: str
    namespace: str
    room: str
    publisher: str
    sequence: int
    begun: float
    outcome: str
    ended: float
    offset: str | None = None
    attempts: int = 1
    batch: str = ""
    """What it was published together with, whole or not at all."""


class Seen(NamedTuple):
    """One thing that happened to a client in one namespace.

    kind     value
    connect  "recovered" or "fresh"
    joined   the room whose subscription was answered
    event    its id; with `tenant` (as it says itself) and `offset` (None where it has none)
    resync   the reason
    lost     the reason of a disconnection; the client tries again
    refused  the reason; it doesn't
    """

    at: float
    kind: str
    value: str = ""
    tenant: str = ""
    offset: str | None = None


@dataclass(slots=True)
class History:
    """What one client saw in one namespace, in order."""

    client: str
    tenant: str
    namespace: str
    seen: Sequence[Seen]


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    at: float
    client: str
    namespace: str
    event: str
    told: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.kind}: client {self.client} {self.namespace} {self.event} ({self.told})"
