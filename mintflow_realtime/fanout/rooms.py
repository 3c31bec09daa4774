"""The only place that builds a room's name: tenant first, and never the form of a sid.

`acme:` is everyone of a tenant, `acme:run:r1` one run's subscribers, `acme:feed:f1/r1/warn` a narrowed log feed.
Ids are encoded and then hold neither `:` nor `/`, so no two rooms share a name.
"""

from mintflow_realtime.protocol.ids import check_id, encode_id
from mintflow_realtime.protocol.levels import LEVELS


def tenant_room(tenant: str) -> str:
    """Return the room of all of a tenant's clients in a namespace."""
    return f"{tenant}:"


def own_room(tenant: str, room: str) -> str:
    """Return the room `room` of an application's own namespace. Raises InvalidPayload where it isn't an id."""
    return f"{tenant}:own:{encode_id(check_id(room, '$.room'))}"


def of_tenant(room: object) -> bool:
    """Tell whether `room` is a tenant's."""
    return isinstance(room, str) and ":" in room


def tenant_of(room: str) -> str:
    """Return whose a tenant's room is; "" for any other."""
    tenant, colon, _ = room.partition(":")
    return tenant if colon else ""


def flow_rooms(tenant: str, flow_id: str | None, run_id: str | None) -> tuple[str, ...]:
    """Return the room that a subscription to a flow, a run, or a flow's run enters."""
    if flow_id is not None and run_id is not None:
        return (f"{tenant}:flow-run:{encode_id(flow_id)}/{encode_id(run_id)}",)
    if flow_id is not None:
        return (f"{tenant}:flow:{encode_id(flow_id)}",)
    return (f"{tenant}:run:{encode_id(run_id or '')}",)


def flow_audience(tenant: str, flow_id: str, run_id: str, *, whole_tenant: bool) -> tuple[str, ...]:
    """Return all rooms that one event of a run goes to."""
    flow, run = encode_id(flow_id), encode_id(run_id)
    rooms = (f"{tenant}:flow:{flow}", f"{tenant}:run:{run}", f"{tenant}:flow-run:{flow}/{run}")
    return (tenant_room(tenant), *rooms) if whole_tenant else rooms


def feed_room(tenant: str, flow_id: str | None, run_id: str | None, min_level: str | None) -> str:
    """Return the one room of a client's log feed; None narrows nothing."""
    return f"{tenant}:feed:{_part(flow_id)}/{_part(run_id)}/{min_level or LEVELS[0]}"


def feed_audience(tenant: str, flow_id: str | None, run_id: str | None, level: str) -> tuple[str, ...]:
    """Return every feed that a log record of `level` belongs to: at most 16 rooms."""
    flows = ("", encode_id(flow_id)) if flow_id is not None else ("",)
    runs = ("", encode_id(run_id)) if run_id is not None else ("",)
    levels = LEVELS[: LEVELS.index(level) + 1]
    return tuple(f"{tenant}:feed:{flow}/{run}/{least}" for flow in flows for run in runs for least in levels)


def workspace_room(tenant: str, workspace_id: str, *, deltas: bool) -> str:
    """Return the one room of a client in a workspace: it hears of updates as deltas, or as full states."""
    return f"{tenant}:workspace-{'deltas' if deltas else 'states'}:{encode_id(workspace_id)}"


def workspace_audience(tenant: str, workspace_id: str) -> tuple[str, str]:
    """Return both rooms of a workspace: everyone in it."""
    return workspace_room(tenant, workspace_id, deltas=False), workspace_room(tenant, workspace_id, deltas=True)


def states_room_of(deltas_room: str) -> str | None:
    """Return the room of those who hear of the same updates as full states; None for any other room."""
    tenant, kind, workspace = (*deltas_room.split(":", 2), "", "")[:3]
    return f"{tenant}:workspace-states:{workspace}" if kind == "workspace-deltas" else None


def ai_room(tenant: str, user_id: str, request_id: str) -> str:
    """Return the room of a user's clients that follow one AI request."""
    return f"{tenant}:ai:{encode_id(user_id)}/{encode_id(request_id)}"


def ai_request_of(room: str) -> str | None:
    """Return the request that a room follows, as it is encoded; None for any other room."""
    kind, _, place = room.partition(":")[2].partition(":")
    return place.partition("/")[2] if kind == "ai" else None


def _part(of: str | None) -> str:
    return "" if of is None else encode_id(of)
