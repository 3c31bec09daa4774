"""`/api/v1/flows/{flowId}/runs/{runId}`: publish a run's events, read its state."""

from typing import Annotated, Any

import msgspec
from flask import Response, request
from msgspec import Meta

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.flows import Seq
from mintflow_realtime.protocol.ids import Id
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.runs import CancelRun, Controls, ListRuns, Reason, SignalRun
from mintflow_realtime.routes.answers import Accepted, answer
from mintflow_realtime.routes.body import Batches, read_message
from mintflow_realtime.routes.query import idempotency_key, path_id, read_query
from mintflow_realtime.services.flows import Flows

_events = Batches(RunEvent)


class RunQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a run: with `since`, its events after that `seq` too."""

    since: Seq | None = None


class ControlQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of what is asked: seconds to wait, who asks, and places of what is done with since the last time."""

    wait: Annotated[int, Meta(ge=0, le=25)] = 0
    consumer: Annotated[str, Meta(max_length=128)] = ""
    done: Annotated[list[str], Meta(max_length=100)] = []


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a cancel, which may be missing: why."""

    reason: Reason | None = None


class SignalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a signal."""

    name: Id
    data: Any = None


# A signal's data, and its name.
_SIGNAL_BYTES = 70_000


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

    def beat(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Renew a run's lease, and say what is wanted of it."""
        return answer(self._flows.beat(principal, path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")))

    def cancel(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Ask a run's engine to end it."""
        flow_id, run_id = path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")
        body = read_message(CancelBody) if request.get_data() else CancelBody()
        command = CancelRun(flow_id=flow_id, run_id=run_id, reason=body.reason)
        return answer(self._flows.control.cancel(principal, command, idempotency_key()), 202)

    def signal(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Give a run something that it waits for."""
        flow_id, run_id = path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")
        body = read_message(SignalBody, _SIGNAL_BYTES)
        command = SignalRun(flow_id=flow_id, run_id=run_id, name=body.name, data=body.data)
        return answer(self._flows.control.signal(principal, command, idempotency_key()), 202)

    def control(self, principal: Principal, flow_id: str) -> Response:
        """Return what is asked of a flow's engine, as soon as there is something."""
        flow_id, query = path_id(flow_id, "$.flowId"), read_query(ControlQuery, numbers=("wait",), lists=("done",))
        taken = self._flows.control.take(principal, flow_id, query.consumer, query.wait, tuple(query.done))
        return answer(Controls(control=taken))

    def list(self, principal: Principal) -> Response:
        """Return a page of runs, newest first; a missing `nextCursor` is the end."""
        return answer(self._flows.runs(principal, read_query(ListRuns, numbers=("limit",), lists=("status",))))

    def read(self, principal: Principal, flow_id: str, run_id: str) -> Response:
        """Return a run's snapshot; `events` are missing where not all after `since` are held."""
        flow_id, run_id = path_id(flow_id, "$.flowId"), path_id(run_id, "$.runId")
        query = read_query(RunQuery, numbers=("since",))
        return answer(self._flows.read(principal, flow_id, run_id, query.since))
