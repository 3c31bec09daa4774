"""The HTTP API: which path has which methods. Paths that are not here are the host application's to answer."""

from flask import Blueprint

from mintflow_realtime.routes import API_BLUEPRINT
from mintflow_realtime.routes.access import AccessViews
from mintflow_realtime.routes.cors import Cors
from mintflow_realtime.routes.flows import FlowViews
from mintflow_realtime.routes.frame import METHODS, View, resource
from mintflow_realtime.routes.logs import LogViews
from mintflow_realtime.routes.nodes import NodeViews
from mintflow_realtime.routes.streams import StreamViews, admitted, not_now
from mintflow_realtime.routes.workspaces import WorkspaceViews
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.services.workspaces.service import Workspaces

URL_PREFIX = "/api/v1"
_RUN = "/flows/<flow_id>/runs/<run_id>"


def blueprint(
    logs: Logs,
    flows: Flows,
    workspaces: Workspaces,
    access: Access,
    cors: Cors | None = None,
    access_log: AccessLog | None = None,
    of_nodes: NodeViews | None = None,
    of_streams: StreamViews | None = None,
) -> Blueprint:
    """Return the blueprint of `/api/v1`. It changes nothing of the application that it is registered on.

    Without `cors`, pages of other origins can't use it; without `of_nodes`, nobody is told who is there; without
    `of_streams` there are none.
    """
    of_logs, of_flows, of_access = LogViews(logs), FlowViews(flows), AccessViews(access, access_log)
    of_workspaces = WorkspaceViews(workspaces)
    resources: list[tuple[str, str, dict[str, View]]] = [
        ("logs", "/logs", {"POST": of_logs.publish, "GET": of_logs.read, "DELETE": of_logs.clear}),
        ("logs_export", "/logs/export", {"GET": of_logs.export}),
        ("runs", "/runs", {"GET": of_flows.list}),
        ("run", _RUN, {"GET": of_flows.read}),
        ("run_events", f"{_RUN}/events", {"POST": of_flows.publish}),
        ("run_cancel", f"{_RUN}/cancel", {"POST": of_flows.cancel}),
        ("run_signals", f"{_RUN}/signals", {"POST": of_flows.signal}),
        ("flow_control", "/flows/<flow_id>/control", {"GET": of_flows.control}),
        ("run_beat", f"{_RUN}/beat", {"POST": of_flows.beat}),
        (
            "workspace",
            "/workspaces/<workspace_id>",
            {"GET": of_workspaces.read, "PUT": of_workspaces.replace, "PATCH": of_workspaces.merge},
        ),
        ("tickets", "/tickets", {"POST": of_access.issue_ticket}),
        ("revocations", "/revocations", {"POST": of_access.revoke}),
    ]
    if of_nodes is not None:
        resources += [
            ("nodes", "/nodes", {"GET": of_nodes.nodes}),
            ("connections", "/connections", {"GET": of_nodes.page, "DELETE": of_nodes.close_user}),
            ("connection", "/connections/<sid>", {"DELETE": of_nodes.close}),
            ("presence", "/presence", {"GET": of_nodes.presence}),
            ("why", "/why", {"GET": of_nodes.why}),
        ]
    api = Blueprint(API_BLUEPRINT, __name__, url_prefix=URL_PREFIX)
    for name, path, views in resources:
        api.add_url_rule(
            path, name, resource(access, views, access_log), methods=METHODS, provide_automatic_options=False
        )
    if of_streams is not None:
        for name, view in (("logs", of_streams.logs), ("flows", of_streams.flows)):
            respond = resource(access, {"GET": view}, access_log, admitted, not_now)
            api.add_url_rule(
                f"/streams/{name}", f"stream_{name}", respond, methods=METHODS, provide_automatic_options=False
            )
    if cors is not None:
        cors.protect(api)
    return api
