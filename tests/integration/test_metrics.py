"""Metrics of a real server: one scrape for all workers, who may read it, and what each number says."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.plain_client import CONNECT_ERROR
from tests.ports import free_port
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until
from tests.tenants import Tenant

METRICS_TOKEN = "m3t-Qx7_kP2wL9vR4tZ8nB5hJ1sD6fGy"
Samples = dict[str, list[tuple[dict[str, str], float]]]


def scrape(node: Node) -> Samples:
    """Return the samples of the internal address, by name."""
    answer = requests.get(f"http://{node.env['INTERNAL_BIND']}/metrics", timeout=10)
    assert answer.status_code == 200, answer.text
    return parsed(answer.text)


def parsed(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum over all workers of what has these labels."""
    of = samples.get(name, [])
    return sum(value for own, value in of if labels.items() <= own.items())


def workers(samples: Samples) -> set[str]:
    return {labels["worker"] for labels, _ in samples["mintflow_build_info"]}


@pytest.fixture(scope="module")
def counted(shared_redis: PrivateRedis) -> Iterator[Node]:
    """Two workers that show what they count at both addresses."""
    node = Node(
        workers=2,
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="metrics",
        AI_BACKEND="echo",
        SOCKET_RATE_LIMIT="0",
        METRICS_TOKEN=METRICS_TOKEN,
        INTERNAL_BIND=f"127.0.0.1:{free_port()}",
    )
    with stopping(node):
        for place in range(2):
            node.wait_ready()
            with node.accepting_only(place):
                node.wait_ready()
        yield node


@pytest.fixture
def tenant(counted: Node) -> Iterator[Tenant]:
    made = Tenant(counted)
    with stopping(made):
        yield made


def test_the_public_port_shows_it_to_who_has_the_token(counted: Node, single_node: Node) -> None:
    url = counted.url + "/metrics"
    shown = requests.get(url, headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=10)
    assert shown.status_code == 200 and shown.headers["Cache-Control"] == "no-store"
    assert workers(parsed(shown.text)) == {"0", "1"}
    as_openmetrics = requests.get(
        url,
        headers={"Authorization": f"Bearer {METRICS_TOKEN}", "Accept": "application/openmetrics-text; version=1.0.0"},
        timeout=10,
    )
    assert as_openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert as_openmetrics.text.endswith("# EOF\n")
    for header in ("", "Bearer", f"Bearer {METRICS_TOKEN}x", f"Basic {METRICS_TOKEN}", "Bearer ü"):
        refused = requests.get(url, headers={"Authorization": header.encode()}, timeout=10)
        assert refused.status_code == 401, header
        assert refused.json()["error"]["code"] == "authentication_failed"
        assert "mintflow_connects" not in refused.text
    assert requests.get(single_node.url + "/metrics", timeout=10).status_code == 404


def test_the_internal_address_shows_nothing_else(counted: Node) -> None:
    url = f"http://{counted.env['INTERNAL_BIND']}"
    for path in ("/", "/healthz", "/api/v1/logs", "/socket.io/?EIO=4&transport=polling", "/metrics/"):
        assert requests.get(url + path, timeout=10).status_code == 404
    assert requests.post(url + "/metrics", timeout=10).status_code == 404
    head = requests.head(url + "/metrics", timeout=10)
    assert head.status_code == 200 and head.content == b""


def test_connections_are_counted_by_transport_and_namespace(counted: Node, tenant: Tenant) -> None:
    before = scrape(counted)

    def here(transport: str, namespace: str) -> float:
        now = total(scrape(counted), "mintflow_connections", transport=transport, namespace=namespace)
        return now - total(before, "mintflow_connections", transport=transport, namespace=namespace)

    first, second = tenant.plain("/logs", "/flows"), tenant.plain("/logs")
    until(lambda: (here("websocket", "/logs"), here("websocket", "/flows")) == (2, 1), what="two WebSockets")
    polling = tenant.watcher("/logs", transports=["polling"])
    until(lambda: here("polling", "/logs") == 1, what="one polls")
    upgraded = tenant.watcher("/logs", transports=["polling", "websocket"])
    until(lambda: (here("websocket", "/logs"), here("polling", "/logs")) == (3, 1), what="one upgrades")
    after = scrape(counted)
    assert total(after, "mintflow_upgrades_total") > total(before, "mintflow_upgrades_total")
    connects = total(after, "mintflow_connects_total") - total(before, "mintflow_connects_total")
    assert connects == 5
    for client in (first, second, polling, upgraded):
        client.close()
    until(lambda: {here(t, n) for t in ("polling", "websocket") for n in ("/logs", "/flows")} == {0}, what="all left")
    ended = total(scrape(counted), "mintflow_closes_total") - total(before, "mintflow_closes_total")
    assert ended == 4


def test_deliveries_commands_publishes_and_what_they_cost(counted: Node, tenant: Tenant) -> None:
    before = scrape(counted)
    clients = [tenant.plain("/flows") for _ in range(2)]
    for client in clients:
        client.call("/flows", "subscribe_flow", {"flowId": "f"})
    refused = clients[0].call("/flows", "subscribe_flow", {"flowId": 7})
    assert refused["ok"] is False
    tenant.run("f", "r", {"type": "flow_started"}, {"type": "flow_completed"})

    def grown(name: str, **labels: str) -> float:
        return total(scrape(counted), name, **labels) - total(before, name, **labels)

    # Each worker hands over what it counted within a second.
    until(lambda: grown("mintflow_deliveries_total", namespace="/flows") == 4, what="two events to two clients")
    until(lambda: grown("mintflow_http_requests_total", status="202", method="POST") == 1, what="one call")
    command = {"namespace": "/flows", "command": "subscribe_flow"}
    assert grown("mintflow_commands_total", **command, code="ok") == 2
    assert grown("mintflow_commands_total", **command, code="invalid_payload") == 1
    assert grown("mintflow_command_seconds_count", **command) == 3
    assert grown("mintflow_publishes_total", namespace="/flows", outcome="ok") == 1
    assert grown("mintflow_published_events_total", namespace="/flows") == 2
    assert grown("mintflow_publish_seconds_count", namespace="/flows") == 1
    # Both workers hear each.
    assert grown("mintflow_event_age_seconds_count") >= 2
    assert grown("mintflow_redis_calls_total", outcome="ok") > 0
    assert grown("mintflow_http_requests_total", status="202", method="POST") == 1
    assert grown("mintflow_sent_bytes_total") > 0 and grown("mintflow_received_packets_total") > 0


def test_refusals_are_counted_by_code_and_nobody_invents_a_label(counted: Node, tenant: Tenant) -> None:
    before = scrape(counted)
    client = tenant.plain()
    assert client.join("/flows", {"token": "no token"}).kind == CONNECT_ERROR
    assert client.join("/invented", {}).kind == CONNECT_ERROR

    def grown(**labels: str) -> float:
        name = "mintflow_refusals_total"
        return total(scrape(counted), name, **labels) - total(before, name, **labels)

    # The worker that refused hands over what it counted within a second.
    until(lambda: grown(namespace="other", code="other") == 1, what="an unknown namespace is counted")
    assert grown(namespace="/flows", code="authentication_failed") == 1
    assert "invented" not in str(scrape(counted))


def test_who_ended_is_counted_no_more_and_another_serves_the_address(counted: Node, tenant: Tenant) -> None:
    serving = until(lambda: _listener(counted), what="somebody listens")
    client = tenant.plain("/flows")
    os.kill(serving, signal.SIGKILL)

    def replaced() -> Any:
        with contextlib.suppress(requests.RequestException, AssertionError):
            samples = scrape(counted)
            # A number is as old as its worker.
            return len(workers(samples)) == 2 and serving not in counted.workers() and samples
        return None

    samples = until(replaced, 60, "two workers serve again, and one of them the address")
    assert workers(samples) <= {"0", "1", "2"}
    client.close()
    assert _listener(counted) in counted.workers()


def _listener(node: Node) -> int | None:
    """Return which worker listens at the internal address."""
    port = int(node.env["INTERNAL_BIND"].rpartition(":")[2])
    with open("/proc/net/tcp") as table:
        inodes = {row.split()[9] for row in table if f":{port:04X} 00000000:0000 0A" in row}
    for pid in node.workers():
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{name}").removeprefix("socket:[").rstrip("]") in inodes:
                        return pid
    return None


@pytest.mark.independent
def test_an_address_that_is_taken_is_named_and_the_rest_goes_on(private_redis: PrivateRedis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = Node(REDIS_URL=private_redis.url, INTERNAL_BIND=f"127.0.0.1:{port}")
        with stopping(node):
            node.wait_ready()
            until(lambda: f"INTERNAL_BIND: nothing can listen on 127.0.0.1 port {port}" in node.text())
            assert node.text().count("INTERNAL_BIND:") == 1
