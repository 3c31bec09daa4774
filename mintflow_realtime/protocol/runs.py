"""The messages about many runs, and those to an engine: the list, `cancel_run`, `signal_run`."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mintflow_realtime.protocol.ids import Id, IdempotencyKey
from mintflow_realtime.protocol.run_events import Parent, Status, Tag
from mintflow_realtime.protocol.times import milliseconds_of
from mintflow_realtime.protocol.validation import field_error

Reason = Annotated[str, Meta(max_length=1000)]
Moment = Annotated[str, Meta(min_length=1, max_length=64)]


class ListRuns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`list_runs`, and `GET /api/v1/runs`: any combination of criteria. `from` and `to` are ISO 8601 with a zone.

    `parent` is `flowId/runId`, where neither has a slash, or an object of the two.
    """

    flow_id: Id | None = None
    status: Status | Annotated[list[Status], Meta(min_length=1, max_length=16)] | None = None
    tag: Tag | None = None
    parent: Parent | Annotated[str, Meta(min_length=3, max_length=511)] | None = None
    text: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    from_: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Annotated[str, Meta(pattern=r"\A[0-9]{1,16}\Z")] | None = None

    def __post_init__(self) -> None:
        for name in ("from_", "to"):
            if getattr(self, name) is not None:
                try:
                    milliseconds_of(getattr(self, name))
                except ValueError as error:
                    raise field_error(name.rstrip("_"), error) from None
        if isinstance(self.parent, str) and self.parent.count("/") != 1:
            raise field_error("parent", "Expected flowId/runId, or an object of the two")


class RunRow(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A run in a list: its snapshot without nodes. An error over 512 bytes is cut; a long object is its text then."""

    flow_id: str
    run_id: str
    status: str
    attempt: int
    progress: int | float
    started_at: str
    seq: int
    finished_at: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    parent: Parent | UnsetType = UNSET
    total: int | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class RunList(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `list_runs`, newest first. A missing `nextCursor` is the end; a page may be short, or empty.

    `asOf` is the offset of the last event of /flows that the page tells of: what comes after it brings the page up to
    date. It is missing where there was none.
    """

    runs: list[RunRow]
    next_cursor: str | UnsetType = UNSET
    as_of: str | UnsetType = UNSET


class CancelRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`cancel_run`: asks a run's engine to end it."""

    flow_id: Id
    run_id: Id
    reason: Reason | None = None
    idempotency_key: IdempotencyKey = UNSET


class SignalRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`signal_run`: gives a run something that it waits for, such as an approval. `data` is any JSON, up to 64 KB."""

    flow_id: Id
    run_id: Id
    name: Id
    data: Any = None
    idempotency_key: IdempotencyKey = UNSET


class RunCancelling(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `cancel_run`: the run's status, which the engine will change."""

    flow_id: str
    run_id: str
    status: str


class RunSignalled(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `signal_run`."""

    flow_id: str
    run_id: str
    signal_id: str


class Control(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """What is asked of an engine: `cancel` with its `reason`, or `signal` with `name` and `data`; `by` is who asked.

    `place` is what it is acknowledged by.
    """

    control_id: str
    kind: str
    flow_id: str
    run_id: str
    place: str
    by: str = ""
    at: str = ""
    reason: str | None = None
    name: str | None = None
    data: Any = None


class Controls(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `GET …/control`."""

    control: list[Control]
