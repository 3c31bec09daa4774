"""/workspaces on a real server: each command by ack and by event, conflicts, limits, users, presence, HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, TooLarge
from tests.plain_client import ACK, CONNECT, CONNECT_ERROR, EVENT, Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, stopping, until
from tests.tenants import Tenant

WS = "/workspaces"
LIMITED = {"WORKSPACE_MAX_BYTES": "1024", "WORKSPACE_TTL": "60", "SOCKET_MAX_SUBSCRIPTIONS": "3"}
BIG = 9007199254740993
ODD = {"list": [], "object": {}, "big": BIG, "float": 1.0, "null": None, "a/b~c": 'ü\u2028"\\', "": {"": [[]]}}


def join(client: Plain, workspace: str = "w1", **more: Any) -> dict[str, Any]:
    answer = client.call(WS, "join_workspace", {"workspaceId": workspace, **more})
    assert answer["ok"], answer
    assert set(answer["data"]) == {"workspace"}
    shown: dict[str, Any] = answer["data"]["workspace"]
    assert set(shown) == {"id", "users", "state", "version", "updatedAt"} and shown["id"] == workspace
    return shown


def update(client: Plain, state: Any = None, workspace: str = "w1", **more: Any) -> dict[str, Any]:
    payload = {"workspaceId": workspace, **({} if state is None else {"state": state}), **more}
    answer = client.call(WS, "update_workspace", payload)
    assert answer["ok"], answer
    assert set(answer["data"]) == {"workspace", "version", "updatedAt"}
    data: dict[str, Any] = answer["data"]
    return data


def error_of(client: Plain, command: str, payload: dict[str, Any]) -> dict[str, Any]:
    answer = client.call(WS, command, payload)
    assert not answer["ok"], answer
    error: dict[str, Any] = answer["error"]
    return error


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


@pytest.fixture(scope="module")
def limited(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="limited-ws", SOCKET_RATE_LIMIT="0", **LIMITED)
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture
def limited_tenant(limited: Node) -> Iterator[Tenant]:
    tenant = Tenant(limited)
    with stopping(tenant):
        yield tenant


@pytest.fixture
def emit(tenant: Tenant, shared_redis: PrivateRedis) -> Iterator[Emitter]:
    """What publishes from another process, on the Redis of `two_workers`."""
    from mintflow_realtime.settings.settings import Settings

    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": tenant.node.env["REDIS_PREFIX"]}
    with Emitter(settings=Settings.from_env(env)) as emitter:
        yield emitter


@pytest.fixture
def tenant(two_workers: Node) -> Iterator[Tenant]:
    """A tenant whose clients are on two workers in turn."""
    tenant = Tenant(two_workers)
    with stopping(tenant):
        yield tenant


# Answers


@pytest.mark.parametrize("acked", [True, False], ids=["ack", "event"])
def test_each_command_has_exactly_one_answer(tenant: Tenant, acked: bool) -> None:
    client = tenant.plain(WS)

    def ask(command: str, payload: dict[str, Any]) -> list[Any]:
        client.emit(WS, command, payload, id=7 if acked else None)
        found = client.settle(WS)
        if acked:
            (ack,) = [m for m in found if m.kind == ACK]
            assert ack.id == 7 and ack.content[0]["ok"] is True
            return [ack.content[0]["data"]]
        return [m.content[1] for m in found if m.kind == EVENT and m.content[0] == command]

    (joined,) = ask("join_workspace", {"workspaceId": "w1"})
    (user,) = joined["workspace"].pop("users")
    assert joined == {"workspace": {"id": "w1", "state": {}, "version": 0, "updatedAt": None}}
    assert user["userId"] == "ann" and user["socketId"] == client.sids[WS] and user["joinedAt"].endswith("Z")
    (updated,) = ask("update_workspace", {"workspaceId": "w1", "state": {"a": 1}})
    assert set(updated) == {"workspace", "version", "updatedAt"} and updated["version"] == 1
    shown = ask("update_presence", {"workspaceId": "w1", "presence": {"x": 1}})
    # Without an ack a presence is answered by nothing.
    assert shown == ([{"workspaceId": "w1", "success": True}] if acked else [])
    assert ask("leave_workspace", {"workspaceId": "w1"}) == [{"workspaceId": "w1", "success": True}]


DEEP: Any = []
for _ in range(31):
    DEEP = [DEEP]
WRONG: list[tuple[str, Any, str, str | None]] = [
    ("join_workspace", {}, "invalid_payload", ANY),
    ("join_workspace", {"workspaceId": "a\n"}, "invalid_payload", "$.workspaceId"),
    ("join_workspace", {"workspaceId": "w1", "userId": "a\n"}, "invalid_payload", "$.userId"),
    ("join_workspace", {"workspaceId": "w1", "userName": ""}, "invalid_payload", "$.userName"),
    ("join_workspace", {"workspaceId": "w1", "tenantId": "other"}, "invalid_payload", ANY),
    ("leave_workspace", {"workspaceId": "w9"}, "not_found", None),
    ("update_workspace", {"workspaceId": "w9", "state": {}}, "not_found", None),
    ("update_presence", {"workspaceId": "w9", "presence": {}}, "not_found", None),
    ("update_workspace", {"workspaceId": "w1"}, "invalid_payload", "$"),
    ("update_workspace", {"workspaceId": "w1", "state": {}, "patch": []}, "invalid_payload", "$.patch"),
    ("update_workspace", {"workspaceId": "w1", "state": []}, "invalid_payload", "$.state"),
    ("update_workspace", {"workspaceId": "w1", "state": {}, "baseVersion": -1}, "invalid_payload", "$.baseVersion"),
    ("update_workspace", {"workspaceId": "w1", "state": {"a": DEEP}}, "invalid_payload", "$.state"),
    (
        "update_workspace",
        {"workspaceId": "w1", "patch": [{"op": "spin", "path": ""}]},
        "invalid_payload",
        "$.patch[0].op",
    ),
    (
        "update_workspace",
        {"workspaceId": "w1", "patch": [{"op": "add", "path": "/a"}]},
        "invalid_payload",
        "$.patch[0]",
    ),
    (
        "update_workspace",
        {"workspaceId": "w1", "patch": [{"op": "remove", "path": "/b"}]},
        "invalid_payload",
        "$.patch[0]",
    ),
    (
        "update_workspace",
        {"workspaceId": "w1", "patch": [{"op": "replace", "path": "", "value": 5}]},
        "invalid_payload",
        "$.patch",
    ),
    ("update_presence", {"workspaceId": "w1", "presence": []}, "invalid_payload", "$.presence"),
    ("update_presence", {"workspaceId": "w1", "presence": {"x": "y" * 4096}}, "too_large", None),
    ("user_joined", {}, "unknown_event", None),
]


def test_what_is_wrong_is_refused_and_changes_nothing(tenant: Tenant) -> None:
    client = tenant.plain(WS)
    join(client)
    update(client, {"a": 1})
    client.told(WS, "workspace_updated")
    for command, payload, code, path in WRONG:
        client.emit(WS, command, payload, id=5)
        client.emit(WS, command, payload)
        answers = client.settle(WS)
        assert [answer.kind for answer in answers] == [ACK, EVENT], (command, payload, answers)
        ack, event = answers
        error = ack.content[0]["error"]
        assert event.content == ["error", {"event": command, **error}]
        assert (error["code"], error.get("path"), error["retryable"]) == (code, path, False), (command, payload, error)
    again = join(client)
    assert (again["state"], again["version"]) == ({"a": 1}, 1)


# Updates


def test_merge_and_replacement_tell_states_and_deltas(tenant: Tenant) -> None:
    writer, full, deltas = tenant.plain(WS), tenant.plain(WS, user="bob"), tenant.plain(WS, user="cid")
    join(writer), join(full), join(deltas, deltas=True)
    first = update(writer, {"a": [], "b": {"x": 1}})
    second = update(writer, {"b": {"y": 2}, "c/d~": None})
    third = update(writer, {"b": 1, "e": BIG}, partial=False)
    assert [one["version"] for one in (first, second, third)] == [1, 2, 3]
    expected = [
        ({"a": [], "b": {"x": 1}}, [("add", "/a", []), ("add", "/b", {"x": 1})]),
        ({"a": [], "b": {"y": 2}, "c/d~": None}, [("add", "/b", {"y": 2}), ("add", "/c~1d~0", None)]),
        ({"b": 1, "e": BIG}, [("remove", "/a", 0), ("remove", "/c~1d~0", 0), ("add", "/b", 1), ("add", "/e", BIG)]),
    ]
    for answer, (state, operations) in zip((first, second, third), expected, strict=True):
        common = {**answer, "updatedBy": "ann"}
        for client in (writer, full):
            assert client.told(WS, "workspace_updated") == {**common, "state": state}
        told = deltas.told(WS, "workspace_updated")
        patch = [(one["op"], one["path"], one.get("value", 0)) for one in told.pop("patch")]
        assert patch == operations and told == common
    for client in (writer, full, deltas):
        assert "workspace_updated" not in names(client.events(WS)), "each update is told once"


def test_a_replacement_tells_what_vanishes(tenant: Tenant) -> None:
    client = tenant.plain(WS)
    join(client, deltas=True)
    update(client, {"gone/1": 1, "kept": [], "~": 2})
    update(client, {"kept": [], "b": 1}, partial=False)
    assert len(client.told(WS, "workspace_updated")["patch"]) == 3
    patch = client.told(WS, "workspace_updated")["patch"]
    # What stays as it was is not told again.
    assert patch[2:] == [{"op": "add", "path": "/b", "value": 1}]
    assert {(one["op"], one["path"]) for one in patch[:2]} == {("remove", "/gone~11"), ("remove", "/~0")}
    update(client, {"z": 1, "gone/1": 2})
    client.told(WS, "workspace_updated")
    update(client, patch=[{"op": "remove", "path": "/gone~11"}, {"op": "copy", "from": "/kept", "path": "/again"}])
    patch = client.told(WS, "workspace_updated")["patch"]
    assert patch == [{"op": "remove", "path": "/gone~11"}, {"op": "copy", "path": "/again", "from": "/kept"}]
    assert join(client)["state"] == {"kept": [], "b": 1, "z": 1, "again": []}


def test_what_was_written_comes_back_equal_on_every_door(tenant: Tenant, emit: Emitter) -> None:
    client = tenant.plain(WS)
    join(client)
    update(client, ODD)
    for wanted in (ODD, {**ODD, "more": BIG + 2}):
        told = client.told(WS, "workspace_updated")
        assert told["state"] == wanted == join(client)["state"]
        read = tenant.http("GET", "/workspaces/w1")
        assert read.json()["state"] == wanted and str(BIG) in read.text and '"list":[]' in read.text
        got = emit.workspaces.get(tenant.name, "w1")
        assert got.state == wanted and type(got.state["float"]) is float and got.version == told["version"]
        if told["version"] == 1:
            published = emit.workspaces.update(tenant.name, "w1", {"more": BIG + 2})
            assert published.payload["version"] == 2 and published.payload["updatedBy"] == "system"


def test_a_conflict_carries_the_current_state_and_version(tenant: Tenant) -> None:
    client = tenant.plain(WS)
    join(client)
    update(client, {"a": []}, baseVersion=0)
    for change in ({"state": {"a": 2}}, {"state": {}, "partial": False}, {"patch": [{"op": "remove", "path": "/a"}]}):
        error = error_of(client, "update_workspace", {"workspaceId": "w1", "baseVersion": 0, **change})
        assert (error["code"], error["state"], error["version"], error["retryable"]) == (
            "conflict",
            {"a": []},
            1,
            False,
        )
    test = [{"op": "test", "path": "/a", "value": {}}, {"op": "remove", "path": "/a"}]
    error = error_of(client, "update_workspace", {"workspaceId": "w1", "patch": test})
    assert (error["code"], error["state"], error["version"], error["path"]) == ("conflict", {"a": []}, 1, "$.patch[0]")
    assert update(
        client, patch=[{"op": "test", "path": "/a", "value": []}, {"op": "remove", "path": "/a"}], baseVersion=1
    )
    assert join(client)["version"] == 2


def test_limits_are_kept_and_the_state_stays(limited_tenant: Tenant) -> None:
    client = limited_tenant.plain(WS)
    join(client, deltas=True)
    update(client, {"a": "x" * 1000})
    for change in (
        {"state": {"b": "y" * 20}},
        {"state": {"a": "x" * 1030}, "partial": False},
        {"patch": [{"op": "copy", "from": "/a", "path": "/b"}]},
        {"patch": [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(60)]},
    ):
        assert error_of(client, "update_workspace", {"workspaceId": "w1", **change})["code"] == "too_large"
    answer = limited_tenant.http("PUT", "/workspaces/w1", {"a": "x" * 1030})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    shown = join(client)
    assert (shown["state"], shown["version"]) == ({"a": "x" * 1000}, 1)
    join(client, "w2"), join(client, "w3")
    assert error_of(client, "join_workspace", {"workspaceId": "w4"})["code"] == "too_large"
    assert client.call(WS, "leave_workspace", {"workspaceId": "w3"})["ok"]
    join(client, "w4")


def test_the_state_outlives_its_last_user_for_a_while(limited_tenant: Tenant, shared_redis: PrivateRedis) -> None:
    client = limited_tenant.plain(WS)
    join(client)
    update(client, {"a": 1})
    client.close()
    key = f"limited-ws:{{{limited_tenant.name}}}:ws"
    with shared_redis.client() as redis:
        until(lambda: not redis.exists(f"{key}-users:w1"), 5, "the user is gone")
        assert 50_000 < redis.pttl(f"{key}:w1") <= 60_000
    assert limited_tenant.http("GET", "/workspaces/w1").json()["state"] == {"a": 1}


# Users


def test_users_join_and_leave(tenant: Tenant) -> None:
    ann, bob = tenant.plain(WS, user="ann"), tenant.plain(WS, user="bob", name="Bob B.")
    assert [user["userId"] for user in join(ann)["users"]] == ["ann"]
    users = join(bob, deltas=True)["users"]
    assert [user["userId"] for user in users] == ["ann", "bob"]
    assert ann.told(WS, "user_joined") == {"workspace": "w1", "user": users[1]}
    assert users[1] | {"joinedAt": ""} == {
        "userId": "bob",
        "userName": "Bob B.",
        "socketId": bob.sids[WS],
        "joinedAt": "",
    }
    assert ann.call(WS, "leave_workspace", {"workspaceId": "w1"})["ok"]
    assert bob.told(WS, "user_left") == {"workspace": "w1", "user": users[0]}
    assert error_of(ann, "update_workspace", {"workspaceId": "w1", "state": {}})["code"] == "not_found"
    join(ann)
    assert bob.told(WS, "user_joined")["user"]["userId"] == "ann"
    bob.close()
    assert ann.told(WS, "user_left")["user"] == users[1]
    assert [user["userId"] for user in join(ann)["users"]] == ["ann"]
    # Nobody hears of itself, and nothing is said twice.
    assert ann.events(WS) == []


def test_tabs_of_one_user_are_users_of_their_own(tenant: Tenant) -> None:
    watcher, first, second = tenant.plain(WS, user="bob"), tenant.plain(WS), tenant.plain(WS)
    join(watcher), join(first)
    users = join(second)["users"]
    assert [user["userId"] for user in users] == ["bob", "ann", "ann"]
    assert len({user["socketId"] for user in users}) == 3
    first.close()
    assert watcher.told(WS, "user_left")["user"]["socketId"] == first.sids[WS]
    assert [user["socketId"] for user in join(watcher)["users"]] == [watcher.sids[WS], second.sids[WS]]


def test_a_client_in_several_workspaces_leaves_each_once(tenant: Tenant) -> None:
    rooms = ("w1", "w2", "w3")
    watcher, client = tenant.plain(WS, user="bob"), tenant.plain(WS)
    for room in rooms:
        join(watcher, room), join(client, room)
    update(client, {"only": "here"}, "w2")
    assert watcher.told(WS, "workspace_updated")["workspace"] == "w2"
    client.close()
    left = [watcher.told(WS, "user_left")["workspace"] for _ in rooms]
    assert sorted(left) == list(rooms)
    assert set(names(watcher.events(WS))) == {"user_joined"}


def test_joining_again_changes_between_states_and_deltas_and_tells_nobody(tenant: Tenant) -> None:
    watcher, client = tenant.plain(WS, user="bob"), tenant.plain(WS)
    join(watcher), join(client)
    watcher.told(WS, "user_joined")
    for deltas, content in ((True, "patch"), (True, "patch"), (False, "state")):
        assert len(join(client, deltas=deltas)["users"]) == 2
        update(client, {"a": deltas})
        assert content in client.told(WS, "workspace_updated")
        assert "workspace_updated" not in names(client.events(WS))
    assert set(names(watcher.events(WS))) == {"workspace_updated"}


def test_presence_goes_to_the_others(tenant: Tenant) -> None:
    ann, bob, cid = (tenant.plain(WS, user=user) for user in ("ann", "bob", "cid"))
    join(ann), join(bob), join(cid, deltas=True)
    ann.emit(WS, "update_presence", {"workspaceId": "w1", "presence": {"x": [], "n": BIG}})
    expected = {"workspace": "w1", "userId": "ann", "socketId": ann.sids[WS], "presence": {"x": [], "n": BIG}}
    assert bob.told(WS, "presence_updated") == expected == cid.told(WS, "presence_updated")
    assert "presence_updated" not in names(ann.events(WS))
    assert tenant.http("GET", "/workspaces/w1").json()["version"] == 0


# Who may


def test_a_token_names_its_user_whatever_the_payload_says(tenant: Tenant) -> None:
    client = tenant.plain(WS, user="ann", name="Ann A.")
    (user,) = join(client, userId="root", userName="Root")["users"]
    assert (user["userId"], user["userName"]) == ("ann", "Ann A.")
    update(client, {"a": 1})
    assert client.told(WS, "workspace_updated")["updatedBy"] == "ann"


def test_anonymous_clients_may_name_themselves(two_workers: Node) -> None:
    clients = [Plain(two_workers.url) for _ in range(2)]
    with stopping(*clients):
        for client in clients:
            assert client.join(WS).kind == CONNECT
        users = join(clients[0], "anon", userId="guest-1", userName="Guest")["users"]
        assert (users[0]["userId"], users[0]["userName"]) == ("guest-1", "Guest")
        update(clients[0], {"a": 1}, "anon")
        assert clients[0].told(WS, "workspace_updated")["updatedBy"] == "guest-1"
        users = join(clients[1], "anon")["users"]
        assert users[1]["userId"].startswith("anonymous-") and users[1]["userName"] == users[1]["userId"]


def test_a_scope_bounds_what_a_client_may_do(tenant: Tenant) -> None:
    client = tenant.plain(WS, scope="workspaces:read")
    join(client)
    assert error_of(client, "update_workspace", {"workspaceId": "w1", "state": {}})["code"] == "forbidden"
    reader = {"headers": {"Authorization": f"Bearer {tenant.token(scope='workspaces:read')}"}}
    writer = {"headers": {"Authorization": f"Bearer {tenant.token(scope='workspaces:write')}"}}
    assert tenant.http("GET", "/workspaces/w1", **reader).status_code == 200
    assert tenant.http("PATCH", "/workspaces/w1", {}, **reader).status_code == 403
    assert tenant.http("PATCH", "/workspaces/w1", {}, **writer).status_code == 200
    assert tenant.http("GET", "/workspaces/w1", **writer).status_code == 403
    stranger = Plain(tenant.url)
    with stopping(stranger):
        refused = stranger.join(WS, {"token": tenant.token(scope="logs:read")})
        assert (refused.kind, refused.content["data"]["code"]) == (CONNECT_ERROR, "forbidden")


def test_nothing_reaches_another_tenant(tenant: Tenant, two_workers: Node) -> None:
    other = Tenant(two_workers)
    with stopping(other):
        ours, theirs = tenant.plain(WS), other.plain(WS)
        join(ours)
        assert len(join(theirs)["users"]) == 1
        update(ours, {"secret": 1})
        ours.call(WS, "update_presence", {"workspaceId": "w1", "presence": {}})
        assert other.http("GET", "/workspaces/w1").json()["state"] == {}
        assert theirs.events(WS) == [] and join(theirs)["version"] == 0
        headers = {"Authorization": f"Bearer {other.token()}", "X-Tenant-Id": tenant.name}
        assert tenant.http("GET", "/workspaces/w1", headers=headers).status_code == 403


# The other doors


def test_http_reads_replaces_and_merges(tenant: Tenant) -> None:
    client = tenant.plain(WS)
    join(client)
    empty = tenant.http("GET", "/workspaces/w1")
    assert empty.json() == {"workspace": "w1", "state": {}, "version": 0, "updatedAt": None}
    assert empty.headers["ETag"] == '"0"'
    put = tenant.http("PUT", "/workspaces/w1", {"a": 1, "b": []})
    patch = tenant.http("PATCH", "/workspaces/w1", {"a": 2})
    assert (put.status_code, put.headers["ETag"], put.json()["state"]) == (200, '"1"', {"a": 1, "b": []})
    assert (patch.status_code, patch.headers["ETag"], patch.json()["state"]) == (200, '"2"', {"a": 2, "b": []})
    read = tenant.http("GET", "/workspaces/w1")
    assert read.json() == patch.json() and read.headers["ETag"] == '"2"'
    assert set(read.json()) == {"workspace", "state", "version", "updatedAt"}
    assert [client.told(WS, "workspace_updated")["version"] for _ in range(2)] == [1, 2]


def test_if_match_is_the_base_version(tenant: Tenant) -> None:
    def write(verb: str, body: Any, **headers: str) -> Any:
        headers["Authorization"] = f"Bearer {tenant.token()}"
        return tenant.http(verb, "/workspaces/w1", body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    assert write("PUT", {"a": []}, If_Match='"0"').status_code == 200
    for verb in ("PUT", "PATCH"):
        refused = write(verb, {"b": 1}, If_Match='"0"')
        error = refused.json()["error"]
        assert refused.status_code == 412 and refused.headers["ETag"] == '"1"'
        assert (error["code"], error["state"], error["version"]) == ("conflict", {"a": []}, 1)
    assert write("PATCH", {"b": 1}, If_Match='"1"').headers["ETag"] == '"2"'
    for wrong in ("1", "*", 'W/"1"', '"1", "2"', '"x"', ""):
        assert write("PUT", {}, If_Match=wrong).status_code == 400, wrong
    for body in ([], "text", None, 5):
        assert write("PUT", body).status_code in (400, 422), body
    once = write("PATCH", {"n": 1}, Idempotency_Key="k1")
    again = write("PATCH", {"n": 1}, Idempotency_Key="k1")
    assert once.json() == again.json() and once.json()["version"] == 3
    clash = write("PATCH", {"n": 2}, Idempotency_Key="k1", If_Match='"3"')
    assert clash.status_code == 409


def test_the_emitter_updates_reads_and_repeats(tenant: Tenant, emit: Emitter) -> None:
    client = tenant.plain(WS)
    join(client)
    shared = emit.workspaces
    first = shared.update(tenant.name, "w1", {"zoom": 2}, idempotency_key="k1")
    assert shared.update(tenant.name, "w1", {"zoom": 2}, idempotency_key="k1").offset == first.offset
    patch = [{"op": "test", "path": "/zoom", "value": 2}, {"op": "replace", "path": "/zoom", "value": 3}]
    done = shared.update(tenant.name, "w1", patch=patch, idempotency_key="k2")
    # Applied to the state of now it would fail: the key says that it was done.
    again = shared.update(tenant.name, "w1", patch=patch, idempotency_key="k2")
    assert again.repeated and again.offset == done.offset and again.payload == done.payload
    with pytest.raises(Conflict) as caught:
        shared.update(tenant.name, "w1", patch=patch, idempotency_key="k3")
    assert json.loads(bytes(caught.value.details["state"])) == {"zoom": 3} and caught.value.details["version"] == 2
    with pytest.raises(Conflict):
        shared.update(tenant.name, "w1", {}, base_version=1)
    for wrong in ({"state": {1: 2}}, {"state": {"a": object()}}, {"patch": [{"op": "add"}]}, {}, {"base_version": "x"}):
        with pytest.raises(InvalidPayload):
            shared.update(tenant.name, "w1", **wrong)
    with pytest.raises(TooLarge):
        shared.update(tenant.name, "w1", {"a": "x" * 1_000_000})
    assert [client.told(WS, "workspace_updated")["state"] for _ in range(2)] == [{"zoom": 2}, {"zoom": 3}]
    assert shared.get(tenant.name, "w1").version == 2 and shared.get(tenant.name, "other").state == {}


def test_joining_under_fire_has_no_gap_and_nothing_twice(tenant: Tenant) -> None:
    """Clients join again and again, with states and deltas, while another writes as fast as it can."""
    stop, failures, written = threading.Event(), [], []
    writer = tenant.plain(WS)
    join(writer, "other"), join(writer)

    def write() -> None:
        try:
            while not stop.is_set():
                written.append(update(writer, {"n": len(written)})["version"])
                writer._waiting.clear()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    clients = [tenant.plain(WS, user="bob") for _ in range(4)]
    try:
        until(lambda: len(written) > 20)
        for number in range(15):
            for client in clients:
                client.settle(WS)
                for place, workspace in enumerate(("w1", "w2")):
                    payload = {"workspaceId": workspace, "deltas": number % 2 == 0}
                    client.emit(WS, "join_workspace", payload, id=1 + place)
            for client in clients:
                shown = client._next(lambda m: m.kind == ACK and m.id == 1).content[0]["data"]["workspace"]
                versions = [client.told(WS, "workspace_updated")["version"] for _ in range(4)]
                assert versions == list(range(shown["version"] + 1, shown["version"] + 5)), number
                for workspace in ("w1", "w2"):
                    assert client.call(WS, "leave_workspace", {"workspaceId": workspace})["ok"]
    finally:
        stop.set()
        thread.join(10)
    assert not failures


def test_the_javascript_client_replays_deltas(tenant: Tenant) -> None:
    lines = [json.loads(line) for line in tenant.js("workspaces.mjs").splitlines()]
    assert lines[0] == {"joined": {"state": {}, "version": 0, "users": ["ann"]}}
    assert lines[1] == {"versions": list(range(1, len(lines[1]["versions"]) + 1))}
    assert lines[2] == {"replayed": True}
    assert lines[3]["conflict"] == {"code": "conflict", "version": lines[1]["versions"][-1]}
    assert lines[4] == {"presence": {"cursor": [1, 2]}, "userId": "ann"}
    assert lines[5] == {"left": "ann"}


def test_the_python_client_shares_a_workspace(tenant: Tenant) -> None:
    ann, bob = tenant.watcher(WS), tenant.watcher(WS, user="bob")
    for watcher in (ann, bob):
        assert watcher.call(WS, "join_workspace", {"workspaceId": "w1"})["ok"]
    assert ann.wait("user_joined")[0]["user"]["userId"] == "bob"
    assert bob.call(WS, "update_workspace", {"workspaceId": "w1", "state": {"big": BIG, "list": []}})["ok"]
    for watcher in (ann, bob):
        assert watcher.wait("workspace_updated")[0]["state"] == {"big": BIG, "list": []}
    bob.close()
    assert ann.wait("user_left")[0]["user"]["userId"] == "bob"


def test_two_processes_draw_the_same_whiteboard(single_node: Node) -> None:
    command = [sys.executable, "examples/whiteboard.py", single_node.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "Ann sees version 16:" and lines[7] == "Bob sees version 16:" and lines[-1] == "Both see the same."
    )
    assert lines[1:7] == lines[8:14] and set("".join(lines[1:7])) == set(".ab")
