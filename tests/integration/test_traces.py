"""Traces: from a Flask view to a client's event, in memory; and sent to a collector as the OTEL_* variables say."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, stopping, until
from tests.tenants import Tenant

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def traced(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(
        application="tests.integration.apps.traced:application",
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="traced",
        OTEL_TRACES_EXPORTER="otlp",
        PYTHONPATH=str(ROOT),
    )
    with stopping(node):
        yield node.wait_ready()


def test_from_a_view_to_a_clients_event(traced: Node) -> None:
    tenant = Tenant(traced)
    with stopping(tenant):
        client = tenant.plain("/flows")
        client.call("/flows", "subscribe_flow", {"flowId": "f"})
        refused = client.call("/flows", "subscribe_flow", {"flowId": 7})
        assert refused["error"]["code"] == "invalid_payload"
        offset = requests.post(f"{traced.url}/start/{tenant.name}", timeout=10).text
        event = client.told("/flows", "flow_started")
        assert event["runId"] == "r" and "trace" not in str(event).lower()
        headers = {"Authorization": f"Bearer {tenant.token()}", "traceparent": ABOVE}
        called = tenant.http("GET", "/flows/f/runs/r", headers=headers)
        assert called.status_code == 200 and offset in called.text or called.status_code == 200

        def delivered() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = requests.get(f"{traced.url}/spans", timeout=10).json()
            return found if any(span["name"] == "deliver /flows" for span in found) else []

        spans = until(delivered, 30, "the broadcast's span has ended")
    by_name = {span["name"]: span for span in spans}
    view, published, broadcast = by_name["the view"], by_name["publish /flows"], by_name["deliver /flows"]
    assert published["parent"] == view["span"] and published["trace"] == view["trace"]
    assert published["kind"] == "PRODUCER" and broadcast["kind"] == "CONSUMER"
    assert broadcast["links"] == [published["span"]]
    commands = [span for span in spans if span["name"] == "/flows subscribe_flow"]
    assert [span["attributes"].get("error.type") for span in commands] == [None, "invalid_payload"]
    call = by_name["GET /api/v1/flows/<flow_id>/runs/<run_id>"]
    assert call["kind"] == "SERVER" and call["trace"] == ABOVE[3:35] and call["parent"] == ABOVE[36:52]


def test_a_record_keeps_the_trace_that_it_was_written_in(traced: Node, single_node: Node) -> None:
    tenant = Tenant(traced)
    with stopping(tenant):
        client = tenant.plain("/logs")
        headers = {"Authorization": f"Bearer {tenant.token()}", "traceparent": ABOVE}
        own = "f" * 32
        records = [{"level": "info", "message": "a"}, {"level": "info", "message": "b", "traceId": own}]
        assert tenant.http("POST", "/logs", records, headers=headers).status_code == 202
        live = [client.told("/logs", "new_log")["log"] for _ in range(2)]
        assert [log["traceId"] for log in live] == [ABOVE[3:35], own]
        assert tenant.http("GET", "/logs").json()["logs"] == live
        wrong = tenant.http("POST", "/logs", [{"level": "info", "message": "a", "traceId": "F" * 32}])
        assert (wrong.status_code, wrong.json()["error"]["path"]) == (422, "$[0].traceId"), wrong.text
        within = requests.post(f"{traced.url}/log/{tenant.name}", timeout=10).json()
        assert client.told("/logs", "new_log")["log"]["traceId"] == within["trace"]
    # Where nobody traces, a record has what its publisher says, and nothing else.
    plain = Tenant(single_node)
    with stopping(plain):
        client = plain.plain("/logs")
        plain.log("a")
        plain.log("b", traceId=own)
        assert [client.told("/logs", "new_log")["log"].get("traceId") for _ in range(2)] == [None, own]


@pytest.mark.independent
def test_spans_are_sent_where_the_variables_say(private_redis: PrivateRedis) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        node = Node(
            REDIS_URL=private_redis.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
            OTEL_BSP_SCHEDULE_DELAY="200",
            PYTHONPATH=str(ROOT),
        )
        with stopping(node):
            tenant = Tenant(node.wait_ready())
            tenant.log("hello")
            until(lambda: any(b"publish /logs" in body for _, body in received), 60, "the span arrives")
        collector.shutdown()
    path, body = received[0]
    assert path == "/v1/traces" and b"mintflow-realtime" in body
