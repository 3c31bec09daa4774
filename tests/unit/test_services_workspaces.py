"""Updates, patches and presence as services do them, on a real Redis, with rooms that only write down."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpatch import JsonPatch

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.fanout.rooms import workspace_audience, workspace_room
from mintflow_realtime.protocol.errors import Conflict, Forbidden, InvalidPayload, NotFound, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.workspaces import (
    JoinWorkspace,
    LeaveWorkspace,
    Operation,
    UpdatePresence,
    UpdateWorkspace,
)
from mintflow_realtime.services.workspaces import updates as workspace_updates
from mintflow_realtime.services.workspaces.patches import patch_state
from mintflow_realtime.services.workspaces.presence import Presence
from mintflow_realtime.services.workspaces.service import Workspaces
from mintflow_realtime.services.workspaces.updates import PATCH_TRIES, Busy
from mintflow_realtime.stores.presence.store import PresenceStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.workspaces.store import WorkspaceStore
from tests.redis_fixture import PrivateRedis

NS = "/workspaces"


class Rooms:
    """This node's rooms: who is in which. What was published is read from the log."""

    def __init__(self) -> None:
        self.rooms: dict[str, set[str]] = {}
        self.ends: dict[str, int] = {}
        self.deaf = False

    def enter(self, sid: str, namespace: str, room: str) -> None:
        self.rooms.setdefault(sid, set()).add(room)

    def leave(self, sid: str, namespace: str, room: str) -> None:
        self.rooms.get(sid, set()).discard(room)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        return [sid, *self.rooms.get(sid, set())]

    def begin_history(self, sid: str, namespace: str, room: str) -> None:
        self.enter(sid, namespace, room)

    def catch_up(self, sid: str, tenant: str, namespace: str, number: int, leaving: Sequence[str] = ()) -> None:
        if self.deaf:
            raise Unavailable("This node has not heard up to there")
        self.ends[sid] = number
        for room in leaving:
            self.leave(sid, namespace, room)


class Place:
    """One node's service."""

    def __init__(self, redis: RedisClient, keys: Keys, *, most: int = 1000, lease: float = 20) -> None:
        self.redis, self.keys, self.rooms, self.now = redis, keys, Rooms(), 0.0
        self.publisher = Publisher(redis, keys, Caps())
        self.store = WorkspaceStore(redis, keys, 60)
        leases = PresenceStore(redis, keys, 60, lease)
        self.presence = Presence(self.publisher, leases, most, lambda: self.now)
        self.service = Workspaces(self.publisher, self.store, self.presence, self.rooms)

    def join(self, sid: str, workspace: str = "w1", *, who: Principal | None = None, **more: Any) -> Any:
        command = JoinWorkspace(workspace_id=workspace, **more)
        return self.service.join(who or principal(), sid, command).workspace

    def leave(self, sid: str, workspace: str = "w1") -> None:
        self.service.leave(principal(), sid, LeaveWorkspace(workspace_id=workspace))

    def log(self) -> list[tuple[str, Any]]:
        """Return the numbered events so far."""
        entries = self.redis.command("XRANGE", self.keys.of("acme", "log", NS), "-", "+")
        return [tuple(json.loads(fields[b"m"].split(b"\n", 2)[2])) for _, fields in entries]

    def told(self, name: str) -> list[str]:
        """Return whose joining or leaving was told, in order."""
        return [payload["user"]["socketId"] for event, payload in self.log() if event == name]


def principal(user: str = "ann", *, anonymous: bool = False, scope: str = "", name: str | None = "Ann A.") -> Principal:
    permissions = frozenset((scope or "workspaces:read workspaces:write").split())
    kind: Any = "anonymous" if anonymous else "jwt"
    return Principal(user, "acme", name, permissions, None, anonymous, False, None, None, kind, ("acme",))


@pytest.fixture
def place(runner: RedisClient, keys: Keys) -> Place:
    return Place(runner, keys)


# Patches


def operations(*found: dict[str, Any]) -> list[Operation]:
    return [Operation(**{"from_" if name == "from" else name: value for name, value in one.items()}) for one in found]


def patched(state: dict[str, Any], *found: dict[str, Any], most: int = 10_000) -> dict[str, Any]:
    edit = patch_state(operations(*found), json.dumps(state), most)
    kept = {} if edit.replaces else {k: v for k, v in state.items() if json.dumps(k) not in edit.removed}
    assert json.loads(edit.patch) == list(found)
    return kept | {json.loads(name): json.loads(text) for name, text in edit.members.items()}


def test_only_what_a_patch_touches_is_written_anew() -> None:
    state = '{"far":[1.00,9007199254740993 , "\\u00fc"],"a":{"b":[1]},"c":1}'
    edit = patch_state(
        operations({"op": "add", "path": "/a/b/-", "value": []}, {"op": "test", "path": "/c", "value": 1}), state, 100
    )
    assert edit.members == {'"a"': '{"b":[1,[]]}'} and edit.removed == () and not edit.replaces


@given(st.data())
def test_a_patch_made_of_two_states_leads_from_one_to_the_other(data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3),
        max_leaves=8,
    )
    states = st.dictionaries(st.sampled_from(["a", "b/", "~"]), values, max_size=3)
    before, after = data.draw(states), data.draw(states)
    made = [dict(one) for one in JsonPatch.from_diff(before, after)]
    if made:
        assert json.dumps(patched(before, *made), sort_keys=True) == json.dumps(after, sort_keys=True)


def test_the_whole_state_can_be_replaced() -> None:
    assert patched({"a": 1}, {"op": "replace", "path": "", "value": {"b": []}}) == {"b": []}
    assert patched({"a": 1}, {"op": "copy", "from": "", "path": "/b"}) == {"a": 1, "b": {"a": 1}}
    assert patched({"a": 1}, {"op": "move", "from": "/a", "path": "/b"}) == {"b": 1}


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (InvalidPayload, {"op": "remove", "path": "/b"}, "$.patch[1]"),
    (InvalidPayload, {"op": "replace", "path": "/a/x", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "add", "path": "a", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "add", "path": "/~2", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "add", "path": "/l/9", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "add", "path": "/l/x", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "add", "path": "/a/x/y", "value": 1}, "$.patch[1]"),
    (InvalidPayload, {"op": "move", "from": "/l", "path": "/l/0"}, "$.patch[1]"),
    (InvalidPayload, {"op": "copy", "from": "/nowhere", "path": "/b"}, "$.patch[1]"),
    (InvalidPayload, {"op": "remove", "path": ""}, "$.patch[1]"),
    (InvalidPayload, {"op": "replace", "path": "", "value": []}, "$.patch"),
    (Conflict, {"op": "test", "path": "/a", "value": True}, "$.patch[1]"),
    (Conflict, {"op": "test", "path": "/nowhere", "value": None}, "$.patch[1]"),
]


@pytest.mark.parametrize(("kind", "operation", "path"), REFUSED)
def test_a_patch_that_does_not_apply_is_refused_with_its_path(kind: Any, operation: dict[str, Any], path: str) -> None:
    with pytest.raises(kind) as caught:
        patched({"a": 1, "l": [0]}, {"op": "add", "path": "/z", "value": 1}, operation)
    assert caught.value.details["path"] == path


def test_a_patch_can_neither_explode_nor_dig() -> None:
    double = {"op": "copy", "from": "", "path": "/a"}
    with pytest.raises(TooLarge):
        patched({"a": "x" * 100}, *[{**double, "path": f"/{number}"} for number in range(60)])
    with pytest.raises(InvalidPayload):
        patched({"a": []}, *[double] * 40, most=10**6)
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(InvalidPayload):
        patch_state(operations({"op": "add", "path": "/a", "value": deep}), "{}", 10_000)


# Updates


def test_patches_race_and_none_is_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer gets in before each of the first tries."""
    update, real = place.service.update, place.store.update_change
    update("acme", "w1", {"n": 0})
    rivals = list(range(15))

    def meddle(tenant: str, workspace: str, edit: Any, *rest: Any) -> Any:
        made = real(tenant, workspace, edit, *rest)
        if edit.patch and rivals:
            update("acme", "w1", {"other": rivals.pop()})
        return made

    monkeypatch.setattr(type(place.store), "update_change", lambda self, *args: meddle(*args))
    done = update("acme", "w1", patch=[{"op": "replace", "path": "/n", "value": 1}])
    assert done.payload["version"] == 17
    assert place.service.get("acme", "w1").state == {"n": 1, "other": 0}


def test_who_is_always_too_late_is_told_to_try_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    update, real = place.service.update, place.store.update_change
    tries: list[int] = []

    def meddle(tenant: str, workspace: str, edit: Any, *rest: Any) -> Any:
        made = real(tenant, workspace, edit, *rest)
        if edit.patch:
            tries.append(1)
            update("acme", "w1", {"other": 1})
        return made

    monkeypatch.setattr(type(place.store), "update_change", lambda self, *args: meddle(*args))
    monkeypatch.setattr(workspace_updates, "PATCH_SECONDS", 0.0)
    with pytest.raises(Busy) as caught:
        update("acme", "w1", patch=[{"op": "add", "path": "/n", "value": 1}])
    assert caught.value.to_wire()["retryable"] is True and caught.value.code == "conflict" and len(tries) == PATCH_TRIES


def test_an_update_needs_the_scope_and_in_process_code_a_tenant(place: Place) -> None:
    command = UpdateWorkspace(workspace_id="w1", state={})
    with pytest.raises(Forbidden):
        place.service.write(principal(scope="workspaces:read"), command)
    with pytest.raises(Forbidden):
        place.service.read(principal(scope="workspaces:write"), "w1")
    with pytest.raises(Forbidden):
        place.join("s1", who=principal(scope="workspaces:write"))
    for wrong in ({"tenant": "a b"}, {"workspace_id": "a\n"}, {"base_version": -1}, {"patch": []}):
        with pytest.raises(InvalidPayload):
            place.service.update(**{"tenant": "acme", "workspace_id": "w1", "state": {}, **wrong})


def test_a_process_without_sockets_lets_nobody_join(runner: RedisClient, keys: Keys) -> None:
    place = Place(runner, keys)
    place.service._feeds = None
    with pytest.raises(RuntimeError):
        place.join("s1")


# Being in a workspace


def test_who_joins_is_in_one_of_two_rooms(place: Place) -> None:
    shown = place.join("s1")
    assert (shown.version, bytes(shown.state), [user.user_id for user in shown.users]) == (0, b"{}", ["ann"])
    states, deltas = workspace_audience("acme", "w1")
    assert place.rooms.rooms["s1"] == {states} and place.rooms.ends["s1"] == 1
    place.join("s1", deltas=True)
    assert place.rooms.rooms["s1"] == {deltas} == {workspace_room("acme", "w1", deltas=True)}
    place.join("s1")
    assert place.rooms.rooms["s1"] == {states}
    place.leave("s1")
    assert place.rooms.rooms["s1"] == set()
    assert (place.told("user_joined"), place.told("user_left")) == (["s1"], ["s1"])


def test_who_could_not_be_told_what_happened_has_not_joined(place: Place) -> None:
    place.rooms.deaf = True
    with pytest.raises(Unavailable):
        place.join("s1")
    assert place.rooms.rooms["s1"] == set() and place.presence.find("s1", "w1") is None
    assert (place.told("user_joined"), place.told("user_left")) == (["s1"], ["s1"])
    place.rooms.deaf = False
    place.join("s1")
    place.rooms.deaf = True
    with pytest.raises(Unavailable):
        place.join("s1", deltas=True)
    assert place.rooms.rooms["s1"] == {workspace_room("acme", "w1", deltas=False)}
    assert place.presence.find("s1", "w1") is not None


def test_a_token_goes_before_the_payload_and_the_payload_before_a_random_id(place: Place) -> None:
    def shown(sid: str, who: Principal, **more: Any) -> tuple[str, str]:
        (user,) = [one for one in place.join(sid, who=who, **more).users if one.socket_id == sid]
        return user.user_id, user.user_name

    named = {"user_id": "root", "user_name": "Root"}
    assert shown("s1", principal(), **named) == ("ann", "Ann A.")
    assert shown("s2", principal(name=None), **named) == ("ann", "ann")
    assert shown("s3", principal("x7", anonymous=True), **named) == ("root", "Root")
    assert shown("s4", principal("x7", anonymous=True, name=None)) == ("x7", "x7")


def test_commands_need_a_client_that_is_in_there(place: Place) -> None:
    place.join("s1")
    for workspace, sid in (("w2", "s1"), ("w1", "s2")):
        with pytest.raises(NotFound):
            place.leave(sid, workspace)
        with pytest.raises(NotFound):
            place.service.change(principal(), sid, UpdateWorkspace(workspace_id=workspace, state={}))
        with pytest.raises(NotFound):
            place.service.show_presence(principal(), sid, UpdatePresence(workspace_id=workspace, presence={}))


def test_a_client_is_in_so_many_workspaces_at_most(runner: RedisClient, keys: Keys) -> None:
    place = Place(runner, keys, most=2)
    place.join("s1", "w1"), place.join("s1", "w2"), place.join("s1", "w2"), place.join("s2", "w1")
    with pytest.raises(TooLarge):
        place.join("s1", "w3")
    assert place.rooms.rooms["s1"] == {workspace_room("acme", name, deltas=False) for name in ("w1", "w2")}


def test_who_disconnects_leaves_everything_once(place: Place) -> None:
    for workspace in ("w1", "w2"):
        place.join("s1", workspace)
    place.join("s2")
    place.service.gone("s1")
    place.service.gone("s1")
    place.service.gone("never here")
    assert place.told("user_left") == ["s1", "s1"]
    assert place.presence.find("s1", "w1") is None and place.presence.find("s2", "w1") is not None


def test_who_disconnects_while_joining_is_not_left_behind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = place.publisher.publish

    def publish(*args: Any, **more: Any) -> Any:
        if place.told("user_joined") == [] and place.presence.find("s1", "w1"):
            # The goodbye comes before the announcement that is on its way.
            place.service.gone("s1")
        return real(*args, **more)

    monkeypatch.setattr(place.publisher, "publish", publish)
    place.join("s1")
    assert (place.told("user_joined"), place.told("user_left")) == (["s1"], ["s1"])
    assert place.store.read("acme", "w1", "head").users == ()


def test_a_dead_nodes_users_leave_once_and_the_living_stay(runner: RedisClient, keys: Keys) -> None:
    dead, first, second = Place(runner, keys, lease=0.001), Place(runner, keys), Place(runner, keys)
    for number, place in enumerate((dead, dead, first, second)):
        place.join(f"s{number}")
    for _ in range(3):
        for place in (first, second):
            place.now += 30
            place.service.tick()
    assert sorted(first.told("user_left")) == ["s0", "s1"]
    assert [user.socket_id for user in first.join("s2").users] == ["s2", "s3"]
    # It was only asleep, and comes back.
    dead.presence._store = PresenceStore(runner, keys, 60)
    dead.now += 30
    dead.service.tick()
    assert sorted(first.told("user_joined")) == ["s0", "s0", "s1", "s1", "s2", "s3"]
    assert len(first.join("s2").users) == 4


def test_a_failed_leave_leaves_the_client_where_it_is(private_redis: PrivateRedis, keys: Keys) -> None:
    runner = RedisClient(connect(private_redis.url))
    place = Place(runner, keys)
    place.join("s1"), place.join("s1", "w2")
    private_redis.kill()
    with pytest.raises(Unavailable):
        place.leave("s1")
    with pytest.raises(Unavailable):
        place.join("s2")
    assert place.rooms.rooms["s2"] == set() and place.presence.find("s2", "w1") is None
    assert place.rooms.rooms["s1"] == {workspace_room("acme", name, deltas=False) for name in ("w1", "w2")}
    place.now += 30
    place.service.tick()
    private_redis.start()
    # Redis has lost everything: the next refresh announces who is here, and nobody is taken for dead meanwhile.
    place.now += 9
    place.service.tick()
    assert place.told("user_joined") == ["s1", "s1"] and place.told("user_left") == []
    place.leave("s1")
    place.service.gone("s1")
    assert place.told("user_left") == ["s1", "s1"]
    runner.close()
