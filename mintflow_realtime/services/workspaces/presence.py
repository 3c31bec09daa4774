"""The clients of this node that are in workspaces: each is announced once, kept alive, and taken leave of once.

What Redis holds of them is a lease, so that another node can say `user_left` for one that died.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import workspace_audience
from mintflow_realtime.protocol.envelope import Event, Header
from mintflow_realtime.protocol.errors import Conflict, NotFound, TooLarge, Unavailable
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.protocol.workspaces import User, user_pieces
from mintflow_realtime.stores.presence.store import PresenceStore

NAMESPACE = "/workspaces"
# Users of dead nodes that one tick says goodbye for, of a tenant: some 0.3 ms each, shared with the other nodes.
SWEEP = 200
# How long a client that recovers may be away before the others are told that it left.
AWAY_SECONDS = 10.0

_rare = RareLog(logging.getLogger("mintflow.presence"))


@dataclass(slots=True)
class Member:
    """One client of this node in one workspace. `leaving` is set before its goodbye is published."""

    tenant: str
    workspace_id: str
    user: User
    leaving: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Workspace id and sid."""
        return self.workspace_id, self.user.socket_id


class Presence:
    """Announces this node's members and refreshes their leases; `tick` is due every second, in one place.

    A client is in at most `max_workspaces`. Leases are refreshed after two fifths of their life and looked over after
    a quarter, so a dead node's users are gone a good quarter after their leases.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: PresenceStore,
        max_workspaces: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._max_workspaces = max_workspaces
        self._clock = clock
        self._by_tenant: dict[str, dict[tuple[str, str], Member]] = {}
        self._by_sid: dict[str, dict[str, Member]] = {}
        self._refresh_at = self._sweep_at = clock()
        # When a client that is away has left, in order: (when, tenant, workspace id, sid).
        self._away: deque[tuple[float, str, str, str]] = deque()

    def find(self, sid: str, workspace_id: str) -> Member | None:
        """Return a client of this node in a workspace."""
        return self._by_sid.get(sid, {}).get(workspace_id)

    def enter(self, member: Member) -> None:
        """Take in a client and tell the others. Raises TooLarge where it or the workspace has too many, Unavailable."""
        own = self._by_sid.get(member.user.socket_id, {})
        if len(own) >= self._max_workspaces:
            raise TooLarge(f"A client is in at most {self._max_workspaces} workspaces", limit=self._max_workspaces)
        self._keep(member)
        try:
            self._announce(member)
        except BaseException:
            # Where it was announced after all, its lease ends by itself.
            self._drop(member)
            raise

    def leave(self, member: Member, repeat: Repeat | None = None) -> bool:
        """Tell the others that a client left, then forget it. Raises Unavailable; it is still here then.

        It is too where `repeat` is of an earlier leave, which is what is returned.
        """
        member.leaving = True
        try:
            repeated = self._say_goodbye(member.tenant, *member.place, repeat=repeat)
        except BaseException:
            member.leaving = False
            raise
        if repeated:
            member.leaving = False
        else:
            self._drop(member)
        return repeated

    def left_before(self, tenant: str, workspace_id: str, sid: str, repeat: Repeat | None) -> bool:
        """Tell whether a client has left by a command that `repeat` is of. Raises Unavailable, Conflict."""
        event = _goodbye(tenant, workspace_id, sid)
        return self._publisher.published_before(tenant, NAMESPACE, [event], repeat) is not None

    def withdraw(self, member: Member) -> None:
        """Undo `enter` for a client that could not join after all; where Redis is silent, its lease ends by itself."""
        member.leaving = True
        self._drop(member)
        with suppress(Unavailable):
            self._say_goodbye(member.tenant, *member.place)

    def gone(self, sid: str) -> None:
        """Take leave of a client that disconnected. Raises Unavailable; its leases end by themselves then."""
        for member in self._forget(sid):
            self._say_goodbye(member.tenant, *member.place)

    def users(self, sid: str) -> dict[str, User]:
        """Return who a client is, by workspace."""
        return {workspace_id: member.user for workspace_id, member in self._by_sid.get(sid, {}).items()}

    def away(self, sid: str) -> None:
        """Note that a client's connection ended and that it may come back: it has left unless it does in 10 s.

        Raises Unavailable; its leases end by themselves then.
        """
        members = self._forget(sid)
        due = self._clock() + AWAY_SECONDS
        for member in members:
            self._away.append((due, member.tenant, *member.place))
        if members:
            self._store.refresh(members[0].tenant, [member.place for member in members], AWAY_SECONDS)

    def moved(self, sid: str) -> None:
        """Forget a client that is on another connection now, and say nothing."""
        self._forget(sid)

    def back(self, tenant: str, users: Mapping[str, User]) -> None:
        """Take up a client again as who it was, by workspace; those who were told that it left are told that it's here.

        Where Redis is silent, the next tick does it.
        """
        members = [Member(tenant, workspace_id, user) for workspace_id, user in users.items()]
        for member in members:
            self._keep(member)
        try:
            self._refresh_some(tenant, {member.place: member for member in members})
        except Unavailable:
            self._refresh_at = self._clock()

    def _forget(self, sid: str) -> list[Member]:
        members = list(self._by_sid.get(sid, {}).values())
        for member in members:
            member.leaving = True
            self._drop(member)
        return members

    def tick(self) -> None:
        """Refresh the leases of this node's members, and say goodbye for those of others whose leases ran out."""
        now, lease = self._clock(), self._store.lease_seconds
        try:
            while self._away and self._away[0][0] <= now:
                _, tenant, workspace_id, sid = self._away[0]
                self._say_goodbye(tenant, workspace_id, sid, only_expired=True)
                self._away.popleft()
            if now >= self._refresh_at:
                self._refresh()
                self._refresh_at = now + lease * 0.4
            if now >= self._sweep_at:
                self._sweep_at = now + lease * 0.25
                self._sweep()
        except Unavailable as error:
            # All nodes were cut off: let each refresh its own before anyone takes the others for dead.
            self._sweep_at = self._clock() + lease * 0.5
            _rare.warning(f"leases wait: {error}")

    def _refresh(self) -> None:
        for tenant, members in list(self._by_tenant.items()):
            self._refresh_some(tenant, members)

    def _refresh_some(self, tenant: str, members: Mapping[tuple[str, str], Member]) -> None:
        for place in self._store.refresh(tenant, list(members)):
            # Taken for dead while this node was too slow, or Redis has lost everything: here again.
            member = members.get(place)
            if member is not None and not member.leaving:
                with suppress(TooLarge):
                    self._announce(member)

    def _sweep(self) -> None:
        for tenant in list(self._by_tenant):
            expired = self._store.expired(tenant, SWEEP)
            # All nodes find the same ones at about the same time.
            random.shuffle(expired)
            for workspace_id, sid in expired:
                self._say_goodbye(tenant, workspace_id, sid, only_expired=True)

    def _announce(self, member: Member) -> None:
        tenant, workspace_id, user = member.tenant, member.workspace_id, member.user
        header = Header(workspace_audience(tenant, workspace_id), except_sid=user.socket_id)
        event = Event(header, user_pieces("user_joined", workspace_id, dumps(user)))
        with suppress(Conflict):
            # A conflict: it is here already, by a call whose answer was lost.
            change = self._store.join_change(tenant, workspace_id, user)
            self._publisher.publish(tenant, NAMESPACE, [event], change)
        if member.leaving:
            # It left while it was being announced, so that its goodbye came too early.
            self._say_goodbye(tenant, *member.place)

    def _say_goodbye(
        self, tenant: str, workspace_id: str, sid: str, *, only_expired: bool = False, repeat: Repeat | None = None
    ) -> bool:
        event = _goodbye(tenant, workspace_id, sid)
        with suppress(NotFound):
            # Not found: another node was first, or the user is back.
            change = self._store.leave_change(tenant, workspace_id, sid, only_expired=only_expired)
            return self._publisher.publish(tenant, NAMESPACE, [event], change, repeat).repeated
        return False

    def _keep(self, member: Member) -> None:
        self._by_tenant.setdefault(member.tenant, {})[member.place] = member
        self._by_sid.setdefault(member.user.socket_id, {})[member.workspace_id] = member

    def _drop(self, member: Member) -> None:
        workspace_id, sid = member.place
        of_tenant, of_sid = self._by_tenant.get(member.tenant, {}), self._by_sid.get(sid, {})
        if of_sid.get(workspace_id) is member:
            del of_tenant[member.place], of_sid[workspace_id]
            if not of_tenant:
                del self._by_tenant[member.tenant]
            if not of_sid:
                del self._by_sid[sid]


def _goodbye(tenant: str, workspace_id: str, sid: str) -> Event:
    header = Header(workspace_audience(tenant, workspace_id), except_sid=sid)
    return Event(header, user_pieces("user_left", workspace_id, None))
