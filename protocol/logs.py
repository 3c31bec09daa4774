"""The messages of /logs and `POST /api/v1/logs`: commands, answers, and the text of one log record.

A record's text is made here once, with two gaps (its id and its time) that Redis fills, and is never decoded by Lua:
cjson turns `[]` into `{}` and rounds 9007199254740993.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from protocol.errors import InvalidPayload, TooLarge
from protocol.ids import Id

Level = Literal["debug", "info", "warn", "error"]
# From the least severe to the most: `minLevel` keeps a level and all after it.
LEVELS: tuple[Level, ...] = get_args(Level)

MAX_RECORD_BYTES = 65_536
# What Redis adds to the text: an id of two numbers (31 at most) and a time of 24 characters, with room to spare.
_GAP_BYTES = 64

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[str, Meta(min_length=1, max_length=64)]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a client sends; unknown fields are refused."""


class LogHistory(Command, frozen=True, kw_only=True):
    """`log_history`: the newest records, of a flow or a run where given."""

    flow_id: Id | None = None
    run_id: Id | None = None
    limit: Limit = 200
    before: Cursor | None = None


class FilterLogs(Command, frozen=True, kw_only=True):
    """`filter_logs`, and `GET /api/v1/logs`: any combination of criteria. `from` and `to` are ISO 8601 with a zone."""

    flow_id: Id | None = None
    run_id: Id | None = None
    node_id: Id | None = None
    log_level: Level | Annotated[list[Level], Meta(min_length=1, max_length=16)] | None = None
    min_level: Level | None = None
    search: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    from_: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None
    limit: Limit = 200
    before: Cursor | None = None


class ClearLogs(Command, frozen=True, kw_only=True):
    """`clear_logs`, and `DELETE /api/v1/logs`: by exactly one of the three."""

    flow_id: Id | None = None
    run_id: Id | None = None
    log_id: Id | None = None

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
    """A record to append; without `metadata` it carries `{}`."""

    log_level: Level
    message: str
    flow_id: Id | None = None
    run_id: Id | None = None
    node_id: Id | None = None
    metadata: dict[str, Any] | None = None


class LogRecord(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A record as the wire shows it, for those who want it decoded."""

    log_id: str
    tenant_id: str
    log_level: Level
    message: str
    metadata: dict[str, Any]
    created_at: str
    flow_id: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET


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


class _Shown(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    tenant_id: str
    flow_id: str | UnsetType
    run_id: str | UnsetType
    node_id: str | UnsetType
    log_level: Level


_encode = msgspec.json.Encoder().encode
_START = '{"logId":"'
_END = '"}'


@dataclass(frozen=True, slots=True)
class LogDraft:
    """A record that lacks its id and time. `body` is the JSON text between the two.

    `message_start` and `message_end` say where the message's JSON string lies, in bytes before the end of the whole
    text: the id's length is not known yet, what follows the message is.
    """

    log: NewLog
    body: str
    message_start: int
    message_end: int

    @classmethod
    def of(cls, tenant: str, log: NewLog) -> "LogDraft":
        """Write `log` as text. Raises `TooLarge` over 64 KB, `InvalidPayload` for what JSON can't say."""
        shown = _Shown(
            tenant_id=tenant,
            flow_id=log.flow_id or UNSET,
            run_id=log.run_id or UNSET,
            node_id=log.node_id or UNSET,
            log_level=log.log_level,
        )
        message = _text(log.message, "$.message")
        tail = b',"metadata":' + _text(log.metadata or {}, "$.metadata") + b',"createdAt":"'
        body = b'",' + _encode(shown)[1:-1] + b',"message":' + message + tail
        if len(body) + len(_START) + len(_END) + _GAP_BYTES > MAX_RECORD_BYTES:
            raise TooLarge(f"A log record is at most {MAX_RECORD_BYTES} bytes as JSON", limit=MAX_RECORD_BYTES)
        # 24 is the width of a time on the wire.
        after = len(tail) + 24 + len(_END)
        return cls(log=log, body=body.decode(), message_start=after + len(message), message_end=after)

    @property
    def pieces(self) -> tuple[str, str, str]:
        """The payload of `new_log`, around the two gaps that the append fills: the id and the time."""
        return f'["new_log",{{"log":{_START}', self.body, f"{_END}}}]"

    def text(self, log_id: str, created_at: str) -> str:
        """Return the record as it was stored and announced, given what filled its gaps."""
        return f"{_START}{log_id}{self.body}{created_at}{_END}"


def _text(value: Any, path: str) -> bytes:
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"Expected what JSON can say: {error}", path) from None
