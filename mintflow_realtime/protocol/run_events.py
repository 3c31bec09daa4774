"""What happens in a run: its events as publishers say them, and the text of their payloads."""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import force_setattr

from mintflow_realtime.protocol.cutting import cut_value
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import ID_PATTERN, Id
from mintflow_realtime.protocol.times import moment
from mintflow_realtime.protocol.validation import field_error
from mintflow_realtime.protocol.wire_json import dumps, encode

# fmt: off
EventType = Literal[
    "flow_started", "flow_completed", "flow_failed", "node_started", "node_completed", "node_failed", "flow_progress",
    "flow_queued", "flow_waiting", "flow_cancelling", "flow_cancelled", "flow_lost",
    "node_waiting", "node_skipped", "node_cancelled",
]
# fmt: on
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MAX_ATTEMPT = 2**31
Attempt = Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
Status = Literal["queued", "started", "waiting", "completed", "failed", "cancelled", "lost"]
STATUSES: tuple[Status, ...] = get_args(Status)
NodeStatus = Literal["started", "waiting", "completed", "failed", "skipped", "cancelled"]

# What the event itself says; `data` joins the payload and can't replace it.
FIXED_FIELDS = frozenset(
    {"tenantId", "flowId", "runId", "nodeId", "status", "error", "progress", "timestamp", "seq", "attempt"}
)
MAX_ERROR_BYTES = 65_536
MAX_TAGS = 10
# Of a lease, in seconds: shorter ones would end by a slow network, longer ones say nothing.
MIN_LEASE, MAX_LEASE = 5, 3600
Tag = Annotated[str, Meta(pattern=ID_PATTERN, max_length=64)]


class Parent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The run that began this one."""

    flow_id: Id
    run_id: Id


class RunEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What happened in a run. Node events name their node; `progress` is in percent and clamped to 0-100.

    `attempt` tells which one of the node, or of the run, it belongs to; without it a start after an end is the next.
    What a run is (`name` to `total`) is said when it is queued or starts, `reason` and `until` when it waits, and
    `reason` when it is to be cancelled or was. `lease`: seconds after which a run that says nothing is lost.
    """

    type: EventType
    node_id: Id | None = None
    progress: int | float | None = None
    error: Any = None
    data: dict[str, Any] | None = None
    attempt: Attempt | None | UnsetType = UNSET
    name: Id | None = None
    tags: Annotated[list[Tag], Meta(max_length=MAX_TAGS)] | None = None
    lease: int | float | None = None
    parent: Parent | None = None
    total: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    reason: Annotated[str, Meta(max_length=1000)] | None = None
    until: Annotated[str, Meta(max_length=64)] | int | float | None = None

    def __post_init__(self) -> None:
        if self.type.startswith("node_") and self.node_id is None:
            raise ValueError(f"{self.type} needs a nodeId")
        if self.type == "flow_progress" and self.progress is None:
            raise ValueError("flow_progress needs a progress")
        for field, types in _ONLY_WITH.items():
            if getattr(self, field) is not None and self.type not in types:
                raise field_error(field, f"Expected it with {' or '.join(sorted(types))} alone")
        if self.lease is not None and not MIN_LEASE <= self.lease <= MAX_LEASE:
            raise field_error("lease", f"Expected {MIN_LEASE} to {MAX_LEASE} seconds")
        if self.until is not None:
            try:
                force_setattr(self, "until", moment(self.until))
            except ValueError as error:
                raise field_error("until", error) from None

    @property
    def status(self) -> str:
        """The status that the snapshot shows after this event: of the node, or of the run; "" where it stays."""
        if self.type == "flow_progress":
            return "started"
        return "" if self.type in _ASKED else self.type.partition("_")[2]


# They change no status. The last two are the server's own, which nobody can publish.
_ASKED = ("flow_cancelling", "flow_signalled", "flow_unclaimed")
_STARTS = frozenset({"flow_queued", "flow_started"})
_WAITS = frozenset({"flow_waiting", "node_waiting"})
_ONLY_WITH: dict[str, frozenset[str]] = {
    **dict.fromkeys(("name", "tags", "lease", "parent", "total"), _STARTS),
    "until": _WAITS,
    "reason": _WAITS | {"flow_cancelling", "flow_cancelled", "flow_lost", "node_skipped", "node_cancelled"},
}


def payload_pieces(
    tenant: str, flow_id: str, run_id: str, event: RunEvent, timestamp: str
) -> tuple[tuple[str, str], str]:
    """Return an event's payload around the gap of its `seq` and `attempt`, and its error as JSON text ('' for none).

    The change fills the gap with `7,"attempt":1`, and gives `status` there where the event doesn't change it.

    An error over 64 KB is cut, and the payload says so: `truncated`, and `originalLength`, the characters of a text or
    the bytes of other JSON. Raises InvalidPayload for other fields that JSON can't say.
    """
    fixed: dict[str, Any] = {"tenantId": tenant, "flowId": flow_id, "runId": run_id}
    if event.node_id is not None:
        fixed["nodeId"] = event.node_id
    if event.status:
        fixed["status"] = event.status
    if event.progress is not None:
        fixed["progress"] = clamp(event.progress)
    for name in _ONLY_WITH:
        if (told := getattr(event, name)) is not None:
            fixed[name] = told
    error = ""
    if event.error is not None:
        value, whole = _error(event.error)
        text = cut_value(value, whole, MAX_ERROR_BYTES)
        if len(text) < len(whole):
            fixed["truncated"] = True
            fixed["originalLength"] = len(value) if isinstance(value, str) else len(whole)
        error = text.decode()
    taken = FIXED_FIELDS | fixed.keys()
    own = {name: value for name, value in (event.data or {}).items() if name not in taken}
    start = _text(fixed, "$")[:-1] + (f',"error":{error}' if error else "")
    end = f',"timestamp":"{timestamp}"'
    return (start + ',"seq":', end + ("," + _text(own, "$.data")[1:] if own else "}")), error


def clamp(progress: int | float) -> int | float:
    """Return `progress` in percent, 0 to 100; what isn't a number counts as 0."""
    return 0 if progress != progress else max(0, min(100, progress))


def _error(value: Any) -> tuple[Any, bytes]:
    """Return an error and its JSON text; an exception, and what JSON can't say, is the text that Python has for it."""
    if not isinstance(value, BaseException):
        try:
            return value, encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            pass
    name = type(value).__name__
    try:
        told = f"{name}: {value}" if isinstance(value, BaseException) else repr(value)
    except Exception:
        told = name
    return told, encode(told)


def _text(value: Any, path: str) -> str:
    try:
        return dumps(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"Expected what JSON can say: {error}", path) from None
