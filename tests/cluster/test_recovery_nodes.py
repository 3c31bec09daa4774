"""Recovery where a worker is killed, and subscriptions by need, on several nodes."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.comeback import Comeback
from tests.servers import Node, RedisServer, stopping, token, until
from tests.watcher import Watcher

TRANSPORTS = ["websocket", "polling"]
BOARD = "tests.integration.apps.board:application"


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[Node]:
    """One gunicorn with two workers."""
    env = {"REDIS_URL": redis_server.url, "REDIS_PREFIX": "back", "SOCKET_RATE_LIMIT": "0"}
    node = Node(workers=2, application=BOARD, **env)
    with stopping(node):
        node.wait_ready()
        for place in range(2):
            with node.accepting_only(place):
                node.wait_ready()
        yield node


@pytest.fixture(scope="module")
def emit(redis_server: RedisServer) -> Iterator[Emitter]:
    settings = Settings.from_env({"REDIS_URL": redis_server.url, "REDIS_PREFIX": "back"})
    with Emitter(settings=settings) as emitter:
        yield emitter


def numbers(client: Comeback) -> list[int]:
    return [payload["n"] for payload in client.heard("/flows", "flow_progress")]


def test_a_killed_worker_s_clients_go_on_with_another(redis_server: RedisServer, pair: Node, emit: Emitter) -> None:
    """The subscription was answered the moment before: it must not have been known to the killed worker alone."""
    run = "killed"
    workers = sorted(pair.workers())
    with pair.accepting_only(0):
        clients = [Comeback(pair.url, "/flows", "/workspaces", transports=[name]) for name in 2 * TRANSPORTS]
        for client in clients:
            client.wait("/flows")
            client.wait("/workspaces")
    with stopping(*clients):
        for client in clients:
            client.call("/workspaces", "join_workspace", {"workspaceId": run, "deltas": True})
        emit.flows.progress("acme", "flow", run, 1, data={"n": 0})
        for client in clients:
            assert client.call("/flows", "subscribe_flow", {"runId": run})["ok"]
        os.kill(workers[0], signal.SIGKILL)
        for n in range(1, 6):
            emit.flows.progress("acme", "flow", run, n, data={"n": n})
        emit.workspaces.update("acme", run, {"a": 1})
        for client in clients:
            for namespace in ("/flows", "/workspaces"):
                first = client.connects(namespace)[0]
                assert client.wait(namespace, 2) == {"sid": first["sid"], "recovered": True, "pid": first["pid"]}
                assert client.heard(namespace, "resync") == []
            # Who was back before the last of them had it live, a moment after its CONNECT.
            client.wait_heard("/flows", "flow_progress", 5)
            client.wait_heard("/workspaces", "workspace_updated")
            assert numbers(client) == [1, 2, 3, 4, 5]
            assert [one["version"] for one in client.heard("/workspaces", "workspace_updated")] == [1]
        # The dead node's users are this one's now: it refreshes their leases of 20 s.
        killed = time.time() * 1000
        with redis_server.client() as admin:
            key = "back:{acme}:ws-leases"
            until(lambda: all(end > killed + 21_000 for _, end in admin.zrange(key, 0, -1, withscores=True)), 12)
            assert admin.zcard(key) == 4
        assert all(client.heard("/workspaces", "user_left") == [] for client in clients)
        until(lambda: len(pair.workers()) == 2, 5)


def test_a_node_hears_only_what_its_clients_need(redis_server: RedisServer) -> None:
    """8 nodes and 64 tenants, 8 of them on each: what Redis sends to a node is counted."""
    count, tenants = 8, [f"t{number}" for number in range(64)]
    env = {"REDIS_URL": redis_server.url, "REDIS_PREFIX": "need", "SOCKET_RATE_LIMIT": "0"}
    nodes = [Node(application=BOARD, **env) for _ in range(count)]
    clients: list[Watcher] = []
    settings = Settings.from_env(env)
    with stopping(*nodes), Emitter(settings=settings) as emit, redis_server.client() as admin:
        try:
            for node in nodes:
                node.wait_ready()
            for number, tenant in enumerate(tenants):
                clients.append(Watcher(nodes[number % count].url, "/board", auth={"token": token("ann", [tenant])}))
            names = {f"need:{{{tenant}}}:channel:/board" for tenant in tenants}
            held = Counter(name.decode() for name in admin.pubsub_channels("need:*:channel:*"))
            assert set(held) == names
            assert {n for _, n in admin.pubsub_numsub(*names)} == {1}, "each at one node alone"
            for turn in range(5):
                for tenant in tenants:
                    emit.publish(tenant, "/board", "card", {"n": turn})
                    emit.publish(tenant, "/typed", "card", {"n": turn})
            for client in clients:
                client.wait("card", 5)
            # 5 events of each of its 8 tenants, of the 640 that were published.
            assert [requests.get(node.url + "/_counts", timeout=5).json()["heard"] for node in nodes] == [40] * count
            assert all(client.heard("card") == [{"n": turn} for turn in range(5)] for client in clients)
        finally:
            for client in clients:
                client.stop()
