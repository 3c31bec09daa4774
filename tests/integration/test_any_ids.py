"""Ids of other systems, through every door of real nodes: flows, runs, nodes, workspaces, users, AI requests."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.plain_client import CONNECT, Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import Node
from tests.tenants import Tenant

NAMES = [
    "scheduled__2026-01-01T00:00:00+00:00",
    "load[eu]/{a}|b:c",
    "Übergröße 😀",
    "ß" * 255,
    "x" * 200,
    "../a//b/",
    "~a%2F",
]
USERS = ["auth0|5f7c8ec7c33c6c004bbafe82", "f:5a0b:ann", "ann+test@example.com", "https://idp/ü?x={1}", "u" * 255]


def done(client: Plain, namespace: str, command: str, payload: Any = None) -> Any:
    answer = client.call(namespace, command, payload)
    assert answer["ok"], answer
    return answer["data"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_its_logs(tenant: Tenant, name: str) -> None:
    watcher, other = tenant.plain("/flows", "/logs"), tenant.plain("/flows", "/logs", user="bob")
    assert done(watcher, "/flows", "subscribe_flow", {"flowId": name, "runId": name})["flowId"] == name
    assert done(other, "/flows", "subscribe_flow", {"flowId": name + "x" if len(name) < 255 else "x"})["success"]
    assert done(watcher, "/logs", "subscribe_logs", {"flowId": name, "runId": name})["success"]
    quoted = quote(name, safe="")
    tenant.run(quoted, quoted, {"type": "flow_started"}, {"type": "node_failed", "nodeId": name, "error": "e"})
    told = watcher.told("/flows", "node_failed")
    assert (told["flowId"], told["runId"], told["nodeId"]) == (name, name, name)
    shown = tenant.http("GET", f"/flows/{quoted}/runs/{quoted}?since=0").json()
    assert (shown["run"]["flowId"], shown["run"]["runId"], len(shown["events"])) == (name, name, 2)
    assert list(shown["run"]["nodes"]) == [name]
    again = done(other, "/flows", "subscribe_flow", {"runId": name, "since": 0})
    assert (again["run"]["flowId"], len(again["events"])) == (name, 2)
    tenant.log("hers", flowId=name, runId=name, nodeId=name)
    tenant.log("another's", flowId="x" + name[:200], runId=name)
    assert watcher.told("/logs", "new_log")["log"]["nodeId"] == name
    assert [event for event, _ in watcher.events("/logs")] == ["flow_started"]
    for field in ("flowId", "nodeId"):
        found = done(watcher, "/logs", "filter_logs", {field: name})["logs"]
        assert [log["message"] for log in found] == ["hers"]
        (log,) = tenant.http("GET", f"/logs?{field}={quoted}").json()["logs"]
        assert log[field] == name
    assert done(watcher, "/logs", "clear_logs", {"flowId": name}) == {"success": True, "flowId": name, "deleted": 1}
    assert other.told("/logs", "clear_logs")["flowId"] == name
    # Of the flow that it follows there was nothing, and of the whole tenant the start.
    assert [event for event, _ in other.events("/flows") if event != "new_log"] == ["flow_started"]


@pytest.mark.parametrize("name", NAMES)
def test_a_workspace_with_its_users(tenant: Tenant, name: str) -> None:
    ann, bob = tenant.plain("/workspaces", user=USERS[0]), tenant.plain("/workspaces", user="bob")
    for client, deltas in ((ann, False), (bob, True)):
        shown = done(client, "/workspaces", "join_workspace", {"workspaceId": name, "deltas": deltas})["workspace"]
        assert shown["id"] == name
    assert ann.told("/workspaces", "user_joined")["workspace"] == name
    done(ann, "/workspaces", "update_workspace", {"workspaceId": name, "state": {"a": 1}})
    assert ann.told("/workspaces", "workspace_updated")["workspace"] == name
    told = bob.told("/workspaces", "workspace_updated")
    assert (told["workspace"], told["updatedBy"]) == (name, USERS[0]) and told["patch"]
    done(bob, "/workspaces", "update_presence", {"workspaceId": name, "presence": {"x": 1}})
    assert ann.told("/workspaces", "presence_updated")["workspace"] == name
    path = "/workspaces/" + quote(name, safe="")
    assert tenant.http("PATCH", path, {"b": 2}).json()["state"] == {"a": 1, "b": 2}
    assert tenant.http("GET", path).json()["workspace"] == name
    bob.close()
    left = ann.told("/workspaces", "user_left", seconds=30)
    assert (left["workspace"], left["user"]["userId"]) == (name, "bob")
    assert done(ann, "/workspaces", "leave_workspace", {"workspaceId": name})["workspaceId"] == name


@pytest.mark.parametrize("user", USERS)
def test_a_user_is_known_and_revoked(tenant: Tenant, user: str) -> None:
    client, other = tenant.plain("/workspaces", user=user), tenant.plain("/logs", user="bob")
    shown = done(client, "/workspaces", "join_workspace", {"workspaceId": "w"})["workspace"]
    assert shown["users"][0]["userId"] == user
    headers = {"Authorization": f"Bearer {tenant.token('root', scope='admin')}"}
    assert tenant.http("POST", "/revocations", {"userId": user}, headers=headers).status_code == 202
    client.wait_closed()
    assert other.call("/logs", "log_history")["ok"]
    refused = Plain(tenant.url)
    try:
        assert refused.join("/logs", {"token": tenant.token(user, iat=None)}).kind != CONNECT
    finally:
        refused.close()


def test_numbers_of_an_issuer_are_a_user_and_a_token(tenant: Tenant) -> None:
    client = tenant.plain("/workspaces", userId=None, sub=4711, jti=99)
    shown = done(client, "/workspaces", "join_workspace", {"workspaceId": "w"})["workspace"]
    assert shown["users"][0]["userId"] == "4711"
    headers = {"Authorization": f"Bearer {tenant.token('root', scope='admin')}"}
    assert tenant.http("POST", "/revocations", {"jti": 99}, headers=headers).status_code == 202
    client.wait_closed()


@pytest.mark.parametrize("wrong", ["", "a\n", "\x00", "\x7f", "x" * 256, "\ud800"], ids=repr)
def test_what_is_no_id_is_refused_by_name(tenant: Tenant, wrong: str) -> None:
    client = tenant.plain("/logs", "/flows", "/workspaces")
    for namespace, command, payload in (
        ("/logs", "log_history", {"runId": wrong}),
        ("/flows", "subscribe_flow", {"runId": wrong}),
        ("/workspaces", "join_workspace", {"workspaceId": wrong}),
    ):
        error = client.call(namespace, command, payload)["error"]
        assert error["code"] == "invalid_payload" and error["path"] == "$." + next(iter(payload))
        assert "255 characters" in error["message"]
    refused = tenant.http("POST", "/logs", {"level": "info", "message": "", "nodeId": wrong})
    assert (refused.status_code, refused.json()["error"]["path"]) == (422, "$.nodeId")


@pytest.mark.parametrize("name", NAMES)
def test_ai_requests_conversations_and_recovery(
    two_workers: Node, new_tenant: Callable[[Node], Tenant], name: str
) -> None:
    tenant = new_tenant(two_workers)
    user = USERS[0]
    ann, bob = tenant.plain("/ai", user=user), tenant.plain("/ai", user=user)
    ask = {"requestId": name, "prompt": "one two three", "conversationId": name, "stream": True}
    assert done(ann, "/ai", "ai_request", ask)["requestId"] == name
    assert ann.told("/ai", "ai_stream_end")["requestId"] == name
    resumed = done(bob, "/ai", "resume_stream", {"requestId": name})
    assert (resumed["requestId"], resumed["status"]) == (name, "completed")
    assert done(bob, "/ai", "cancel_stream", {"requestId": name})["requestId"] == name
    assert (
        tenant.plain("/ai", user="bob").call("/ai", "resume_stream", {"requestId": name})["error"]["code"]
        == "not_found"
    )
    done(ann, "/ai", "clear_history", {"conversationId": name})
    # A client that recovers follows the request still: a room says only what its id is encoded to.
    back = Plain(tenant.url)
    try:
        first = back.join("/ai", {"token": tenant.token(user), "recover": True}).content
        done(back, "/ai", "resume_stream", {"requestId": name})
        offset = back.told_with_offset("/ai", "position")
    finally:
        back.close()
    again = Plain(tenant.url)
    try:
        auth = {"token": tenant.token(user), "recover": True, "pid": first["pid"], "offset": offset}
        assert again.join("/ai", auth).content["sid"] == first["sid"]
        assert done(again, "/ai", "resume_stream", {"requestId": name})["status"] == "completed"
    finally:
        again.close()


def test_from_another_process(
    two_workers: Node, new_tenant: Callable[[Node], Tenant], shared_redis: PrivateRedis
) -> None:
    tenant = new_tenant(two_workers)
    client = tenant.plain("/logs", "/flows")
    settings = Settings.from_env({"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "two"})
    with Emitter(settings=settings) as emit:
        for name in NAMES:
            done(client, "/flows", "subscribe_flow", {"flowId": name})
            emit.flows.node_started(tenant.name, name, name, name)
            emit.logs.append(tenant.name, message="m", flow_id=name, run_id=name, node_id=name)
            emit.workspaces.update(tenant.name, name, {"name": name})
            assert emit.workspaces.get(tenant.name, name).state == {"name": name}
    for name in NAMES:
        assert client.told("/flows", "node_started")["nodeId"] == name
        assert client.told("/logs", "new_log")["log"]["runId"] == name
