"""Stock clients of both languages, on each transport, directly and behind nginx: all that they do works."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import socketio

from tests.nginx import Nginx
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, run_js, stopping, until

pytestmark = pytest.mark.thorough

APPLICATION = "tests.integration.apps.conformance:application"
ANY_ORDER = {"transports": ["websocket", "polling"], "tryAllTransports": True}
FINE = {"connected": True, "upgradeErrors": 0, "wrong": [], "errors": [], "left": "io server disconnect"}


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(
        workers=2, application=APPLICATION, REDIS_URL=shared_redis.url, REDIS_PREFIX="interop", SOCKET_RATE_LIMIT="0"
    )
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text() and '"level": "error"' not in node.text(), node.text()


@pytest.fixture(scope="module")
def nginx(node: Node) -> Iterator[Nginx]:
    nginx = Nginx(node.port)
    with stopping(nginx):
        yield nginx


@pytest.fixture(params=["direct", "nginx"])
def url(request: pytest.FixtureRequest, node: Node) -> str:
    if request.param == "direct":
        return node.url
    found: Nginx = request.getfixturevalue("nginx")
    return found.url


def javascript(url: str, options: dict[str, Any], patience: int = 0) -> dict[str, Any]:
    return dict(json.loads(run_js("interop.mjs", url, json.dumps(options), str(patience)).splitlines()[-1]))


@pytest.mark.parametrize(
    ("options", "transport", "upgraded"),
    [
        ({"transports": ["polling"]}, "polling", False),
        ({"transports": ["websocket"]}, "websocket", False),
        ({}, "websocket", True),
        (ANY_ORDER, "websocket", False),
        ({"upgrade": False}, "polling", False),
        ({"rememberUpgrade": True}, "websocket", True),
    ],
    ids=json.dumps,
)
def test_the_javascript_client(url: str, options: dict[str, Any], transport: str, upgraded: bool) -> None:
    report = javascript(url, options, 5000 if upgraded else 0)
    assert report == {**FINE, "transport": transport, "upgraded": upgraded}


@pytest.mark.parametrize("options", [{}, ANY_ORDER], ids=json.dumps)
def test_a_proxy_without_websockets_leaves_clients_polling(nginx: Nginx, options: dict[str, Any]) -> None:
    report = javascript(nginx.plain_url, options)
    assert report["upgradeErrors"] == (0 if options else 1)
    assert report == {**FINE, "transport": "polling", "upgraded": False, "upgradeErrors": report["upgradeErrors"]}


@pytest.fixture(scope="module")
def polling_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(application=APPLICATION, REDIS_URL=shared_redis.url, SOCKET_TRANSPORTS="polling", SOCKET_RATE_LIMIT="0")
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def websocket_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(
        application=APPLICATION, REDIS_URL=shared_redis.url, SOCKET_TRANSPORTS="websocket", SOCKET_RATE_LIMIT="0"
    )
    with stopping(node):
        yield node.wait_ready()


@pytest.mark.parametrize("options", [{}, ANY_ORDER], ids=json.dumps)
def test_a_server_without_websockets_is_polled(polling_node: Node, options: dict[str, Any]) -> None:
    assert javascript(polling_node.url, options) == {**FINE, "transport": "polling", "upgraded": False}


def test_a_server_of_websockets_alone_is_found(websocket_node: Node) -> None:
    options = {"transports": ["polling", "websocket"], "tryAllTransports": True}
    assert javascript(websocket_node.url, options) == {**FINE, "transport": "websocket", "upgraded": False}


def test_a_transport_that_is_off_is_refused(polling_node: Node, websocket_node: Node) -> None:
    for node, transport, error in (
        (polling_node, "websocket", "websocket error"),
        (websocket_node, "polling", "xhr poll error"),
    ):
        report = javascript(node.url, {"transports": [transport], "reconnection": False})
        assert (report["connected"], report["errors"]) == (False, [error])


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], None], ids=str)
def test_the_python_client(url: str, transports: list[str] | None) -> None:
    values = [
        "grüße 💜\x1e",
        {"a": [1, [2.5, [None, {"b": True}]]]},
        b"\0\x01\xfe\xff",
        {"a": b"\7" * 70_000, "b": ["x", b"", {"c": b"c"}]},
        "x" * 80_000,
    ]
    disconnected, told = threading.Event(), list[Any]()
    client = socketio.Client(reconnection=False)
    client.on("disconnect", lambda *_: disconnected.set(), namespace="/chat")
    client.on("message-back", lambda *args: told.append(args))
    for namespace in ("/", "/chat"):
        client.on("question", lambda value: value, namespace=namespace)
    client.connect(url, namespaces=["/", "/chat"], transports=transports, wait_timeout=10)
    try:
        for namespace in ("/", "/chat"):
            for value in values:
                assert client.call("echo", value, namespace, timeout=10) == value
                assert client.call("ask_me", value, namespace, timeout=10) == value
        client.emit("message", ("one", b"two", 3))
        until(lambda: told == [("one", b"two", 3)])
        assert client.transport() == (transports or ["websocket"])[0]
        client.emit("kick_me", namespace="/chat")
        assert disconnected.wait(10)
        assert client.call("echo", "still here", timeout=10) == "still here"
    finally:
        client.disconnect()
