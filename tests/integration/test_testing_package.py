"""`mintflow_realtime.testing`: what an application's own tests run on, tried on an application of ours."""

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from mintflow_realtime import errors
from mintflow_realtime.testing import RealtimeServer
from tests.servers import until

TODO = "tests.apps.todo:create_app()"
TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


@pytest.fixture(scope="module")
def server() -> Iterator[RealtimeServer]:
    with RealtimeServer(TODO) as running:
        yield running


def unmeasured() -> dict[str, str]:
    """Return the environment without coverage, which brings modules and warnings of its own into each process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def get(url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_a_client_calls_hears_and_waits(server: RealtimeServer, transports: list[str]) -> None:
    with server.client("/todo", token=server.token(), transports=transports) as client:
        assert client.connected and not client.recovered and client.sid
        assert client.call("add", {"text": "wash up"})["text"] == "wash up"
        assert client.wait_for("added") == {"text": "wash up"}
        get(f"{server.url}/done", {"text": "wash up"})
        assert client.wait_for("done", matching={"text": "wash up"}) == {"text": "wash up"}
        server.emitter.publish("acme", "/todo", "added", {"text": "from outside"})
        assert client.wait_for("added", matching=lambda todo: "outside" in todo["text"])
        assert client.events("added") == [{"text": "wash up"}, {"text": "from outside"}]
        assert [name for name, _ in client.events()] == ["added", "done", "added"]
        client.emit("add", {"text": "no ack"})
        assert client.wait_for("add")["text"] == "no ack"
    assert not client.connected


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_a_client_that_lost_its_network_recovers(server: RealtimeServer, transports: list[str]) -> None:
    with server.client("/todo", token=server.token(), recover=True, transports=transports) as client:
        server.emitter.publish("acme", "/todo", "added", {"text": "before"})
        client.wait_for("added")
        sid, began = client.sid, time.monotonic()
        client.lose_network(0.5)
        assert not client.connected
        server.emitter.publish("acme", "/todo", "added", {"text": "meanwhile"})
        assert client.wait_for("added") == {"text": "meanwhile"}
        assert time.monotonic() - began >= 0.5, "nothing may pass before the network is back"
        assert client.recovered and client.sid == sid and client.connections == 2
        assert client.call("add", {"text": "after"})["text"] == "after"
        client.wait_for("added")
        assert client.events("added") == [{"text": "before"}, {"text": "meanwhile"}, {"text": "after"}]


def test_a_server_is_not_told_that_a_client_lost_its_network(server: RealtimeServer) -> None:
    tokens = server.token("bea"), server.token("cid")
    with server.client("/workspaces", token=tokens[0]) as stays, server.client("/workspaces", token=tokens[1]) as loses:
        for client in (stays, loses):
            client.call("join_workspace", {"workspaceId": "ws-1"})
        assert stays.wait_for("user_joined", matching=lambda told: told["user"]["userId"] == "cid")
        loses.lose_network(1.5)
        with pytest.raises(AssertionError, match="No 'user_left' within 1 s"):
            stays.wait_for("user_left", timeout=1.0)
        # Then it is back, and its host knows nothing of the old connection: the server sees that one reset.
        assert stays.wait_for("user_left")["user"]["userId"] == "cid"


def test_without_recover_a_client_comes_back_and_has_missed_something(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token()) as client:
        client.lose_network(0.3)
        server.emitter.publish("acme", "/todo", "added", {"text": "missed"})
        client.wait_connected()
        assert not client.recovered and client.connections == 2 and client.events() == []


def test_errors_are_those_of_the_tree(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token()) as client:
        with pytest.raises(errors.Conflict, match="nothing to do") as conflict:
            client.call("add", {"text": ""})
        assert conflict.value.code == "conflict" and conflict.value.details == {"listed": 0}
        with pytest.raises(errors.InvalidPayload) as invalid:
            client.call("add", {"txt": ""})
        assert invalid.value.details["path"] == "$.txt"
        with pytest.raises(errors.UnknownEvent):
            client.call("nope")


def test_a_refused_client_raises_what_refused_it(server: RealtimeServer) -> None:
    with pytest.raises(errors.Forbidden) as forbidden:
        server.client("/flows", token=server.token(scope="logs:read"))
    assert forbidden.value.code == "forbidden"
    with pytest.raises(errors.TenantDenied):
        server.client("/flows", token=server.token(), tenant="globex")
    with pytest.raises(errors.AuthenticationError):
        server.client("/flows", token="nonsense")
    with pytest.raises(errors.TokenExpired):
        server.client("/flows", token=server.token(exp=int(time.time()) - 60))


def test_stock_namespaces_answer_as_they_do(server: RealtimeServer) -> None:
    with server.client("/echo") as client:
        assert client.call("echo", {"a": b"\x00\x01"}, "two", b"three") == [{"a": b"\x00\x01"}, "two", b"three"]
        assert client.wait_for("echoed") == [{"a": b"\x00\x01"}, "two", b"three"]
        assert client.call("echo") is None
        with pytest.raises(TimeoutError, match=r"The client of /echo was not answered to 'sleep' within 0.3 s"):
            client.call("sleep", 1, timeout=0.3)
        client.emit("leave")
        with pytest.raises(ConnectionError, match="The server disconnected this client from /echo"):
            until(lambda: client.wait_connected(0.1), 10)


def test_wait_for_tells_what_came_instead(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token()) as client:
        client.call("add", {"text": "wash up"})
        client.wait_for("added")
        with pytest.raises(AssertionError) as failed:
            client.wait_for("added", timeout=0.1, matching={"text": "sleep"})
        said = str(failed.value)
        assert "No 'added' matching {'text': 'sleep'} within 0.1 s at the client of /todo (connected)." in said
        assert "Came instead:\n  added (taken) {'text': 'wash up'}" in said


def test_a_call_in_the_air_is_told_that_its_connection_ended(server: RealtimeServer) -> None:
    with server.client("/echo") as client:
        cutting = threading.Timer(0.3, client.lose_network, (0.5,))
        cutting.start()
        with pytest.raises(ConnectionError, match="ended before 'sleep' was answered"):
            client.call("sleep", 5)
        cutting.join()
        client.wait_connected()


def test_token_key_and_log_are_the_servers(server: RealtimeServer) -> None:
    flow = f"{server.url}/api/v1/flows/invoices/runs/r-1"
    get(f"{flow}/events", {"type": "flow_started"}, {"X-API-Key": server.api_key("globex")})
    bearer = {"Authorization": f"Bearer {server.token(tenants=['globex'])}"}
    assert get(flow, headers=bearer)["run"]["status"] == "started"
    with pytest.raises(ValueError, match=r"There is an API key for acme, globex: name 'x' in RealtimeServer"):
        server.api_key("x")
    get(f"{server.url}/done", {})
    until(lambda: "done was called" in server.log, 10, "the application's print is in the log")


def test_a_killed_worker_is_replaced(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token(), recover=True) as client:
        # The session of a client that has been told nothing yet is saved a tenth of a second late.
        client.call("add", {"text": "mine"})
        assert client.wait_for("added") == {"text": "mine"}
        killed = server.kill_worker()
        assert killed not in server.workers and len(server.workers) == 1
        server.emitter.publish("acme", "/todo", "added", {"text": "survived"})
        assert client.wait_for("added", timeout=20) == {"text": "survived"}
        assert client.recovered
        assert client.call("add", {"text": "x"})["pid"] == server.workers[0] != killed


def test_a_reload_loses_nothing(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token(), recover=True) as client:
        before = server.workers
        server.reload()
        assert len(server.workers) == 1 and not set(before) & set(server.workers)
        server.emitter.publish("acme", "/todo", "added", {"text": "kept"})
        assert client.wait_for("added", timeout=20) == {"text": "kept"} and client.recovered


def test_redis_stops_starts_and_hangs(server: RealtimeServer) -> None:
    with server.client("/todo", token=server.token(), recover=True) as client:
        server.emitter.publish("acme", "/todo", "added", {"text": "one"})
        client.wait_for("added")
        server.redis.stop()
        assert not server.redis.running
        with pytest.raises(errors.Unavailable):
            client.call("add", {"text": "lost"})
        server.redis.start()
        until(lambda: published(server, "two"), 15, "Redis is back")
        assert client.wait_for("added", timeout=20, matching={"text": "two"})
        server.redis.hang(30)
        began = time.monotonic()
        with pytest.raises(errors.Unavailable):
            client.call("add", {"text": "lost"})
        assert time.monotonic() - began < 10
        server.redis.resume()
        until(lambda: published(server, "three"), 15, "Redis goes on")
        assert client.wait_for("added", timeout=20, matching={"text": "three"})


def published(server: RealtimeServer, text: str) -> bool:
    try:
        server.emitter.publish("acme", "/todo", "added", {"text": text})
    except errors.Unavailable:
        return False
    return True
