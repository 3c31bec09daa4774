"""What a page of log records is asked for, with times and cursors read and checked."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.logs import LEVELS, ExportLogs, FilterLogs, Level, LogHistory, SubscribeLogs

_CURSOR = re.compile(r"[0-9]{1,15}-([0-9]{1,15})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Criteria that all hold. `levels` None is every level; times are milliseconds since 1970, both ends included.

    `before` is a cursor: the id of a record, to which only older ones follow. A `limit` of 0 asks for the head alone.
    """

    flow: str | None = None
    run: str | None = None
    node: str | None = None
    levels: frozenset[Level] | None = None
    search: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    limit: int = 200
    before: str | None = None

    def __post_init__(self) -> None:
        if self.before is not None and not is_cursor(self.before):
            raise InvalidPayload("Expected a cursor, as a nextCursor gave it", "$.before")

    @classmethod
    def of(cls, command: LogHistory | FilterLogs | SubscribeLogs | ExportLogs) -> "LogQuery":
        """Read a command. Raises `InvalidPayload` for a time without a zone, a reversed range or a strange cursor."""
        if isinstance(command, LogHistory):
            return cls(flow=command.flow_id, run=command.run_id, limit=command.limit, before=command.before)
        if isinstance(command, SubscribeLogs):
            levels = _levels(None, command.min_level)
            return cls(flow=command.flow_id, run=command.run_id, levels=levels, limit=command.history)
        from_ms = None if command.from_ is None else -((_EPOCH - _moment(command.from_, "$.from")) // _MILLISECOND)
        to_ms = None if command.to is None else (_moment(command.to, "$.to") - _EPOCH) // _MILLISECOND
        if from_ms is not None and to_ms is not None and from_ms > to_ms:
            raise InvalidPayload("Expected `from` to be no later than `to`", "$.from")
        criteria = cls(
            flow=command.flow_id,
            run=command.run_id,
            node=command.node_id,
            levels=_levels(command.log_level, command.min_level),
            search=command.search,
            from_ms=from_ms,
            to_ms=to_ms,
        )
        if isinstance(command, ExportLogs):
            return criteria
        return replace(criteria, limit=command.limit, before=command.before)

    @property
    def before_number(self) -> int | None:
        """The number that only smaller ones may have."""
        return None if self.before is None else cursor_number(self.before)


def is_cursor(text: str) -> bool:
    """Tell whether `text` has the form of a cursor or log id."""
    return _CURSOR.fullmatch(text) is not None


def cursor_number(cursor: str) -> int:
    """Return the tenant-wide number in a cursor or log id, `{ms}-{number}`."""
    return int(cursor.rpartition("-")[2])


def _levels(chosen: Level | list[Level] | None, least: Level | None) -> frozenset[Level] | None:
    levels = frozenset(LEVELS)
    if chosen is not None:
        levels &= {chosen} if isinstance(chosen, str) else set(chosen)
    if least is not None:
        levels &= set(LEVELS[LEVELS.index(least) :])
    return None if len(levels) == len(LEVELS) else levels


def _moment(text: str, path: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidPayload("Expected an ISO 8601 time with a zone, such as 2026-01-31T08:15:30.123Z", path)
    return moment
