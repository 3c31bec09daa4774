"""Pages of other origins on real servers: polls, WebSockets and the HTTP API by one policy."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket

from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, Node, stopping, token

POLL = "/socket.io/?EIO=4&transport=polling"
LISTED = "https://app.example.com:443,https://*.pages.example.com,http://Localhost:5173"
ALLOWED = ("https://app.example.com", "https://a.b.pages.example.com", "http://localhost:5173")
REFUSED = ("https://pages.example.com", "http://app.example.com", "https://app.example.com.evil.test", "null")
HEADERS = "Authorization X-API-Key If-Match If-None-Match Idempotency-Key Content-Type X-Tenant-Id".split()


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis) -> Iterator[Node]:
    env = {"SOCKET_CORS_ORIGIN": LISTED, "SOCKET_CORS_CREDENTIALS": "true"}
    made = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="cors", **env)
    with stopping(made):
        yield made.wait_ready()


@pytest.fixture(scope="module")
def open_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    made = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="open")
    with stopping(made):
        yield made.wait_ready()


@pytest.fixture(scope="module")
def deciding_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    made = Node(
        application="tests.integration.apps.origins:application", REDIS_URL=shared_redis.url, REDIS_PREFIX="dec"
    )
    with stopping(made):
        yield made.wait_ready()


def opens(node: Node, origin: str, **headers: str) -> bool:
    """Tell whether a WebSocket of a page of `origin` opens."""
    connection = websocket.WebSocket()
    try:
        connection.connect(
            node.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket",
            origin=origin,
            header=[f"{name}: {value}" for name, value in headers.items()],
            timeout=10,
        )
        return connection.recv()[:1] == "0"
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code == 403
        return False
    finally:
        connection.close()


def polls(node: Node, origin: str, **headers: str) -> requests.Response:
    return requests.get(node.url + POLL, headers={"Origin": origin, **headers}, timeout=10)


def api(node: Node, method: str, path: str, origin: str | None, **more: Any) -> requests.Response:
    headers = {**({"Origin": origin} if origin else {}), **more.pop("headers", {})}
    return requests.request(method, node.url + "/api/v1" + path, headers=headers, timeout=10, **more)


def preflight(node: Node, path: str, origin: str, method: str = "PUT") -> requests.Response:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ",".join(HEADERS).lower()}
    return api(node, "OPTIONS", path, origin, headers=asked)


@pytest.mark.parametrize("origin", ALLOWED)
def test_listed_origins_pass_every_door(node: Node, origin: str) -> None:
    assert opens(node, origin)
    for answer in (polls(node, origin), api(node, "GET", "/logs", origin, headers={"X-API-Key": API_KEY})):
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origin", REFUSED)
def test_others_pass_none(node: Node, origin: str) -> None:
    assert not opens(node, origin)
    answers = polls(node, origin), preflight(node, "/logs", origin), api(node, "GET", "/logs", origin)
    assert answers[0].status_code == 403
    for answer in answers:
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert "Origin" in answer.headers["Vary"]
    polls(node, origin)
    lines = [line for line in node.text().splitlines() if "refused pages" in line and f"'{origin}'" in line]
    assert len(lines) == 1, "one line for each"


def test_the_servers_own_pages_pass_as_the_proxy_tells(node: Node) -> None:
    own = node.url
    assert opens(node, own) and polls(node, own).headers["Access-Control-Allow-Origin"] == own
    assert preflight(node, "/logs", own).headers["Access-Control-Allow-Origin"] == own
    behind = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "Rt.Example.org:443"}
    assert opens(node, "https://rt.example.org", **behind)
    assert polls(node, "https://rt.example.org", **behind).status_code == 200
    answer = api(node, "GET", "/logs", "https://rt.example.org", headers=behind)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://rt.example.org"
    assert not opens(node, "http://rt.example.org", **behind) and not opens(node, "https://rt.example.org")


def test_a_preflight_is_answered_whole(node: Node) -> None:
    for path in ("/logs", "/tickets", "/workspaces/w1", "/flows/f/runs/r/events"):
        answer = preflight(node, path, ALLOWED[0])
        assert answer.status_code == 204 and answer.content == b""
        headers = answer.headers
        assert {name.strip().lower() for name in headers["Access-Control-Allow-Headers"].split(",")} == {
            name.lower() for name in HEADERS
        }
        methods = {name.strip() for name in headers["Access-Control-Allow-Methods"].split(",")}
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= methods
        assert int(headers["Access-Control-Max-Age"]) >= 600


def test_what_a_page_may_see_of_every_answer(node: Node) -> None:
    bearer = {"Authorization": f"Bearer {token()}"}
    made = api(node, "PUT", "/workspaces/w1", ALLOWED[0], headers=bearer, json={"a": 1})
    assert made.status_code == 200 and made.headers["ETag"]
    answers = [
        made,
        api(node, "PUT", "/workspaces/w1", ALLOWED[0], headers={**bearer, "If-Match": '"99"'}, json={}),
        api(node, "GET", "/logs", ALLOWED[0]),
        api(node, "GET", "/logs?limit=x", ALLOWED[0], headers=bearer),
        api(node, "PATCH", "/logs", ALLOWED[0], headers=bearer),
        api(node, "POST", "/logs", ALLOWED[0], headers=bearer, data=b"{"),
    ]
    assert [answer.status_code for answer in answers] == [200, 412, 401, 400, 405, 400]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED[0]
        assert {"ETag", "Retry-After"} == set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert "Access-Control-Allow-Origin" not in api(node, "GET", "/logs", None).headers


def test_every_origin_gets_a_star_and_no_credentials(open_node: Node) -> None:
    for origin in ("https://anybody.test", "null"):
        assert opens(open_node, origin)
        bearer = {"Authorization": f"Bearer {token()}"}
        for answer in (
            polls(open_node, origin),
            preflight(open_node, "/tickets", origin, "POST"),
            api(open_node, "POST", "/tickets", origin, headers=bearer),
        ):
            assert answer.status_code < 300 and answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers


def test_an_applications_function_decides(deciding_node: Node) -> None:
    assert opens(deciding_node, "https://good.test") and not opens(deciding_node, "https://bad.test")
    assert preflight(deciding_node, "/logs", "https://good.test").headers["Access-Control-Allow-Origin"]
    assert "Access-Control-Allow-Origin" not in preflight(deciding_node, "/logs", "https://bad.test").headers
    # What the application answers in front of a view can be read too.
    answer = api(deciding_node, "GET", "/logs?limited", "https://good.test")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (429, "https://good.test")
