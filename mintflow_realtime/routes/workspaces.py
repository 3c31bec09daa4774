"""`/api/v1/workspaces/{workspaceId}`: read, replace and merge a shared state. The ETag is its version."""

import re
from collections.abc import Callable

from flask import Response, request
from msgspec import Raw

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Conflict
from mintflow_realtime.protocol.workspaces import UpdateWorkspace, WorkspaceRead
from mintflow_realtime.routes.answers import answer
from mintflow_realtime.routes.body import read_object
from mintflow_realtime.routes.errors import Malformed, refusal
from mintflow_realtime.routes.query import idempotency_key, path_id
from mintflow_realtime.services.workspaces.service import Workspaces

# 2**53 has 16 digits.
_VERSION = re.compile(r'"(\d{1,16})"')


class WorkspaceViews:
    """The views of a workspace."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces

    def read(self, principal: Principal, workspace_id: str) -> Response:
        """Return a workspace; one that nobody has written to is `{}` at version 0."""
        return _shown(self._workspaces.read(principal, path_id(workspace_id, "$.workspaceId")))

    def replace(self, principal: Principal, workspace_id: str) -> Response:
        """Set the whole state."""
        return self._write(principal, workspace_id, partial=False)

    def merge(self, principal: Principal, workspace_id: str) -> Response:
        """Set the members that the body has, and leave the others."""
        return self._write(principal, workspace_id, partial=True)

    def _write(self, principal: Principal, workspace_id: str, *, partial: bool) -> Response:
        base_version, key = _if_match(), idempotency_key()
        command = UpdateWorkspace(
            workspace_id=path_id(workspace_id, "$.workspaceId"),
            state=read_object(),
            partial=partial,
            base_version=base_version,
        )

        def write() -> Response:
            published = self._workspaces.write(principal, command, key)
            state, version, updated_at = published.inserts[0]
            return _shown(
                WorkspaceRead(
                    workspace=command.workspace_id,
                    state=Raw(state.encode()),
                    version=int(version),
                    updated_at=updated_at,
                )
            )

        return write() if base_version is None else _on_condition(write)


def _on_condition(write: Callable[[], Response]) -> Response:
    """Return what `write` answers; 412 where If-Match named another version (RFC 9110, section 13.1.1)."""
    try:
        return write()
    except Conflict as error:
        response = refusal(error)
        if "version" in error.details:
            response.status_code = 412
            response.headers["ETag"] = f'"{error.details["version"]}"'
        return response


def _if_match() -> int | None:
    text = request.headers.get("If-Match")
    if text is None:
        return None
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise Malformed('Expected If-Match with one version, such as "7"', "$.ifMatch")
    return int(found.group(1))


def _shown(workspace: WorkspaceRead) -> Response:
    return answer(workspace, headers={"ETag": f'"{workspace.version}"'})
