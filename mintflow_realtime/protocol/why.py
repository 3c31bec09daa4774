"""The messages of `GET /api/v1/why`: what became of an event for one user, and what nodes tell each other about it."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mintflow_realtime.protocol.ids import Id
from mintflow_realtime.protocol.nodes import Tenant

OffsetText = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z]{1,32}-[0-9]{1,16}\Z")]
NamespaceName = Annotated[str, Meta(pattern=r"\A/[^\x00-\x1f,?]{0,127}\Z")]
Outcome = Literal[
    "delivered", "replayed", "dropped", "not_in_room", "not_permitted", "not_connected", "node_gone", "unknown"
]


class WhyQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The query. `tenant` is by default the caller's; without `namespace` the built-in ones are looked through."""

    offset: OffsetText
    user_id: Id
    tenant: Tenant | None = None
    namespace: NamespaceName | None = None


class HeardBy(msgspec.Struct, frozen=True, rename="camel"):
    """A node that heard the event, and when (ISO 8601)."""

    node_id: str
    heard_at: str


class Told(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What became of it for one of the user's connections; `sid` and `node_id` are None where there was none."""

    sid: str | None
    node_id: str | None
    outcome: Outcome
    at: str | UnsetType = UNSET
    sentence: str


class Why(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer. `numbered_at` is by the publisher's clock; `unanswered` are nodes that gave no answer in time."""

    offset: str
    namespace: str
    numbered_at: str
    name: str
    rooms: list[str]
    nodes: list[HeardBy]
    connections: list[Told]
    unanswered: list[str]


# Between nodes. Times are milliseconds since 1970, by the clock of the node that tells them.


class AskWhy(msgspec.Struct, frozen=True, kw_only=True):
    """What a node knows of a user's clients in a namespace, as far as an event of these `rooms` is concerned."""

    tenant: str
    user_id: str
    namespace: str
    offset: str
    rooms: list[str]


class RoomStay(msgspec.Struct, kw_only=True):
    """A client in a room: from after one position of the log on up to another. "" is not known, or not yet."""

    room: str
    since: str = ""
    since_at: float = 0
    until: str = ""
    until_at: float = 0


class Stay(msgspec.Struct, kw_only=True):
    """One connection of a client in the namespace.

    `position` is how far its node had delivered when it was told that it is connected; "" where that is forgotten.
    `replayed_from` is the offset that it came back with, "" for one that began anew. `closed_at` is 0 while it lasts.
    `unsent` is the first offset of what waits to be sent, or never was; `dropped` are runs that a full outbox cost it,
    `pauses` when something waited for it. `told` is the last offset that it was told, at `told_at`.
    """

    sid: str
    connected_at: float
    position: str = ""
    replayed_from: str = ""
    resync: str = ""
    rooms: list[RoomStay] = []
    closed_at: float = 0
    closed: str = ""
    closed_position: str = ""
    unsent: str = ""
    dropped: list[tuple[str, str]] = []
    pauses: list[tuple[float, float]] = []
    told: str = ""
    told_at: float = 0


class NodeTells(msgspec.Struct, kw_only=True):
    """What one node knows. Before `complete_from` something may be missing.

    `refused` says when and why it let the user not into the namespace, `lacks` that a client of the user's that is in
    another namespace may not enter this one; `lost` when and why it told all clients to fetch anew.
    """

    complete_from: float
    heard_at: float | None = None
    stays: list[Stay] = []
    refused: tuple[float, str] | None = None
    lacks: bool = False
    lost: tuple[float, str] | None = None
