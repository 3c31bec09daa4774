"""Updates of shared states: a merge, a replacement or a patch becomes one edit, its version and its two events."""

import random
import time
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import workspace_room
from mintflow_realtime.protocol.envelope import Event, Header, Policy, Published
from mintflow_realtime.protocol.errors import Conflict, RealtimeError, TooLarge
from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.readings import readings
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.protocol.validation import MAX_MEMBERS
from mintflow_realtime.protocol.wire_json import loads
from mintflow_realtime.protocol.workspaces import Edit, Patch, UpdateWorkspace, updated_pieces
from mintflow_realtime.services.workspaces.patches import patch_state
from mintflow_realtime.services.workspaces.presence import NAMESPACE
from mintflow_realtime.stores.workspaces.store import WorkspaceState, WorkspaceStore

# How often a patch without a base version is made anew at least, and for how long, because others were faster.
PATCH_TRIES = 50
PATCH_SECONDS = 5.0


class Busy(Conflict):
    """Others wrote faster than a patch could be made; the same request may succeed later."""

    retryable = True


class WorkspaceUpdates:
    """Writes to the states of all tenants; whether somebody may is not asked here."""

    def __init__(self, publisher: Publisher, store: WorkspaceStore, clock_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self._store = store
        self._clock_ms = clock_ms

    def write(self, tenant: str, command: UpdateWorkspace, by: str, repeat: Repeat | None) -> Published:
        """Carry out an update in the name of the user `by`; `inserts[0]` of what is returned are state, version, time.

        Raises InvalidPayload, TooLarge, Conflict with `details` state (JSON text) and version, Unavailable.
        """
        if command.state is not None:
            if len(command.state) > MAX_MEMBERS:
                # Redis would say so, after it was busy with them for a second.
                raise TooLarge(f"A workspace has at most {MAX_MEMBERS} top-level members")
            with turns.calm(), turns.work() as pause:
                edit = Edit.of_state(command.state, replaces=command.partial is False, pause=pause)
            return self._publish(tenant, command.workspace_id, edit, by, command.base_version, repeat)
        return self._patch(tenant, command.workspace_id, command.patch or [], by, command.base_version, repeat)

    def as_it_is(self, tenant: str, arguments: str) -> tuple[str, int]:
        """Return the arguments of one `workspace_updated` as `Workspaces.as_it_is` does. Raises Unavailable."""
        missed = loads(arguments)[1]
        with readings:
            found = self._store.read(tenant, missed["workspace"], self._publisher.head_key(tenant, NAMESPACE))
        pieces = updated_pieces(missed["workspace"], missed["updatedBy"], content="state")
        inserts = (found.state, str(found.version), found.updated_at or "")
        return "".join(text for pair in zip(pieces, (*inserts, ""), strict=True) for text in pair), found.head

    def written_before(self, tenant: str, command: UpdateWorkspace, by: str, repeat: Repeat | None) -> Published | None:
        """Return what an earlier call with the same key has written, if any. Raises Conflict for another request."""
        return self._publisher.published_before(tenant, NAMESPACE, _events(tenant, command.workspace_id, by), repeat)

    def _patch(
        self, tenant: str, workspace_id: str, patch: Patch, by: str, base_version: int | None, repeat: Repeat | None
    ) -> Published:
        current: WorkspaceState | None = None
        until, attempt = time.monotonic() + PATCH_SECONDS, 0
        while attempt < PATCH_TRIES or time.monotonic() < until:
            if current is None:
                with readings:
                    current = self._store.read(tenant, workspace_id, self._publisher.head_key(tenant, NAMESPACE))
            try:
                if base_version not in (None, current.version):
                    raise _conflict(f"The workspace is at version {current.version}", current)
                try:
                    edit = patch_state(patch, current.state, self._store.max_bytes)
                except Conflict as error:
                    raise _conflict(error.message, current, **error.details) from None
            except RealtimeError:
                # It may fail because an earlier call with the same key has done it.
                done = self._publisher.published_before(tenant, NAMESPACE, _events(tenant, workspace_id, by), repeat)
                if done is not None:
                    return done
                raise
            try:
                return self._publish(tenant, workspace_id, edit, by, current.version, repeat)
            except Conflict as error:
                if not error.texts or base_version is not None:
                    raise
                current = WorkspaceState.of_refusal(error.texts)
            attempt += 1
            if attempt > 10:
                # In step with other writers; a step aside, and what was read is old then.
                time.sleep(random.uniform(0.001, 0.02))
                current = None
        raise Busy(f"Others were faster {attempt} times; try again")

    def _publish(
        self, tenant: str, workspace_id: str, edit: Edit, by: str, base_version: int | None, repeat: Repeat | None
    ) -> Published:
        if len(edit.members) > MAX_MEMBERS:
            raise TooLarge(f"A workspace has at most {MAX_MEMBERS} top-level members")
        change = self._store.update_change(tenant, workspace_id, edit, iso(self._clock_ms()), base_version)
        try:
            return self._publisher.publish(tenant, NAMESPACE, _events(tenant, workspace_id, by), change, repeat)
        except Conflict as error:
            if not error.texts:
                raise
            told = _conflict(error.message, WorkspaceState.of_refusal(error.texts))
            told.texts = error.texts
            raise told from None


def _events(tenant: str, workspace_id: str, by: str) -> list[Event]:
    """Return the two events of an update. The state comes first: its place is then before its own number, and whoever
    reads the workspace at that number has it already.
    """
    return [
        Event(
            Header((workspace_room(tenant, workspace_id, deltas=False),), Policy.LATEST_ONLY, encode_id(workspace_id)),
            updated_pieces(workspace_id, by, content="state"),
            volatile=True,
            stands_in=True,
        ),
        Event(
            Header((workspace_room(tenant, workspace_id, deltas=True),)),
            updated_pieces(workspace_id, by, content="patch"),
        ),
    ]


def _conflict(message: str, current: WorkspaceState, **details: Any) -> Conflict:
    return Conflict(message, state=Raw(current.state.encode()), version=current.version, **details)
