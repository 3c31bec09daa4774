"""/workspaces: states that several clients share, and who they are."""

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.workspaces import (
    JoinWorkspace,
    LeaveWorkspace,
    UpdatePresence,
    UpdateWorkspace,
    WorkspaceDone,
    WorkspaceJoined,
    WorkspaceUpdated,
)
from mintflow_realtime.services.workspaces.presence import NAMESPACE
from mintflow_realtime.services.workspaces.service import Workspaces


class WorkspacesNamespace(Namespace):
    read_scope = "workspaces:read"

    def __init__(self, workspaces: Workspaces) -> None:
        super().__init__(NAMESPACE)
        self._workspaces = workspaces

    def recovered(self, client: Client, memo: str) -> None:
        self._workspaces.back(client.principal, memo)

    def memo(self, client: Client) -> str:
        return self._workspaces.memo(client.sid)

    def left(self, client: Client) -> None:
        self._workspaces.gone(client.sid)

    def away(self, client: Client) -> None:
        self._workspaces.away(client.sid)

    def moved(self, client: Client) -> None:
        self._workspaces.moved(client.sid)

    def instead(self, client: Client, room: str, arguments: str) -> tuple[str, int]:
        """Return the arguments that tell a workspace as it is, and the log's number that this is as of."""
        return self._workspaces.as_it_is(client.principal, room, arguments)

    @handles(JoinWorkspace)
    def join_workspace(self, client: Client, command: JoinWorkspace) -> WorkspaceJoined:
        return self._workspaces.join(client.principal, client.sid, command)

    @handles(LeaveWorkspace)
    def leave_workspace(self, client: Client, command: LeaveWorkspace) -> WorkspaceDone:
        return self._workspaces.leave(client.principal, client.sid, command)

    @handles(UpdateWorkspace)
    def update_workspace(self, client: Client, command: UpdateWorkspace) -> WorkspaceUpdated:
        return self._workspaces.change(client.principal, client.sid, command)

    @handles(UpdatePresence, silent=True)
    def update_presence(self, client: Client, command: UpdatePresence) -> WorkspaceDone:
        return self._workspaces.show_presence(client.principal, client.sid, command)
