"""How access ends on real servers: tokens that run out, are renewed, or are revoked on whichever worker they are."""

import json
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from mintflow_realtime.protocol.times import iso
from tests.plain_client import CONNECT, Closed, Plain
from tests.servers import Node, run_js, stopping, until
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]
# A revocation and an end are seen by the tick that follows, twice a second.
SOON = 2.0


@pytest.fixture
def node(two_workers: Node) -> Node:
    return two_workers


def now() -> int:
    return int(time.time())


def alive(client: Plain, namespace: str = "/logs") -> bool:
    return client.call(namespace, "settle")["error"]["code"] == "unknown_event"


def refused(tenant: Tenant, text: str, namespace: str = "/logs") -> str | None:
    """Return the code with which a token is refused now, None where it is accepted."""
    client = Plain(tenant.url)
    with stopping(client):
        answer = client.join(namespace, {"token": text})
        return None if answer.kind == CONNECT else str(answer.content["data"]["code"])


def revoke(tenant: Tenant, status: int = 202, **whom: str) -> float:
    """Revoke in the tenant; return when that was answered, by the monotonic clock."""
    headers = {"Authorization": "Bearer " + tenant.token("root", scope="admin", iat=now() + 20)}
    answer = tenant.http("POST", "/revocations", whom, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json() == {} or status != 202
    return time.monotonic()


def closed_by(client: Plain, deadline: float) -> None:
    client.wait_closed(max(0.01, deadline - time.monotonic()))


# Expiry


def test_a_client_is_warned_once_in_each_namespace_and_closed_when_its_token_ends(node: Node, tenant: Tenant) -> None:
    long = tenant.plain("/logs", exp=now() + 3600)
    end = now() + 3
    clients = [tenant.plain("/", "/logs", "/flows", exp=end) for _ in range(4)]
    mixed = tenant.plain("/logs", exp=end)
    assert mixed.join("/flows", {"token": tenant.token()}).kind == CONNECT
    # A clock that is behind is borne for 30 s, and counted from the token's end.
    late = tenant.plain("/logs", exp=now() - 28, iat=None)
    for client in clients:
        for namespace in ("/", "/logs", "/flows"):
            assert client.told(namespace, "auth_expiring", 2) == {"expiresAt": iso(end * 1000)}
            assert alive(client, namespace)
    assert mixed.told("/logs", "auth_expiring", 2) and alive(mixed, "/flows")
    for client in (*clients, mixed):
        left = client.wait_closed(end + SOON - time.time())
        assert left == [], "warned once"
        assert end <= time.time() <= end + SOON
    late.wait_closed(SOON + 2)
    assert long.settle("/logs") == []


def test_the_javascript_client_comes_back_with_a_new_token(node: Node, tenant: Tenant) -> None:
    end = now() + 3
    tokens = [tenant.token(exp=end), tenant.token()]
    said = json.loads(run_js("expiry.mjs", node.url, json.dumps(tokens)))
    assert [line["name"] for line in said] == ["connect", "auth_expiring", "disconnect", "connect"]
    assert said[0]["ok"] and said[3]["ok"]
    assert datetime.fromisoformat(said[1]["expiresAt"]).timestamp() == end
    # Not "io server disconnect", after which stock clients stay away.
    assert said[2]["reason"] in ("transport close", "transport error") and said[2]["active"] is True


# auth_refresh


def test_a_refreshed_token_goes_on_beyond_the_old_ones_end(node: Node, tenant: Tenant) -> None:
    end, later = now() + 3, now() + 250
    client, python = tenant.plain("/logs", "/flows", exp=end), tenant.plain("/logs", exp=end)
    for namespace in ("/logs", "/flows"):
        client.told(namespace, "auth_expiring", 2)
        answer = client.call(namespace, "auth_refresh", {"token": tenant.token(exp=later)})
        assert answer == {"ok": True, "data": {"expiresAt": iso(later * 1000)}}
    python.emit("/logs", "auth_refresh", {"token": tenant.token(exp=later)})
    assert python.told("/logs", "auth_refresh") == {"expiresAt": iso(later * 1000)}
    until(lambda: time.time() > end + 1, 6)
    assert alive(client) and alive(client, "/flows") and alive(python)
    # An earlier end counts too, and is warned of anew.
    soon = now() + 2
    assert client.call("/logs", "auth_refresh", {"token": tenant.token(exp=soon)})["ok"]
    client.told("/logs", "auth_expiring", 2)
    client.wait_closed(SOON + 2)
    assert time.time() >= soon


def test_a_refresh_never_changes_user_or_tenant_nor_widens_the_scope(
    node: Node, tenant: Tenant, new_tenant: NewTenant
) -> None:
    other = new_tenant(node)
    tenant.log("kept", flowId="f1")
    end = now() + 4
    scope = "logs:read flows:read"
    client = tenant.plain("/", "/logs", "/flows", exp=end, scope=scope)
    revoked = tenant.token(jti="gone", scope=scope)
    revoke(tenant, jti="gone")
    table: list[tuple[str, str]] = [
        (tenant.token("bob", scope=scope), "forbidden"),
        (tenant.token("Ann", scope=scope), "forbidden"),
        (other.token(scope=scope), "forbidden"),
        (tenant.token(), "forbidden"),
        (tenant.token(scope=scope + " logs:clear"), "forbidden"),
        (tenant.token(scope=scope + " admin"), "forbidden"),
        (revoked, "authentication_failed"),
        ("nonsense", "authentication_failed"),
        (tenant.token(exp=now() - 60, iat=None), "token_expired"),
    ]
    for text, code in table:
        for namespace in ("/", "/logs", "/flows"):
            error = client.call(namespace, "auth_refresh", {"token": text})["error"]
            assert error["code"] == code, (namespace, text)
        client.emit("/logs", "auth_refresh", {"token": text})
        assert client.told("/logs", "error")["code"] == code
    assert client.call("/logs", "clear_logs", {"flowId": "f1"})["error"]["code"] == "forbidden"
    assert client.call("/logs", "log_history", {"flowId": "f1"})["data"]["logs"]
    # What was refused extended nothing.
    client.wait_closed(end + SOON - time.time())
    assert time.time() >= end


def test_a_refresh_may_narrow_the_scope_and_there_is_no_way_back(node: Node, tenant: Tenant) -> None:
    client = tenant.plain("/logs")
    assert client.call("/logs", "auth_refresh", {"token": tenant.token(scope="logs:read")})["ok"]
    error = client.call("/logs", "clear_logs", {"flowId": "f1"})["error"]
    assert (error["code"], error["permission"]) == ("forbidden", "logs:clear")
    assert client.call("/logs", "auth_refresh", {"token": tenant.token()})["error"]["code"] == "forbidden"


def test_a_token_without_the_namespaces_scope_does_not_go_on_in_it(node: Node, tenant: Tenant) -> None:
    client = tenant.plain("/logs")
    # It would still hear all of the feed, for which its token is no good.
    answer = client.call("/logs", "auth_refresh", {"token": tenant.token(scope="flows:read")})
    assert answer["ok"] is False and answer["error"]["code"] == "forbidden"


def test_a_command_after_the_end_is_refused_until_the_connection_is_closed(node: Node, tenant: Tenant) -> None:
    end = now() + 2
    clients = [tenant.plain("/logs", exp=end) for _ in range(8)]
    outcomes: set[str] = set()
    closed = 0
    for client in clients:
        try:
            while time.time() < end + SOON:
                answer = client.call("/logs", "log_history")
                sent_after = time.time()
                if answer["ok"]:
                    assert sent_after < end + 0.3
                    outcomes.add("ok")
                else:
                    assert time.time() >= end
                    outcomes.add(answer["error"]["code"])
        except (Closed, OSError):
            closed += 1
    assert closed == len(clients)
    assert outcomes <= {"ok", "token_expired"} and "ok" in outcomes


# Revocation


@pytest.mark.parametrize("by", ["userId", "jti"])
def test_a_revocation_closes_connections_on_both_workers_and_refuses_the_token_from_then_on(
    node: Node, tenant: Tenant, new_tenant: NewTenant, by: str
) -> None:
    other = new_tenant(node)
    both = {"tenants": [tenant.name, other.name], "jti": "j1"}
    text = tenant.token(**both)
    ticket = tenant.http("POST", "/tickets", headers={"Authorization": f"Bearer {text}", "X-Tenant-Id": tenant.name})
    unused_ticket = ticket.json()["ticket"]
    gone = [tenant.plain() for _ in range(4)]
    assert len({client.opened["sid"][:8] for client in gone}) == 2, "on both workers"
    for client in gone:
        for namespace in ("/", "/logs", "/flows"):
            assert client.join(namespace, {"token": text, "tenantId": tenant.name}).kind == CONNECT
    stay = [
        tenant.plain("/logs", user="bob", jti="j2"),
        other.plain("/logs", jti="j2"),
        Plain(node.url),
    ]
    with stopping(stay[2]):
        assert stay[2].join("/logs", {"token": text, "tenantId": other.name}).kind == CONNECT
        answered = revoke(tenant, **({"userId": "ann"} if by == "userId" else {"jti": "j1"}))
        for client in gone:
            closed_by(client, answered + SOON)
        # At once and on every worker, on every door.
        for _ in range(4):
            client = tenant.plain()
            code = client.join("/logs", {"token": text, "tenantId": tenant.name}).content["data"]["code"]
            assert code == "authentication_failed"
        headers = {"Authorization": f"Bearer {text}", "X-Tenant-Id": tenant.name}
        assert tenant.http("GET", "/logs", headers=headers).status_code == 401
        assert refused(tenant, unused_ticket) == "authentication_failed"
        # The same token in its other tenant, the same user there, and another user here go on.
        assert tenant.http("GET", "/logs", headers=headers | {"X-Tenant-Id": other.name}).status_code == 200
        for client in stay:
            assert alive(client)
    # Tokens of later are good, and of before as far as the jti alone was meant.
    assert refused(tenant, tenant.token(iat=now() + 1, jti="j3")) is None
    assert refused(tenant, tenant.token(iat=now() - 5, jti="j3")) == (
        "authentication_failed" if by == "userId" else None
    )
    if by == "userId":
        assert refused(tenant, tenant.token(iat=None)) == "authentication_failed"


def test_a_polling_client_is_closed_too_and_stays_out(node: Node, tenant: Tenant) -> None:
    watchers = [tenant.watcher("/logs", user="carl", transports=["polling"], reconnection=True) for _ in range(2)]
    revoke(tenant, userId="carl")
    for watcher in watchers:
        assert watcher.disconnected.wait(SOON + 1)
        # It comes back by itself, with the same token, and is told why it may not.
        until(lambda watcher=watcher: watcher.errors, 8)
        assert watcher.errors[0][1]["data"]["code"] == "authentication_failed"


def test_what_is_no_revocation_is_refused(node: Node, tenant: Tenant) -> None:
    client = tenant.plain("/logs")
    for body in ({}, {"userId": "ann", "jti": "x"}, {"userId": ""}, {"userId": "a\n"}, {"jti": ""}, {"jti": "x" * 257}):
        revoke(tenant, 422, **body)
    answer = tenant.http("POST", "/revocations", {"userId": "ann"})
    assert answer.status_code == 403, "a member without the scope admin"
    assert alive(client)


def test_the_anonymous_are_not_revoked_with_a_user(node: Node) -> None:
    default = Tenant(node, "default")
    client = Plain(node.url)
    with stopping(client, default):
        assert client.join("/logs").kind == CONNECT
        member = default.plain("/logs", user="dora")
        closed_by(member, revoke(default, userId="dora") + SOON)
        assert alive(client)
