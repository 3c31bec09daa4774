"""Publishing the events of runs: to whom, in which order, and by whom it is said that a run is lost."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import flow_audience
from mintflow_realtime.protocol.envelope import Event, Header, Published, event_pieces
from mintflow_realtime.protocol.errors import Conflict, NotFound
from mintflow_realtime.protocol.flows import Beaten
from mintflow_realtime.protocol.ids import check_id
from mintflow_realtime.protocol.run_events import RunEvent, payload_pieces
from mintflow_realtime.protocol.scripts import Change
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.services.batch import of_batch
from mintflow_realtime.stores.runs.store import RunStore, Written, is_strict

NAMESPACE = "/flows"
# Who follows a whole tenant hears of runs; what happens inside them goes to those who follow the flow or the run.
_TENANT_WIDE = frozenset(
    {
        "flow_queued", "flow_started", "flow_waiting", "flow_completed", "flow_failed",
        "flow_cancelling", "flow_cancelled", "flow_lost", "flow_unclaimed",
    }
)  # fmt: skip
# How often a publisher says that a run goes on, while others say that it doesn't.
_TAKE_UPS = 3
# Other tenants' turn comes, however many runs of one are lost at once.
_LOST_SECONDS = 1.0


class RunEvents:
    """Publishes events of runs for every door."""

    def __init__(self, publisher: Publisher, store: RunStore, clock_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self.store = store
        self._clock_ms = clock_ms

    def publish(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        events: Sequence[RunEvent],
        repeat: Repeat | None = None,
        *,
        numbered: bool = False,
    ) -> Published:
        """Publish events of one run, all or none, and before them that it goes on, where it was queued or lost.

        Raises Conflict with `event` and `status`, InvalidPayload, TooLarge, Unavailable.
        """
        leases = [event.lease for event in events if event.lease is not None]
        if leases:
            self.store.leases.note(tenant, min(leases))
        written = self._written(tenant, flow_id, run_id, events, numbered or len(events) > 1)
        for _ in range(_TAKE_UPS):
            try:
                return self._write(tenant, flow_id, run_id, written, repeat)
            except NotFound as refused:
                self._take_up(tenant, flow_id, run_id, int(refused.texts[0]))
        raise Conflict("Others say at the same time that this run is lost")

    @staticmethod
    def own(event: str, data: dict[str, Any], reason: str | None = None) -> RunEvent:
        """Return an event that the server says by itself, which no publisher can."""
        return RunEvent(type=event, data=data, reason=reason)  # type: ignore[arg-type]

    def write(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        event: RunEvent,
        change: Callable[[Written], Change],
        repeat: Repeat | None = None,
    ) -> Published:
        """Publish one event with a change of its own. Raises what `publish` does, and what the change refuses."""
        (written,) = self._written(tenant, flow_id, run_id, [event], False)
        return self._announce(tenant, flow_id, run_id, [written], change(written), repeat)

    def beat(self, tenant: str, flow_id: str, run_id: str) -> Beaten:
        """Renew a run's lease and life; one that was lost is taken up again. Raises NotFound, Unavailable."""
        found = self.store.beat(tenant, flow_id, run_id)
        if found is not None and found.status == "lost":
            self._take_up(tenant, flow_id, run_id, found.attempt)
            found = self.store.beat(tenant, flow_id, run_id)
        if found is None:
            raise NotFound("There is no such run")
        return found

    def tell_due(self, tell_unclaimed: Callable[[str, str, str, str, str], None]) -> None:
        """Say that runs are lost whose leases are over, and of what nobody took, for a second or so, in all tenants.

        Raises Unavailable.
        """
        enough = monotonic() + _LOST_SECONDS
        for tenant, noted in self.store.leases.look():
            while (expired := self.store.leases.expired(tenant)) and monotonic() < enough:
                # All nodes find the same ones at about the same time.
                random.shuffle(expired.runs)
                for flow_id, run_id in expired.runs:
                    self._tell_lost(tenant, flow_id, run_id)
                for unclaimed in expired.unclaimed:
                    # A conflict: another node was first, or somebody has just taken it.
                    with suppress(Conflict):
                        tell_unclaimed(tenant, *unclaimed)
            # Where there are more of them, the next look goes on.
            if not expired:
                self.store.leases.settle(tenant, noted, expired.next_ms)

    def _tell_lost(self, tenant: str, flow_id: str, run_id: str) -> None:
        written = self._written(tenant, flow_id, run_id, [RunEvent(type="flow_lost")], False)
        # A conflict: another node was first, or the run has said something.
        with suppress(Conflict):
            self._write(tenant, flow_id, run_id, written, None, only_expired=True)

    def _take_up(self, tenant: str, flow_id: str, run_id: str, attempt: int) -> None:
        # Its lease begins anew, and how long that is, is not known here.
        self.store.leases.note(tenant, 5)
        written = self._written(
            tenant, flow_id, run_id, [RunEvent(type="flow_started", attempt=attempt)], numbered=False
        )
        self._write(tenant, flow_id, run_id, written, None, taken_up=True)

    def _written(
        self, tenant: str, flow_id: str, run_id: str, events: Sequence[RunEvent], numbered: bool
    ) -> list[Written]:
        timestamp, written = iso(self._clock_ms()), []
        for number, event in enumerate(events):
            with of_batch(number, numbered):
                if event.node_id is not None:
                    check_id(event.node_id, "$.nodeId")
                payload, error = payload_pieces(tenant, flow_id, run_id, event, timestamp)
                written.append((event, timestamp, payload, error))
        return written

    def _write(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        written: Sequence[Written],
        repeat: Repeat | None,
        *,
        taken_up: bool = False,
        only_expired: bool = False,
    ) -> Published:
        change = self.store.change(tenant, flow_id, run_id, written, taken_up=taken_up, only_expired=only_expired)
        return self._announce(tenant, flow_id, run_id, written, change, repeat)

    def _announce(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        written: Sequence[Written],
        change: Change,
        repeat: Repeat | None,
    ) -> Published:
        announced = []
        for event, _, payload, _ in written:
            rooms = flow_audience(tenant, flow_id, run_id, whole_tenant=event.type in _TENANT_WIDE)
            announced.append(Event(Header(rooms), event_pieces(event.type, payload)))
        try:
            if not is_strict(written):
                before = self._publisher.published_before(tenant, NAMESPACE, announced, repeat)
                if before is not None:
                    return before
                self.store.check(tenant, flow_id, run_id, written)
            return self._publisher.publish(tenant, NAMESPACE, announced, change, repeat)
        except Conflict as refused:
            if refused.texts:
                refused.details.update(zip(("event", "status"), (text.decode() for text in refused.texts), strict=True))
            raise
