"""Who is there, over two workers: connections, presence and nodes, by pages; who may see and close what."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mintflow_realtime.stores.redis.rights import setuser_line
from tests.command import environment, run
from tests.plain_client import DISCONNECT, Closed, Plain
from tests.redis_fixture import SERVERS, PrivateRedis
from tests.servers import API_KEY, Node, stopping, token, until
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]


@pytest.fixture
def here(two_workers: Node, new_tenant: NewTenant) -> Tenant:
    return new_tenant(two_workers)


def admin(tenant: Tenant) -> dict[str, str]:
    return bearer(tenant, "root", scope="admin")


def bearer(tenant: Tenant, user: str, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.token(user, **claims)}"}


def ask(tenant: Tenant, path: str, status: int = 200, verb: str = "GET", **options: Any) -> Any:
    """Ask until all nodes have answered: on a busy machine one may take longer than the second that they have."""

    def answered() -> Any:
        answer = tenant.http(verb, path, **options)
        if answer.status_code == 503 or (answer.status_code == 200 and answer.json().get("unanswered")):
            return None
        # A response of 4xx is false by itself.
        return [answer]

    (answer,) = until(answered, 30, path)
    assert answer.status_code == status, answer.text
    return answer.json()


def closed(client: Plain) -> bool:
    """Tell whether a client was sent away with a DISCONNECT, after which stock clients stay away."""
    try:
        client._next(lambda message: message.kind == DISCONNECT, 10)
    except Closed:
        return False
    return True


def test_connections_of_all_nodes_with_their_rooms(here: Tenant) -> None:
    first, second = here.plain("/flows", "/logs"), here.plain("/flows", user="bob")
    assert first.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    found = {row["userId"]: row for row in ask(here, "/connections", headers=admin(here))["connections"]}
    # An admin's are all tenants': those of this one are two.
    found = {row["userId"]: row for row in ask(here, f"/connections?tenant={here.name}")["connections"]}
    ann, bob = found["ann"], found["bob"]
    assert ann["nodeId"] != bob["nodeId"] and ann["sid"].startswith(ann["nodeId"])
    assert ann["sid"] == first.sids["/flows"] and bob["sid"] == second.sids["/flows"]
    assert ann["sid"] != first.opened["sid"], "by that one anybody could go on with the session"
    assert ann["namespaces"] == {
        "/flows": [f"{here.name}:", f"{here.name}:run:r1"],
        "/logs": ann["namespaces"]["/logs"],
    }
    assert ann["tenant"] == here.name and ann["transport"] == "websocket" and ann["address"] == "127.0.0.1"
    assert ann["outboxBytes"] == ann["behind"] == 0 and ann["since"].endswith("Z")
    assert bob["address"] is None, "a member sees its own address alone"
    for query, users in (
        ("userId=bob", ["bob"]),
        (f"room={here.name}:run:r1", ["ann"]),
        (f"room={here.name}:run:r1&userId=bob", []),
        ("userId=nobody", []),
    ):
        assert [row["userId"] for row in ask(here, f"/connections?{query}")["connections"]] == users, query


def test_pages_over_all_nodes(here: Tenant) -> None:
    clients = [here.plain("/flows", user=f"user-{number}") for number in range(5)]
    sids, after, pages = [], "", 0
    while after is not None:
        page = ask(here, "/connections?limit=2" + (f"&after={after}" if after else ""))
        sids += [row["sid"] for row in page["connections"]]
        after, pages = page.get("nextAfter"), pages + 1
    assert sids == sorted(client.sids["/flows"] for client in clients) and pages == 3
    users, after = [], ""
    while after is not None:
        page = ask(here, "/presence?limit=2" + (f"&after={after}" if after else ""))
        users += [row["userId"] for row in page["users"]]
        after = page.get("nextAfter")
    assert users == [f"user-{number}" for number in range(5)]


def test_presence_counts_a_users_connections_over_nodes(here: Tenant) -> None:
    for user in ("ann", "ann", "bob"):
        here.plain("/flows", "/logs", user=user)
    users = ask(here, "/presence")["users"]
    assert [(row["userId"], row["tenant"], row["connections"]) for row in users] == [
        ("ann", here.name, 2),
        ("bob", here.name, 1),
    ]
    assert all(row["since"].endswith("Z") for row in users)


def test_a_connection_with_two_tokens_is_shown_to_each_tenant_in_part(two_workers: Node, new_tenant: NewTenant) -> None:
    one, other = new_tenant(two_workers), new_tenant(two_workers)
    client = one.plain("/flows")
    client.join("/logs", {"token": other.token("bob")})
    (row,) = ask(one, "/connections")["connections"]
    assert [*row["namespaces"]] == ["/flows"]
    (row,) = ask(other, "/connections")["connections"]
    assert [*row["namespaces"]] == ["/logs"] and row["userId"] == "bob" and row["sid"] == client.sids["/logs"]


def test_another_tenants_are_an_admins_alone(two_workers: Node, new_tenant: NewTenant) -> None:
    one, other = new_tenant(two_workers), new_tenant(two_workers)
    client = one.plain("/flows")
    assert ask(other, "/connections")["connections"] == [] and ask(other, "/presence")["users"] == []
    for path in (f"/connections?tenant={one.name}", f"/presence?tenant={one.name}", "/nodes"):
        assert ask(other, path, 403)["error"]["code"] == "forbidden", path
    seen = ask(other, f"/connections?tenant={one.name}", headers=admin(other))["connections"]
    assert [row["sid"] for row in seen] == [client.sids["/flows"]] and seen[0]["address"] == "127.0.0.1"
    assert ask(other, f"/presence?tenant={one.name}", headers=admin(other))["users"][0]["userId"] == "ann"
    assert ask(other, f"/connections/{client.sids['/flows']}", 404, "DELETE")["error"]["code"] == "not_found"
    assert ask(other, f"/connections/{client.sids['/flows']}", 202, "DELETE", headers=admin(other)) == {}
    assert closed(client)


def test_who_may_close_what(here: Tenant) -> None:
    ann, bob = here.plain("/flows", "/logs"), here.plain("/flows", user="bob")
    bobs = f"/connections/{bob.sids['/flows']}"
    assert ask(here, bobs, 404, "DELETE")["error"]["code"] == "not_found", "a member closes its own alone"
    assert ask(here, "/connections?userId=bob", 403, "DELETE")["error"]["code"] == "forbidden"
    assert ask(here, f"/connections/{ann.sids['/logs']}", 202, "DELETE") == {}, "by its sid in any namespace"
    assert closed(ann)
    assert ask(here, bobs, 202, "DELETE", headers=bearer(here, "bob")) == {}
    assert closed(bob)
    until(lambda: not ask(here, "/connections")["connections"], 20)
    assert ask(here, bobs, 404, "DELETE", headers=bearer(here, "bob"))["error"]["code"] == "not_found"


def test_an_api_key_closes_all_of_a_users(two_workers: Node) -> None:
    tenant, user = Tenant(two_workers, "acme"), "closed-by-key"
    with stopping(tenant):
        clients = [tenant.plain("/flows", user=user) for _ in range(3)]
        key = {"X-API-Key": API_KEY}
        assert ask(tenant, f"/connections?userId={user}", headers=key)["connections"][0]["address"] == "127.0.0.1"
        assert ask(tenant, f"/connections?userId={user}", 202, "DELETE", headers=key) == {"closed": 3}
        assert all(closed(client) for client in clients)
        until(lambda: not ask(tenant, f"/connections?userId={user}", headers=key)["connections"], 20)
        assert ask(tenant, f"/connections?userId={user}", 202, "DELETE", headers=key) == {"closed": 0}


@pytest.mark.parametrize(
    ("verb", "path", "field"),
    [
        ("GET", "/connections?limit=0", "$.limit"),
        ("GET", "/connections?limit=1001", "$.limit"),
        ("GET", "/connections?tenant=a/b", "$.tenant"),
        ("GET", "/connections?user=ann", "$.user"),
        ("GET", "/connections?room=", "$.room"),
        ("GET", "/presence?limit=x", "$.limit"),
        ("DELETE", "/connections", "$.userId"),
        ("DELETE", "/connections/a%00b", "$.sid"),
    ],
)
def test_what_is_wrong_is_named(two_workers: Node, new_tenant: NewTenant, verb: str, path: str, field: str) -> None:
    answer = new_tenant(two_workers).http(verb, path)
    assert answer.status_code == 400 and answer.json()["error"]["path"] == field, answer.text


def test_nodes_and_one_that_hangs_and_one_that_was_killed(shared_redis: PrivateRedis) -> None:
    node = Node(workers=2, REDIS_URL=shared_redis.url, REDIS_PREFIX="killed", DRAIN_SECONDS="0")
    tenant = Tenant(node)
    with stopping(node, tenant):
        for place in range(2):
            with node.accepting_only(place):
                node.wait_ready()
        clients = [tenant.plain("/flows", user=user) for user in ("ann", "bob")]

        def nodes() -> list[dict[str, Any]]:
            return list(ask(tenant, "/nodes", headers=admin(tenant))["nodes"])

        found = until(lambda: [one for one in nodes() if one["connections"]], 30) and nodes()
        assert sorted(one["pid"] for one in found) == sorted(node.workers())
        assert all(one["memoryBytes"] > 1e6 and not one["draining"] and one["version"] for one in found)
        assert all(isinstance(one[name], (int, float)) for one in found for name in ("cpuPercent", "eventsPerSecond"))
        assert all(one["redisLatencyMs"] > 0 for one in until(lambda: [o for o in nodes() if o["redisLatencyMs"]], 30))
        place = {row["userId"]: row["nodeId"] for row in ask(tenant, "/connections")["connections"]}
        pid = {one["nodeId"]: one["pid"] for one in found}
        hanging = pid[place["bob"]]
        os.kill(hanging, signal.SIGSTOP)
        try:
            answer = tenant.http("GET", "/connections")
            while answer.json()["unanswered"] != [place["bob"]]:
                # The hanging one may have taken the request's connection before it was stopped.
                answer = tenant.http("GET", "/connections")
            assert [row["userId"] for row in answer.json()["connections"]] == ["ann"]
            gone = tenant.http("DELETE", f"/connections/{clients[1].sids['/flows']}")
            assert gone.status_code == 503, "it may be connected to the one that gives no answer"
        finally:
            os.kill(hanging, signal.SIGKILL)
        until(lambda: place["bob"] not in {one["nodeId"] for one in nodes()}, 30)
        assert [row["userId"] for row in ask(tenant, "/connections")["connections"]] == ["ann"]


@pytest.fixture(params=["installed", "6.2"])
def restricted(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    server = PrivateRedis(SERVERS[request.param])
    with stopping(server):
        yield server


def test_with_no_more_rights_than_are_told(restricted: PrivateRedis) -> None:
    line = setuser_line("app", "mf0", "socketio").removeprefix("ACL SETUSER app ").split()
    with restricted.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *line)
    node = Node(REDIS_URL=f"unix://app:secret@{restricted.path}", REDIS_PREFIX="mf0").wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant):
        client = tenant.plain("/flows")
        assert [row["sid"] for row in ask(tenant, "/connections")["connections"]] == [client.sids["/flows"]]
        assert len(ask(tenant, "/nodes", headers=admin(tenant))["nodes"]) == 1
        assert ask(tenant, "/connections?userId=ann", 202, "DELETE", headers=admin(tenant)) == {"closed": 1}
        assert "NOPERM" not in node.text()
        with restricted.client() as client:
            endless = [key for key in client.scan_iter() if client.ttl(key) == -1]
        assert not endless


def test_the_command_shows_and_closes(two_workers: Node, shared_redis: PrivateRedis, new_tenant: NewTenant) -> None:
    tenant = new_tenant(two_workers)
    client = tenant.plain("/flows", "/logs")
    tenant.plain("/flows", user="böb\u202e")
    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "two"}
    asked = ("connections", "--tenant", tenant.name)

    def shown(*more: str, **other: str) -> str:
        done = run(*asked, *more, **{**env, **other})
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    text = until(lambda: (text := shown()) and "ann" in text and "b" in text and text, 30)
    assert client.sids["/flows"] in text and "/flows /logs" in text and "websocket" in text
    lines = [json.loads(line) for line in shown("--user", "ann", "--json").splitlines()]
    assert [line["sid"] for line in lines] == [client.sids["/flows"]]
    assert "1 connection closed." in shown("--close", client.sids["/logs"])
    assert closed(client)
    done = run(*asked, "--close", "nobody", **env)
    assert done.returncode == 1 and "There is no such connection" in done.stderr
    url = {"url": two_workers.url, "token": tenant.token("root", scope="admin")}
    assert "b" in shown("--url", url["url"], "--token", url["token"])
    done = run(*asked, "--url", url["url"], "--token", token("ann", ["elsewhere"]), **env)
    assert done.returncode == 1 and "another tenant" in done.stderr.lower(), done.stderr
    assert "version" in run("connections", "--nodes", **env).stdout


PROGRAM = """
import sys
from flask import Flask
from mintflow_realtime import SocketManager, errors
realtime = SocketManager(Flask("elsewhere"))
page = realtime.clients(sys.argv[1], limit=1)
print([(one.user_id, [*one.namespaces]) for one in page.connections], page.next_after > "")
try:
    realtime.clients(limit=0)
except errors.InvalidPayload as error:
    print(error)
"""


def test_from_python_in_a_process_that_serves_nothing(
    two_workers: Node, shared_redis: PrivateRedis, new_tenant: NewTenant
) -> None:
    tenant = new_tenant(two_workers)
    for _ in range(2):
        tenant.plain("/flows")
    env = environment(REDIS_URL=shared_redis.url, REDIS_PREFIX="two")

    def asked() -> Any:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, tenant.name], capture_output=True, text=True, env=env, timeout=60
        )
        # A busy node may be missing from the page, which then is the last.
        assert done.returncode == 0 or "TypeError" in done.stderr, done.stderr
        return done.stdout.splitlines()

    page, refused = until(asked, 60)
    assert page == "[('ann', ['/flows'])] True" and "$.limit" in refused
