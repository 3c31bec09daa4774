"""/workspaces: states that several clients share, and who they are."""

from namespaces.base import Namespace, handles
from namespaces.clients import Client
from protocol.workspaces import (
    JoinWorkspace,
    LeaveWorkspace,
    UpdatePresence,
    UpdateWorkspace,
    WorkspaceDone,
    WorkspaceJoined,
    WorkspaceUpdated,
)
from services.presence import NAMESPACE
from services.workspaces import Workspaces


class WorkspacesNamespace(Namespace):
    read_scope = "workspaces:read"

    def __init__(self, workspaces: Workspaces) -> None:
        super().__init__(NAMESPACE)
        self._workspaces = workspaces

    def left(self, client: Client) -> None:
        self._workspaces.gone(client.sid)

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
