"""Who is in which workspace: a user for each client, and a lease that its node refreshes. Times by Redis's clock.

A node that dies refreshes nothing more; whoever finds an expired lease takes it away, and only one can.
"""

from collections.abc import Sequence
from pathlib import Path

from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.protocol.workspaces import User
from mintflow_realtime.stores.workspace_keys import state_key, state_prefix, users_key, users_prefix

LEASE_SECONDS = 20.0
MAX_USERS = 1000
# Users and leases of a tenant all of whose nodes died. Longer than any client would come back for its place.
LIFE_MS = 3_600_000
# Leases refreshed in one script: some 2 ms.
SLICE = 500

_join = Path(__file__).with_name("join.lua").read_text()
_leave = Path(__file__).with_name("leave.lua").read_text()
_refresh = Script.beside(__file__, "refresh.lua")
_expired = Script.beside(__file__, "expired.lua")


class PresenceStore:
    """The users of every tenant's workspaces. `state_life_seconds` is what a workspace lives on after its last user."""

    def __init__(
        self, redis: Runner, keys: Keys, state_life_seconds: float, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._state_life_ms = round(state_life_seconds * 1000)
        self.lease_seconds = lease_seconds
        self._lease_ms = round(lease_seconds * 1000)

    def join_change(self, tenant: str, workspace_id: str, user: User) -> Change:
        """Return the change of one `user_joined`. Refuses with `conflict` one who is here, `too_large` the 1,001st."""
        args: list[Arg] = [_lease(workspace_id, user.socket_id), user.socket_id, dumps(user)]
        args += [self._lease_ms, LIFE_MS, self._state_life_ms, MAX_USERS]
        return Change(_join, self._places(tenant, workspace_id), [args])

    def leave_change(self, tenant: str, workspace_id: str, sid: str, *, only_expired: bool) -> Change:
        """Return the change of one `user_left`: it answers with the user's JSON text, or refuses with `not_found`."""
        return Change(_leave, self._places(tenant, workspace_id), [[_lease(workspace_id, sid), sid, int(only_expired)]])

    def refresh(
        self, tenant: str, members: Sequence[tuple[str, str]], seconds: float | None = None
    ) -> list[tuple[str, str]]:
        """Refresh the leases of (workspace id, sid), or give them `seconds`; return those that are gone.

        Raises Unavailable.
        """
        missing, lease_ms = [], self._lease_ms if seconds is None else round(seconds * 1000)
        for first in range(0, len(members), SLICE):
            some = members[first : first + SLICE]
            args: list[Arg] = [lease_ms, LIFE_MS, self._state_life_ms]
            args += [users_prefix(self._keys, tenant), state_prefix(self._keys, tenant)]
            for workspace_id, sid in some:
                args += [encode_id(workspace_id), sid, _lease(workspace_id, sid)]
            missing += [some[place] for place in self._redis.run(_refresh, [self._leases(tenant)], args)]
        return missing

    def expired(self, tenant: str, most: int) -> list[tuple[str, str]]:
        """Return (workspace id, sid) of expired leases, at most `most`. Raises Unavailable."""
        reply = self._redis.run(_expired, [self._leases(tenant)], [most, users_prefix(self._keys, tenant)])
        texts = [text.decode() for text in reply]
        return list(zip(texts[::2], texts[1::2], strict=True))

    def _leases(self, tenant: str) -> str:
        return self._keys.of(tenant, "ws-leases")

    def _places(self, tenant: str, workspace_id: str) -> list[str]:
        return [
            self._leases(tenant),
            users_key(self._keys, tenant, workspace_id),
            state_key(self._keys, tenant, workspace_id),
        ]


def _lease(workspace_id: str, sid: str) -> str:
    """Return what stands for a client's lease: encoded workspace and sid, and the workspace where that isn't it."""
    encoded = encode_id(workspace_id)
    return f"{encoded}/{sid}" if encoded == workspace_id else f"{encoded}/{sid}/{workspace_id}"
