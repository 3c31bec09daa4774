"""`/api/v1/flows/{flowId}/runs/{runId}`: publish a run's events, read its state."""

import msgspec
from flask import Response

from auth.principal import Principal
from protocol.flows import RunEvent, Seq
from routes.answers import Accepted, answer
from routes.body import Batches
from routes.query import idempotency_key, path_id, read_query
from services.flows import Flows

_events = Batches(RunEvent)


class RunQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a run: with `since`, its events after that `seq` too."""

    since: Seq | None = None


class FlowViews:
    """The views of a run."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows

    def publish(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Publish one event of a run, an array or lines of them: all or none."""
        flow_id, run_id = path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")
        key = idempotency_key()
        published = self._flows.publish(principal, flow_id, run_id, _events.read(), key)
        return answer(Accepted(len(published.offsets), published.offsets), 202)

    def read(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Return a run's snapshot; `events` are missing where not all after `since` are held."""
        flow_id, run_id = path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")
        query = read_query(RunQuery, numbers=("since",))
        return answer(self._flows.read(principal, flow_id, run_id, query.since))
