"""The messages of /flows and `…/runs/{runId}/events`: commands, answers and the snapshot of a run."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mintflow_realtime.protocol.ids import Id
from mintflow_realtime.protocol.run_events import NodeStatus, Parent, Status

Seq = Annotated[int, Meta(ge=0, le=2**53)]


class SubscribeFlow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`subscribe_flow`: events of a flow, a run, or a flow's run; with a run, its snapshot first."""

    flow_id: Id | None = None
    run_id: Id | None = None
    since: Seq | None = None

    def __post_init__(self) -> None:
        if self.flow_id is None and self.run_id is None:
            raise ValueError("Expected flowId, runId or both")


class UnsubscribeFlow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`unsubscribe_flow`: the subscription of the same two fields ends."""

    flow_id: Id | None = None
    run_id: Id | None = None

    def __post_init__(self) -> None:
        if self.flow_id is None and self.run_id is None:
            raise ValueError("Expected flowId, runId or both")


class NodeState(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """One node of a snapshot, as its last attempt is."""

    status: NodeStatus
    attempt: int
    started_at: str | None = None
    finished_at: str | None = None
    error: Raw | UnsetType = UNSET


class LeftOut(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How many nodes a snapshot leaves out, and how many errors of those that it shows."""

    nodes: int
    errors: int


class RunSnapshot(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A run as its events up to `seq` made it; completed, failed and cancelled stay until the next attempt begins.

    `waiting {reason?, until?}` is there while it waits, `cancelling {reason?, at}` while it goes on although somebody
    wants it cancelled.
    """

    flow_id: str
    run_id: str
    status: Status
    attempt: int
    progress: int | float
    started_at: str
    nodes: dict[str, NodeState]
    seq: int
    finished_at: str | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    truncated: LeftOut | UnsetType = UNSET
    queued_at: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    lease: int | float | UnsetType = UNSET
    parent: Parent | UnsetType = UNSET
    total: int | UnsetType = UNSET
    waiting: Raw | UnsetType = UNSET
    cancelling: Raw | UnsetType = UNSET


class Beaten(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to a beat: the run's status and attempt, and what is wanted of it."""

    status: str
    attempt: int
    cancelling: Raw | UnsetType = UNSET


class FlowSubscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `subscribe_flow`. `events` are there when all after `since` are still held.

    Where they are more than one answer carries, `next_since` is from where on the others can be asked for.
    """

    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    run: RunSnapshot | UnsetType = UNSET
    events: list[Raw] | UnsetType = UNSET
    next_since: int | UnsetType = UNSET
    success: bool = True


class FlowUnsubscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `unsubscribe_flow`."""

    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    success: bool = True


class RunRead(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `GET …/runs/{runId}`. `events` are there when `since` was given and all after it are held.

    Where they are more than one answer carries, `next_since` is from where on the others can be asked for.
    """

    run: RunSnapshot
    events: list[Raw] | UnsetType = UNSET
    next_since: int | UnsetType = UNSET
