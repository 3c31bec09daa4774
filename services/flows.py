"""Runs of flows: publish their events, read their state, follow them live."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from auth.principal import Principal
from fanout.publisher import Publisher, Repeat
from fanout.rooms import flow_audience, flow_rooms
from protocol.envelope import Event, Header, Published, event_pieces
from protocol.errors import InvalidPayload, NotFound, TooLarge
from protocol.flows import (
    EventType,
    FlowSubscribed,
    FlowUnsubscribed,
    RunEvent,
    RunRead,
    RunSnapshot,
    SubscribeFlow,
    UnsubscribeFlow,
    payload_pieces,
)
from protocol.ids import check_id
from protocol.times import iso, now_ms
from services.batch import of_batch
from services.feeds import Feeds
from stores.runs import RunStore

NAMESPACE = "/flows"
# Who follows a whole tenant hears of runs; what happens inside them goes to those who follow the flow or the run.
_TENANT_WIDE = frozenset({"flow_started", "flow_completed", "flow_failed"})


class Flows:
    """The service behind /flows, `…/runs` and `realtime.flows`."""

    def __init__(
        self,
        publisher: Publisher,
        store: RunStore,
        feeds: Feeds | None = None,
        max_subscriptions: int = 1000,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._feeds = feeds
        self._max_subscriptions = max_subscriptions
        self._clock_ms = clock_ms

    # In-process code names the tenant; it is trusted with it.

    def started(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_started`. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_started", **more)

    def completed(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_completed`. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_completed", **more)

    def failed(self, tenant: str, flow_id: str, run_id: str, error: Any, **more: Any) -> Published:
        """Publish `flow_failed` with its error, text or any JSON. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_failed", error=error, **more)

    def progress(self, tenant: str, flow_id: str, run_id: str, progress: float, **more: Any) -> Published:
        """Publish `flow_progress` in percent, clamped to 0-100. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_progress", progress=progress, **more)

    def node_started(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_started`. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_started", node_id=node_id, **more)

    def node_completed(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_completed`. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_completed", node_id=node_id, **more)

    def node_failed(self, tenant: str, flow_id: str, run_id: str, node_id: str, error: Any, **more: Any) -> Published:
        """Publish `node_failed` with its error, text or any JSON. `more`: data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_failed", node_id=node_id, error=error, **more)

    # The doors

    def publish(
        self,
        principal: Principal,
        flow_id: str,
        run_id: str,
        events: Sequence[RunEvent],
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish events of one run, all or none. Raises Forbidden without `flows:write`, Unavailable, TooLarge."""
        principal.require("flows:write")
        tenant, timestamp = principal.tenant, iso(self._clock_ms())
        written = []
        for number, event in enumerate(events):
            with of_batch(number, len(events)):
                if event.node_id is not None:
                    check_id(event.node_id, "$.nodeId")
                payload, error = payload_pieces(tenant, flow_id, run_id, event, timestamp)
                written.append((event, timestamp, payload, error))
        return self._publisher.publish(
            tenant,
            NAMESPACE,
            [
                Event(
                    Header(flow_audience(tenant, flow_id, run_id, whole_tenant=event.type in _TENANT_WIDE)),
                    event_pieces(event.type, payload),
                )
                for event, _, payload, _ in written
            ],
            self._store.change(tenant, flow_id, run_id, written),
            Repeat.of(idempotency_key, NAMESPACE, flow_id, run_id, events),
        )

    def read(self, principal: Principal, flow_id: str, run_id: str, since: int | None = None) -> RunRead:
        """Return a run's snapshot and, with `since`, its events after it. Raises Forbidden, NotFound, Unavailable."""
        principal.require("flows:read")
        state = self._store.read(
            principal.tenant, flow_id, run_id, self._publisher.head_key(principal.tenant, NAMESPACE), since
        )
        if state.run is None:
            raise NotFound("There is no such run")
        return RunRead(run=state.run, events=UNSET if state.events is None else state.events)

    def subscribe(self, principal: Principal, sid: str, command: SubscribeFlow) -> FlowSubscribed:
        """Enter a flow's or run's room, and return the run's snapshot as of exactly then."""
        principal.require("flows:read")
        tenant, flow_id, run_id = principal.tenant, command.flow_id, command.run_id
        (room,) = flow_rooms(tenant, flow_id, run_id)
        already = self._rooms.get_rooms(sid, NAMESPACE)
        if room not in already and len(already) - 2 >= self._max_subscriptions:
            raise TooLarge(f"A client has at most {self._max_subscriptions} subscriptions")
        shown = FlowSubscribed(flow_id=flow_id or UNSET, run_id=run_id or UNSET)
        if run_id is None:
            self._rooms.enter(sid, NAMESPACE, room)
            return shown
        self._rooms.hold(sid, NAMESPACE, room)
        try:
            run, events = self._history(tenant, sid, flow_id, run_id, command.since)
        except Exception:
            if room not in already:
                self._rooms.leave(sid, NAMESPACE, room)
            raise
        return FlowSubscribed(flow_id=flow_id or UNSET, run_id=run_id, run=run or UNSET, events=events)

    def unsubscribe(self, principal: Principal, sid: str, command: UnsubscribeFlow) -> FlowUnsubscribed:
        """Leave the room of the same flow and run."""
        (room,) = flow_rooms(principal.tenant, command.flow_id, command.run_id)
        self._rooms.leave(sid, NAMESPACE, room)
        return FlowUnsubscribed(flow_id=command.flow_id or UNSET, run_id=command.run_id or UNSET)

    @property
    def _rooms(self) -> Feeds:
        if self._feeds is None:
            raise RuntimeError("This process serves no sockets")
        return self._feeds

    def _history(
        self, tenant: str, sid: str, flow_id: str | None, run_id: str, since: int | None
    ) -> tuple[RunSnapshot | None, Any]:
        flow = flow_id or self._store.flow_of(tenant, run_id)
        if flow is None:
            return None, UNSET
        state = self._store.read(tenant, flow, run_id, self._publisher.head_key(tenant, NAMESPACE), since)
        self._rooms.catch_up(sid, tenant, NAMESPACE, state.head)
        return state.run, UNSET if state.events is None else state.events

    def _tell(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        kind: EventType,
        *,
        node_id: str | None = None,
        progress: float | None = None,
        error: Any = None,
        data: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        for value, path in ((tenant, "$.tenant"), (flow_id, "$.flowId"), (run_id, "$.runId")):
            check_id(value, path)
        if kind.startswith("node_"):
            check_id(node_id, "$.nodeId")
        is_number = isinstance(progress, (int, float)) and not isinstance(progress, bool)
        if not is_number and (progress is not None or kind == "flow_progress"):
            raise InvalidPayload("Expected a number", "$.progress")
        if not (data is None or isinstance(data, dict)):
            raise InvalidPayload("Expected an object", "$.data")
        event = RunEvent(type=kind, node_id=node_id, progress=progress, error=error, data=data)
        return self.publish(Principal.system(tenant), flow_id, run_id, [event], idempotency_key)
