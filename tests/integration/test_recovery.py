"""Connection state recovery with the unmodified JavaScript client: nothing missed, nothing twice, or a word of it."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emitter import Emitter
from tests.comeback import Comeback, Network
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, token, until

OFFSET = re.compile(r"\A[0-9a-z]+-[0-9]+\Z")


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="recovery",
        SOCKET_RATE_LIMIT="0",
        SOCKET_ANONYMOUS_TENANTS="acme",
        AI_BACKEND="echo",
        application="tests.integration.apps.board:application",
    )
    with stopping(node):
        yield node.wait_ready()
        faults = [line[:3000] for line in node.text().splitlines() if "Traceback" in line or '"level": "error"' in line]
        assert not faults


@pytest.fixture(scope="module")
def emit(shared_redis: PrivateRedis, node: Node) -> Iterator[Emitter]:
    from config import Settings

    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "recovery"}
    with Emitter(settings=Settings.from_env(env)) as emitter:
        yield emitter


@pytest.fixture
def network(node: Node) -> Iterator[Network]:
    network = Network(node.port)
    with stopping(network):
        yield network


@pytest.fixture
def connect(network: Network) -> Iterator[Callable[..., Comeback]]:
    made: list[Comeback] = []

    def connect(*namespaces: str, **options: Any) -> Comeback:
        made.append(Comeback(network.url, *namespaces, **options))
        return made[-1]

    with stopping(network):
        yield connect
        for client in made:
            client.stop()


def numbers(client: Comeback, namespace: str = "/flows") -> list[int]:
    return [payload["n"] for payload in client.heard(namespace, "flow_progress")]


def progress(emit: Emitter, run: str, *found: int, tenant: str = "acme") -> None:
    for n in found:
        emit.flows.progress(tenant, "flow", run, n % 100, data={"n": n})


def test_what_was_missed_comes_before_connect_in_order_and_once(
    connect: Callable[..., Comeback], network: Network, emit: Emitter
) -> None:
    client = connect("/flows")
    first = client.wait("/flows")
    assert not first["recovered"] and re.fullmatch(r"[\w-]{22}\.[0-9a-f]{8}", first["pid"])
    assert client.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    progress(emit, "r1", 1, 2, 3)
    client.wait_heard("/flows", "flow_progress", 3)
    network.down()
    progress(emit, "r1", *range(4, 40))
    progress(emit, "another", 1000, 1001)
    network.back()
    second = client.wait("/flows", 2)
    assert second == {"sid": first["sid"], "recovered": True, "pid": first["pid"]}
    progress(emit, "r1", 40)
    client.wait_heard("/flows", "flow_progress", 40)
    assert numbers(client) == list(range(1, 41))
    assert client.heard("/flows", "resync") == []
    for _, *args in client.events("/flows"):
        assert OFFSET.match(args[-1]), args
    # The stock client hands on what came before CONNECT when it has come, and before `connect`.
    lines = [line[1:3] for line in client.lines if line[1] in ("event", "connect")]
    assert lines.index(["event", "flow_progress"]) < len(lines)
    at = [i for i, line in enumerate(client.lines) if line[1] == "connect"][1]
    assert sum(line[1:3] == ["event", "flow_progress"] for line in client.lines[:at]) == 39
