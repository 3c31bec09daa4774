"""What a node counts of the worse days: clients that come back, are too slow or too fast, and a log that was lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.test_metrics import scrape, total
from tests.plain_client import CONNECT, Plain
from tests.ports import free_port
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until
from tests.tenants import Tenant

Grown = Callable[..., float]


@pytest.fixture(scope="module")
def redis() -> Iterator[PrivateRedis]:
    """A Redis that may be emptied."""
    server = PrivateRedis()
    with stopping(server):
        yield server


@pytest.fixture(scope="module")
def strict(redis: PrivateRedis) -> Iterator[Node]:
    """One worker with limits that a test reaches at once."""
    node = Node(
        REDIS_URL=redis.url,
        AI_BACKEND="echo",
        SOCKET_RATE_LIMIT="20",
        SOCKET_RATE_BURST="20",
        SOCKET_OUTBOX_BYTES="20000",
        INTERNAL_BIND=f"127.0.0.1:{free_port()}",
    )
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture
def tenant(strict: Node) -> Iterator[Tenant]:
    made = Tenant(strict)
    with stopping(made):
        yield made


@pytest.fixture
def grown(strict: Node) -> Grown:
    """Returns by how much a series has grown since the test began."""
    before = scrape(strict)

    def since(name: str, **labels: str) -> float:
        return total(scrape(strict), name, **labels) - total(before, name, **labels)

    return since


def came_back(tenant: Tenant, **auth: Any) -> tuple[Plain, Any]:
    client = tenant.plain()
    answer = client.join("/flows", {"token": tenant.token(), "recover": True, **auth})
    assert answer.kind == CONNECT
    return client, answer.content


def test_who_comes_back(tenant: Tenant, grown: Grown) -> None:
    client, answer = came_back(tenant)
    assert client.call("/flows", "subscribe_flow", {"flowId": "f"})["ok"]
    tenant.run("f", "r", {"type": "flow_started"})
    offset = client.told_with_offset("/flows", "flow_started")
    client.close()
    tenant.run("f", "r", {"type": "flow_completed"})
    again, answer = came_back(tenant, pid=answer["pid"], offset=offset)
    again.told("/flows", "flow_completed")
    assert grown("mintflow_recoveries_total", outcome="recovered") == 1
    assert grown("mintflow_recovered_events_total") == 1
    came_back(tenant, pid="0" * 32, offset=offset)
    assert grown("mintflow_recoveries_total") == 2
    assert grown("mintflow_resyncs_total") == 1


def test_who_takes_too_little(tenant: Tenant, grown: Grown) -> None:
    client = tenant.plain("/logs", "/flows")
    assert client.call("/logs", "subscribe_logs", {})["ok"]
    assert client.call("/flows", "subscribe_flow", {"flowId": "f"})["ok"]

    def more_logs() -> float:
        tenant.log(*["x" * 30_000] * 50)
        return grown("mintflow_drops_total", policy="drop_oldest")

    until(more_logs, 60, "logs are dropped")
    assert total(scrape(tenant.node), "mintflow_outboxes") == 1
    assert total(scrape(tenant.node), "mintflow_outbox_bytes") > 0

    def more_events() -> float:
        tenant.run("f", "r", *[{"type": "node_failed", "nodeId": "n", "error": "x" * 30_000}] * 5)
        return grown("mintflow_slow_consumers_total")

    until(more_events, 60, "the client is closed")
    assert grown("mintflow_closes_total", reason="slow consumer") == 1
    until(lambda: total(scrape(tenant.node), "mintflow_outbox_bytes") == 0, 30, "nothing waits any more")


def test_who_asks_too_fast(tenant: Tenant, grown: Grown) -> None:
    client = tenant.plain("/flows")
    for number in range(40):
        client.emit("/flows", "subscribe_flow", {"flowId": f"f{number}"}, id=number)
    client.call("/flows", "subscribe_flow", {"flowId": "last"}, seconds=30)
    assert grown("mintflow_rate_limited_total", outcome="slowed") > 0
    assert grown("mintflow_commands_total", command="subscribe_flow", code="ok") == 41


def test_a_log_that_was_lost(tenant: Tenant, grown: Grown, redis: PrivateRedis) -> None:
    client = tenant.plain("/flows")
    tenant.run("f", "r", {"type": "flow_started"})
    client.told("/flows", "flow_started")
    with redis.client() as own:
        own.flushall()
    tenant.run("f", "r2", {"type": "flow_started"})
    assert client.told("/flows", "resync") == {"reason": "epoch"}
    assert grown("mintflow_epoch_changes_total") == 1
    assert grown("mintflow_log_breaks_total", reason="epoch") == 1
    assert grown("mintflow_resyncs_total", reason="epoch") == 1


def test_an_ai_stream(tenant: Tenant, grown: Grown) -> None:
    client = tenant.plain("/ai")
    client.emit("/ai", "ai_request", {"requestId": "r1", "prompt": "hello there", "stream": True})
    client.told("/ai", "ai_stream_end")
    until(lambda: grown("mintflow_ai_requests_total", kind="stream", outcome="completed") == 1, what="it has ended")
    assert grown("mintflow_ai_first_token_seconds_count") == 1
    until(lambda: total(scrape(tenant.node), "mintflow_ai_streams") == 0, what="none is at work")


def test_the_process_itself(strict: Node) -> None:
    samples = scrape(strict)
    assert total(samples, "mintflow_resident_memory_bytes") > 20e6
    assert 0 < total(samples, "mintflow_open_files") < total(samples, "mintflow_max_files")
    assert total(samples, "mintflow_cpu_seconds_total") > 0
    assert 0 <= total(samples, "mintflow_health_probe_age_seconds") < 60
    until(lambda: total(scrape(strict), "mintflow_loop_lag_seconds_count") > 2, what="the loop is looked at")
    (labels, _), *others = samples["mintflow_build_info"]
    assert labels["version"] and labels["python"] and labels["gevent"] and not others
