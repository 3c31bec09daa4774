"""What /logs remembers: one tenant's log records and their indexes, capped in number, bytes and age.

A record and its indexes change in one script, and a page is read in slices that each block Redis for a few
milliseconds at most. Records are JSON text from end to end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.log_record import LogDraft
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.times import now_ms
from mintflow_realtime.stores.logs.query import LogQuery, cursor_number

PAGE_BYTES = 524_288
# How many records' texts one search reads.
SEARCH_RECORDS = 20_000
# Members of an index walked in one script: a page of 1,000 and one more, to know whether it is the last; 1-3 ms.
WALK = 1_001
SEARCH_SLICE = 250
PURGE_SLICE = 100
# Of an export: twice what a search compares.
SCAN_RECORDS = 500
SCAN_BYTES = 131_072
# The largest record must fit into what is kept.
_LEAST_BYTES = 131_072


def _lua(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _fragment(name: str) -> str:
    # A function of its own, so that no local of it shadows one of the script that it becomes part of.
    return f"local change = (function()\n{_lua('drop.lua')}{_lua(name)}return change\nend)()\n"


_APPEND = _fragment("append.lua")
_CLEAR = _fragment("clear.lua")
_PURGE = Script(_lua("drop.lua") + _lua("purge.lua"))
_PAGE = Script.beside(__file__, "page.lua")


@dataclass(frozen=True, slots=True)
class LogPage:
    """JSON texts, newest last. Only `next_cursor` None means the end. `head` is the event number read with it."""

    records: list[bytes]
    next_cursor: str | None
    head: int


class LogStore:
    """The log records of every tenant. Each method raises `Unavailable` where Redis doesn't answer."""

    def __init__(
        self,
        runner: Runner,
        keys: Keys,
        *,
        max_records: int = 100_000,
        max_bytes: int = 536_870_912,
        ttl_seconds: int = 604_800,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """Keep at most `max_records`, `max_bytes` and `ttl_seconds` of records a tenant; `clock` gives milliseconds."""
        if max_records < 1 or ttl_seconds < 1 or max_bytes < _LEAST_BYTES:
            raise ValueError(f"Expected max_records and ttl_seconds of 1 or more, max_bytes of {_LEAST_BYTES} or more")
        self._runner = runner
        self._keys = keys
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._ttl_ms = ttl_seconds * 1000
        self._clock = clock

    def append_change(self, tenant: str, drafts: Sequence[LogDraft]) -> Change:
        """Return the change that stores `drafts`, one a call; each answers the texts of its id and time.

        The last call of a script writes what all of it have brought. A record's time is this node's, but never before
        the last record's nor after Redis's own clock.
        """
        now = self._clock()
        args = [_append_args(draft, now) for draft in drafts]
        closing: list[Arg] = [self._prefix(tenant), self._max_records, self._ttl_ms, self._max_bytes]
        # Scripts find most indexes by themselves. One of each kind is named, so that Redis refuses a user who may not
        # use them before anything is written.
        log = drafts[0].log
        kinds = (("level", log.log_level), ("flow", log.flow_id), ("run", log.run_id), ("node", log.node_id))
        indexes = [f"{self._prefix(tenant)}{kind}:{name or ''}" for kind, name in kinds]
        return Change(_APPEND, [*self._tenant_keys(tenant), *indexes], args, closing, sliced=True)

    def clear_change(
        self, tenant: str, *, flow_id: str | None = None, run_id: str | None = None, log_id: str | None = None
    ) -> Change:
        """Return the change that clears by one of the three; it answers the text of how many records vanished.

        It refuses with `unavailable` where an earlier clear is unfinished and too large to be counted against this
        one. So `purge` first, and again once it is published. Raises ValueError for anything but one criterion.
        """
        given = [(k, v) for k, v in (("flow", flow_id), ("run", run_id), ("log", log_id)) if v is not None]
        if len(given) != 1:
            raise ValueError("Expected exactly one of flow_id, run_id and log_id")
        ((kind, id),) = given
        # The id of a record is no part of a key.
        id = id if kind == "log" else encode_id(id)
        indexes = [f"{self._prefix(tenant)}{name}" for name in (f"{kind}:{id}", "trash:1")]
        return Change(_CLEAR, [*self._tenant_keys(tenant), *indexes], [[kind, id, self._prefix(tenant), self._ttl_ms]])

    def purge(self, tenant: str) -> None:
        """Remove what clears have hidden, in slices, until nothing is left. Appends do the same, bit by bit."""
        keys = self._tenant_keys(tenant)
        while self._runner.run(_PURGE, keys, [self._prefix(tenant), PURGE_SLICE]):
            pass

    def page(self, tenant: str, query: LogQuery, *, head_key: str | None = None) -> LogPage:
        """Return the newest records that match, at most `query.limit` and 512 KB.

        With `head_key`, the key of an event log's head, `head` is its number `n` in the very moment of reading. A
        search reads 20,000 records at most and may return fewer, even none, with a cursor to go on from.
        """
        prefix = self._prefix(tenant)
        keys = [f"{prefix}{name}" for name in ("rec", "all", "trash", "head")] + ([head_key] if head_key else [])
        limit = 0 if query.levels is not None and not query.levels else query.limit
        matches = _matcher(query.search)
        criteria = self._criteria(query)
        before: int | None = query.before_number
        cursor = query.before
        found: list[bytes] = []
        room, texts, head = PAGE_BYTES, SEARCH_RECORDS, None
        while True:
            want = limit and (limit - len(found) if matches is None else min(texts, SEARCH_SLICE))
            start = "" if before is None else before
            args = [prefix, start, *criteria, want, room, WALK, _needle(query.search), ""]
            reply = self._runner.run(_PAGE, keys, args)
            event_number, reached, state, read, *values = reply
            if head is None:
                head = int(event_number)
            texts -= read
            for value in values:
                record = value[value.index(b"{") :]
                if matches is not None:
                    if not matches(value):
                        continue
                    if len(record) > room:
                        return LogPage(found[::-1], cursor, head)
                found.append(record)
                room -= len(record)
                if matches is not None:
                    cursor = _log_id(record)
                    if len(found) == limit and (value is not values[-1] or state != 1):
                        return LogPage(found[::-1], cursor, head)
            if state == 1:
                return LogPage(found[::-1], None, head)
            if reached:
                cursor = reached.decode()
                before = cursor_number(cursor)
            if state == 2 or len(found) >= limit or texts <= 0:
                return LogPage(found[::-1], cursor, head)

    def scan(self, tenant: str, query: LogQuery, after: str | None = None) -> Iterator[list[bytes]]:
        """Yield all that match as of the first slice, oldest first, of those after the record with the id `after`.

        `limit` and `before` of `query` don't count. A slice is 500 records and some 128 KB at most, and may be empty.
        """
        if query.levels is not None and not query.levels:
            return
        prefix = self._prefix(tenant)
        # The head is read with each slice: what is appended meanwhile is no part of this, and numbers never go back.
        keys = [f"{prefix}{name}" for name in ("rec", "all", "trash", "head", "head")]
        matches = _matcher(query.search)
        want = SCAN_RECORDS if matches is None else SEARCH_SLICE
        above = 0 if after is None else cursor_number(after)
        last: int | None = None
        while True:
            before: Arg = "" if last is None else last + 1
            args = [prefix, before, *self._criteria(query), want, SCAN_BYTES, WALK, _needle(query.search), above]
            number, reached, state, _, *values = self._runner.run(_PAGE, keys, args)
            if last is None:
                last = int(number)
            elif int(number) < last:
                raise Unavailable("The records were lost while they were read")
            yield [value[value.index(b"{") :] for value in values if matches is None or matches(value)]
            if state == 1:
                return
            if reached:
                above = cursor_number(reached.decode())

    def _criteria(self, query: LogQuery) -> list[Arg]:
        # What is past its age but not trimmed yet is not shown.
        from_ms = max(query.from_ms or 0, self._clock() - self._ttl_ms)
        to_ms = "" if query.to_ms is None else query.to_ms
        levels = ",".join(sorted(query.levels or ()))
        return [from_ms, to_ms, *_encoded(query.flow, query.run, query.node), levels]

    def _prefix(self, tenant: str) -> str:
        return self._keys.of(tenant, "logs", "")

    def _tenant_keys(self, tenant: str) -> list[str]:
        return [self._keys.of(tenant, "logs", name) for name in ("head", "rec", "all", "trash", "cleared")]


def _append_args(draft: LogDraft, milliseconds: int) -> list[Arg]:
    log = draft.log
    mark = f"{'a' if log.message.isascii() else 'u'}|{draft.message_start}|{draft.message_end}"
    return [milliseconds, draft.level, *_encoded(log.flow_id, log.run_id, log.node_id), mark, draft.body]


def _encoded(*ids: str | None) -> list[str]:
    return ["" if one is None else encode_id(one) for one in ids]


def _log_id(record: bytes) -> str:
    # Every record begins with {"logId":"…".
    return record[10 : record.index(b'"', 10)].decode()


def _needle(search: str | None) -> str:
    """Return what an ASCII message's JSON text, in lower case, holds if it matches; '' without a search."""
    return "" if not search else msgspec.json.encode(search.casefold()).decode()[1:-1].lower()


def _matcher(search: str | None) -> Callable[[Any], bool] | None:
    if not search:
        return None
    wanted = search.casefold()
    decode = msgspec.json.Decoder(str).decode

    def matches(value: bytes) -> bool:
        # The header says where the message lies; the rest of a record, however deep, need not be parsed.
        _, start, stop, _ = value.split(b"|", 3)
        return wanted in decode(value[len(value) - int(start) : len(value) - int(stop)]).casefold()

    return matches
