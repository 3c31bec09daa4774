"""Who may do what, on every door: each command and each HTTP request, by each kind of caller, on real servers."""

import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
import requests
import websocket
from flask import Flask

from mintflow_realtime.auth import policy
from mintflow_realtime.routes.api import blueprint
from tests.commands import NAMESPACES, SERVED
from tests.plain_client import CONNECT, CONNECT_ERROR, EVENT, Closed, Message, Plain
from tests.servers import API_KEY, OTHER_KEY, SECRET, Node, run_js, stopping, token, until
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]

SCOPES = (
    "logs:read logs:write logs:clear flows:read flows:write flows:control workspaces:read workspaces:write ai:use "
    "admin nonsense"
).split()
READ_SCOPE: dict[str, str | None] = {"/": None, **policy.READ_SCOPE}

# namespace, command, payload, the permission that it takes beside the namespace's own. A requestId is made anew each
# time.
COMMANDS: list[tuple[str, str, Any, str | None]] = [
    ("/", "auth_refresh", ..., None),
    ("/logs", "auth_refresh", ..., None),
    ("/logs", "log_history", {"flowId": "f1"}, None),
    ("/logs", "filter_logs", {"runId": "r1"}, None),
    ("/logs", "subscribe_logs", {"flowId": "f1", "history": 10}, None),
    ("/logs", "unsubscribe_logs", None, None),
    ("/logs", "clear_logs", {"flowId": "f1"}, "logs:clear"),
    ("/flows", "auth_refresh", ..., None),
    ("/flows", "subscribe_flow", {"flowId": "f1", "runId": "r1", "since": 0}, None),
    ("/flows", "list_runs", {"flowId": "f1"}, None),
    ("/flows", "signal_run", {"flowId": "f1", "runId": "r1", "name": "go"}, "flows:control"),
    ("/flows", "cancel_run", {"flowId": "f1", "runId": "r1"}, "flows:control"),
    ("/flows", "unsubscribe_flow", {"flowId": "f1"}, None),
    ("/workspaces", "auth_refresh", ..., None),
    ("/workspaces", "join_workspace", {"workspaceId": "w1", "userId": "somebody"}, None),
    ("/workspaces", "update_workspace", {"workspaceId": "w1", "state": {"by": "socket"}}, "workspaces:write"),
    ("/workspaces", "update_presence", {"workspaceId": "w1", "presence": {"at": 1}}, None),
    ("/workspaces", "leave_workspace", {"workspaceId": "w1"}, None),
    ("/ai", "auth_refresh", ..., None),
    ("/ai", "ai_request", {"requestId": "", "prompt": "p"}, None),
    ("/ai", "cancel_stream", {"requestId": ""}, None),
    ("/ai", "resume_stream", {"requestId": ""}, None),
    ("/ai", "clear_history", None, None),
]
# What a client must have done before a command can succeed.
FIRST = {
    "update_workspace": "join_workspace",
    "update_presence": "join_workspace",
    "leave_workspace": "join_workspace",
    "cancel_stream": "ai_request",
    "resume_stream": "ai_request",
}
PAYLOADS = {command: payload for _, command, payload, _ in COMMANDS}
_requests = itertools.count()

# verb, path, body, permission, status where it is allowed, status in a tenant where there is no such thing
REQUESTS: list[tuple[str, str, Any, str | None, int, int]] = [
    ("POST", "/logs", {"logLevel": "info", "message": "by http", "flowId": "f1"}, "logs:write", 202, 202),
    ("GET", "/logs?flowId=f1", None, "logs:read", 200, 200),
    ("HEAD", "/logs?flowId=f1", None, "logs:read", 200, 200),
    ("GET", "/logs/export?flowId=f1", None, "logs:read", 200, 200),
    ("POST", "/flows/f1/runs/r1/events", {"type": "node_started", "nodeId": "n1"}, "flows:write", 202, 202),
    ("GET", "/flows/f1/runs/r1", None, "flows:read", 200, 404),
    ("GET", "/flows/f1/runs/r1?since=0", None, "flows:read", 200, 404),
    ("GET", "/runs?flowId=f1", None, "flows:read", 200, 200),
    ("POST", "/flows/f1/runs/r1/beat", None, "flows:write", 200, 404),
    ("POST", "/flows/f1/runs/r1/cancel", {"reason": "r"}, "flows:control", 202, 404),
    ("POST", "/flows/f1/runs/r1/signals", {"name": "go"}, "flows:control", 202, 404),
    ("GET", "/flows/f1/control", None, "flows:write", 200, 200),
    ("DELETE", "/logs?flowId=f1", None, "logs:clear", 200, 200),
    ("DELETE", "/logs?runId=r1", None, "logs:clear", 200, 200),
    ("DELETE", "/logs?logId=1-1", None, "logs:clear", 200, 200),
    ("GET", "/workspaces/w1", None, "workspaces:read", 200, 200),
    ("HEAD", "/workspaces/w1", None, "workspaces:read", 200, 200),
    ("PUT", "/workspaces/w1", {"by": "http"}, "workspaces:write", 200, 200),
    ("PATCH", "/workspaces/w1", {"more": 1}, "workspaces:write", 200, 200),
    ("POST", "/tickets", None, None, 201, 201),
    ("POST", "/revocations", {"jti": "nobody's"}, "admin", 202, 202),
]


@pytest.fixture(params=["closed_node", "two_workers"])
def node(request: pytest.FixtureRequest) -> Node:
    """A node that asks for a token, and one that doesn't."""
    found: Node = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def tenant(node: Node, new_tenant: NewTenant) -> Tenant:
    """A tenant with a log record and a run."""
    tenant = new_tenant(node)
    fill(tenant)
    return tenant


def fill(tenant: Tenant) -> None:
    tenant.log("mine", flowId="f1", runId="r1")
    tenant.run("f1", "r1", {"type": "flow_started"})
    assert tenant.http("PUT", "/workspaces/w1", {"mine": True}).status_code == 200


def content(tenant: Tenant) -> list[Any]:
    """Return all that the tenant has under the ids of this file."""
    return [
        tenant.http("GET", path).json() for path in ("/logs?flowId=f1", "/flows/f1/runs/r1?since=0", "/workspaces/w1")
    ]


def steps(command: str, payload: Any, token: str) -> list[tuple[Any, ...]]:
    """Return what a client sends so that `command` can succeed, the command last."""
    found = [(FIRST[command], PAYLOADS[FIRST[command]])] if command in FIRST else []
    found.append((command, {"token": token} if payload is ... else payload))
    request = {"requestId": f"q{next(_requests)}"}
    return [
        (name,) if one is None else (name, {**one, **request} if "requestId" in one else one) for name, one in found
    ]


def run_command(client: Plain, namespace: str, command: str, payload: Any, token: str) -> Any:
    """Send a command after what it needs; return its ack."""
    *before, last = steps(command, payload, token)
    for step in before:
        assert client.call(namespace, *step)["ok"], step
    return client.call(namespace, *last)


def bearer(text: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", **more}


def ask(node: Node, verb: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str | None]:
    """Return a request's status and error code."""
    answer = requests.request(verb, node.url + "/api/v1" + path, json=body, headers=headers, timeout=10)
    assert "Traceback" not in answer.text
    if answer.status_code < 400 or verb == "HEAD":
        return answer.status_code, None
    error = answer.json()["error"]
    assert {"code", "message", "retryable"} <= set(error)
    return answer.status_code, error["code"]


def code_of(answer: Message) -> str | None:
    """Return the code with which a CONNECT was refused, None where it was accepted."""
    if answer.kind == CONNECT:
        assert set(answer.content) == {"sid"}
        return None
    assert answer.kind == CONNECT_ERROR and set(answer.content) == {"message", "data"}, answer
    assert isinstance(answer.content["message"], str) and set(answer.content["data"]) == {"code"}
    return str(answer.content["data"]["code"])


def try_connect(node: Node, namespace: str, auth: Any = None, **options: Any) -> str | None:
    client = Plain(node.url, **options)
    with stopping(client):
        return code_of(client.join(namespace, auth))


# The tables


def test_the_tables_have_every_command_and_every_request() -> None:
    assert sorted((namespace, command) for namespace, command, *_ in COMMANDS) == [one[:2] for one in SERVED]
    app = Flask("tables")
    app.register_blueprint(blueprint(*[None] * 4))  # type: ignore[arg-type]
    adapter = app.url_map.bind("localhost")
    told: dict[str, set[str]] = {}
    for verb, path, *_ in REQUESTS:
        rule, _ = adapter.match("/api/v1" + path.partition("?")[0], method=verb, return_rule=True)
        told.setdefault(str(rule), set()).add(verb)
    with app.test_client() as client:
        for rule in app.url_map.iter_rules():
            if rule.endpoint == "static":
                continue
            allowed = client.options(re.sub("<.*?>", "x", str(rule))).headers["Allow"]
            verbs = set(allowed.split(", ")) - {"OPTIONS"}
            # A HEAD is a GET; one of a path is enough.
            assert verbs - {"HEAD"} == told.get(str(rule), set()) - {"HEAD"}, rule


# By scope


@pytest.mark.parametrize("scope", [None, "", *SCOPES, "logs:read logs:clear", " logs:read\tflows:read  "])
def test_a_scope_grants_what_it_lists_and_nothing_else(tenant: Tenant, scope: str | None) -> None:
    granted = set(SCOPES) - {"admin", "nonsense"} if scope is None else set(scope.split())
    own = tenant.token(scope=scope)
    for namespace, command, payload, permission in COMMANDS:
        client = Plain(tenant.url)
        with stopping(client):
            needed = READ_SCOPE[namespace]
            refused = code_of(client.join(namespace, {"token": own}))
            assert refused == (None if needed is None or needed in granted else "forbidden"), (namespace, scope)
            if refused:
                client.emit(namespace, command, id=1)
                assert client.join("/", {"token": own}).kind == CONNECT
                assert client.settle("/") == [], "a client that was refused is not answered"
                continue
            answer = run_command(client, namespace, command, payload, own)
            if permission is None or permission in granted:
                assert answer["ok"], (command, scope, answer)
            else:
                error = answer["error"]
                assert (error["code"], error["permission"]) == ("forbidden", permission), (command, scope)
    fill(tenant)
    for verb, path, body, permission, allowed, _ in REQUESTS:
        outcome = ask(tenant.node, verb, path, body, bearer(own))
        if permission is None or permission in granted:
            assert outcome == (allowed, None), (verb, path, scope)
        else:
            assert outcome == (403, None if verb == "HEAD" else "forbidden"), (verb, path, scope)


# By tenant


def test_another_tenants_member_finds_nothing_and_changes_nothing(tenant: Tenant, new_tenant: NewTenant) -> None:
    other, before = new_tenant(tenant.node), content(tenant)
    mine = tenant.plain(*NAMESPACES)
    assert mine.call("/workspaces", "join_workspace", {"workspaceId": "w1"})["ok"]
    assert mine.call("/ai", "ai_request", {"requestId": "mine", "prompt": "p"})["ok"]
    mine.told("/ai", "ai_response")
    client = other.plain(*NAMESPACES)
    log_id = before[0]["logs"][0]["logId"]
    expected: dict[str, Any] = {
        "log_history": {"logs": []},
        "filter_logs": {"logs": []},
        "subscribe_logs": {"success": True, "logs": []},
        "unsubscribe_logs": {"success": True},
        "clear_logs": {"success": True, "flowId": "f1", "deleted": 0},
        "subscribe_flow": {"success": True, "flowId": "f1", "runId": "r1"},
        "list_runs": {"runs": []},
        "unsubscribe_flow": {"success": True, "flowId": "f1"},
        "leave_workspace": {"success": True, "workspaceId": "w1"},
        "update_presence": {"success": True, "workspaceId": "w1"},
    }
    for namespace, command, payload, _ in COMMANDS:
        if payload is ...:
            answer = client.call(namespace, command, {"token": tenant.token()})
            assert answer["error"]["code"] == "forbidden", "a token of another tenant refreshes nothing"
            continue
        answer = run_command(client, namespace, command, payload, "")
        if command in ("signal_run", "cancel_run"):
            assert answer["error"]["code"] == "not_found"
            continue
        assert answer["ok"], (command, answer)
        if command in expected:
            assert answer["data"] == expected[command]
        elif command == "join_workspace":
            # One of its own, of the same name.
            found = answer["data"]["workspace"]
            assert (found["state"], found["version"]) == ({}, 0)
            assert [user["socketId"] for user in found["users"]] == [client.sids["/workspaces"]]
        elif command == "update_workspace":
            assert answer["data"]["version"] == 1
    assert client.call("/logs", "clear_logs", {"logId": log_id})["data"]["deleted"] == 0
    for command in ("cancel_stream", "resume_stream"):
        assert client.call("/ai", command, {"requestId": "mine"})["error"]["code"] == "not_found"
    for verb, path, body, permission, _, elsewhere in REQUESTS:
        member = new_tenant(tenant.node).token(scope=permission) if permission else other.token()
        assert ask(tenant.node, verb, path, body, bearer(member))[0] == elsewhere, (verb, path)
        # Neither the other's token nor any key opens a tenant that isn't its own, whatever it asks for.
        by_name = {"X-Tenant-Id": tenant.name}
        for headers in (bearer(other.token(scope="admin")), {"X-API-Key": API_KEY}, {"X-API-Key": OTHER_KEY}):
            outcome = ask(tenant.node, verb, path, body, headers | by_name)
            assert outcome == (403, None if verb == "HEAD" else "tenant_denied"), (verb, path)
    for namespace in NAMESPACES:
        assert try_connect(tenant.node, namespace, {"token": other.token(), "tenantId": tenant.name}) == "tenant_denied"
    assert content(tenant) == before
    # Nothing of all that was heard here, and nothing of here is heard there.
    for namespace in NAMESPACES:
        assert mine.events(namespace) == [], namespace
    client.call("/logs", "subscribe_logs", {"flowId": "f1"})
    client.call("/flows", "subscribe_flow", {"runId": "r1"})
    client.call("/workspaces", "join_workspace", {"workspaceId": "w1"})
    client.settle("/")
    fill(tenant)
    assert mine.call("/ai", "ai_request", {"requestId": "heard", "prompt": "p"})["ok"]
    for namespace, event in (
        ("/logs", "new_log"),
        ("/flows", "flow_started"),
        ("/workspaces", "workspace_updated"),
        ("/ai", "ai_response"),
    ):
        mine.told(namespace, event)
        # Its own requests may still be ending.
        heard = [m for m in client.settle(namespace) if namespace != "/ai" or m.content[1]["requestId"] == "heard"]
        assert heard == [], namespace


# By credential


def test_who_shows_no_good_credential_gets_nothing(tenant: Tenant) -> None:
    node, name = tenant.node, tenant.name
    revoked = tenant.token(jti="revoked-" + name)
    key = bearer(tenant.token(scope="admin"))
    assert ask(node, "POST", "/revocations", {"jti": "revoked-" + name}, key) == (202, None)
    by_other = jwt.encode({"userId": "ann", "tenants": [name], "exp": 2_000_000_000}, SECRET[::-1], "HS256")
    unsigned = jwt.encode({"userId": "ann", "tenants": [name], "exp": 2_000_000_000}, None, "none")  # type: ignore[arg-type]
    other_algorithm = jwt.encode({"userId": "ann", "tenants": [name], "exp": 2_000_000_000}, SECRET * 3, "HS512")
    credentials = {
        tenant.token(exp=1_700_000_000, iat=None): "token_expired",
        revoked: "authentication_failed",
        by_other: "authentication_failed",
        unsigned: "authentication_failed",
        other_algorithm: "authentication_failed",
        tenant.token(exp=None): "authentication_failed",
        tenant.token(exp=4_000_000_000): "authentication_failed",
        tenant.token(userId=None): "authentication_failed",
        tenant.token("a\n"): "authentication_failed",
        tenant.token(tenants=["-"]): "authentication_failed",
        tenant.token(scope=5): "authentication_failed",
        tenant.token()[:-4] + "AAAA": "authentication_failed",
        "nonsense": "authentication_failed",
        "t1.nonsense": "authentication_failed",
        API_KEY: "authentication_failed",
    }
    before = content(tenant)
    for credential, code in credentials.items():
        for namespace in NAMESPACES:
            assert try_connect(node, namespace, {"token": credential}) == code, credential
        for verb, path, body, *_ in REQUESTS:
            outcome = ask(node, verb, path, body, bearer(credential))
            assert outcome == (401, None if verb == "HEAD" else code), (credential, verb, path)
    # HTTP is never anonymous, also where sockets may be; an unknown key, and two credentials at once, are none.
    for headers, code in (
        ({}, "authentication_required"),
        ({"Authorization": "Basic YTpi"}, "authentication_required"),
        ({"X-API-Key": "nonsense"}, "authentication_failed"),
        ({"X-API-Key": ""}, "authentication_failed"),
        (bearer(tenant.token()) | {"X-API-Key": API_KEY}, "authentication_failed"),
    ):
        for verb, path, body, *_ in REQUESTS:
            outcome = ask(node, verb, path, body, headers)
            assert outcome == (401, None if verb == "HEAD" else code), (headers, verb, path)
    assert content(tenant) == before


def test_an_api_key_has_all_permissions_in_its_tenant_but_gets_no_ticket(node: Node) -> None:
    for key, name in ((API_KEY, "acme"), (OTHER_KEY, "other")):
        owner = Tenant(node, name)
        fill(owner)
        for verb, path, body, permission, allowed, _ in REQUESTS:
            for headers in ({"X-API-Key": key}, {"X-API-Key": key, "X-Tenant-Id": name}):
                if path == "/tickets":
                    assert ask(node, verb, path, body, headers) == (403, "forbidden")
                else:
                    assert ask(node, verb, path, body, headers) == (allowed, None), (verb, path, permission)


def test_methods_that_a_path_has_not_are_refused(node: Node) -> None:
    for path, has in {
        "/logs": {"GET", "POST", "DELETE"},
        "/flows/f1/runs/r1": {"GET"},
        "/flows/f1/runs/r1/events": {"POST"},
        "/workspaces/w1": {"GET", "PUT", "PATCH"},
        "/tickets": {"POST"},
        "/revocations": {"POST"},
    }.items():
        for verb in {"GET", "POST", "PUT", "PATCH", "DELETE"} - has:
            assert ask(node, verb, path, None, {"X-API-Key": API_KEY}) == (405, "method_not_allowed"), (verb, path)
        answer = requests.options(node.url + "/api/v1" + path, timeout=5)
        assert answer.status_code == 204 and has <= set(answer.headers["Allow"].split(", "))


# Anonymous


def test_without_a_token_only_an_open_node_lets_in_and_only_into_its_default_tenant(
    closed_node: Node, two_workers: Node
) -> None:
    for namespace in NAMESPACES:
        for auth in (None, {}, {"token": ""}, {"token": None}, {"tenantId": "default"}):
            assert try_connect(closed_node, namespace, auth) == "authentication_required"
            assert try_connect(two_workers, namespace, auth) is None
        for wanted in ("acme", "default2", "-"):
            assert try_connect(two_workers, namespace, {"tenantId": wanted}) == "tenant_denied"
    member = Tenant(two_workers, "default")
    client = Plain(two_workers.url)
    with stopping(member, client):
        fill(member)
        for namespace in READ_SCOPE:
            assert client.join(namespace).kind == CONNECT
        for namespace, command, payload, permission in COMMANDS:
            answer = run_command(client, namespace, command, payload, member.token())
            if payload is ... or permission in ("logs:clear", "flows:control"):
                # Nobody becomes a user without a connection of that user's own.
                assert answer["error"]["code"] == "forbidden", command
            else:
                assert answer["ok"], (command, answer)
        assert client.call("/logs", "log_history")["data"]["logs"]
        client.settle("/logs")
        Tenant(two_workers, "acme").log("unheard")
        # Answers of the model may be on their way still.
        assert [m for m in client.settle("/logs") if m.kind == EVENT and m.namespace == "/logs"] == []
    # A wrong token is refused, never taken for none.
    for namespace in NAMESPACES:
        assert try_connect(two_workers, namespace, {"token": "nonsense"}) == "authentication_failed"


# Where the token is taken from, and which tenant is meant


@pytest.fixture
def three(node: Node, new_tenant: NewTenant) -> Iterator[list[Tenant]]:
    """Three tenants with a record each, which tells where one is."""
    tenants = [new_tenant(node) for _ in range(3)]
    for tenant in tenants:
        tenant.log(tenant.name)
    yield tenants


def landed(node: Node, auth: Any = None, **options: Any) -> str:
    """Connect to /logs and return the tenant where that led, or the code of the refusal."""
    client = Plain(node.url, **options)
    with stopping(client):
        code = code_of(client.join("/logs", auth))
        if code is not None:
            return code
        logs = client.call("/logs", "log_history")["data"]["logs"]
        return str(logs[0]["message"]) if logs else "empty"


def test_the_payloads_token_comes_before_the_headers_and_the_querys(node: Node, three: list[Tenant]) -> None:
    a, b, c = three
    header, query = bearer(b.token()), "token=" + c.token()
    assert landed(node, {"token": a.token()}, headers=header, query=query) == a.name
    assert landed(node, {"token": ""}, headers=header, query=query) == b.name
    assert landed(node, None, headers=header, query=query) == b.name
    assert landed(node, {"token": None}, query=query) == c.name
    assert landed(node, None, headers={"Authorization": "Basic YTpi"}, query=query) == c.name
    # What is wrong in an earlier source is refused, though a later one would do.
    assert landed(node, {"token": "nonsense"}, headers=header, query=query) == "authentication_failed"
    assert landed(node, {"token": 5}, headers=header, query=query) == "authentication_failed"
    with pytest.raises(Closed):  # Socket.IO v5: a CONNECT carries an object or nothing
        landed(node, ["token"], headers=header, query=query)
    assert landed(node, None, headers=bearer("nonsense"), query=query) == "authentication_failed"
    # Fields that it doesn't know are the application's own.
    assert landed(node, {"token": a.token(), "pid": "x", "offset": [], "theme": {"dark": True}}) == a.name


def test_the_tenant_is_the_wanted_one_else_the_tokens_default_else_its_only_one(
    node: Node, three: list[Tenant]
) -> None:
    a, b, c = (tenant.name for tenant in three)
    both = token(tenants=[a, b])
    default = token(tenants=[a, b], tenantId=b)
    table: list[tuple[Any, str, str]] = [
        # connect payload, query, outcome
        ({"token": both}, "", "tenant_required"),
        ({"token": both, "tenantId": a}, "", a),
        ({"token": both, "tenantId": b}, f"tenantId={a}", b),
        ({"token": both, "tenantId": ""}, f"tenantId={a}", a),
        ({"token": both}, f"tenantId={b}", b),
        ({"token": both, "tenantId": c}, "", "tenant_denied"),
        ({"token": both}, f"tenantId={c}", "tenant_denied"),
        ({"token": default}, "", b),
        ({"token": default, "tenantId": a}, "", a),
        ({"token": default, "tenantId": c}, "", "tenant_denied"),
        ({"token": token(tenants=[a])}, "", a),
        ({"token": token(tenants=[a, a])}, "", a),
        ({"token": token(tenants=[a], tenantId=b)}, "", "tenant_denied"),
        ({"token": signed(sub="ann", tenantId=b)}, "", b),
        ({"token": signed(userId="ann", tenants=[])}, "", "tenant_required"),
        ({"token": signed(userId="ann")}, "", "tenant_required"),
        ({"token": both, "tenantId": 5}, "", "authentication_failed"),
    ]
    for auth, query, expected in table:
        assert landed(node, auth, query=query) == expected, (auth, query)
    for headers, expected in (
        (bearer(both), (400, "tenant_required")),
        (bearer(both, **{"X-Tenant-Id": b}), (200, None)),
        (bearer(default), (200, None)),
        (bearer(both, **{"X-Tenant-Id": c}), (403, "tenant_denied")),
    ):
        assert ask(node, "GET", "/logs", None, headers) == expected


def signed(**claims: Any) -> str:
    """Return a token of these claims alone."""
    return jwt.encode({"exp": int(time.time()) + 3600, **claims}, SECRET)


def test_the_javascript_client_is_told_each_code(closed_node: Node) -> None:
    url, good = closed_node.url, token()
    table: list[tuple[dict[str, Any], str | None]] = [
        ({"namespace": "/logs"}, "authentication_required"),
        ({"namespace": "/"}, "authentication_required"),
        ({"namespace": "/logs", "auth": {"token": "nonsense"}}, "authentication_failed"),
        ({"namespace": "/flows", "auth": {"token": token(exp=1_700_000_000, iat=None)}}, "token_expired"),
        ({"namespace": "/logs", "auth": {"token": token(tenants=["a", "b"])}}, "tenant_required"),
        ({"namespace": "/logs", "auth": {"token": good, "tenantId": "b"}}, "tenant_denied"),
        ({"namespace": "/logs", "auth": {"token": token(scope="flows:read")}}, "forbidden"),
        ({"namespace": "/flows", "auth": {"token": token(scope="logs:read")}}, "forbidden"),
        ({"namespace": "/flows", "auth": {"token": token(scope="flows:read")}}, None),
        ({"namespace": "/logs", "query": {"token": good}}, None),
        ({"namespace": "/logs", "query": {"token": token(tenants=["a", "b"]), "tenantId": "b"}}, None),
        ({"namespace": "/logs", "headers": {"Authorization": f"Bearer {good}"}}, None),
        ({"namespace": "/logs", "headers": {"Authorization": f"Bearer {good}"}, "transports": ["websocket"]}, None),
        ({"namespace": "/logs", "auth": {"token": good}, "transports": ["websocket"]}, None),
        ({"namespace": "/", "auth": {"token": good}}, None),
    ]
    outcomes = json.loads(run_js("refusals.mjs", url, json.dumps([case for case, _ in table])))
    for (case, code), outcome in zip(table, outcomes, strict=True):
        if code is None:
            assert outcome == {"connected": True}, case
        else:
            assert outcome["code"] == code and outcome["keys"] == ["code"] and outcome["message"], (case, outcome)
            assert outcome["active"] is False, "stock clients take it as final"
    unknown = [{"namespace": "/nonsense", "auth": auth} for auth in ({}, {"token": good})]
    for outcome in json.loads(run_js("refusals.mjs", url, json.dumps(unknown))):
        assert outcome["message"] == "Invalid namespace" and outcome["active"] is False


def test_an_unknown_namespace_is_invalid_and_the_root_has_no_commands(node: Node) -> None:
    client = Plain(node.url)
    with stopping(client):
        for name in ("/nonsense", "/logs/", "/LOGS", "/logs/acme", "/*", "/workspaces2"):
            assert client.join(name) == Message(CONNECT_ERROR, name, None, {"message": "Invalid namespace"})
        assert client.join("/", {"token": token()}).kind == CONNECT
        for name in ("log_history", "subscribe_flow", "connect", "disconnect", "message"):
            assert client.call("/", name)["error"]["code"] == "unknown_event"
            client.emit("/", name)
            told = client.told("/", "error")
            assert (told["event"], told["code"]) == (name, "unknown_event")


# Before CONNECT, and after a refusal


def test_what_comes_before_connect_does_nothing(tenant: Tenant) -> None:
    watcher = tenant.plain("/logs")
    for namespace, command in [*(one[:2] for one in SERVED), ("/nonsense", "clear_logs")]:
        payload = PAYLOADS.get(command)
        for id in (None, 5):
            # Socket.IO v5: a connection begins with a CONNECT.
            client = Plain(tenant.url)
            with stopping(client):
                client.emit(namespace, command, {"token": tenant.token()} if payload is ... else payload, id=id)
                assert client.wait_closed() == []
    client = Plain(tenant.url)
    with stopping(client):
        assert client.join("/logs", {"token": "nonsense"}).kind == CONNECT_ERROR
        client.emit("/logs", "clear_logs", {"flowId": "f1"}, id=6)
        assert client.join("/logs", {"token": tenant.token()}).kind == CONNECT
        client.emit("/flows", "subscribe_flow", {"flowId": "f1"}, id=7)
        tenant.log("later")
        assert client.told("/logs", "new_log")["log"]["message"] == "later"
        assert client.settle("/logs") == [], "neither answered nor remembered"
        assert len(client.call("/logs", "log_history", {"flowId": "f1"})["data"]["logs"]) == 1
    watcher.told("/logs", "new_log")
    assert watcher.settle("/logs") == []


def test_a_first_connect_by_websocket_on_a_new_worker_is_served(shared_redis: Any) -> None:
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="fresh")
    with stopping(node):
        until(lambda: "Listening at" in node.text() and _answers(node), 20)


def _answers(node: Node) -> bool:
    try:
        client = Plain(node.url)
    except ConnectionError:
        return False
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code == 503, error
        return False
    with stopping(client):
        return client.join("/logs").kind == CONNECT


# Tickets


def fetch_ticket(tenant: Tenant, text: str) -> str:
    answer = tenant.http("POST", "/tickets", headers=bearer(text))
    assert answer.status_code == 201 and set(answer.json()) == {"ticket", "expiresAt"}
    return str(answer.json()["ticket"])


def test_a_ticket_opens_one_session_with_all_its_namespaces(tenant: Tenant) -> None:
    ticket = fetch_ticket(tenant, tenant.token())
    client, second = Plain(tenant.url, query="token=" + ticket), Plain(tenant.url)
    with stopping(client, second):
        assert client.join("/logs").kind == CONNECT
        assert client.join("/flows", {"token": ticket}).kind == CONNECT
        assert client.join("/").kind == CONNECT
        assert client.call("/logs", "log_history", {"flowId": "f1"})["data"]["logs"]
        assert code_of(second.join("/logs", {"token": ticket})) == "authentication_failed"
        assert ask(tenant.node, "GET", "/logs", None, bearer(ticket)) == (401, "authentication_failed")
        # A new one serves a connection by a ticket as its newer token.
        assert client.call("/logs", "auth_refresh", {"token": fetch_ticket(tenant, tenant.token())})["ok"]
        assert client.call("/logs", "auth_refresh", {"token": tenant.token()})["ok"]
        assert code_of(second.join("/logs", {"token": fetch_ticket(tenant, tenant.token())})) is None


def test_of_many_sessions_that_show_a_ticket_at_once_one_is_let_in(tenant: Tenant) -> None:
    ticket = fetch_ticket(tenant, tenant.token())
    clients = [tenant.plain() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda client: code_of(client.join("/logs", {"token": ticket})), clients))
    assert codes.count(None) == 1 and codes.count("authentication_failed") == 7


def test_a_ticket_is_worth_no_more_than_its_token(tenant: Tenant, new_tenant: NewTenant) -> None:
    other = new_tenant(tenant.node)
    narrow = tenant.token(tenants=[tenant.name, other.name], tenantId=tenant.name, scope="logs:read")
    assert try_connect(tenant.node, "/flows", {"token": fetch_ticket(tenant, narrow)}) == "forbidden"
    client = Plain(tenant.url)
    with stopping(client):
        assert client.join("/logs", {"token": fetch_ticket(tenant, narrow)}).kind == CONNECT
        assert client.call("/logs", "log_history", {"flowId": "f1"})["data"]["logs"], "the tenant of the request"
        assert client.call("/logs", "clear_logs", {"flowId": "f1"})["error"]["code"] == "forbidden"
        assert client.call("/logs", "auth_refresh", {"token": tenant.token()})["error"]["code"] == "forbidden"
    # Over HTTP it is worth one request, and no other ticket.
    assert ask(tenant.node, "GET", "/logs", None, bearer(fetch_ticket(tenant, narrow))) == (200, None)
    for verb, path, body, code in (
        ("DELETE", "/logs?flowId=f1", None, "forbidden"),
        ("POST", "/tickets", None, "forbidden"),
        ("POST", "/revocations", {"userId": "ann"}, "forbidden"),
    ):
        assert ask(tenant.node, verb, path, body, bearer(fetch_ticket(tenant, narrow))) == (403, code)
    # A ticket that is refused for another reason is not used up.
    ticket = fetch_ticket(tenant, narrow)
    assert try_connect(tenant.node, "/logs", {"token": ticket, "tenantId": "acme"}) == "tenant_denied"
    assert try_connect(tenant.node, "/logs", {"token": ticket}) is None


def test_the_javascript_client_fetches_a_new_ticket_for_each_connection(tenant: Tenant) -> None:
    outcome = json.loads(tenant.js("renewal.mjs"))
    assert outcome == {"rounds": [[True, True]] * 3, "errors": [], "tickets": 3}


# What the server does not start with


REFUSED_STARTS: list[tuple[dict[str, str], str]] = [
    ({"SOCKET_AUTH_REQUIRED": "true", "JWT_SECRET": ""}, "SOCKET_AUTH_REQUIRED"),
    ({"JWT_SECRET": "shorter"}, "JWT_SECRET"),
    ({"JWT_SECRET": "your-256-bit-secret-your-256-bit-secret"}, "JWT_SECRET"),
    ({"JWT_SECRET": "a" * 64}, "JWT_SECRET"),
    ({"TICKET_SECRET": "shorter"}, "TICKET_SECRET"),
    ({"API_KEYS": "short:acme"}, "API_KEYS"),
    ({"SOCKET_CORS_CREDENTIALS": "true"}, "SOCKET_CORS_CREDENTIALS"),
    ({"JWT_ALGORITHMS": "none"}, "JWT_ALGORITHMS"),
    ({"JWT_ALGORITHMS": "RS256"}, "JWT_PUBLIC_KEY"),
    ({"SOCKET_PING_INTERVAL": "soon"}, "SOCKET_PING_INTERVAL"),
    ({"SOCKET_ANONYMOUS_SCOPE": "everything"}, "SOCKET_ANONYMOUS_SCOPE"),
]


def test_bad_settings_stop_the_start_with_a_sentence_that_names_them(shared_redis: Any) -> None:
    nodes = [(Node(REDIS_URL=shared_redis.url, **env), env, name) for env, name in REFUSED_STARTS]
    with stopping(*(node for node, _, _ in nodes)):
        for node, env, name in nodes:
            try:
                node.process.wait(20)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"it started with {env}") from None
            written = node.text().strip()
            assert node.process.returncode not in (0, None)
            assert written.startswith("mintflow: ") and name in written and written.endswith("."), (env, written)
            assert "Traceback" not in written and "\n" not in written
            assert not any((env.get(secret) or "\0") in written for secret in ("JWT_SECRET", "TICKET_SECRET")), written


def test_a_connection_in_no_namespace_hears_nothing(tenant: Tenant) -> None:
    client = Plain(tenant.url)
    with stopping(client):
        assert client.join("/logs", {"token": "nonsense"}).kind == CONNECT_ERROR
        tenant.log("unheard")
        with pytest.raises((AssertionError, Closed)):
            client.told("/logs", "new_log", 0.3)
        assert client._waiting == []
