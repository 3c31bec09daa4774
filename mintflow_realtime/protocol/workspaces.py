"""The messages of /workspaces and `…/workspaces/{workspaceId}`: commands, answers, events, and what an update writes.

A state is an object. Each of its top-level members is JSON text from here to Redis and back: `[]` stays a list,
9007199254740993 itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mintflow_realtime.protocol.envelope import event_pieces
from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.ids import Id, IdempotencyKey
from mintflow_realtime.protocol.turns import Pause, at_once
from mintflow_realtime.protocol.wire_json import AT_ONCE, dumps, dumps_in_turns, loads_in_turns

# Objects and lists within each other, the state itself counted.
MAX_DEPTH = 32
MAX_PRESENCE_BYTES = 4096
MAX_OPERATIONS = 1000
# Values between two pauses.
STEP = 1024
_END = object()
_PLAIN = (str, int, float, type(None))

Version = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Pointer = Annotated[str, Meta(max_length=4096)]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a client sends; unknown fields are refused."""

    workspace_id: Id


class JoinWorkspace(Command, frozen=True, kw_only=True):
    """`join_workspace`. A token's user and name go before `userId` and `userName`; `deltas` asks for patches.

    It may be repeated, with a key or without: the answer is as of now.
    """

    user_id: Id | None = None
    user_name: Name | None = None
    deltas: bool = False
    idempotency_key: IdempotencyKey = UNSET


class LeaveWorkspace(Command, frozen=True, kw_only=True):
    """`leave_workspace`."""

    idempotency_key: IdempotencyKey = UNSET


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One operation of a JSON Patch (RFC 6902, section 4)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Pointer
    from_: Pointer | UnsetType = msgspec.field(default=UNSET, name="from")
    value: Any = UNSET

    def __post_init__(self) -> None:
        if self.op in ("move", "copy") and self.from_ is UNSET:
            raise ValueError(f"{self.op} needs a from")
        if self.op in ("add", "replace", "test") and self.value is UNSET:
            raise ValueError(f"{self.op} needs a value")


Patch = Annotated[list[Operation], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class UpdateWorkspace(Command, frozen=True, kw_only=True):
    """`update_workspace`: merge or replace by `state`, or apply a `patch`; with `baseVersion`, on that alone."""

    state: dict[str, Any] | None = None
    partial: bool | UnsetType = UNSET
    patch: Patch | None = None
    base_version: Version | None = None
    idempotency_key: IdempotencyKey = UNSET

    def __post_init__(self) -> None:
        if (self.state is None) == (self.patch is None):
            raise ValueError("Expected exactly one of state and patch")
        if self.patch is not None and self.partial is not UNSET:
            raise ValueError("Expected partial with a state alone")


class UpdatePresence(Command, frozen=True, kw_only=True):
    """`update_presence`: what the others see of this client for as long as it is here, such as a cursor.

    Nothing is remembered of it, so a repeat shows the same once more.
    """

    presence: dict[str, Any]
    idempotency_key: IdempotencyKey = UNSET


class User(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One client in a workspace; a person with three tabs is three of them."""

    user_id: str
    user_name: str
    socket_id: str
    joined_at: str


class WorkspaceShown(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A workspace as its joining client sees it. One that nobody has written to is `{}`, version 0, updated never."""

    id: str
    users: list[User]
    state: Raw
    version: int
    updated_at: str | None


class WorkspaceJoined(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `join_workspace`."""

    workspace: WorkspaceShown


class WorkspaceDone(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `leave_workspace` and, where one is asked for, to `update_presence`."""

    workspace_id: str
    success: bool = True


class WorkspaceUpdated(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `update_workspace`."""

    workspace: str
    version: int
    updated_at: str


class WorkspaceRead(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A workspace over HTTP, and what `get` returns, there with `state` decoded."""

    workspace: str
    state: Any
    version: int
    updated_at: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """What one update writes: members as JSON text by the JSON text of their names, and names that vanish.

    `replaces` lets all others vanish too. `patch` is the delta where a client gave it; else Redis makes it.
    """

    members: Mapping[str, str]
    removed: tuple[str, ...] = ()
    replaces: bool = False
    patch: str = ""

    @classmethod
    def of_state(
        cls, state: Mapping[str, Any], *, replaces: bool, path: str = "$.state", pause: Pause = at_once
    ) -> "Edit":
        """Return the edit that merges or sets `state`. Raises InvalidPayload for what JSON can't say, or too deep."""
        members = {}
        for number, (name, value) in enumerate(state.items()):
            if not isinstance(name, str):
                raise InvalidPayload("Expected names that are text", path)
            members[json_text(name, path)] = member_text(value, path, pause)
            if number % 128 == 0:
                pause()
        return cls(members, replaces=replaces)


def member_text(value: Any, path: str, pause: Pause = at_once) -> str:
    """Return a member as JSON text. Raises InvalidPayload for what JSON can't say, or nests deeper than 32 levels."""
    text = json_text(value, path, pause)
    if len(text) > AT_ONCE:
        pause()
    # Text that came as it is was only looked over: what Python can't read is refused before it is stored.
    if isinstance(value, Raw) or text.count("{") + text.count("[") >= MAX_DEPTH:
        if not check_depth(value, path, MAX_DEPTH - 1, pause):
            try:
                decoded = loads_in_turns(text, pause)
            except ValueError as error:
                raise InvalidPayload(f"Expected JSON: {error}", path) from None
            check_depth(decoded, path, MAX_DEPTH - 1, pause)
    return text


def check_depth(value: Any, path: str, most: int = MAX_DEPTH, pause: Pause = at_once) -> bool:
    """Raise InvalidPayload where objects and lists lie within each other deeper than `most` levels.

    Return False where there is something whose depth only its JSON text can tell.
    """
    within = [iter([value])]
    steps = 0
    while within:
        steps += 1
        if steps % STEP == 0:
            pause()
        one = next(within[-1], _END)
        if one is _END:
            within.pop()
        elif isinstance(one, (dict, list)):
            if len(within) > most:
                raise InvalidPayload(f"Expected at most {MAX_DEPTH} levels", path)
            within.append(iter(one.values() if isinstance(one, dict) else one))
        elif not isinstance(one, _PLAIN):
            return False
    return True


def presence_text(presence: Mapping[str, Any]) -> str:
    """Return a presence as JSON text. Raises TooLarge over 4 KB, InvalidPayload where it is too deep."""
    text = json_text(presence, "$.presence")
    if len(text.encode()) > MAX_PRESENCE_BYTES:
        raise TooLarge(f"A presence is at most {MAX_PRESENCE_BYTES} bytes of JSON", limit=MAX_PRESENCE_BYTES)
    check_depth(presence, "$.presence")
    return text


def updated_pieces(workspace_id: str, updated_by: str, *, content: Literal["state", "patch"]) -> tuple[str, ...]:
    """Return `workspace_updated` around its gaps: the state or patch, the version, the time."""
    first = f'{{"workspace":{dumps(workspace_id)},"{content}":'
    return event_pieces(
        "workspace_updated", (first, ',"version":', ',"updatedAt":"', f'","updatedBy":{dumps(updated_by)}}}')
    )


def user_pieces(event: Literal["user_joined", "user_left"], workspace_id: str, user: str | None) -> tuple[str, ...]:
    """Return `user_joined` or `user_left`; without the user's JSON text, around its gap."""
    first = f'{{"workspace":{dumps(workspace_id)},"user":'
    return event_pieces(event, (first, "}") if user is None else (f"{first}{user}}}",))


def json_text(value: Any, path: str, pause: Pause = at_once) -> str:
    """Return `value` as JSON text. Raises InvalidPayload that names `path`."""
    try:
        return dumps(value) if pause is at_once else dumps_in_turns(value, pause)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"Expected what JSON can say: {error}", path) from None
