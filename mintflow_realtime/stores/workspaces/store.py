"""What /workspaces remembers: each workspace's state, one hash field of JSON text for each top-level member.

A state lives for a while after its last update, or its last user; then it is gone, and its versions begin anew.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.validation import MAX_MEMBERS
from mintflow_realtime.protocol.workspaces import Edit, User
from mintflow_realtime.stores.workspace_keys import state_key, users_key


def _lua(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


_STATE = _lua("state.lua")
# A function of its own, so that no local of it shadows one of the script that it becomes part of.
_UPDATE = f"local change = (function()\n{_STATE}{_lua('update.lua')}return change\nend)()\n"
_READ = Script(_STATE + _lua("read.lua"))
_users = msgspec.json.Decoder(User)


@dataclass(frozen=True, slots=True)
class WorkspaceState:
    """A workspace as read: `state` is JSON text, `updated_at` None at version 0, `head` the event log's number."""

    state: str
    version: int
    updated_at: str | None
    users: tuple[User, ...] = ()
    head: int = 0

    @classmethod
    def of_refusal(cls, texts: tuple[bytes, ...]) -> "WorkspaceState":
        """Return what a refused update tells of the workspace as it is."""
        version, state, updated_at = texts
        return cls(state.decode(), int(version), updated_at.decode() or None)


class WorkspaceStore:
    """Workspaces by tenant and id. `life_seconds` counts from the last update, or the last refresh of a user."""

    def __init__(self, redis: Runner, keys: Keys, life_seconds: float, max_bytes: int = 1_000_000) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = round(life_seconds * 1000)
        self.max_bytes = max_bytes

    def update_change(
        self, tenant: str, workspace_id: str, edit: Edit, timestamp: str, base_version: int | None
    ) -> Change:
        """Return the change of one update, for a publish of exactly two events.

        It answers the first with state, version and time, the second with delta, version and time. It may refuse
        although there are two events: it does so in its first call, before anything is written, and never in its
        second. Refusals: `conflict` with the texts of `WorkspaceState.of_refusal`, `too_large`.
        """
        members: list[Arg] = [text for member in edit.members.items() for text in member]
        first: list[Arg] = [
            "" if base_version is None else base_version,
            "replace" if edit.replaces else "merge",
            timestamp,
            self._life_ms,
            self.max_bytes,
            MAX_MEMBERS,
            int(edit.patch != ""),
            len(edit.members),
            *members,
            *edit.removed,
        ]
        return Change(_UPDATE, [state_key(self._keys, tenant, workspace_id)], [first, [edit.patch]])

    def read(self, tenant: str, workspace_id: str, head_key: str, *, extend: bool = False) -> WorkspaceState:
        """Return a workspace with its users, oldest first, and the number at `head_key` as of the same moment.

        `extend` lets its life begin anew.
        """
        keys = [state_key(self._keys, tenant, workspace_id), users_key(self._keys, tenant, workspace_id), head_key]
        head, version, time, state, users = self._redis.run(_READ, keys, [self._life_ms if extend else ""])
        found = sorted((_users.decode(text) for text in users), key=lambda user: (user.joined_at, user.socket_id))
        return WorkspaceState(state.decode(), int(version), time.decode() or None, tuple(found), int(head))
