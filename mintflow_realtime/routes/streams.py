"""`/api/v1/streams/…`: logs and runs as server-sent events, for EventSource, `fetch` and `curl -N`."""

import secrets
from collections.abc import Callable

import msgspec
from flask import Response, request

from mintflow_realtime.admission.event_streams import EventStreams, Following
from mintflow_realtime.auth.handshake import bearer_from
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.rooms import feed_room, flow_rooms, tenant_room
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.ids import Id
from mintflow_realtime.protocol.levels import Level
from mintflow_realtime.protocol.server_sent import retry
from mintflow_realtime.routes.errors import Malformed
from mintflow_realtime.routes.query import read_query
from mintflow_realtime.services import flows, logs
from mintflow_realtime.services.access import Access

# Where our server puts what goes on with a connection behind the answer's head; no other server has it.
_DETACH_KEY = "transport.detach"
_OVER = frozenset({"completed", "failed", "cancelled"})
_ENDS = frozenset(f"flow_{status}" for status in _OVER)


class StreamQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What every stream takes: what a browser can't say in a header, and where to go on from."""

    flow_id: Id | None = None
    run_id: Id | None = None
    since: str | None = None
    token: str | None = None
    tenant_id: str | None = None


class LogStream(StreamQuery, frozen=True, kw_only=True):
    """The query of a stream of log records."""

    min_level: Level | None = None


def admitted(access: Access) -> Principal:
    """Return who asks for a stream, as on the socket, or by an API key. Raises AuthenticationError, Unavailable."""
    headers, query = request.headers, request.args
    wanted = headers.get("X-Tenant-Id") or query.get("tenantId") or None
    api_key, bearer = headers.get("X-API-Key"), bearer_from(headers.get("Authorization"))
    if api_key is not None:
        return access.admit_http(bearer, api_key, wanted)
    return access.admit(bearer or query.get("token") or None, wanted, secrets.token_urlsafe(16))


class StreamViews:
    """The views of streams."""

    def __init__(self, streams: EventStreams, runs: flows.Flows) -> None:
        self._streams, self._runs = streams, runs

    def logs(self, principal: Principal) -> Response:
        """Follow log records: the tenant's, or those of a flow, a run or from a level on."""
        principal.require("logs:read")
        query, tenant = read_query(LogStream), principal.tenant
        rooms = (feed_room(tenant, query.flow_id, query.run_id, query.min_level), tenant_room(tenant))
        last = _last(query)
        return _answer(
            lambda: self._streams.open(principal, logs.NAMESPACE, rooms, last, dropped=logs.DROPPED),
        )

    def flows(self, principal: Principal) -> Response:
        """Follow runs: the tenant's beginnings and ends, a flow's events, or one run's until it has ended."""
        principal.require("flows:read")
        query, tenant = read_query(StreamQuery), principal.tenant
        last, flow_id, run_id = _last(query), query.flow_id, query.run_id
        if run_id is None:
            rooms = (tenant_room(tenant),) if flow_id is None else flow_rooms(tenant, flow_id, None)
            return _answer(lambda: self._streams.open(principal, flows.NAMESPACE, rooms, last))
        return _answer(
            lambda: self._streams.open(
                principal,
                flows.NAMESPACE,
                flow_rooms(tenant, flow_id, run_id),
                last,
                ends=_ENDS,
                over=lambda: self._is_over(principal, flow_id, run_id),
            )
        )

    def _is_over(self, principal: Principal, flow_id: str | None, run_id: str) -> bool:
        flow = flow_id or self._runs.flow_of(principal, run_id)
        try:
            return flow is not None and self._runs.read(principal, flow, run_id).run.status in _OVER
        except NotFound:
            return False


def not_now() -> Response:
    """Return the answer to what can't be had for now: EventSource takes a 503 for final, and the end for a reason to
    come back.
    """
    return _events(Response([b": not now\n" + retry()]))


def _last(query: StreamQuery) -> str | None:
    shown: str | None = request.headers.get("Last-Event-ID")
    if query.since is not None and not _is_offset(query.since):
        raise Malformed("Expected an offset, as an event's id is", "$.since")
    # What a browser heard last says more than the address that it began with.
    return shown or query.since


def _is_offset(text: str) -> bool:
    epoch, _, number = text.rpartition("-")
    return len(text) <= 64 and text.isascii() and epoch.isalnum() and number.isdecimal()


def _answer(open_: Callable[[], Following | None]) -> Response:
    takers = request.environ.get(_DETACH_KEY)
    if takers is None:
        raise NotFound("This process serves no streams")
    following = open_()
    if following is None:
        return Response(status=204, headers={"Cache-Control": "no-store"})
    # Not an empty list, whose length would be said.
    response = Response(iter(()))
    response.call_on_close(following.close)
    if request.method != "HEAD":
        takers.append(following.take)
    return _events(response)


def _events(response: Response) -> Response:
    response.content_type = "text/event-stream"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Connection"] = "close"
    # nginx would hold back what is less than a page.
    response.headers["X-Accel-Buffering"] = "no"
    return response
