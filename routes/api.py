"""The HTTP API: which path has which methods. Paths that are not here are the host application's to answer."""

from flask import Blueprint

from routes.access import AccessViews
from routes.flows import FlowViews
from routes.frame import METHODS, View, resource
from routes.logs import LogViews
from routes.workspaces import WorkspaceViews
from services.access import Access
from services.flows import Flows
from services.logs import Logs
from services.workspaces import Workspaces

URL_PREFIX = "/api/v1"
_RUN = "/flows/<flow_id>/runs/<run_id>"


def blueprint(logs: Logs, flows: Flows, workspaces: Workspaces, access: Access) -> Blueprint:
    """Return the blueprint of `/api/v1`. It changes nothing of the application that it is registered on."""
    of_logs, of_flows, of_access = LogViews(logs), FlowViews(flows), AccessViews(access)
    of_workspaces = WorkspaceViews(workspaces)
    resources: list[tuple[str, str, dict[str, View]]] = [
        ("logs", "/logs", {"POST": of_logs.publish, "GET": of_logs.read, "DELETE": of_logs.clear}),
        ("run", _RUN, {"GET": of_flows.read}),
        ("run_events", f"{_RUN}/events", {"POST": of_flows.publish}),
        (
            "workspace",
            "/workspaces/<workspace_id>",
            {"GET": of_workspaces.read, "PUT": of_workspaces.replace, "PATCH": of_workspaces.merge},
        ),
        ("tickets", "/tickets", {"POST": of_access.issue_ticket}),
        ("revocations", "/revocations", {"POST": of_access.revoke}),
    ]
    api = Blueprint("mintflow_api", __name__, url_prefix=URL_PREFIX)
    for name, path, views in resources:
        api.add_url_rule(path, name, resource(access, views), methods=METHODS, provide_automatic_options=False)
    return api
