"""What docs/clients.md says of stock clients' traps, where they can be run here."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import socketio

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.comeback import Comeback
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, run_js, stopping, token, until

PING_INTERVAL = PING_TIMEOUT = 1.0


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis) -> Iterator[Node]:
    env = {
        "SOCKET_PING_INTERVAL": str(PING_INTERVAL),
        "SOCKET_PING_TIMEOUT": str(PING_TIMEOUT),
        "SOCKET_CONNECT_TIMEOUT": "1",
        "REDIS_URL": shared_redis.url,
        "REDIS_PREFIX": "clients",
    }
    node = Node(application="tests.integration.apps.behind:application", **env)
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def emit(node: Node) -> Iterator[Emitter]:
    with Emitter(settings=Settings.from_env(node.env)) as emit:
        yield emit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_python_handler_of_one_argument_loses_events_with_recover(
    node: Node, emit: Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(str(args.exc_value)))
    lost: list[Any] = []
    heard: list[Any] = []

    def connected(handler: Any) -> socketio.Client:
        client = socketio.Client(reconnection=False)
        client.on("flow_started", handler, namespace="/flows")
        auth = {"token": token("ann"), "recover": True}
        client.connect(node.url, namespaces=["/flows"], auth=auth, transports=["websocket"], wait_timeout=10)
        return client

    one, rest = connected(lambda data: lost.append(data)), connected(lambda data, *_: heard.append(data))
    try:
        emit.flows.started("acme", "python", "r1")
        until(lambda: heard and raised)
        assert lost == [] and "takes 1 positional argument but 2 were given" in raised[0]
        assert one.connected
    finally:
        for client in (one, rest):
            client.disconnect()
            client.wait()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids="-".join)
def test_a_laptop_that_sleeps_misses_nothing(node: Node, emit: Emitter, transports: list[str]) -> None:
    client = Comeback(node.url, "/flows", transports=transports)
    with stopping(client):
        client.wait("/flows")
        emit.flows.started("acme", "sleep", "before")
        client.wait_heard("/flows", "flow_started")
        client.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(PING_INTERVAL + PING_TIMEOUT + 1.5)
            for number in range(3):
                emit.flows.started("acme", "sleep", f"r{number}")
        finally:
            client.process.send_signal(signal.SIGCONT)
        runs = [payload["runId"] for payload in client.wait_heard("/flows", "flow_started", 4)]
        assert runs == ["before", "r0", "r1", "r2"]
        assert client.wait("/flows", 2)["recovered"]


def test_webtransport_first_never_connects_and_last_does_no_harm(node: Node) -> None:
    first = Comeback(node.url, "/probe", transports=["webtransport", "polling"], timeout=500)
    last = Comeback(node.url, "/probe", transports=["polling", "websocket", "webtransport"])
    with stopping(first, last):
        last.wait("/probe")
        until(lambda: len(first.said("/probe", "connect_error")) > 1)
        assert first.said("/probe", "connect_error")[0][0] == "timeout"
        assert first.connects("/probe") == []


def test_a_namespace_with_a_slash_at_its_end_is_none(node: Node) -> None:
    client = Comeback(node.url, "/logs/")
    with stopping(client):
        assert until(lambda: client.said("/logs/", "connect_error"))[0][0] == "Invalid namespace"


def test_a_client_of_engine_io_3_is_told_why(node: Node) -> None:
    answer = requests.get(node.url + "/socket.io/?EIO=3&transport=polling", timeout=10)
    assert answer.status_code == 400
    assert answer.json() == {"code": 5, "message": "Unsupported protocol version"}


def test_an_auth_function_that_never_calls_back_is_asked_again(node: Node) -> None:
    report = json.loads(run_js("client_traps.mjs", node.url, "auth"))
    assert report["calls"] == 2
    assert report["reasons"] == ["transport close"]


def test_what_json_does_to_values(node: Node) -> None:
    assert json.loads(run_js("client_traps.mjs", node.url, "values")) == {
        "noNumbers": [None, None],
        "nothing": [None, 1],
        "gone": {"c": 2},
        "map": {},
        "error": {},
        "zero": 0,
        "date": "1970-01-01T00:00:00.000Z",
        "large": 2**53 + 2,
        "surrogate": "a\ufffdb",
        "bytes": [1, 0, 2, 0],
        "big": "TypeError",
    }
