"""The messages of /flows and `…/runs/{runId}/events`: commands, run events, answers and the snapshot of a run."""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from protocol.errors import InvalidPayload, TooLarge
from protocol.ids import Id
from protocol.wire_json import dumps

EventType = Literal[
    "flow_started", "flow_completed", "flow_failed", "node_started", "node_completed", "node_failed", "flow_progress"
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
Status = Literal["started", "completed", "failed"]

# What the event itself says; `data` joins the payload and can't replace it.
FIXED_FIELDS = frozenset({"tenantId", "flowId", "runId", "nodeId", "status", "error", "progress", "timestamp", "seq"})
MAX_ERROR_BYTES = 65_536

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


class RunEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What happened in a run. Node events name their node; `progress` is in percent and clamped to 0-100."""

    type: EventType
    node_id: Id | None = None
    progress: int | float | None = None
    error: Any = None
    data: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.type.startswith("node_") and self.node_id is None:
            raise ValueError(f"{self.type} needs a nodeId")
        if self.type == "flow_progress" and self.progress is None:
            raise ValueError("flow_progress needs a progress")

    @property
    def status(self) -> Status:
        """The status that the snapshot shows after this event: of the node, or of the run."""
        return "started" if self.type == "flow_progress" else self.type.partition("_")[2]  # type: ignore[return-value]


class NodeState(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """One node of a snapshot."""

    status: Status
    started_at: str | None = None
    finished_at: str | None = None
    error: Raw | UnsetType = UNSET


class RunSnapshot(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A run as its events up to `seq` made it; completed and failed are final."""

    flow_id: str
    run_id: str
    status: Status
    progress: int | float
    started_at: str
    nodes: dict[str, NodeState]
    seq: int
    finished_at: str | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class FlowSubscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `subscribe_flow`. `events` are there when all after `since` are still held."""

    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    run: RunSnapshot | UnsetType = UNSET
    events: list[Raw] | UnsetType = UNSET
    success: bool = True


class FlowUnsubscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `unsubscribe_flow`."""

    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    success: bool = True


class RunRead(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `GET …/runs/{runId}`. `events` are there when `since` was given and all after it are held."""

    run: RunSnapshot
    events: list[Raw] | UnsetType = UNSET


def payload_pieces(
    tenant: str, flow_id: str, run_id: str, event: RunEvent, timestamp: str
) -> tuple[tuple[str, str], str]:
    """Return an event's payload around the gap of its `seq`, and its error as JSON text ('' for none).

    Raises InvalidPayload for what JSON can't say, TooLarge for an error over 64 KB.
    """
    fixed: dict[str, Any] = {"tenantId": tenant, "flowId": flow_id, "runId": run_id}
    if event.node_id is not None:
        fixed["nodeId"] = event.node_id
    fixed["status"] = event.status
    if event.progress is not None:
        fixed["progress"] = clamp(event.progress)
    error = "" if event.error is None else _text(event.error, "$.error")
    if len(error.encode()) > MAX_ERROR_BYTES:
        raise TooLarge(f"An error is at most {MAX_ERROR_BYTES} bytes of JSON")
    own = {name: value for name, value in (event.data or {}).items() if name not in FIXED_FIELDS}
    start = _text(fixed, "$")[:-1] + (f',"error":{error}' if error else "")
    end = f',"timestamp":"{timestamp}"'
    return (start + ',"seq":', end + ("," + _text(own, "$.data")[1:] if own else "}")), error


def clamp(progress: int | float) -> int | float:
    """Return `progress` in percent, 0 to 100; what isn't a number counts as 0."""
    return 0 if progress != progress else max(0, min(100, progress))


def _text(value: Any, path: str) -> str:
    try:
        return dumps(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"Expected what JSON can say: {error}", path) from None
