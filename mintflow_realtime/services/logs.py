"""Log records: publish them, read them back, follow them live, clear them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, Raw, structs

from mintflow_realtime import tracing
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import feed_audience, feed_room, tenant_room
from mintflow_realtime.protocol.envelope import Event, Header, Policy, Published, event_pieces
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.ids import check_tenant
from mintflow_realtime.protocol.log_record import LogDraft
from mintflow_realtime.protocol.logs import (
    Cleared,
    ClearLogs,
    FilterLogs,
    LogHistory,
    LogsPage,
    NewLog,
    Subscribed,
    SubscribeLogs,
    Unsubscribed,
)
from mintflow_realtime.protocol.readings import readings
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.batch import of_batch, read_batch, read_one
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.services.log_exports import LogExports
from mintflow_realtime.stores.logs.query import LogQuery
from mintflow_realtime.stores.logs.store import LogStore

NAMESPACE = "/logs"
# What a slow client is told that has missed some.
DROPPED = "logs_dropped"
# How Python code spells a record's fields.
_NAMES = {"level": "logLevel", "flow_id": "flowId", "run_id": "runId", "node_id": "nodeId", "trace_id": "traceId"}


class Logs:
    """The service behind /logs, `/api/v1/logs` and `realtime.logs`."""

    def __init__(self, publisher: Publisher, store: LogStore, feeds: Feeds | None = None) -> None:
        self._publisher = publisher
        self._store = store
        self._feeds = feeds
        self.exports = LogExports(store)

    def append(
        self,
        tenant: str,
        *,
        message: str,
        level: str | int = "info",
        flow_id: str | None = None,
        run_id: str | None = None,
        node_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        trace_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish one record of `tenant`; `payload["log"]` of what is returned is the record.

        What can be mended is: another vocabulary's level, half a character, a record over 64 KB. `timestamp` is when it
        happened: a datetime, ISO 8601, or milliseconds since 1970. `trace_id` is by default that of the current span,
        where there are traces. Raises InvalidPayload, Conflict, Unavailable.
        """
        check_tenant(tenant, "$.tenant")
        fields = {
            "message": message,
            "level": level,
            "flow_id": flow_id,
            "run_id": run_id,
            "node_id": node_id,
            "metadata": metadata,
            "timestamp": timestamp,
            "trace_id": trace_id,
        }
        record = read_one(NewLog, fields, _NAMES, _complete)
        return self.publish(Principal.system(tenant), [record], idempotency_key)

    def append_many(
        self, tenant: str, records: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Published:
        """Publish 1 to 1,000 records of `tenant`, 4 MB at most, all or none; `offsets` of what is returned are theirs.

        Each is a dictionary of `message` and, where wanted, `level` (`info` without it), `flow_id`, `run_id`,
        `node_id`, `metadata`, `timestamp` and `trace_id`; the wire's `logLevel`, `flowId`, … will do.
        Raises InvalidPayload with the number and field of what is wrong (`$[3].message`), TooLarge, Conflict,
        Unavailable.
        """
        check_tenant(tenant, "$.tenant")
        drafts = read_batch(NewLog, records, _NAMES, _complete)
        return self.publish(Principal.system(tenant), drafts, idempotency_key, numbered=True)

    def publish(
        self,
        principal: Principal,
        records: Sequence[NewLog],
        idempotency_key: str | None = None,
        *,
        numbered: bool = False,
    ) -> Published:
        """Publish records, all or none. Raises Forbidden without `logs:write`, TooLarge, Conflict, Unavailable.

        Errors of more than one, or of `numbered` ones, have the number of the record in their path.
        """
        principal.require("logs:write")
        tenant = principal.tenant
        drafts = []
        # Whoever called us is what a record is part of, so this is asked before the publish has a span of its own.
        trace_id = tracing.trace_id()
        for number, record in enumerate(records):
            with of_batch(number, numbered or len(records) > 1):
                drafts.append(LogDraft.of(tenant, record, trace_id))
        return self._publisher.publish(
            tenant,
            NAMESPACE,
            [
                Event(
                    Header(
                        feed_audience(tenant, draft.log.flow_id, draft.log.run_id, draft.level),
                        Policy.DROP_OLDEST,
                        DROPPED,
                    ),
                    draft.pieces,
                )
                for draft in drafts
            ],
            self._store.append_change(tenant, drafts),
            Repeat.of(idempotency_key, NAMESPACE, records, user=principal.repeats_as),
        )

    def read(self, principal: Principal, command: LogHistory | FilterLogs) -> LogsPage:
        """Return a page, newest last. Raises Forbidden without `logs:read`, InvalidPayload, Unavailable."""
        principal.require("logs:read")
        with readings:
            page = self._store.page(principal.tenant, LogQuery.of(command))
        return LogsPage(logs=_raw(page.records), next_cursor=page.next_cursor or UNSET)

    def clear(
        self, principal: Principal, command: ClearLogs, sid: str = "", idempotency_key: str | None = None
    ) -> Cleared:
        """Clear by flow, run or log id, and tell the tenant's other clients (all but `sid`).

        A repeat, by the command's key or `idempotency_key`, clears nothing more. Raises Forbidden without `logs:clear`,
        Conflict, Unavailable.
        """
        principal.require("logs:clear")
        tenant = principal.tenant
        bare = structs.replace(command, idempotency_key=UNSET)
        key = idempotency_key or command.idempotency_key
        repeat = Repeat.of(key, NAMESPACE, "clear_logs", bare, user=principal.repeats_as)
        self._store.purge(tenant)
        told = Cleared(
            deleted=0,
            flow_id=command.flow_id or UNSET,
            run_id=command.run_id or UNSET,
            log_id=command.log_id or UNSET,
        )
        # `deleted` stands first in the text, and Redis counts it.
        rest = dumps(told).removeprefix('{"deleted":0')
        published = self._publisher.publish(
            tenant,
            NAMESPACE,
            [
                Event(
                    Header((tenant_room(tenant),), except_sid=sid),
                    event_pieces("clear_logs", ('{"deleted":', rest)),
                )
            ],
            self._store.clear_change(tenant, flow_id=command.flow_id, run_id=command.run_id, log_id=command.log_id),
            repeat,
        )
        with suppress(Unavailable):
            self._store.purge(tenant)
        return Cleared(
            deleted=int(published.inserts[0][0]), flow_id=told.flow_id, run_id=told.run_id, log_id=told.log_id
        )

    def join(self, principal: Principal, sid: str) -> None:
        """Give a newly connected client the whole tenant's feed."""
        self._rooms.enter(sid, NAMESPACE, tenant_room(principal.tenant))
        self._rooms.enter(sid, NAMESPACE, feed_room(principal.tenant, None, None, None))

    def subscribe(self, principal: Principal, sid: str, command: SubscribeLogs) -> Subscribed:
        """Narrow a client's live feed, and return the newest records of the past as of exactly then."""
        principal.require("logs:read")
        query = LogQuery.of(command)
        room = feed_room(principal.tenant, command.flow_id, command.run_id, command.min_level)
        old = [feed for feed in self._feeds_of(sid) if feed != room]
        if command.history == 0:
            self._rooms.enter(sid, NAMESPACE, room)
            for feed in old:
                self._rooms.leave(sid, NAMESPACE, feed)
            return Subscribed(logs=[])
        was_there = room in self._feeds_of(sid)
        self._rooms.begin_history(sid, NAMESPACE, room)
        try:
            head_key = self._publisher.head_key(principal.tenant, NAMESPACE)
            with readings:
                page = self._store.page(principal.tenant, query, head_key=head_key)
            # Up to the history's end the old feed goes on, and after it the new one: nothing falls between the two.
            self._rooms.catch_up(sid, principal.tenant, NAMESPACE, page.head, leaving=old)
        except BaseException:
            if not was_there:
                self._rooms.leave(sid, NAMESPACE, room)
            raise
        return Subscribed(logs=_raw(page.records))

    def unsubscribe(self, principal: Principal, sid: str) -> Unsubscribed:
        """Give a client the whole tenant's feed again."""
        principal.require("logs:read")
        whole = feed_room(principal.tenant, None, None, None)
        self._rooms.enter(sid, NAMESPACE, whole)
        for feed in self._feeds_of(sid):
            if feed != whole:
                self._rooms.leave(sid, NAMESPACE, feed)
        return Unsubscribed()

    @property
    def _rooms(self) -> Feeds:
        if self._feeds is None:
            raise RuntimeError("This process serves no sockets")
        return self._feeds

    def _feeds_of(self, sid: str) -> list[str]:
        return [room for room in self._rooms.get_rooms(sid, NAMESPACE) if ":feed:" in room]


def _raw(texts: Sequence[bytes]) -> list[Raw]:
    return [Raw(text) for text in texts]


def _complete(record: dict[Any, Any]) -> None:
    record.setdefault("logLevel", "info")
    happened = record.get("timestamp")
    if isinstance(happened, datetime):
        record["timestamp"] = happened.astimezone(UTC).isoformat()
