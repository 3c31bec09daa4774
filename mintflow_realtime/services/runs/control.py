"""Word back: what viewers ask of runs, durable, told to everybody, and taken by the engine of the flow, once."""

import secrets
import time
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from typing import Any

from msgspec import UNSET

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Repeat
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.errors import TooLarge, Unavailable
from mintflow_realtime.protocol.ids import check_id, check_tenant
from mintflow_realtime.protocol.runs import CancelRun, Control, RunCancelling, RunSignalled, SignalRun
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.runs.events import NAMESPACE, RunEvents
from mintflow_realtime.stores.runs.control import ControlStore

MAX_DATA_BYTES = 65_536
# How often who waits looks for something: at first, and after a while.
FIRST_PAUSE, LAST_PAUSE = 0.1, 1.0
# Requests that may wait at once in one process; another is answered at once, and comes again.
MOST_WAITING = 100


class RunControl:
    """What is asked of engines, and how they get it."""

    def __init__(self, events: RunEvents, store: ControlStore, sleep: Callable[[float], None] = time.sleep) -> None:
        self._events = events
        self._store = store
        self._sleep = sleep
        self._waiting = 0

    def cancel(self, principal: Principal, command: CancelRun, idempotency_key: str | None = None) -> RunCancelling:
        """Ask a run's engine to end it, and tell viewers `flow_cancelling`.

        Raises Forbidden without `flows:control`, NotFound, Conflict with the status of a run that has ended, TooLarge
        where the engine takes nothing, Unavailable.
        """
        told = {} if command.reason is None else {"reason": command.reason}
        published = self._ask(principal, command, "cancel", "flow_cancelling", told, told, idempotency_key)
        return RunCancelling(flow_id=command.flow_id, run_id=command.run_id, status=str(published.payload["status"]))

    def signal(self, principal: Principal, command: SignalRun, idempotency_key: str | None = None) -> RunSignalled:
        """Give a run's engine something by name, and tell who follows the run `flow_signalled`, without its data.

        Raises what `cancel` does.
        """
        asked = {"name": command.name, "data": command.data}
        if len(dumps(command.data).encode()) > MAX_DATA_BYTES:
            raise TooLarge(f"The data of a signal is at most {MAX_DATA_BYTES} bytes of JSON", path="$.data")
        told = {"name": command.name}
        published = self._ask(principal, command, "signal", "flow_signalled", told, asked, idempotency_key)
        return RunSignalled(
            flow_id=command.flow_id, run_id=command.run_id, signal_id=str(published.payload["controlId"])
        )

    def take(
        self, principal: Principal, flow_id: str, consumer: str = "", wait: float = 0, done: tuple[str, ...] = ()
    ) -> list[Control]:
        """Return what is asked of a flow's runs, to this caller alone; wait up to `wait` seconds for something.

        What isn't acknowledged in a minute, by its `place` in `done`, is given to another. Raises Forbidden without
        `flows:write`, Unavailable.
        """
        principal.require("flows:write")
        tenant, consumer = principal.tenant, consumer or secrets.token_hex(8)
        self._store.done(tenant, flow_id, done)
        if self._waiting >= MOST_WAITING:
            wait = 0
        self._waiting += 1
        try:
            return self._wait(lambda: self._store.take(tenant, flow_id, consumer), wait)
        finally:
            self._waiting -= 1

    def take_of_run(
        self, tenant: str, flow_id: str, run_id: str, kind: str = "", wait: float = 0, most: int = 10
    ) -> list[Control]:
        """Return what is asked of one run, to the process that it runs in; it is done with that. Raises Unavailable."""
        return self._wait(lambda: self._store.take_of_run(tenant, flow_id, run_id, kind, most), wait)

    def take_cancels(self, tenant: str, flow_ids: Set[str], *, old: bool = False) -> list[Control]:
        """Take who wants runs of some flows cancelled, for an engine of all of them; signals stay for the runs.

        What has waited for over 30 s is found by looking at each flow: with `old`. Raises Unavailable.
        """
        asked = flow_ids if old else flow_ids & self._store.flows_asked(tenant, "cancel")
        return [one for flow_id in sorted(asked) for one in self._store.take_of_flow(tenant, flow_id, "cancel")]

    def follow(self, tenant: str, flow_id: str) -> Iterator[Control]:
        """Yield what is asked of a flow's runs, each to one process: done when the next is asked for. Never ends.

        While Redis is away, it waits. What was yielded and not done with in a minute, another process gets.
        """
        check_tenant(tenant, "$.tenant")
        check_id(flow_id, "$.flowId")
        consumer = secrets.token_hex(8)
        while True:
            found: list[Control] = []
            with suppress(Unavailable):
                found = self._wait(lambda: self._store.take(tenant, flow_id, consumer), 60)
            if not found:
                self._sleep(FIRST_PAUSE)
            for message in found:
                yield message
                # Where it can't be noted, it comes once more.
                with suppress(Unavailable):
                    self._store.done(tenant, flow_id, [message.place])

    def tell_unclaimed(self, tenant: str, flow_id: str, run_id: str, kind: str, control_id: str) -> None:
        """Say that nobody took something within 30 s, once. Raises Conflict where somebody has, Unavailable."""
        data = {"controlId": control_id, "kind": kind}
        event = self._events.own("flow_unclaimed", data)
        self._events.write(
            tenant,
            flow_id,
            run_id,
            event,
            lambda written: self._events.store.unclaimed(tenant, flow_id, run_id, written, kind, control_id),
        )

    def _ask(
        self,
        principal: Principal,
        command: CancelRun | SignalRun,
        kind: str,
        event: str,
        told: dict[str, Any],
        asked: dict[str, Any],
        idempotency_key: str | None,
    ) -> Published:
        principal.require("flows:control")
        tenant, flow_id, run_id = principal.tenant, command.flow_id, command.run_id
        key = idempotency_key or command.idempotency_key
        repeat = Repeat.of(key, NAMESPACE, kind, flow_id, run_id, asked, user=principal.repeats_as)
        # A repeat is answered with the first one's.
        control_id = secrets.token_hex(8) if repeat is None or key is UNSET else repeat.record[:16]
        more = {"controlId": control_id, "by": principal.user_id}
        payload = dumps({**asked, "by": principal.user_id, "at": iso(now_ms())})
        self._events.store.leases.note(tenant, 30)
        return self._events.write(
            tenant,
            flow_id,
            run_id,
            self._events.own(event, {**more, **told}, told.get("reason")),
            lambda written: self._events.store.ask(tenant, flow_id, run_id, written, control_id, kind, payload),
            repeat,
        )

    def _wait(self, look: Callable[[], list[Control]], seconds: float) -> list[Control]:
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
        while not (found := look()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._sleep(min(pause, left))
            pause = min(pause * 1.5, LAST_PAUSE)
        return found
