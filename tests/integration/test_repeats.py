"""Commands that come twice: a repeat gets the first answer, on any connection and worker, and changes nothing more."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.plain_client import CONNECT, Plain
from tests.servers import API_KEY, Node, stopping
from tests.tenants import Tenant

WS = "/workspaces"
NewTenant = Callable[[Node], Tenant]


def twice(tenant: Tenant, client: Plain, namespace: str, command: str, payload: Any) -> Any:
    """Send a command on `client` and again, on it and on a connection of the next worker; return the one answer."""
    first = client.call(namespace, command, payload)
    assert first["ok"], first
    assert client.call(namespace, command, payload) == first
    for _ in tenant.node.workers():
        assert tenant.plain(namespace).call(namespace, command, payload) == first
    return first["data"]


def joined(tenant: Tenant, **more: Any) -> Plain:
    client = tenant.plain(WS)
    assert client.call(WS, "join_workspace", {"workspaceId": "w", **more})["ok"]
    return client


def state(tenant: Tenant) -> Any:
    return tenant.http("GET", "/workspaces/w").json()


@pytest.mark.parametrize(
    "change",
    [
        {"state": {"a": 1}},
        {"state": {"a": 1}, "partial": False},
        {"state": {"a": 1}, "baseVersion": 1},
        {"patch": [{"op": "add", "path": "/list/-", "value": 1}]},
        {"patch": [{"op": "add", "path": "/list/-", "value": 1}], "baseVersion": 1},
        {"patch": [{"op": "remove", "path": "/list"}]},
    ],
    ids=json.dumps,
)
def test_an_update_is_done_once(tenant: Tenant, change: dict[str, Any]) -> None:
    client = joined(tenant)
    assert client.call(WS, "update_workspace", {"workspaceId": "w", "state": {"list": [0]}})["ok"]
    payload = {"workspaceId": "w", "idempotencyKey": "k", **change}
    data = twice(tenant, client, WS, "update_workspace", payload)
    after = state(tenant)
    assert data["version"] == after["version"] == 2
    other = client.call(
        WS, "update_workspace", {**payload, "state": {"b": 1}} if "state" in change else {**payload, "baseVersion": 9}
    )
    assert not other["ok"] and other["error"]["code"] == "conflict"
    assert [name for name, _ in client.events(WS) if name == "workspace_updated"] == ["workspace_updated"] * 2
    assert (
        client.call(
            WS,
            "update_workspace",
            {**payload, "idempotencyKey": "k2", "state": {}, "patch": None, "partial": True, "baseVersion": 2},
        )["data"]["version"]
        == 3
    )


def test_a_key_that_did_nothing_may_do_something_later(tenant: Tenant) -> None:
    client = joined(tenant)
    payload = {"workspaceId": "w", "state": {}, "baseVersion": 1, "idempotencyKey": "k"}
    assert client.call(WS, "update_workspace", payload)["error"]["code"] == "conflict"
    assert client.call(WS, "update_workspace", {"workspaceId": "w", "state": {}})["ok"]
    assert client.call(WS, "update_workspace", payload)["data"]["version"] == 2
    outside = tenant.plain(WS)
    assert outside.call(WS, "update_workspace", {**payload, "idempotencyKey": "new"})["error"]["code"] == "not_found"


def test_a_key_is_its_users(tenant: Tenant) -> None:
    for number, user in enumerate(("ann", "bob"), 1):
        client = tenant.plain(WS, user=user)
        assert client.call(WS, "join_workspace", {"workspaceId": "w"})["ok"]
        payload = {"workspaceId": "w", "state": {"by": user}, "idempotencyKey": "k"}
        for _ in range(2):
            assert client.call(WS, "update_workspace", payload)["data"]["version"] == number


def test_sockets_and_http_have_one_record(tenant: Tenant) -> None:
    client = joined(tenant)
    headers = {"Authorization": f"Bearer {tenant.token()}", "Idempotency-Key": "k"}
    first = tenant.http("PATCH", "/workspaces/w", {"a": 1}, headers=headers).json()
    repeat = client.call(
        WS, "update_workspace", {"workspaceId": "w", "state": {"a": 1}, "partial": True, "idempotencyKey": "k"}
    )
    assert repeat["data"]["version"] == first["version"] == state(tenant)["version"] == 1
    other = tenant.http("PATCH", "/workspaces/w", {"a": 2}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")


def test_leaving_is_told_once_and_an_old_repeat_takes_nobody_out(tenant: Tenant) -> None:
    watching, client = joined(tenant), joined(tenant)
    payload = {"workspaceId": "w", "idempotencyKey": "k"}
    assert twice(tenant, client, WS, "leave_workspace", payload) == {"success": True, "workspaceId": "w"}
    assert [name for name, _ in watching.events(WS)] == ["user_joined", "user_left"]
    assert client.call(WS, "leave_workspace", {"workspaceId": "w"})["error"]["code"] == "not_found"
    assert client.call(WS, "join_workspace", {"workspaceId": "w", "idempotencyKey": "j"})["ok"]
    assert client.call(WS, "leave_workspace", payload)["ok"]
    assert [name for name, _ in watching.events(WS)] == ["user_joined"]
    assert client.call(WS, "update_workspace", {"workspaceId": "w", "state": {}})["ok"]
    assert (
        client.call(WS, "leave_workspace", {"workspaceId": "v", "idempotencyKey": "k"})["error"]["code"] == "conflict"
    )


def test_joining_again_is_answered_as_of_now(tenant: Tenant) -> None:
    client = joined(tenant, idempotencyKey="k")
    assert client.call(WS, "update_workspace", {"workspaceId": "w", "state": {"a": 1}})["ok"]
    again = client.call(WS, "join_workspace", {"workspaceId": "w", "idempotencyKey": "k"})["data"]["workspace"]
    assert (again["state"], len(again["users"])) == ({"a": 1}, 1)
    assert client.call(WS, "update_presence", {"workspaceId": "w", "presence": {}, "idempotencyKey": "p"})["ok"]


def test_logs_are_cleared_once(tenant: Tenant) -> None:
    client, other = tenant.plain("/logs"), tenant.plain("/logs", user="bob")
    tenant.log("1", "2", flowId="f")
    payload = {"flowId": "f", "idempotencyKey": "k"}
    assert client.call("/logs", "clear_logs", payload)["data"]["deleted"] == 2
    tenant.log("3", flowId="f")
    assert twice(tenant, client, "/logs", "clear_logs", payload) == {"success": True, "flowId": "f", "deleted": 2}
    assert len(tenant.http("GET", "/logs?flowId=f").json()["logs"]) == 1
    assert [name for name, _ in other.events("/logs")].count("clear_logs") == 1
    assert client.call("/logs", "clear_logs", {"runId": "r", "idempotencyKey": "k"})["error"]["code"] == "conflict"
    headers = {"Authorization": f"Bearer {tenant.token()}", "Idempotency-Key": "k"}
    assert tenant.http("DELETE", "/logs?flowId=f", headers=headers).json() == {"deleted": 2}
    assert tenant.http("DELETE", "/logs?runId=r", headers=headers).status_code == 409


def test_a_history_is_cleared_once(two_workers: Node, new_tenant: NewTenant) -> None:
    tenant = new_tenant(two_workers)
    client = tenant.plain("/ai")

    def ask(number: int, conversation: str) -> None:
        request = {"requestId": f"r{number}", "prompt": f"word{number}", "conversationId": conversation}
        assert client.call("/ai", "ai_request", request)["ok"]
        assert client.told("/ai", "ai_response")["requestId"] == f"r{number}"

    for number, payload in enumerate(({"conversationId": "c"}, {})):
        ask(10 * number, "c")
        command = {**payload, "idempotencyKey": f"k{number}"}
        first = client.call("/ai", "clear_history", command)
        ask(10 * number + 1, "c")
        assert twice(tenant, client, "/ai", "clear_history", command) == first["data"]
        assert set(first["data"]) == {"success", "timestamp"}
        assert client.events("/ai") == []
    with redis.Redis.from_url(two_workers.env["REDIS_URL"]) as kept:
        held = kept.lrange(f"two:{{{tenant.name}}}:ai:conversation:ann/c", 0, -1)
    assert [b"word11" in text for text in held] == [True]


def test_a_cancellation_and_a_refreshed_token_have_the_same_answer_again(
    two_workers: Node, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(two_workers)
    client = tenant.plain("/ai")
    assert client.call("/ai", "ai_request", {"requestId": "r", "prompt": "one two", "stream": True})["ok"]
    assert twice(tenant, client, "/ai", "cancel_stream", {"requestId": "r", "idempotencyKey": "k"}) == {
        "requestId": "r"
    }
    refresh = {"token": tenant.token(), "idempotencyKey": "k"}
    assert client.call("/ai", "auth_refresh", refresh) == client.call("/ai", "auth_refresh", refresh)


@pytest.mark.parametrize("key", ["", "k" * 129, 7])
def test_a_key_has_1_to_128_characters(tenant: Tenant, key: Any) -> None:
    client = tenant.plain(WS, "/logs")
    for namespace, command, payload in (
        (WS, "update_workspace", {"workspaceId": "w", "state": {}}),
        ("/logs", "clear_logs", {"flowId": "f"}),
    ):
        error = client.call(namespace, command, {**payload, "idempotencyKey": key})["error"]
        assert (error["code"], error["path"]) == ("invalid_payload", "$.idempotencyKey")


def test_an_anonymous_client_is_known_by_its_key_alone(single_node: Node) -> None:
    payload = {"workspaceId": "anonymous-w", "state": {"a": 1}, "idempotencyKey": "k-anonymous"}
    versions = []
    for _ in range(2):
        client = Plain(single_node.url)
        with stopping(client):
            assert client.join(WS).kind == CONNECT
            assert client.call(WS, "join_workspace", {"workspaceId": "anonymous-w"})["ok"]
            versions.append(client.call(WS, "update_workspace", payload)["data"]["version"])
    assert versions == [1, 1]


def test_one_key_in_two_namespaces_is_two(two_workers: Node) -> None:
    tenant = Tenant(two_workers, "acme")
    headers = {"X-API-Key": API_KEY, "Idempotency-Key": "one-key"}
    for path, body in (
        ("/logs", {"level": "info", "message": "m"}),
        ("/flows/f/runs/r/events", {"type": "flow_started"}),
    ):
        answers = [tenant.http("POST", path, body, headers=headers) for _ in range(2)]
        assert answers[0].status_code == 202 and answers[0].json() == answers[1].json()
