"""A Redis Cluster of three masters and their replicas behind one node, with tenants on each."""

import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import socketio
from redis.crc import key_slot

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, Repeat, plain_event
from mintflow_realtime.fanout.rooms import tenant_room
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.url import open_redis
from tests.redis_groups import Cluster, Member, paused
from tests.servers import Node, stopping, token, until
from tests.watcher import Watcher

PROMISED = 2.3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    with stopping(cluster):
        yield cluster


@pytest.fixture(scope="module")
def tenants(cluster: Cluster) -> list[str]:
    """One tenant for each master."""
    return cluster.tenants()


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[Node]:
    node = Node(REDIS_URL=cluster.url, SOCKET_RATE_LIMIT="0", AI_BACKEND="echo")
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def emit(cluster: Cluster) -> Iterator[Emitter]:
    with Emitter(cluster.url) as emit:
        yield emit


def watcher(node: Node, tenant: str, *namespaces: str, user: str = "ann") -> Watcher:
    return Watcher(node.url, *namespaces, auth={"token": token(user, [tenant])})


def http(
    node: Node, tenant: str, verb: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> requests.Response:
    ours = {"Authorization": f"Bearer {token('ann', [tenant], scope='logs:write flows:read admin')}", **(headers or {})}
    return requests.request(verb, f"{node.url}/api/v1{path}", json=body, headers=ours, timeout=10)


def heard(watcher: Watcher) -> list[int]:
    return [payload["n"] for payload in watcher.heard("flow_progress")]


def test_every_command_of_every_namespace_keeps_to_its_tenants_slot(node: Node, tenants: list[str]) -> None:
    for tenant in tenants:
        one = watcher(node, tenant, "/logs", "/flows", "/workspaces", "/ai")
        with stopping(one):

            def did(namespace: str, command: str, payload: dict[str, Any], one: Watcher = one) -> Any:
                answer = one.call(namespace, command, payload)
                assert answer["ok"], (command, answer)
                return answer["data"]

            record = {"flowId": "f", "runId": "r", "nodeId": "n", "logLevel": "warn", "message": "hello"}
            assert http(node, tenant, "POST", "/logs", [record] * 3).status_code == 202
            assert len(did("/logs", "log_history", {"flowId": "f"})["logs"]) == 3
            assert len(did("/logs", "filter_logs", {"search": "hell", "logLevel": "warn", "runId": "r"})["logs"]) == 3
            assert len(did("/logs", "subscribe_logs", {"history": 2})["logs"]) == 2
            assert did("/logs", "clear_logs", {"flowId": "f"})["deleted"] == 3
            events = [{"type": "flow_started"}, {"type": "node_started", "nodeId": "n"}, {"type": "flow_completed"}]
            headers = {"Authorization": f"Bearer {token('ann', [tenant])}", "Idempotency-Key": "k"}
            for _ in range(2):
                url = f"{node.url}/api/v1/flows/f/runs/r/events"
                assert requests.post(url, json=events, headers=headers, timeout=10).status_code == 202
            assert did("/flows", "subscribe_flow", {"flowId": "f", "runId": "r", "since": 0})["run"]["seq"] == 3
            assert did("/workspaces", "join_workspace", {"workspaceId": "w"})["workspace"]["version"] == 0
            assert did("/workspaces", "update_workspace", {"workspaceId": "w", "state": {"a": 1}})["version"] == 1
            did("/workspaces", "update_presence", {"workspaceId": "w", "presence": {"x": 1}})
            did("/workspaces", "leave_workspace", {"workspaceId": "w"})
            did("/ai", "ai_request", {"requestId": "q", "prompt": "one two", "stream": True, "conversationId": "c"})
            one.wait("ai_stream_end")
            did("/ai", "resume_stream", {"requestId": "q"})
            did("/ai", "clear_history", {"conversationId": "c"})
            did("/ai", "clear_history", {})
            ticket = http(node, tenant, "POST", "/tickets").json()["ticket"]
            with stopping(Watcher(node.url, "/flows", auth={"token": ticket})):
                pass
            assert http(node, tenant, "POST", "/revocations", {"userId": "bob"}).status_code == 202
            assert one.errors == []


def test_a_large_batch_keeps_to_its_tenants_slot(node: Node, tenants: list[str]) -> None:
    for tenant in tenants:
        records = [{"logLevel": "info", "message": str(number)} for number in range(300)]
        one = watcher(node, tenant, "/logs")
        with stopping(one):

            def offsets(tenant: str = tenant, records: Any = records) -> Any:
                # As a publisher does where the machine is busy, and Redis' answer late.
                answer = http(node, tenant, "POST", "/logs", records, {"Idempotency-Key": "large"})
                assert answer.status_code in (202, 503), answer.text
                return answer.json().get("offsets")

            assert len(set(until(offsets, 30))) == 300
            until(lambda one=one: len(one.heard("new_log")) == 300)
            assert [payload["log"]["message"] for payload in one.heard("new_log")] == [str(n) for n in range(300)]


def test_two_tenants_on_two_masters_hear_their_own_in_order(node: Node, emit: Emitter, tenants: list[str]) -> None:
    first, second = (watcher(node, tenant, "/flows") for tenant in tenants[:2])
    with stopping(first, second):
        for one in (first, second):
            assert one.call("/flows", "subscribe_flow", {"flowId": "order"})["ok"]

        def publish(tenant: str, start: int) -> None:
            for number in range(start, start + 100):
                emit.flows.progress(tenant, "order", "r", 1, data={"n": number})

        threads = [
            threading.Thread(target=publish, args=(tenant, start)) for tenant in tenants[:2] for start in (1000, 2000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for one in (first, second):
            events = one.wait("flow_progress", 200)
            assert [event["seq"] for event in events] == list(range(1, 201))
            assert sorted(heard(one)) == [*range(1000, 1100), *range(2000, 2100)]
        assert {event["tenantId"] for event in first.heard("flow_progress")} == {tenants[0]}


def test_a_stock_manager_elsewhere_emits_through_any_node(node: Node, cluster: Cluster, tenants: list[str]) -> None:
    one = watcher(node, tenants[0], "/flows")
    with stopping(one):
        for member in cluster.members:
            manager = socketio.RedisManager(f"redis://{member.place}/0", write_only=True)
            manager.emit("hello", member.port, namespace="/flows", room=tenant_room(tenants[0]))
            one.wait("hello", 1, 5)
            assert one.heard("hello") == [member.port]
            one.events.clear()
            manager.redis.close()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    client = open_redis(cluster.url)
    assert isinstance(client, ClusterClient)
    yield client
    client.close()


class Move:
    """A tenant's slot on its way from its master to another, step by step."""

    def __init__(self, cluster: Cluster, tenant: str) -> None:
        self.cluster, self.slot = cluster, key_slot(tenant.encode())
        self.source = cluster.owner(tenant)
        self.target = next(one for one in cluster.masters() if one is not self.source)
        self.target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", cluster.id_of(self.source))
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", cluster.id_of(self.target))

    def keys(self) -> None:
        for key in self.source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, 1000):
            self.source.ask("MIGRATE", "127.0.0.1", self.target.port, key, 0, 5000)

    def finish(self) -> None:
        for member in (self.target, self.source, *self.cluster.masters()):
            member.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self.cluster.id_of(self.target))


def test_a_slot_that_moves_under_a_tenant(node: Node, cluster: Cluster, client: ClusterClient, emit: Emitter) -> None:
    """ASK, TRYAGAIN and MOVED all mean that nothing was run; whoever publishes meanwhile waits, or is told so."""
    tenant = "moving" + secrets.token_hex(3)
    keys = Keys("mf0")
    publisher = Publisher(client, keys, Caps())

    def publish(number: int) -> str:
        event = plain_event((f"{tenant}:",), "e", number)
        return publisher.publish(tenant, "/n", [event], repeat=Repeat.of(f"k{number}", "/n", number)).offset

    one = watcher(node, tenant, "/flows")
    with stopping(one):
        assert one.call("/flows", "subscribe_flow", {"flowId": "f"})["ok"]
        emit.flows.progress(tenant, "f", "r", 1, data={"n": 1})
        one.wait("flow_progress", 1)
        assert publish(1).endswith("-1")
        move = Move(cluster, tenant)
        move.keys()
        # What has one key is asked of the new master, at the old one's word.
        head = publisher.head(tenant, "/n")[0]
        assert head is not None and head.number == 1
        assert client.command("INCR", keys.of(tenant, "counter")) == 1
        assert client.owner(keys.of(tenant, "counter")) == ("127.0.0.1", move.source.port)
        # A publish has more, and neither of the two can know of all: nothing is run until all is there.
        began = time.monotonic()
        with pytest.raises(Unavailable, match="nothing was done"):
            publish(2)
        assert time.monotonic() - began < PROMISED
        finishing = threading.Timer(0.3, move.finish)
        finishing.start()
        assert publish(3).endswith("-2")
        finishing.join()
        assert client.command("XLEN", keys.of(tenant, "log", "/n")) == 2
        # Another door, which still believes in the old master, is sent on by MOVED.
        emit.flows.progress(tenant, "f", "r", 1, data={"n": 2})
        emit.flows.progress(tenant, "f", "r", 1, data={"n": 3})
        one.wait("flow_progress", 3)
        assert heard(one) == [1, 2, 3] and one.heard("resync") == []
        until(lambda: _subscribed(move.target, keys.of(tenant, "channel", "/flows")), 5, "the node follows the slot")
        until(lambda: not _subscribed(move.source, keys.of(tenant, "channel", "/flows")), 5)
        emit.flows.progress(tenant, "f", "r", 1, data={"n": 4})
        one.wait("flow_progress", 4)
        assert heard(one) == [1, 2, 3, 4] and one.heard("resync") == []


def _subscribed(member: Member, channel: str) -> bool:
    return bool(member.client.pubsub_numsub(channel)[0][1])


def test_a_hung_master_costs_its_own_tenants_alone(cluster: Cluster, client: ClusterClient, tenants: list[str]) -> None:
    publisher = Publisher(client, Keys("mf0"), Caps())
    event = plain_event(("x:",), "e", 1)
    for tenant in tenants:
        publisher.publish(tenant, "/n", [event])
    # Shorter than what the cluster takes for a failure.
    with paused(cluster.owner(tenants[0])):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            publisher.publish(tenants[0], "/n", [event])
        assert time.monotonic() - began < PROMISED
        for tenant in tenants[1:]:
            began = time.monotonic()
            publisher.publish(tenant, "/n", [event])
            assert time.monotonic() - began < 1.0
    until(lambda: all(cluster.owner(tenant) for tenant in tenants), 10)


def test_a_killed_master_s_tenants_go_on_with_its_replica(
    node: Node, cluster: Cluster, emit: Emitter, tenants: list[str]
) -> None:
    tenant, other = tenants[1:]
    mine, theirs = (watcher(node, name, "/flows") for name in (tenant, other))
    with stopping(mine, theirs):
        for one in (mine, theirs):
            assert one.call("/flows", "subscribe_flow", {"flowId": "kill"})["ok"]

        def publish(name: str, number: int) -> bool:
            try:
                emit.flows.progress(name, "kill", "r", 1, data={"n": number}, idempotency_key=f"kill-{number}")
                return True
            except Unavailable:
                return False

        for number in range(1, 6):
            assert publish(tenant, number) and publish(other, number)
        mine.wait("flow_progress", 5)
        master = cluster.owner(tenant)
        replica = cluster.replica_of(master)
        until(lambda: _offsets_agree(master), 5)
        master.kill()
        killed, number, theirs_number = time.monotonic(), 6, 6
        while not publish(tenant, number):
            assert time.monotonic() - killed < 15
            began = time.monotonic()
            assert publish(other, theirs_number) and time.monotonic() - began < 1.0
            theirs_number += 1
            time.sleep(0.05)
        assert replica.told("replication")["role"] == "master"
        for number in range(7, 11):
            assert publish(tenant, number)
        mine.wait("flow_progress", 10)
        assert heard(mine) == list(range(1, 11)) and mine.heard("resync") == []
        theirs.wait("flow_progress", theirs_number - 1)
        assert heard(theirs) == list(range(1, theirs_number)) and theirs.heard("resync") == []
        assert requests.get(node.url + "/readyz", timeout=5).status_code == 200


def _offsets_agree(master: Member) -> bool:
    replication = master.told("replication")
    return bool(replication["slave0"]["offset"] == replication["master_repl_offset"])


def test_who_is_connected_and_why_whichever_master_a_tenant_is_on(
    node: Node, tenants: list[str], emit: Emitter
) -> None:
    clients = [watcher(node, tenant, "/logs", user="asked") for tenant in tenants]
    with stopping(*clients):
        for tenant, client in zip(tenants, clients, strict=True):
            offset = emit.logs.append(tenant, message="one").offset
            client.wait("new_log")

            def asked(path: str, tenant: str = tenant) -> Any:
                answer = http(node, tenant, "GET", path)
                assert answer.status_code in (200, 503), answer.text
                found = answer.json()
                return found if answer.status_code == 200 and not found.get("unanswered") else None

            rows = until(lambda: asked(f"/connections?tenant={tenant}&userId=asked"), 20)["connections"]  # noqa: B023
            assert [[*row["namespaces"]] for row in rows] == [["/logs"]]
            found = until(lambda: asked(f"/why?offset={offset}&userId=asked"), 20)  # noqa: B023
            assert [one["outcome"] for one in found["connections"]] == ["delivered"], found
