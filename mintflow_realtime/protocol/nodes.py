"""The messages about nodes and who is connected: `/api/v1/nodes`, `/connections`, `/presence`, between nodes too."""

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mintflow_realtime.protocol.ids import TENANT_PATTERN, Id

Row = TypeVar("Row")

Limit = Annotated[int, Meta(ge=1, le=1000)]
Tenant = Annotated[str, Meta(pattern=TENANT_PATTERN)]
Room = Annotated[str, Meta(min_length=1, max_length=1024)]
Cursor = Annotated[str, Meta(min_length=1, max_length=512)]


class NodeInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One node, as it was when it last wrote of itself: at most some seconds ago. `since` is ISO 8601."""

    node_id: str
    host: str
    pid: int
    version: str
    since: str
    connections: int
    cpu_percent: float
    memory_bytes: int
    events_per_second: float
    redis_latency_ms: float
    draining: bool


class NodeList(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to `GET /nodes`."""

    nodes: list[NodeInfo]


class ConnectionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The query of `GET /connections`. `room` is a room's name as an answer shows it."""

    user_id: Id | None = None
    tenant: Tenant | None = None
    room: Room | None = None
    limit: Limit = 100
    after: Cursor | None = None


class ConnectionInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One client's connection. `namespaces` has the rooms of each; `behind` counts messages that wait for it.

    `sid` is its sid in the first of its namespaces: never the Engine.IO session's id, by which anybody could go on
    with the session. `address` is None for those who may not see it.
    """

    sid: str
    node_id: str
    user_id: str
    tenant: str
    transport: str
    address: str | None
    since: str
    outbox_bytes: int
    behind: int
    namespaces: dict[str, list[str]]


class ConnectionPage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A page of connections in the order of their sids. `unanswered` are nodes that are there and said nothing."""

    connections: list[ConnectionInfo]
    next_after: str | UnsetType = UNSET
    unanswered: list[str]


class CloseQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The query of `DELETE /connections`: all of one user's."""

    user_id: Id
    tenant: Tenant | None = None


class Closed(msgspec.Struct, frozen=True):
    """The answer to `DELETE /connections`: how many connections were closed."""

    closed: int


class PresenceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The query of `GET /presence`."""

    tenant: Tenant | None = None
    limit: Limit = 100
    after: Cursor | None = None


class PresentUser(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A user who is connected: with how many connections, and since when (ISO 8601) with the oldest of them."""

    user_id: str
    tenant: str
    connections: int
    since: str


class PresencePage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A page of users, by tenant and user id. `unanswered` as for connections."""

    users: list[PresentUser]
    next_after: str | UnsetType = UNSET
    unanswered: list[str]


# Between nodes. Fields may be added: one that a node of another version doesn't know is ignored.


class AskPage(msgspec.Struct, frozen=True, kw_only=True):
    """Which users there are, from the one after `after` on."""

    tenant: str | None
    limit: int
    after: str


class AskConnections(AskPage, frozen=True, kw_only=True):
    """Which connections there are, from the one after `after` on."""

    user_id: str | None
    room: str | None


class Some(msgspec.Struct, Generic[Row], frozen=True):
    """One node's part of a page; `more` where it has others behind these."""

    rows: list[Row]
    more: bool


class AskToClose(msgspec.Struct, frozen=True, kw_only=True):
    """Close the connection of a sid, or all of a user's; only those of `tenant` and `user_id`, where given."""

    sid: str | None
    tenant: str | None
    user_id: str | None
