"""The messages of /logs and `POST /api/v1/logs`: commands, answers, and records as publishers say them."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mintflow_realtime.protocol.ids import Id, IdempotencyKey
from mintflow_realtime.protocol.levels import LEVELS as LEVELS
from mintflow_realtime.protocol.levels import MAX_NAME, level_of
from mintflow_realtime.protocol.levels import Level as Level
from mintflow_realtime.protocol.times import moment
from mintflow_realtime.protocol.validation import field_error
from mintflow_realtime.protocol.wire_json import whole

_set = msgspec.structs.force_setattr

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[str, Meta(min_length=1, max_length=64)]
# As W3C Trace Context writes it.
TraceId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a client sends; unknown fields are refused."""


class LogHistory(Command, frozen=True, kw_only=True):
    """`log_history`: the newest records, of a flow or a run where given."""

    flow_id: Id | None = None
    run_id: Id | None = None
    limit: Limit = 200
    before: Cursor | None = None


class LogFilter(Command, frozen=True, kw_only=True):
    """Any combination of criteria. `from` and `to` are ISO 8601 with a zone."""

    flow_id: Id | None = None
    run_id: Id | None = None
    node_id: Id | None = None
    log_level: Level | Annotated[list[Level], Meta(min_length=1, max_length=16)] | None = None
    min_level: Level | None = None
    search: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    from_: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None


class FilterLogs(LogFilter, frozen=True, kw_only=True):
    """`filter_logs`, and `GET /api/v1/logs`: a page of what meets all criteria."""

    limit: Limit = 200
    before: Cursor | None = None


class ExportLogs(LogFilter, frozen=True, kw_only=True):
    """`GET /api/v1/logs/export`: all that meets the criteria, of what came after the record with the id `after`."""

    after: Cursor | None = None


class ClearLogs(Command, frozen=True, kw_only=True):
    """`clear_logs`, and `DELETE /api/v1/logs`: by exactly one of the three."""

    flow_id: Id | None = None
    run_id: Id | None = None
    log_id: Id | None = None
    idempotency_key: IdempotencyKey = UNSET

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.flow_id, self.run_id, self.log_id)) != 1:
            raise ValueError("Expected exactly one of flowId, runId and logId")


class SubscribeLogs(Command, frozen=True, kw_only=True):
    """`subscribe_logs`: narrows this client's live feed, after `history` records of the past."""

    flow_id: Id | None = None
    run_id: Id | None = None
    min_level: Level | None = None
    history: Annotated[int, Meta(ge=0, le=1000)] = 0


class UnsubscribeLogs(Command, frozen=True, kw_only=True):
    """`unsubscribe_logs`: back to the whole tenant's feed."""


COMMANDS: dict[str, type[Command]] = {
    "log_history": LogHistory,
    "filter_logs": FilterLogs,
    "clear_logs": ClearLogs,
    "subscribe_logs": SubscribeLogs,
    "unsubscribe_logs": UnsubscribeLogs,
}


class NewLog(Command, frozen=True, kw_only=True):
    """A record to append; without `metadata` it carries `{}`.

    A level of another vocabulary becomes one of the four, one of none `info`, kept as `metadata.level`; `level` is
    `logLevel` too. Half a character becomes U+FFFD. `timestamp` says when it happened: ISO 8601, by UTC without a
    zone, or milliseconds since 1970. `trace_id` is the trace that it was written in, 32 hexadecimal digits.
    """

    log_level: str | int | float | UnsetType = UNSET
    message: str
    flow_id: Id | None = None
    run_id: Id | None = None
    node_id: Id | None = None
    trace_id: TraceId | None = None
    metadata: dict[str, Any] | None = None
    level: str | int | float | None | UnsetType = UNSET
    timestamp: str | int | float | None | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in ("level", "timestamp"):
            if getattr(self, name) is None:
                _set(self, name, UNSET)
        if self.level is not UNSET:
            if self.log_level is not UNSET:
                raise ValueError("Expected one of logLevel and level")
            _set(self, "log_level", self.level)
            _set(self, "level", UNSET)
        if self.log_level is UNSET:
            raise ValueError("Object missing required field `logLevel`")
        if self.log_level not in LEVELS:
            self._translate(self.log_level)
        if not self.message.isascii():
            _set(self, "message", whole(self.message))
        if self.timestamp is not UNSET:
            try:
                _set(self, "timestamp", moment(self.timestamp))
            except ValueError as error:
                raise field_error("timestamp", error) from None

    def _translate(self, name: str | int | float | UnsetType) -> None:
        level = level_of(name)
        if level is None:
            told = name[:MAX_NAME] if isinstance(name, str) else name
            _set(self, "metadata", {"level": told, **(self.metadata or {})})
        _set(self, "log_level", level or "info")


class LogRecord(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A record as the wire shows it, for those who want it decoded."""

    log_id: str
    tenant_id: str
    log_level: Level
    message: str
    metadata: dict[str, Any]
    created_at: str
    timestamp: str | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    original_length: int | UnsetType = UNSET
    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET


class LogsPage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `log_history` and `filter_logs`: newest last; only a missing `nextCursor` means the end."""

    logs: list[Raw]
    next_cursor: str | UnsetType = UNSET


class Subscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `subscribe_logs`."""

    logs: list[Raw]
    success: bool = True


class Unsubscribed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `unsubscribe_logs`."""

    success: bool = True


class Cleared(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `clear_logs`, and the event of the same name; the one id is that of the command."""

    deleted: int
    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    log_id: str | UnsetType = UNSET
    success: bool = True
