"""A method for each event of a run, for in-process code: it names the tenant, and is trusted with it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import force_setattr

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import check_id, check_tenant
from mintflow_realtime.protocol.run_events import EventType, RunEvent
from mintflow_realtime.services.batch import read_batch, read_one

# How Python code spells an event's fields.
_NAMES = {"node_id": "nodeId"}


class RunMethods(ABC):
    """What publishes the events of runs, by `publish`. Every method returns what it published.

    Each takes `data` (members that join the payload), `attempt` and `idempotency_key`, and what its event takes. Raises
    InvalidPayload with the field's path, TooLarge, Conflict for what is impossible as the run is, Unavailable.
    """

    @abstractmethod
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
        """Publish events of one run, all or none."""

    def queued(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_queued`. `more`: what `started` takes."""
        return self._tell(tenant, flow_id, run_id, "flow_queued", **more)

    def started(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_started`. `more`: name, tags, lease, parent, total, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_started", **more)

    def waiting(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_waiting`. `more`: reason, until, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_waiting", **more)

    def completed(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_completed`. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_completed", **more)

    def failed(self, tenant: str, flow_id: str, run_id: str, error: Any, **more: Any) -> Published:
        """Publish `flow_failed` with its error, text or any JSON. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_failed", error=error, **more)

    def cancelling(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_cancelling`, for who has told the engine by himself. `more`: reason, data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_cancelling", **more)

    def cancelled(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_cancelled`. `more`: reason, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_cancelled", **more)

    def lost(self, tenant: str, flow_id: str, run_id: str, **more: Any) -> Published:
        """Publish `flow_lost`, for who knows that a run's engine has died. `more`: reason, data, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_lost", **more)

    def progress(self, tenant: str, flow_id: str, run_id: str, progress: float, **more: Any) -> Published:
        """Publish `flow_progress` in percent, clamped to 0-100. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "flow_progress", progress=progress, **more)

    def node_started(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_started`. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_started", node_id=node_id, **more)

    def node_waiting(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_waiting`. `more`: reason, until, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_waiting", node_id=node_id, **more)

    def node_completed(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_completed`. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_completed", node_id=node_id, **more)

    def node_failed(self, tenant: str, flow_id: str, run_id: str, node_id: str, error: Any, **more: Any) -> Published:
        """Publish `node_failed` with its error, text or any JSON. `more`: data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_failed", node_id=node_id, error=error, **more)

    def node_skipped(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_skipped`. `more`: reason, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_skipped", node_id=node_id, **more)

    def node_cancelled(self, tenant: str, flow_id: str, run_id: str, node_id: str, **more: Any) -> Published:
        """Publish `node_cancelled`. `more`: reason, data, attempt, idempotency_key."""
        return self._tell(tenant, flow_id, run_id, "node_cancelled", node_id=node_id, **more)

    def publish_many(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        events: Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish 1 to 1,000 events of one run, 4 MB at most, all or none; `offsets` of what is returned are theirs.

        Each is a dictionary of `type` (`flow_started`, `node_completed`, …) and what that type has: `node_id` (the
        wire's `nodeId` will do), `progress`, `error`, `data`, `attempt`, `name`. Raises InvalidPayload and
        TooLarge with the number and field of what is wrong (`$[3].progress`), Conflict, Unavailable.
        """
        check_tenant(tenant, "$.tenant")
        for value, path in ((flow_id, "$.flowId"), (run_id, "$.runId")):
            check_id(value, path)
        read = read_batch(RunEvent, events, _NAMES)
        return self.publish(Principal.system(tenant), flow_id, run_id, read, idempotency_key, numbered=True)

    def _tell(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        kind: EventType,
        *,
        error: Any = None,
        data: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Published:
        check_tenant(tenant, "$.tenant")
        for value, path in ((flow_id, "$.flowId"), (run_id, "$.runId")):
            check_id(value, path)
        if kind.startswith("node_"):
            check_id(more.get("node_id"), "$.nodeId")
        if kind == "flow_progress" and more.get("progress") is None:
            raise InvalidPayload("Expected a number", "$.progress")
        if not (data is None or isinstance(data, dict)):
            raise InvalidPayload("Expected an object", "$.data")
        event = read_one(RunEvent, {"type": kind, **more}, _NAMES)
        # As they are: exceptions, and what else Python has and JSON can be made of.
        if error is not None:
            force_setattr(event, "error", error)
        if data is not None:
            force_setattr(event, "data", data)
        return self.publish(Principal.system(tenant), flow_id, run_id, [event], idempotency_key)
