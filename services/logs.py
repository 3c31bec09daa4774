"""Log records: publish them, read them back, follow them live, clear them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec import UNSET, Raw

from auth.principal import Principal
from fanout.publisher import Publisher, Repeat
from fanout.rooms import feed_audience, feed_room, tenant_room
from protocol.envelope import Event, Header, Policy, Published, event_pieces
from protocol.errors import InvalidPayload, Unavailable
from protocol.ids import check_id
from protocol.logs import (
    LEVELS,
    Cleared,
    ClearLogs,
    FilterLogs,
    LogDraft,
    LogHistory,
    LogsPage,
    NewLog,
    Subscribed,
    SubscribeLogs,
    Unsubscribed,
)
from protocol.wire_json import dumps
from services.batch import of_batch
from services.feeds import Feeds
from stores.log_query import LogQuery
from stores.logs import LogStore

NAMESPACE = "/logs"
# What a slow client is told that has missed some.
DROPPED = "logs_dropped"


class Logs:
    """The service behind /logs, `/api/v1/logs` and `realtime.logs`."""

    def __init__(self, publisher: Publisher, store: LogStore, feeds: Feeds | None = None) -> None:
        self._publisher = publisher
        self._store = store
        self._feeds = feeds

    def append(
        self,
        tenant: str,
        *,
        message: str,
        level: str = "info",
        flow_id: str | None = None,
        run_id: str | None = None,
        node_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish one record of `tenant`; `payload["log"]` of what is returned is the record.

        Raises InvalidPayload, TooLarge (64 KB), Conflict, Unavailable.
        """
        check_id(tenant, "$.tenant")
        for value, path in ((flow_id, "$.flowId"), (run_id, "$.runId"), (node_id, "$.nodeId")):
            if value is not None:
                check_id(value, path)
        if level not in LEVELS:
            raise InvalidPayload(f"Expected one of {', '.join(LEVELS)}", "$.logLevel")
        if not isinstance(message, str):
            raise InvalidPayload("Expected text", "$.message")
        if not (metadata is None or isinstance(metadata, dict)):
            raise InvalidPayload("Expected an object", "$.metadata")
        record = NewLog(
            log_level=level,
            message=message,
            flow_id=flow_id,
            run_id=run_id,
            node_id=node_id,
            metadata=metadata,
        )
        return self.publish(Principal.system(tenant), [record], idempotency_key)

    def publish(self, principal: Principal, records: Sequence[NewLog], idempotency_key: str | None = None) -> Published:
        """Publish records, all or none. Raises Forbidden without `logs:write`, TooLarge, Conflict, Unavailable."""
        principal.require("logs:write")
        tenant = principal.tenant
        drafts = []
        for number, record in enumerate(records):
            with of_batch(number, len(records)):
                drafts.append(LogDraft.of(tenant, record))
        return self._publisher.publish(
            tenant,
            NAMESPACE,
            [
                Event(
                    Header(
                        feed_audience(tenant, draft.log.flow_id, draft.log.run_id, draft.log.log_level),
                        Policy.DROP_OLDEST,
                        DROPPED,
                    ),
                    draft.pieces,
                )
                for draft in drafts
            ],
            self._store.append_change(tenant, drafts),
            Repeat.of(idempotency_key, NAMESPACE, records),
        )

    def read(self, principal: Principal, command: LogHistory | FilterLogs) -> LogsPage:
        """Return a page, newest last. Raises Forbidden without `logs:read`, InvalidPayload, Unavailable."""
        principal.require("logs:read")
        page = self._store.page(principal.tenant, LogQuery.of(command))
        return LogsPage(logs=_raw(page.records), next_cursor=page.next_cursor or UNSET)

    def clear(self, principal: Principal, command: ClearLogs, sid: str = "") -> Cleared:
        """Clear by flow, run or log id, and tell the tenant's other clients (all but `sid`).

        Raises Forbidden without `logs:clear`, Unavailable.
        """
        principal.require("logs:clear")
        tenant = principal.tenant
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
        self._rooms.hold(sid, NAMESPACE, room)
        try:
            head_key = self._publisher.head_key(principal.tenant, NAMESPACE)
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
