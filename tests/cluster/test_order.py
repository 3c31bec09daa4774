"""Two nodes, four publishing processes: one order for everybody, each event once, and none for another tenant."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mintflow_realtime.emitter import Emitter
from tests.crowd import Crowd
from tests.servers import API_KEY, ROOT, Node, RedisServer, stopping, token
from tests.watcher import Watcher

EACH = 300

HTTP_PUBLISHER = """
import sys, requests
url, key, name, each = sys.argv[1:]
with requests.Session() as http:
    for n in range(int(each)):
        done = http.post(url + "/api/v1/flows/f1/runs/r1/events", headers={"X-API-Key": key},
                         json={"type": "flow_progress", "progress": n % 100, "data": {"by": name, "nth": n}})
        assert done.status_code == 202, done.text
"""
EMITTER_PUBLISHER = """
import sys
from mintflow_realtime.emitter import Emitter
url, key, name, each = sys.argv[1:]
with Emitter(url) as emit:
    for n in range(int(each)):
        emit.flows.progress("acme", "f1", "r1", n % 100, data={"by": name, "nth": n})
"""


def publisher(text: str, url: str, name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", text, url, API_KEY, name, str(EACH)], cwd=ROOT)


def test_four_publishers_on_three_doors_and_all_clients_hear_one_order(
    redis_server: RedisServer, nodes: tuple[Node, Node]
) -> None:
    crowd = Crowd(8, "f1", *(node.url for node in nodes))
    watchers = [Watcher(node.url, "/flows", auth={"token": token()}) for node in nodes]
    with stopping(crowd, *watchers):
        crowd.wait("subscribed")
        for watcher in watchers:
            assert watcher.call("/flows", "subscribe_flow", {"flowId": "f1", "runId": "r1"})["ok"]
            # Two rooms that match must not mean two deliveries.
            assert watcher.call("/flows", "subscribe_flow", {"flowId": "f1"})["ok"]
        processes = [
            publisher(HTTP_PUBLISHER, nodes[0].url, "http-0"),
            publisher(HTTP_PUBLISHER, nodes[1].url, "http-1"),
            publisher(EMITTER_PUBLISHER, redis_server.url, "emitter"),
        ]
        done = requests.post(f"{nodes[0].url}/burst", json={"count": EACH, "flow": "f1", "run": "r1"}, timeout=60)
        assert done.status_code == 200, done.text
        for process in processes:
            assert process.wait(60) == 0
        total = 4 * EACH
        crowd.wait("flow_progress", total, 30)
        orders = [crowd.payloads(client, "flow_progress") for client in range(crowd.clients)]
        orders += [watcher.wait("flow_progress", total, 30) for watcher in watchers]
        assert [event["seq"] for event in orders[0]] == list(range(1, total + 1))
        for order in orders[1:]:
            assert order == orders[0]
        for name in ("http-0", "http-1", "emitter", "view"):
            assert [event["nth"] for event in orders[0] if event["by"] == name] == list(range(EACH))
        assert crowd.counts()["retrying"] == crowd.counts()["refused"] == crowd.counts()["lost"] == 0


def test_a_python_client_on_polling_hears_a_burst(redis_server: RedisServer, nodes: tuple[Node, Node]) -> None:
    """python-engineio's client breaks off at a response of more than 16 packets, so none may have more."""
    poller = Watcher(nodes[0].url, "/flows", auth={"token": token()}, transports=["polling"])
    with stopping(poller):
        assert poller.call("/flows", "subscribe_flow", {"flowId": "f2"})["ok"]
        batch = [{"type": "flow_progress", "progress": 50, "data": {"n": n}} for n in range(200)]
        url = f"{nodes[1].url}/api/v1/flows/f2/runs/r2/events"
        assert requests.post(url, json=batch, headers={"X-API-Key": API_KEY}, timeout=5).status_code == 202
        assert [event["n"] for event in poller.wait("flow_progress", 200, 5)] == list(range(200))


NAMESPACES = ("/flows", "/logs", "/board")
ROUNDS = 60


@pytest.fixture
def residents(nodes: tuple[Node, Node]) -> Iterator[list[tuple[str, Watcher]]]:
    """(tenant, client) for each tenant, node, and way in (a token, or none); all follow the same ids."""
    made: list[tuple[str, Watcher]] = []
    try:
        for tenant in ("acme", "other"):
            for node in nodes:
                for auth in ({"token": token("ann", [tenant])}, {"tenantId": tenant}):
                    watcher = Watcher(node.url, *NAMESPACES, auth=auth)
                    made.append((tenant, watcher))
                    assert watcher.call("/flows", "subscribe_flow", {"flowId": "f", "runId": "r"})["ok"]
                    assert watcher.call("/flows", "subscribe_flow", {"runId": "r"})["ok"]
                    watcher.call("/board", "open_card", "c")
        yield made
    finally:
        for _, watcher in made:
            watcher.close()


def test_nothing_reaches_another_tenant_and_all_of_ones_own_arrives_once(
    redis_server: RedisServer, nodes: tuple[Node, Node], residents: list[tuple[str, Watcher]]
) -> None:
    script = """
import sys
from mintflow_realtime.emitter import Emitter
url, tenant, rounds = sys.argv[1:]
with Emitter(url) as emit:
    for n in range(int(rounds)):
        mine = {"of": tenant, "n": n}
        emit.flows.progress(tenant, "f", "r", 50, data=mine)
        emit.logs.append(tenant, flow_id="f", run_id="r", message="m", metadata=mine)
        emit.publish(tenant, "/board", "card_added", mine)
        emit.publish(tenant, "/board", "card_moved", mine, room="c")
"""
    publishers = [
        subprocess.Popen([sys.executable, "-c", script, redis_server.url, tenant, str(ROUNDS)], cwd=ROOT)
        for tenant in ("acme", "other")
        for _ in range(2)
    ]
    for process in publishers:
        assert process.wait(60) == 0
    events = ("flow_progress", "new_log", "card_added", "card_moved")
    for _, watcher in residents:
        for event in events:
            watcher.wait(event, 2 * ROUNDS, 20)
    # What may come too late, or twice, comes before this.
    with Emitter(redis_server.url) as emit:
        for tenant in ("acme", "other"):
            for namespace in ("/board",):
                emit.publish(tenant, namespace, "last", {"of": tenant})
            emit.flows.completed(tenant, "f", "r", data={"of": tenant})
            emit.logs.append(tenant, message="last", metadata={"of": tenant})
    for tenant, watcher in residents:
        watcher.wait("last")
        watcher.wait("flow_completed")
        watcher.wait("new_log", 2 * ROUNDS + 1)
        heard = Counter(
            (event, owner(event, payload)) for _, event, payload in list(watcher.events) if event != "welcome"
        )
        assert heard == {
            **{(event, tenant): 2 * ROUNDS for event in events},
            ("new_log", tenant): 2 * ROUNDS + 1,
            ("last", tenant): 1,
            ("flow_completed", tenant): 1,
        }


def owner(event: str, payload: Any) -> str:
    assert payload.get("tenantId", None) in (None, payload.get("of"), (payload.get("log") or {}).get("tenantId"))
    log = payload.get("log")
    if log is not None:
        assert log["tenantId"] == log["metadata"]["of"]
        return str(log["tenantId"])
    return str(payload["of"])


@pytest.mark.parametrize("workers", [2, 4])
def test_default_clients_meet_no_error_on_several_workers(redis_server: RedisServer, workers: int) -> None:
    node = Node(workers=workers, REDIS_URL=redis_server.url, REDIS_PREFIX=f"w{workers}", SOCKET_RATE_LIMIT="0")
    with stopping(node):
        # All workers listen before the first client comes: a worker that starts under load is another test's.
        node.wait_ready()
        for place in range(workers):
            with node.accepting_only(place):
                node.wait_ready()
        crowd = Crowd(30, "f", node.url)
        with stopping(crowd):
            crowd.wait("subscribed", seconds=30)
            crowd.wait("upgraded", seconds=30)
            # An idle kept-alive connection would hold the worker back when it is told to stop.
            key = {"X-API-Key": API_KEY, "Connection": "close"}
            for n in range(50):
                body = {"type": "flow_progress", "progress": n, "data": {"n": n}}
                answer = requests.post(f"{node.url}/api/v1/flows/f/runs/r/events", json=body, headers=key, timeout=5)
                assert answer.status_code == 202, answer.text
            crowd.wait("flow_progress", 50)
            time.sleep(0.3)
            counts = crowd.counts()
            assert counts == {
                "connected": 30,
                "upgraded": 30,
                "subscribed": 30,
                "flow_progress": 30 * 50,
            }, json.dumps(counts)
            assert crowd.faults() == []
