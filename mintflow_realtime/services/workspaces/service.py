"""Shared states: read them, write to them, be in them with others."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, structs

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import workspace_audience, workspace_room
from mintflow_realtime.protocol.envelope import Event, Header, Policy, Published, event_pieces
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.ids import check_id, check_tenant, encode_id
from mintflow_realtime.protocol.readings import readings
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.protocol.validation import mistyped
from mintflow_realtime.protocol.wire_json import dumps, loads
from mintflow_realtime.protocol.workspaces import (
    JoinWorkspace,
    LeaveWorkspace,
    UpdatePresence,
    UpdateWorkspace,
    User,
    WorkspaceDone,
    WorkspaceJoined,
    WorkspaceRead,
    WorkspaceShown,
    WorkspaceUpdated,
    presence_text,
)
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.services.workspaces.presence import NAMESPACE, Member, Presence
from mintflow_realtime.services.workspaces.updates import WorkspaceUpdates
from mintflow_realtime.stores.workspaces.store import WorkspaceStore

JOIN_FIRST = "Join the workspace first"

_users = msgspec.json.Decoder(dict[str, User])


class Workspaces:
    """The service behind /workspaces, `/api/v1/workspaces` and `realtime.workspaces`."""

    def __init__(
        self,
        publisher: Publisher,
        store: WorkspaceStore,
        presence: Presence,
        feeds: Feeds | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._presence = presence
        self._feeds = feeds
        self._updates = WorkspaceUpdates(publisher, store, clock_ms)
        self._clock_ms = clock_ms

    # In-process code names the tenant; it is trusted with it.

    def get(self, tenant: str, workspace_id: str) -> WorkspaceRead:
        """Return a workspace, `state` decoded; one that nobody wrote to is {} at version 0. Raises Unavailable."""
        check_tenant(tenant, "$.tenant")
        found = self.read(Principal.system(tenant), check_id(workspace_id, "$.workspaceId"))
        return structs.replace(found, state=loads(bytes(found.state)))

    def update(
        self,
        tenant: str,
        workspace_id: str,
        state: Mapping[str, Any] | None = None,
        *,
        partial: bool = True,
        patch: list[dict[str, Any]] | None = None,
        base_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Merge `state` (`partial=False`: replace by it), or apply an RFC 6902 `patch`; `payload` tells the delta.

        Raises InvalidPayload, TooLarge, Conflict with `details` state (JSON text) and version, Unavailable.
        """
        check_tenant(tenant, "$.tenant")
        fields = {"workspaceId": workspace_id, "patch": patch, "baseVersion": base_version}
        try:
            # The state's values are the caller's; whether JSON can say them shows when they are written.
            checked = msgspec.convert({**fields, "state": None if state is None else {}}, UpdateWorkspace)
        except msgspec.ValidationError as error:
            raise mistyped(error) from None
        command = UpdateWorkspace(
            workspace_id=checked.workspace_id,
            state=None if state is None else dict(state),
            partial=UNSET if state is None else partial,
            patch=checked.patch,
            base_version=checked.base_version,
        )
        return self.write(Principal.system(tenant), command, idempotency_key)

    def tick(self) -> None:
        """Keep this node's users alive and take leave of dead nodes' users: every second, and never twice at once."""
        self._presence.tick()

    # The doors

    def read(self, principal: Principal, workspace_id: str) -> WorkspaceRead:
        """Return a workspace, its state as JSON text. Raises Forbidden without `workspaces:read`, Unavailable."""
        principal.require("workspaces:read")
        with readings:
            found = self._store.read(principal.tenant, workspace_id, self._head_key(principal.tenant))
        return WorkspaceRead(
            workspace=workspace_id, state=Raw(found.state.encode()), version=found.version, updated_at=found.updated_at
        )

    def write(
        self,
        principal: Principal,
        command: UpdateWorkspace,
        idempotency_key: str | None = None,
        *,
        updated_by: str | None = None,
    ) -> Published:
        """Update a workspace; `inserts[0]` of what is returned are its state, version and time.

        Raises Forbidden without `workspaces:write`, and what `update` raises.
        """
        principal.require("workspaces:write")
        repeat = _repeat(principal, command, idempotency_key)
        return self._updates.write(principal.tenant, command, updated_by or principal.user_id, repeat)

    def join(self, principal: Principal, sid: str, command: JoinWorkspace) -> WorkspaceJoined:
        """Let a client into a workspace, tell the others, and return it as of exactly then.

        Joining again changes between deltas and states; who the client is stays. Raises Forbidden without
        `workspaces:read`, TooLarge, Unavailable.
        """
        principal.require("workspaces:read")
        tenant, workspace_id = principal.tenant, command.workspace_id
        room = workspace_room(tenant, workspace_id, deltas=command.deltas)
        rooms = self._rooms
        before = [one for one in rooms.get_rooms(sid, NAMESPACE) if one in workspace_audience(tenant, workspace_id)]
        rooms.begin_history(sid, NAMESPACE, room)
        entered: Member | None = None
        try:
            if self._presence.find(sid, workspace_id) is None:
                member = Member(tenant, workspace_id, self._user(principal, sid, command))
                self._presence.enter(member)
                entered = member
            with readings:
                found = self._store.read(tenant, workspace_id, self._head_key(tenant), extend=True)
            other = [one for one in before if one != room]
            rooms.catch_up(sid, tenant, NAMESPACE, found.head, leaving=other)
        except BaseException:
            if room not in before:
                rooms.leave(sid, NAMESPACE, room)
            if entered is not None:
                self._presence.withdraw(entered)
            raise
        return WorkspaceJoined(
            workspace=WorkspaceShown(
                id=workspace_id,
                users=list(found.users),
                state=Raw(found.state.encode()),
                version=found.version,
                updated_at=found.updated_at,
            )
        )

    def leave(self, principal: Principal, sid: str, command: LeaveWorkspace) -> WorkspaceDone:
        """Let a client out of a workspace and tell the others. Raises NotFound where it isn't in it, Unavailable."""
        bare = structs.replace(command, idempotency_key=UNSET)
        repeat = Repeat.of(command.idempotency_key, NAMESPACE, "leave_workspace", bare, user=principal.repeats_as)
        member = self._presence.find(sid, command.workspace_id)
        if member is None:
            if not self._presence.left_before(principal.tenant, command.workspace_id, sid, repeat):
                raise NotFound(JOIN_FIRST)
        elif self._presence.leave(member, repeat):
            # Of an earlier stay: it has come in again since.
            return WorkspaceDone(workspace_id=command.workspace_id)
        for room in workspace_audience(principal.tenant, command.workspace_id):
            self._rooms.leave(sid, NAMESPACE, room)
        return WorkspaceDone(workspace_id=command.workspace_id)

    def change(self, principal: Principal, sid: str, command: UpdateWorkspace) -> WorkspaceUpdated:
        """Update a workspace as a client that is in it. Raises NotFound where it isn't, and what `write` raises."""
        member = self._presence.find(sid, command.workspace_id)
        if member is not None:
            published = self.write(principal, command, updated_by=member.user.user_id)
        else:
            principal.require("workspaces:write")
            # A client repeats what wasn't answered as soon as it is connected again, before it has come in again.
            repeat = _repeat(principal, command, None)
            done = self._updates.written_before(principal.tenant, command, principal.user_id, repeat)
            if done is None:
                raise NotFound(JOIN_FIRST)
            published = done
        _, version, updated_at = published.inserts[0]
        return WorkspaceUpdated(workspace=command.workspace_id, version=int(version), updated_at=updated_at)

    def show_presence(self, principal: Principal, sid: str, command: UpdatePresence) -> WorkspaceDone:
        """Show the others what a client is doing, without a number. Raises NotFound where it isn't in it, TooLarge."""
        principal.require("workspaces:read")
        member = self._member(sid, command.workspace_id)
        shown = f'"userId":{dumps(member.user.user_id)},"socketId":{dumps(sid)}'
        payload = f'{{"workspace":{dumps(command.workspace_id)},{shown},"presence":{presence_text(command.presence)}}}'
        header = Header(
            workspace_audience(principal.tenant, command.workspace_id),
            Policy.LATEST_ONLY,
            f"{encode_id(command.workspace_id)}/{sid}",
            sid,
        )
        event = Event(header, event_pieces("presence_updated", (payload,)), volatile=True)
        self._publisher.announce_volatile(principal.tenant, NAMESPACE, event)
        return WorkspaceDone(workspace_id=command.workspace_id)

    def gone(self, sid: str) -> None:
        """Take leave of a client that disconnected. Raises Unavailable; it leaves with its lease then."""
        self._presence.gone(sid)

    # Clients that recover

    def memo(self, sid: str) -> str:
        """Return who a client is in its workspaces, for `back`."""
        return dumps(self._presence.users(sid))

    def away(self, sid: str) -> None:
        """Note that a client's connection ended and that it may come back. Raises Unavailable."""
        self._presence.away(sid)

    def moved(self, sid: str) -> None:
        """Forget a client that is on another connection now, and say nothing."""
        self._presence.moved(sid)

    def back(self, principal: Principal, memo: str) -> None:
        """Take up again a client that was let go of with this `memo`."""
        self._presence.back(principal.tenant, _users.decode(memo))

    def as_it_is(self, principal: Principal, room: str, arguments: str) -> tuple[str, int]:
        """Return the arguments of one `workspace_updated` with the state as it is, and the log's number it is as of.

        `arguments` are those of the last update that a client in `room` has missed. Raises Unavailable.
        """
        return self._updates.as_it_is(principal.tenant, arguments)

    @property
    def _rooms(self) -> Feeds:
        if self._feeds is None:
            raise RuntimeError("This process serves no sockets")
        return self._feeds

    def _head_key(self, tenant: str) -> str:
        return self._publisher.head_key(tenant, NAMESPACE)

    def _member(self, sid: str, workspace_id: str) -> Member:
        member = self._presence.find(sid, workspace_id)
        if member is None:
            raise NotFound(JOIN_FIRST)
        return member

    def _user(self, principal: Principal, sid: str, command: JoinWorkspace) -> User:
        user_id, name = principal.user_id, principal.name
        if principal.anonymous:
            user_id, name = command.user_id or user_id, command.user_name
        return User(user_id=user_id, user_name=name or user_id, socket_id=sid, joined_at=iso(self._clock_ms()))


def _repeat(principal: Principal, command: UpdateWorkspace, idempotency_key: str | None) -> Repeat | None:
    # The command without its key is what callers with a key of their own send.
    bare = structs.replace(command, idempotency_key=UNSET)
    return Repeat.of(idempotency_key or command.idempotency_key, NAMESPACE, bare, user=principal.repeats_as)
