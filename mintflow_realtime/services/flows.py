"""Runs of flows: publish their events, read their state, follow them live."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import flow_rooms
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.errors import NotFound, TooLarge
from mintflow_realtime.protocol.flows import (
    Beaten,
    FlowSubscribed,
    FlowUnsubscribed,
    RunRead,
    SubscribeFlow,
    UnsubscribeFlow,
)
from mintflow_realtime.protocol.ids import check_tenant
from mintflow_realtime.protocol.readings import readings
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.runs import CancelRun, ListRuns, RunCancelling, RunList, RunSignalled, SignalRun
from mintflow_realtime.protocol.times import now_ms
from mintflow_realtime.services.batch import read_one
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.services.runs.control import RunControl
from mintflow_realtime.services.runs.events import NAMESPACE as NAMESPACE
from mintflow_realtime.services.runs.events import RunEvents
from mintflow_realtime.services.runs.methods import RunMethods
from mintflow_realtime.stores.runs.store import RunState, RunStore

_IN_PYTHON = {"flow_id": "flowId", "run_id": "runId"}


class Flows(RunMethods):
    """The service behind /flows, `…/runs` and `realtime.flows`."""

    def __init__(
        self,
        publisher: Publisher,
        store: RunStore,
        feeds: Feeds | None = None,
        max_subscriptions: int = 1000,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._events = RunEvents(publisher, store, clock_ms)
        self.control = RunControl(self._events, store.control)
        self._publisher = publisher
        self._store = store
        self._feeds = feeds
        self._max_subscriptions = max_subscriptions

    def tick(self) -> None:
        """Say which runs are lost, and what no engine took: twice a second, and never twice at once."""
        self._events.tell_due(self.control.tell_unclaimed)

    def cancel(
        self, tenant: str, flow_id: str, run_id: str, reason: str | None = None, idempotency_key: str | None = None
    ) -> RunCancelling:
        """Ask a run's engine to end it. Raises InvalidPayload, NotFound, Conflict, TooLarge, Unavailable."""
        asked = {"flow_id": flow_id, "run_id": run_id, "reason": reason}
        return self.control.cancel(_system(tenant), read_one(CancelRun, asked, _IN_PYTHON), idempotency_key)

    def signal(
        self, tenant: str, flow_id: str, run_id: str, name: str, data: Any = None, idempotency_key: str | None = None
    ) -> RunSignalled:
        """Give a run's engine something by name, any JSON of up to 64 KB. Raises what `cancel` does."""
        asked = {"flow_id": flow_id, "run_id": run_id, "name": name, "data": data}
        return self.control.signal(_system(tenant), read_one(SignalRun, asked, _IN_PYTHON), idempotency_key)

    # The doors

    def publish(
        self,
        principal: Principal,
        flow_id: str,
        run_id: str,
        events: Sequence[RunEvent],
        idempotency_key: str | None = None,
        *,
        numbered: bool = False,
    ) -> Published:
        """Publish events of one run, all or none. Raises Forbidden without `flows:write`, Unavailable, TooLarge;
        Conflict with `event` and `status` where the run, or a node, is in no state for one of them.

        Errors of more than one, or of `numbered` ones, have the number of the event in their path.
        """
        principal.require("flows:write")
        repeat = Repeat.of(idempotency_key, NAMESPACE, flow_id, run_id, events, user=principal.repeats_as)
        return self._events.publish(principal.tenant, flow_id, run_id, events, repeat, numbered=numbered)

    def beat(self, principal: Principal, flow_id: str, run_id: str) -> Beaten:
        """Renew a run's lease and life; one that was lost is taken up again.

        Raises Forbidden without `flows:write`, NotFound, Unavailable.
        """
        principal.require("flows:write")
        return self._events.beat(principal.tenant, flow_id, run_id)

    def read(self, principal: Principal, flow_id: str, run_id: str, since: int | None = None) -> RunRead:
        """Return a run's snapshot and, with `since`, its events after it. Raises Forbidden, NotFound, Unavailable."""
        principal.require("flows:read")
        state = self._read(principal.tenant, flow_id, run_id, since)
        if state.run is None:
            raise NotFound("There is no such run")
        return RunRead(run=state.run, **_events_of(state))

    def runs(self, principal: Principal, query: ListRuns) -> RunList:
        """Return a page of the tenant's runs, newest first. Raises Forbidden without `flows:read`, Unavailable."""
        principal.require("flows:read")
        head_key = self._publisher.head_key(principal.tenant, NAMESPACE)
        with readings:
            return self._store.index.page(principal.tenant, query, head_key)

    def flow_of(self, principal: Principal, run_id: str) -> str | None:
        """Return the flow that last had an event of a run. Raises Forbidden without `flows:read`, Unavailable."""
        principal.require("flows:read")
        return self._store.flow_of(principal.tenant, run_id)

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
        self._rooms.begin_history(sid, NAMESPACE, room)
        try:
            state = self._history(tenant, sid, flow_id, run_id, command.since)
        except Exception:
            if room not in already:
                self._rooms.leave(sid, NAMESPACE, room)
            raise
        if state is None:
            return FlowSubscribed(flow_id=flow_id or UNSET, run_id=run_id)
        return FlowSubscribed(flow_id=flow_id or UNSET, run_id=run_id, run=state.run or UNSET, **_events_of(state))

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

    def _read(self, tenant: str, flow_id: str, run_id: str, since: int | None) -> RunState:
        head_key = self._publisher.head_key(tenant, NAMESPACE)
        key = (self._store, tenant, flow_id, run_id, since)
        return readings.shared(key, lambda: self._store.read(tenant, flow_id, run_id, head_key, since))

    def _history(self, tenant: str, sid: str, flow_id: str | None, run_id: str, since: int | None) -> RunState | None:
        flow = flow_id or self._store.flow_of(tenant, run_id)
        if flow is None:
            return None
        state = self._read(tenant, flow, run_id, since)
        self._rooms.catch_up(sid, tenant, NAMESPACE, state.head)
        return state


def _system(tenant: str) -> Principal:
    return Principal.system(check_tenant(tenant, "$.tenant"))


def _events_of(state: RunState) -> dict[str, Any]:
    """Return what an answer says of a run's events."""
    return {
        "events": UNSET if state.events is None else state.events,
        "next_since": UNSET if state.next_since is None else state.next_since,
    }
