"""A workspace's state in a real Redis: merge, replace, patch, versions, limits, and the deltas made of them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpatch import JsonPatch

from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.envelope import Event, Header
from mintflow_realtime.protocol.errors import Conflict, TooLarge
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.workspaces import Edit, updated_pieces
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.workspaces.store import WorkspaceState, WorkspaceStore
from tests.redis_fixture import PrivateRedis

NS = "/workspaces"
T = "2026-01-01T00:00:00.000Z"
texts = st.text(max_size=6) | st.sampled_from(["~", "/", "~1/~0", '"', "\\", "\u2028", "v", "t", "s:", "__proto__"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
states = st.dictionaries(texts, values, max_size=5)


class Shelf:
    """A store with a publisher: `write` is one update."""

    def __init__(self, runner: RedisClient, keys: Keys, **options: Any) -> None:
        self.runner, self.keys = runner, keys
        self.store = WorkspaceStore(runner, keys, options.pop("life_seconds", 60), **options)
        self.publisher = Publisher(runner, keys, Caps())

    def write(self, edit: Edit, base: int | None = None, *, time: str = T, workspace: str = "w1") -> tuple[Any, Any]:
        """Return the payloads of both events."""
        header = Header(("acme:",))
        events = [
            Event(header, updated_pieces(workspace, "ann", content="state"), volatile=True),
            Event(header, updated_pieces(workspace, "ann", content="patch")),
        ]
        change = self.store.update_change("acme", workspace, edit, time, base)
        done = self.publisher.publish("acme", NS, events, change)
        assert done.offsets[0] == "-" and done.offsets[1].endswith(f"-{self.read(workspace).head}")
        return json.loads(done.texts[0])[1], json.loads(done.texts[1])[1]

    def merge(self, state: dict[str, Any], base: int | None = None, **more: Any) -> tuple[Any, Any]:
        return self.write(Edit.of_state(state, replaces=False), base, **more)

    def replace(self, state: dict[str, Any], base: int | None = None) -> tuple[Any, Any]:
        return self.write(Edit.of_state(state, replaces=True), base)

    def read(self, workspace: str = "w1", *, extend: bool = False) -> WorkspaceState:
        return self.store.read("acme", workspace, self.publisher.head_key("acme", NS), extend=extend)

    def life(self) -> int:
        return int(self.runner.command("PTTL", self.keys.of("acme", "ws", "w1")))


@pytest.fixture
def shelf(runner: RedisClient, keys: Keys) -> Shelf:
    return Shelf(runner, keys)


def test_a_workspace_that_nobody_wrote_to_is_empty(shelf: Shelf) -> None:
    assert shelf.read() == WorkspaceState("{}", 0, None, (), 0)
    shelf.read(extend=True)
    assert shelf.life() == -2, "reading makes nothing"


def test_an_update_says_what_it_stored(shelf: Shelf) -> None:
    state, delta = shelf.merge({"a": [], "b/~": {}})
    assert state == {"workspace": "w1", "state": {"a": [], "b/~": {}}, "version": 1, "updatedAt": T, "updatedBy": "ann"}
    patch = [{"op": "add", "path": "/a", "value": []}, {"op": "add", "path": "/b~1~0", "value": {}}]
    assert delta == {"workspace": "w1", "patch": patch, "version": 1, "updatedAt": T, "updatedBy": "ann"}
    found = shelf.read()
    assert (json.loads(found.state), found.version, found.updated_at) == ({"a": [], "b/~": {}}, 1, T)


def test_names_never_meet_the_meta_fields(shelf: Shelf) -> None:
    odd = {"v": 1, "t": 2, "s:": 3, "": 4, "s:v": 5, '"v"': 6}
    assert shelf.merge(odd)[0]["state"] == odd
    assert shelf.merge({"v": 7})[0]["version"] == 2 and json.loads(shelf.read().state) == {**odd, "v": 7}


@settings(max_examples=60, deadline=None)
@given(edits=st.lists(st.tuples(st.booleans(), states), min_size=1, max_size=6))
def test_replaying_the_deltas_gives_the_stored_state(shared_redis: PrivateRedis, edits: list[tuple[bool, Any]]) -> None:
    client = RedisClient(connect(shared_redis.url))
    shelf = Shelf(client, Keys("replay"))
    client.command("DEL", shelf.keys.of("acme", "ws", "w1"))
    replayed: Any = {}
    for number, (replaces, state) in enumerate(edits, 1):
        full, delta = shelf.replace(state) if replaces else shelf.merge(state)
        before, replayed = replayed, JsonPatch(delta["patch"]).apply(replayed)
        expected = state if replaces else {**before, **state}
        for one in (replayed, full["state"], json.loads(shelf.read().state)):
            assert json.dumps(one, sort_keys=True) == json.dumps(expected, sort_keys=True)
        assert full["version"] == delta["version"] == number
    client.close()


def test_a_replacement_says_what_vanishes_and_what_is_new(shelf: Shelf) -> None:
    shelf.merge({"gone": 1, "kept": [1], "changed": 1})
    _, delta = shelf.replace({"kept": [1], "changed": 2, "new": 3})
    assert sorted((one["op"], one["path"]) for one in delta["patch"]) == [
        ("add", "/changed"),
        ("add", "/new"),
        ("remove", "/gone"),
    ]
    state, delta = shelf.replace({})
    assert state["state"] == {} and {one["op"] for one in delta["patch"]} == {"remove"} and len(delta["patch"]) == 3
    assert shelf.replace({})[1] == {"workspace": "w1", "patch": [], "version": 4, "updatedAt": T, "updatedBy": "ann"}


def test_a_delta_is_hardly_longer_than_a_state_may_be(runner: RedisClient, keys: Keys) -> None:
    shelf = Shelf(runner, keys, max_bytes=2000)
    many = {str(number): 0 for number in range(150)}
    _, delta = shelf.merge(many)
    assert delta["patch"] == [{"op": "replace", "path": "", "value": many}]


def test_a_given_patch_is_the_delta(shelf: Shelf) -> None:
    shelf.merge({"a": 1, "b": 2})
    edit = Edit({'"c"': "3"}, removed=('"a"', '"never there"'), patch='[{"op":"move"}]')
    state, delta = shelf.write(edit, 1)
    assert state["state"] == {"b": 2, "c": 3} and delta["patch"] == [{"op": "move"}]


@pytest.mark.parametrize("base", [0, 2, 2**53])
def test_another_base_version_is_refused_with_the_state(shelf: Shelf, base: int) -> None:
    shelf.merge({"a": []}, 0)
    before = shelf.read()
    for write in (shelf.merge, shelf.replace):
        with pytest.raises(Conflict) as caught:
            write({"b": 1}, base)
        assert WorkspaceState.of_refusal(caught.value.texts) == WorkspaceState('{"a":[]}', 1, T)
    assert shelf.read() == before
    with pytest.raises(Conflict) as caught:
        shelf.merge({}, 1, workspace="w2")
    assert WorkspaceState.of_refusal(caught.value.texts) == WorkspaceState("{}", 0, None)


def test_size_and_members_are_bounded_and_nothing_is_written_beyond(runner: RedisClient, keys: Keys) -> None:
    shelf = Shelf(runner, keys, max_bytes=200)
    exactly = "x" * (200 - len('{"a":""}'))
    shelf.merge({"a": exactly})
    before = shelf.read()
    with pytest.raises(TooLarge):
        shelf.merge({"a": exactly + "x"})
    with pytest.raises(TooLarge):
        shelf.merge({"b": 1})
    assert shelf.read() == before
    shelf.replace({"b": 1})
    wide = Shelf(runner, keys)
    assert len(wide.replace({f"{number}": 0 for number in range(10_000)})[0]["state"]) == 10_000
    with pytest.raises(TooLarge):
        wide.merge({"one more": 0})
    assert wide.replace({"a": 1})[0]["state"] == {"a": 1}


def test_time_never_runs_back(shelf: Shelf) -> None:
    later = "2026-01-02T00:00:00.000Z"
    shelf.merge({}, time=later)
    assert shelf.merge({}, time=T)[0]["updatedAt"] == later


def test_a_state_lives_from_its_last_update_or_reader_that_joins(shelf: Shelf) -> None:
    shelf.merge({"a": 1})
    assert 55_000 < shelf.life() <= 60_000
    shelf.runner.command("PEXPIRE", shelf.keys.of("acme", "ws", "w1"), 1000)
    shelf.read()
    assert shelf.life() <= 1000
    shelf.read(extend=True)
    assert shelf.life() > 55_000
