"""The HTTP API's table of answers, on a host application, with real services on a real Redis."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.test import EnvironBuilder, TestResponse
from werkzeug.wrappers import Request
from werkzeug.wsgi import get_input_stream

from mintflow_realtime import tracing
from mintflow_realtime.routes.paths import keep_encoded_slashes
from mintflow_realtime.services.logs import Logs
from tests.routes_app import ACME, BETA, RedisServer, Site, bearer, token

RUN = "/api/v1/flows/f1/runs/r1"
LOG = {"logLevel": "info", "message": "hello"}
NDJSON = {**ACME, "Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_site(redis_server: RedisServer) -> Iterator[Site]:
    site = Site(redis_server.url)
    yield site
    site.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.redis.command("FLUSHALL")
    return shared_site


def refused(response: TestResponse, status: int, code: str, path: str | None = None) -> dict[str, Any]:
    """Check the one form of an error and return it."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    assert response.headers.get("Retry-After") == ("1" if status in (429, 503) else None)
    body = response.get_json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert error["code"] == code and error["retryable"] is (status in (429, 503)) and error["message"]
    if path is not None:
        assert error["path"] == path
    return error


def accepted(response: TestResponse, count: int) -> list[str]:
    """Check the answer to a publish and return its offsets."""
    assert response.status_code == 202, response.get_data(as_text=True)
    body = response.get_json()
    assert set(body) == {"accepted", "offsets"} and body["accepted"] == count == len(body["offsets"])
    numbers = [int(offset.rpartition("-")[2]) for offset in body["offsets"]]
    assert numbers == list(range(numbers[0], numbers[0] + count))
    return list(body["offsets"])


# Who asks

AUTHENTICATION = [
    ({}, 401, "authentication_required"),
    ({"Authorization": "Basic dTpw"}, 401, "authentication_required"),
    (bearer("no.such.token"), 401, "authentication_failed"),
    (bearer("caf\xe9"), 401, "authentication_failed"),
    (bearer(token(exp=int(time.time()) - 3600)), 401, "token_expired"),
    (bearer(token(tenants=["acme", "beta"])), 400, "tenant_required"),
    (bearer(token(), "beta"), 403, "tenant_denied"),
    (bearer(token(scope="flows:read")), 403, "forbidden"),
    ({"X-API-Key": "wrong"}, 401, "authentication_failed"),
    ({"X-API-Key": ""}, 401, "authentication_failed"),
    ({**ACME, "X-Tenant-Id": "beta"}, 403, "tenant_denied"),
    ({**ACME, **bearer(token())}, 401, "authentication_failed"),
]


@pytest.mark.parametrize(("headers", "status", "code"), AUTHENTICATION)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refuses_who_is_not_admitted(site: Site, method: str, headers: Any, status: int, code: str) -> None:
    refused(site.client.open("/api/v1/logs", method=method, headers=headers, json=LOG), status, code)
    assert site.count("acme", "/logs") == 0


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/logs", "logs:read"),
        ("GET", "/api/v1/logs/export", "logs:read"),
        ("POST", "/api/v1/logs", "logs:write"),
        ("DELETE", "/api/v1/logs?flowId=f1", "logs:clear"),
        ("GET", RUN, "flows:read"),
        ("POST", f"{RUN}/events", "flows:write"),
        ("GET", "/api/v1/runs", "flows:read"),
        ("POST", f"{RUN}/beat", "flows:write"),
        ("POST", f"{RUN}/cancel", "flows:control"),
        ("POST", f"{RUN}/signals", "flows:control"),
        ("GET", "/api/v1/flows/f1/control", "flows:write"),
    ],
)
def test_each_route_needs_its_own_permission(site: Site, method: str, path: str, scope: str) -> None:
    bodies = {"logs": LOG, "cancel": {}, "signals": {"name": "go"}, "events": {"type": "flow_started"}}
    body = bodies.get(path.rpartition("/")[2])
    others = "logs:read logs:write logs:clear flows:read flows:write flows:control admin".replace(scope, "")
    headers = bearer(token(scope=others))
    error = refused(site.client.open(path, method=method, json=body, headers=headers), 403, "forbidden")
    assert error["permission"] == scope
    allowed = site.client.open(path, method=method, json=body, headers=bearer(token(scope=scope)))
    assert allowed.status_code in (200, 202, 404)


def test_a_tenant_sees_only_its_own(site: Site) -> None:
    both = token(tenants=["acme", "beta"])
    accepted(site.client.post("/api/v1/logs", json=LOG, headers=bearer(both, "acme")), 1)
    accepted(site.client.post(f"{RUN}/events", json={"type": "flow_started"}, headers=bearer(both, "acme")), 1)
    assert site.messages(ACME) == ["hello"] and site.messages(BETA) == []
    refused(site.client.get(RUN, headers=BETA), 404, "not_found")
    assert site.client.delete("/api/v1/logs?logId=1-1", headers=BETA).get_json() == {"deleted": 0}
    assert site.messages(ACME) == ["hello"]


# Logs


def test_logs_round_trip(site: Site) -> None:
    log = {**LOG, "flowId": "f1", "runId": "r1", "nodeId": "n1", "metadata": {"n": 9007199254740993, "l": [], "o": {}}}
    (offset,) = accepted(site.client.post("/api/v1/logs", json=log, headers=ACME), 1)
    assert offset.endswith("-1")
    response = site.client.get("/api/v1/logs?flowId=f1", headers=ACME)
    assert response.status_code == 200 and response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert set(body) == {"logs"}
    (stored,) = body["logs"]
    assert stored.pop("logId") and stored.pop("createdAt").endswith("Z")
    assert stored == {**log, "tenantId": "acme"}


def test_reads_pages_from_the_newest_back(site: Site) -> None:
    accepted(site.client.post("/api/v1/logs", json=[{**LOG, "message": f"m{i}"} for i in range(7)], headers=ACME), 7)
    pages, query = [], "limit=3"
    while True:
        body = site.client.get(f"/api/v1/logs?{query}", headers=ACME).get_json()
        pages.append([log["message"] for log in body["logs"]])
        if "nextCursor" not in body:
            break
        query = f"limit=3&before={body['nextCursor']}"
    assert pages == [["m4", "m5", "m6"], ["m1", "m2", "m3"], ["m0"]]


def test_filters_by_query(site: Site) -> None:
    levels = ["debug", "info", "warn", "error"]
    batch = [
        {"logLevel": level, "message": f"{level} at {place}: 100%+", "flowId": place}
        for place in ("f1", "null")
        for level in levels
    ]
    accepted(site.client.post("/api/v1/logs", json=batch, headers=ACME), 8)

    def found(query: str) -> list[str]:
        response = site.client.get(f"/api/v1/logs?{query}", headers=ACME)
        assert response.status_code == 200, response.get_data(as_text=True)
        return [log["message"].partition(":")[0] for log in response.get_json()["logs"]]

    assert found("flowId=f1&logLevel=warn") == ["warn at f1"]
    assert found("flowId=f1&logLevel=warn&logLevel=debug") == ["debug at f1", "warn at f1"]
    assert found("flowId=f1&logLevel=warn,debug") == ["debug at f1", "warn at f1"]
    assert found("flowId=f1&minLevel=warn") == ["warn at f1", "error at f1"]
    assert found("flowId=null") == [f"{level} at null" for level in levels]
    assert found("search=WARN+at&limit=1") == ["warn at null"]
    assert len(found("search=100%25%2B")) == 8
    assert len(found("from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z")) == 8
    assert found("to=2020-01-01T00:00:00Z") == []


BAD_QUERIES = [
    ("colour=red", "$.colour"),
    ("flowId=", "$.flowId"),
    ("flowId=a%0Ab", "$.flowId"),
    ("flowId=%ff", "$"),
    ("search=%ff", "$"),
    ("search=", "$.search"),
    ("flowId=a&flowId=b", "$.flowId"),
    ("limit=0", "$.limit"),
    ("limit=1001", "$.limit"),
    ("limit=1.5", "$.limit"),
    ("limit=1_0", "$.limit"),
    ("limit=%D9%A3", "$.limit"),
    ("limit=-1", "$.limit"),
    ("limit=" + "9" * 9000, "$.limit"),
    ("limit=null", "$.limit"),
    ("logLevel=loud", "$.logLevel[0]"),
    ("logLevel=info,", "$.logLevel[1]"),
    ("logLevel=" + ",".join(["info"] * 17), "$.logLevel"),
    ("minLevel=null", "$.minLevel"),
    ("from=yesterday", "$.from"),
    ("from=2026-01-31T08:15:30", "$.from"),
    ("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "$.from"),
    ("before=nowhere", "$.before"),
    ("&".join(f"x{i}=1" for i in range(70)), "$"),
]


@pytest.mark.parametrize(("query", "path"), BAD_QUERIES, ids=[query[:30] for query, _ in BAD_QUERIES])
def test_refuses_a_bad_query(site: Site, query: str, path: str) -> None:
    error = refused(site.client.get(f"/api/v1/logs?{query}", headers=ACME), 400, "invalid_payload", path)
    assert len(error["message"]) <= 400
    if query.startswith("colour"):
        assert "colour" in error["message"]


NOT_OF_A_PAGE = [(query, path) for query, path in BAD_QUERIES if not query.startswith(("limit", "before"))]
OF_EXPORTS = [("limit=5", "$.limit"), ("before=1-1", "$.before"), ("after=nowhere", "$.after"), ("after=", "$.after")]


@pytest.mark.parametrize(("query", "path"), NOT_OF_A_PAGE + OF_EXPORTS, ids=lambda value: value[:30])
def test_refuses_a_bad_filter_of_an_export(site: Site, query: str, path: str) -> None:
    error = refused(site.client.get(f"/api/v1/logs/export?{query}", headers=ACME), 400, "invalid_payload", path)
    assert query.partition("=")[0] in error["message"] or path != "$.colour"


def test_clears_by_exactly_one_criterion(site: Site) -> None:
    batch = [{**LOG, "flowId": "f1", "runId": "r1"}, {**LOG, "flowId": "f1", "runId": "r2"}, {**LOG, "flowId": "f2"}]
    accepted(site.client.post("/api/v1/logs", json=batch, headers=ACME), 3)
    for query in (
        "",
        "?flowId=f1&runId=r1",
        "?flowId=",
        "?flowId=null&colour=red",
        "?nodeId=n1",
        "?flowId=f1&flowId=f2",
    ):
        refused(site.client.delete(f"/api/v1/logs{query}", headers=ACME), 400, "invalid_payload")
    assert len(site.messages()) == 3
    response = site.client.delete("/api/v1/logs?runId=r2", headers=ACME)
    assert response.status_code == 200 and response.get_json() == {"deleted": 1}
    assert site.client.delete("/api/v1/logs?flowId=f1", headers=ACME).get_json() == {"deleted": 1}
    left = site.client.get("/api/v1/logs", headers=ACME).get_json()["logs"]
    assert site.client.delete(f"/api/v1/logs?logId={left[0]['logId']}", headers=ACME).get_json() == {"deleted": 1}
    assert site.messages() == []


# Bodies


def test_takes_a_thousand_records_and_no_more(site: Site) -> None:
    batch = [{**LOG, "message": f"m{i}"} for i in range(1001)]
    refused(site.client.post("/api/v1/logs", json=batch, headers=ACME), 422, "invalid_payload", "$")
    lines = "\n".join(map(json.dumps, batch))
    refused(site.client.post("/api/v1/logs", data=lines, headers=NDJSON), 422, "invalid_payload", "$")
    assert site.count("acme", "/logs") == 0
    accepted(site.client.post("/api/v1/logs", json=batch[:1000], headers=ACME), 1000)
    assert site.messages() == [f"m{i}" for i in range(1000)]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/ndjson; charset=utf-8", "application/jsonl"])
def test_takes_lines(site: Site, kind: str) -> None:
    lines = "\r\n".join([json.dumps({**LOG, "message": f"m{i}"}) for i in range(3)]) + "\n\n"
    headers = {**ACME, "Content-Type": kind}
    accepted(site.client.post("/api/v1/logs", data=lines, headers=headers), 3)
    events = b'{"type":"flow_started"}\n{"type":"flow_completed"}'
    accepted(site.client.post(f"{RUN}/events", data=events, headers=headers), 2)
    assert site.messages() == ["m0", "m1", "m2"]


GOOD = json.dumps(LOG).encode()
BAD_BODIES = [
    (b"", 400, "invalid_payload", "$"),
    (b"{", 400, "invalid_payload", "$"),
    (b"nonsense", 400, "invalid_payload", "$"),
    (GOOD + b"x", 400, "invalid_payload", "$"),
    (b"\xef\xbb\xbf" + GOOD, 400, "invalid_payload", "$"),
    (b'{"logLevel":"info","message":"\xff"}', 400, "invalid_payload", "$"),
    (GOOD.decode().encode("utf-16"), 400, "invalid_payload", "$"),
    (b"5", 422, "invalid_payload", "$"),
    (b"null", 422, "invalid_payload", "$"),
    (b"[]", 422, "invalid_payload", "$"),
    (b'{"message":""}', 422, "invalid_payload", "$.logLevel"),
    (b"{}", 422, "invalid_payload", "$.message"),
    (b'{"logLevel":"info","message":1}', 422, "invalid_payload", "$.message"),
    (b'{"logLevel":[],"message":""}', 422, "invalid_payload", "$.logLevel"),
    (b'{"logLevel":"info","message":"","flowId":"\\ud800"}', 422, "invalid_payload", "$.flowId"),
    (b'{"logLevel":"info","message":"","flowId":"a\\n"}', 422, "invalid_payload", "$.flowId"),
    (b'{"logLevel":"info","message":"","metadata":[]}', 422, "invalid_payload", "$.metadata"),
    (b'{"logLevel":"info","message":"","tenantId":"beta"}', 422, "invalid_payload", "$.tenantId"),
    (b"[" + GOOD + b',{"logLevel":"info","message":1}]', 422, "invalid_payload", "$[1].message"),
    (b"[" + GOOD + b",[]]", 422, "invalid_payload", "$[1]"),
    (b'{"logLevel":"info","message":"","metadata":{"a":' + b"[" * 50_000, 422, "invalid_payload", "$"),
    (b'{"logLevel":"info","level":"info","message":""}', 422, "invalid_payload", "$"),
    (b'{"level":"info","message":"","timestamp":"then"}', 422, "invalid_payload", "$.timestamp"),
    (b'{"logLevel":"info","message":"","' + b"x" * 9000 + b'":1}', 422, "invalid_payload", "$." + "x" * 298),
    (b" " * 4_000_001, 413, "too_large", None),
]


@pytest.mark.parametrize(("body", "status", "code", "path"), BAD_BODIES, ids=[repr(row[0][:40]) for row in BAD_BODIES])
def test_refuses_a_bad_body_and_stores_nothing(site: Site, body: bytes, status: int, code: str, path: Any) -> None:
    response = site.client.post("/api/v1/logs", data=body, headers=ACME)
    assert len(refused(response, status, code, path)["message"]) <= 400
    assert site.count("acme", "/logs") == 0


BAD_LINES = [
    (GOOD + b'\n{"logLevel":"info","message":1}\n' + GOOD, 422, "$[1].message"),
    (GOOD + b'\n{"logLevel":"info","mess', 400, "$"),
    (GOOD + b"\nnonsense\n" + GOOD, 400, "$"),
    (GOOD + b"\n[" + GOOD + b"]", 422, "$[1]"),
    (b"\n\n", 422, "$"),
    (b"", 422, "$"),
]


@pytest.mark.parametrize(("body", "status", "path"), BAD_LINES)
def test_one_bad_line_stores_nothing(site: Site, body: bytes, status: int, path: str) -> None:
    refused(site.client.post("/api/v1/logs", data=body, headers=NDJSON), status, "invalid_payload", path)
    assert site.count("acme", "/logs") == 0


def test_a_large_record_costs_the_others_nothing(site: Site) -> None:
    batch = [LOG, {**LOG, "message": "x" * 70_000}, LOG]
    accepted(site.client.post("/api/v1/logs", json=batch, headers=ACME), 3)
    first, large, last = site.client.get("/api/v1/logs", headers=ACME).get_json()["logs"]
    assert large["truncated"] and large["originalLength"] == 70_000 and len(large["message"]) > 65_000
    assert "truncated" not in first and "truncated" not in last


def test_a_record_keeps_its_trace(site: Site) -> None:
    own, above = "f" * 32, "0af7651916cd43dd8448eb211c80319c"
    headers = {**ACME, "traceparent": f"00-{above}-b7ad6b7169203331-01"}
    batch = [LOG, {**LOG, "traceId": own}]

    def kept() -> list[str | None]:
        accepted(site.client.post("/api/v1/logs", json=batch, headers=headers), 2)
        page = site.client.get("/api/v1/logs?limit=2", headers=ACME).get_json()
        return [log.get("traceId") for log in page["logs"]]

    assert kept() == [None, own], "nobody traces"
    tracing.use(TracerProvider())
    try:
        assert kept() == [above, own]
    finally:
        tracing.end()
    for wrong in ("F" * 32, "f" * 31, "f" * 33, ""):
        body = [LOG, {**LOG, "traceId": wrong}]
        refused(site.client.post("/api/v1/logs", json=body, headers=ACME), 422, "invalid_payload", "$[1].traceId")


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_mends_what_a_publisher_says(site: Site, kind: str) -> None:
    """Another vocabulary's level, half a character, a time: none of them costs the batch."""
    lines = [
        b'{"level":"WARNING","message":"caf\\udce9","metadata":{"k\\ud83d":["\\ud83d\\ude00\\ude00"]}}',
        b'{"logLevel":"loud","message":"","timestamp":"2026-01-31T09:15:30+01:00"}',
        b'{"logLevel":"Notice","message":"","timestamp":1769847330123}',
    ]
    body = b"\n".join(lines) if "nd" in kind else b"[" + b",".join(lines) + b"]"
    accepted(site.client.post("/api/v1/logs", data=body, headers={**ACME, "Content-Type": kind}), 3)
    one, two, three = site.client.get("/api/v1/logs", headers=ACME).get_json()["logs"]
    assert (one["logLevel"], one["message"], one["metadata"]) == ("warn", "caf�", {"k�": ["😀�"]})
    assert (two["logLevel"], two["metadata"], two["timestamp"]) == (
        "info",
        {"level": "loud"},
        "2026-01-31T08:15:30.000Z",
    )
    assert (three["logLevel"], three["metadata"], three["timestamp"]) == ("info", {}, "2026-01-31T08:15:30.123Z")
    assert "timestamp" not in one and "level" not in one


def test_halves_of_characters_in_events_and_states(site: Site) -> None:
    event = b'{"type":"flow_failed","error":"\\ud800","data":{"\\udce9":1}}'
    accepted(site.client.post(f"{RUN}/events", data=event, headers=ACME), 1)
    read = site.client.get(f"{RUN}?since=0", headers=ACME).get_json()
    assert read["run"]["error"] == "�" and read["events"][0]["�"] == 1
    path = "/api/v1/workspaces/w"
    assert site.client.put(path, data=b'{"a\\ud800":["\\udfff"]}', headers=ACME).status_code == 200
    assert site.client.get(path, headers=ACME).get_json()["state"] == {"a�": ["�"]}


def stream(site: Site, path: str, headers: dict[str, str], body: Any, length: int | None = None) -> TestResponse:
    """Post what `body.read` gives: chunked, as gevent's server shows it, without a `length`."""
    environ = EnvironBuilder(path, method="POST", headers=headers).get_environ()
    environ["wsgi.input"] = body
    environ.pop("CONTENT_LENGTH", None)
    if length is None:
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    else:
        environ["CONTENT_LENGTH"] = str(length)
    return site.client.open(Request(environ))


class Endless:
    """A body without an end: how much was read of it, never much at once."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int) -> bytes:
        assert 0 < size <= 65_536
        self.taken += size
        line = GOOD + b"\n"
        return (line * (size // len(line) + 1))[:size]


def test_a_large_body_is_refused_before_it_is_read(site: Site) -> None:
    body = Endless()
    refused(stream(site, "/api/v1/logs", NDJSON, body, 4_000_002), 413, "too_large")
    # And of who isn't admitted nothing is read at all.
    refused(stream(site, "/api/v1/logs", {}, body, 1000), 401, "authentication_required")
    refused(stream(site, "/api/v1/logs", {}, body), 401, "authentication_required")
    assert body.taken == 0


@pytest.mark.parametrize("path", ["/api/v1/logs", f"{RUN}/events", "/api/v1/revocations"])
def test_a_chunked_body_is_bounded_while_it_is_read(site: Site, path: str) -> None:
    body = Endless()
    refused(stream(site, path, NDJSON, body), 413, "too_large")
    assert 16_384 < body.taken <= 4_000_001
    assert site.count("acme", "/logs") == site.count("acme", "/flows") == 0


def test_a_chunked_body_of_lines_is_never_cut(site: Site) -> None:
    line = json.dumps({**LOG, "message": "x" * 40_000}).encode()
    fitting = (line + b"\n") * 90
    fitting += b" " * (4_000_000 - len(fitting) - 1) + b"\n"
    longer = fitting + GOOD + b"\n"
    # Werkzeug's own limit ends the body where the limit is, which is just behind a line here.
    stock = get_input_stream({"wsgi.input": io.BytesIO(longer), "wsgi.input_terminated": True}, True, 4_000_000)
    assert stock.read() == fitting
    refused(stream(site, "/api/v1/logs", NDJSON, io.BytesIO(longer)), 413, "too_large")
    assert site.count("acme", "/logs") == 0
    accepted(stream(site, "/api/v1/logs", NDJSON, io.BytesIO(fitting)), 90)


def test_a_body_that_ends_early_is_refused(site: Site) -> None:
    refused(stream(site, "/api/v1/logs", NDJSON, io.BytesIO(GOOD), len(GOOD) + 50), 400, "invalid_payload", "$")
    assert site.count("acme", "/logs") == 0


# Runs


def test_runs_round_trip(site: Site) -> None:
    refused(site.client.get(RUN, headers=ACME), 404, "not_found")
    started = {"type": "flow_started", "data": {"trigger": "cron", "seq": 99, "tenantId": "beta"}}
    accepted(site.client.post(f"{RUN}/events", json=started, headers=ACME), 1)
    batch = [
        {"type": "node_started", "nodeId": "n1"},
        {"type": "flow_progress", "progress": 140},
        {"type": "node_failed", "nodeId": "n1", "error": {"list": []}},
        {"type": "flow_failed", "error": "broken"},
    ]
    accepted(site.client.post(f"{RUN}/events", json=batch, headers=ACME), 4)
    response = site.client.get(f"{RUN}?since=0", headers=ACME)
    assert response.status_code == 200 and response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    run = body["run"]
    assert (run["status"], run["progress"], run["seq"], run["error"]) == ("failed", 100, 5, "broken")
    assert run["nodes"]["n1"]["error"] == {"list": []}
    assert len(body["events"]) == 5
    assert set(site.client.get(RUN, headers=ACME).get_json()) == {"run"}
    assert site.client.get(f"{RUN}?since=5", headers=ACME).get_json()["events"] == []


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"type": "flow_exploded"}, 422, "$.type"),
        ({"type": "node_started"}, 422, "$"),
        ({"type": "flow_progress"}, 422, "$"),
        ({"type": "flow_progress", "progress": "much"}, 422, "$.progress"),
        ([{"type": "flow_started"}, {"type": "node_started", "nodeId": "\n"}], 422, "$[1].nodeId"),
        ([{"type": "flow_started"}, {"type": "node_started"}], 422, "$[1]"),
        ([], 422, "$"),
        ([{"type": "flow_progress", "progress": 1}] * 1001, 422, "$"),
        ({"type": "flow_started", "colour": 1}, 422, "$.colour"),
    ],
)
def test_refuses_bad_run_events(site: Site, body: Any, status: int, path: str) -> None:
    refused(site.client.post(f"{RUN}/events", json=body, headers=ACME), status, "invalid_payload", path)
    assert site.count("acme", "/flows") == 0


def test_refuses_an_event_over_a_megabyte(site: Site) -> None:
    event = {"type": "flow_started", "data": {"x": "x" * 1_000_001}}
    refused(site.client.post(f"{RUN}/events", json=event, headers=ACME), 413, "too_large")
    refused(site.client.post(f"{RUN}/events", json=[{"type": "flow_started"}, event], headers=ACME), 413, "too_large")
    assert site.count("acme", "/flows") == 0


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/v1/flows/f%7F/runs/r1", "$.flowId"),
        ("/api/v1/flows/f1/runs/%ff", "$.runId"),
        ("/api/v1/flows/f1/runs/" + "r" * 256, "$.runId"),
        ("/api/v1/flows/f%0a/runs/r1", "$.flowId"),
        (f"{RUN}?since=-1", "$.since"),
        (f"{RUN}?since=x", "$.since"),
        (f"{RUN}?since=9007199254740993", "$.since"),
        (f"{RUN}?limit=1", "$.limit"),
    ],
)
def test_refuses_bad_ids_and_queries_of_runs(site: Site, path: str, named: str) -> None:
    refused(site.client.get(path, headers=ACME), 400, "invalid_payload", named)
    if "?" not in path:
        response = site.client.post(f"{path}/events", json={"type": "flow_started"}, headers=ACME)
        refused(response, 400, "invalid_payload", named)


# Idempotency


@pytest.mark.parametrize(
    ("path", "namespace", "first", "second"),
    [
        ("/api/v1/logs", "/logs", [LOG, LOG], [LOG]),
        (f"{RUN}/events", "/flows", {"type": "flow_started"}, {"type": "flow_completed"}),
    ],
)
def test_a_repeat_gives_the_first_answer(site: Site, path: str, namespace: str, first: Any, second: Any) -> None:
    headers = {**ACME, "Idempotency-Key": "k1"}
    answer = site.client.post(path, json=first, headers=headers)
    count = site.count("acme", namespace)
    assert count == answer.get_json()["accepted"]
    assert site.client.post(path, json=first, headers=headers).get_json() == answer.get_json()
    refused(site.client.post(path, json=second, headers=headers), 409, "conflict")
    assert site.count("acme", namespace) == count
    site.client.post(path, json=first, headers={**ACME, "Idempotency-Key": "k2"})
    site.client.post(path, json=first, headers={**BETA, "Idempotency-Key": "k1"})
    assert site.count("acme", namespace) == 2 * count and site.count("beta", namespace) == count


def test_a_thousand_records_repeat_as_one(site: Site) -> None:
    batch = [{**LOG, "message": f"m{i}"} for i in range(1000)]
    headers = {**ACME, "Idempotency-Key": "k1"}
    offsets = accepted(site.client.post("/api/v1/logs", json=batch, headers=headers), 1000)
    assert accepted(site.client.post("/api/v1/logs", json=batch, headers=headers), 1000) == offsets
    assert site.count("acme", "/logs") == 1000


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_refuses_a_bad_idempotency_key(site: Site, key: str) -> None:
    response = site.client.post("/api/v1/logs", json=LOG, headers={**ACME, "Idempotency-Key": key})
    refused(response, 400, "invalid_payload", "$.idempotencyKey")


# Tickets and revocations


def test_a_ticket_is_good_once(site: Site) -> None:
    response = site.client.post("/api/v1/tickets", headers=bearer(token(tenants=["acme", "beta"]), "beta"))
    assert response.status_code == 201 and response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert set(body) == {"ticket", "expiresAt"} and body["expiresAt"].endswith("Z")
    accepted(site.client.post("/api/v1/logs", json=LOG, headers=bearer(body["ticket"])), 1)
    assert site.count("beta", "/logs") == 1
    again = site.client.post("/api/v1/logs", json=LOG, headers=bearer(body["ticket"]))
    refused(again, 401, "authentication_failed")


def test_tickets_are_for_the_bearer_of_a_jwt_alone(site: Site) -> None:
    refused(site.client.post("/api/v1/tickets", headers=ACME), 403, "forbidden")
    ticket = site.client.post("/api/v1/tickets", headers=bearer(token())).get_json()["ticket"]
    refused(site.client.post("/api/v1/tickets", headers=bearer(ticket)), 403, "forbidden")


def test_without_a_secret_tickets_are_forbidden_not_unauthenticated(redis_server: RedisServer) -> None:
    site = Site(redis_server.url, ticket_secret=None)
    try:
        error = refused(site.client.post("/api/v1/tickets", headers=bearer(token())), 403, "forbidden")
        assert "off" in error["message"]
    finally:
        site.close()


@pytest.mark.parametrize("body", [{"userId": "u1"}, {"jti": "j1"}])
@pytest.mark.parametrize("headers", [ACME, bearer(token(userId="boss", jti="j0", scope="admin"))])
def test_revocations_hold_in_the_callers_tenant(site: Site, body: Any, headers: Any) -> None:
    both = token(tenants=["acme", "beta"])
    response = site.client.post("/api/v1/revocations", json=body, headers=headers)
    assert response.status_code == 202 and response.get_json() == {}
    refused(site.client.get("/api/v1/logs", headers=bearer(both, "acme")), 401, "authentication_failed")
    assert site.client.get("/api/v1/logs", headers=bearer(both, "beta")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"{}", 422, "$"),
        (b'{"userId":"u1","jti":"j1"}', 422, "$"),
        (b'{"userId":"\\n"}', 422, "$.userId"),
        (b'{"jti":""}', 422, "$.jti"),
        (b'{"user":"u1"}', 422, "$.user"),
        (b"[]", 422, "$"),
        (b"", 400, "$"),
    ],
)
def test_refuses_bad_revocations(site: Site, body: bytes, status: int, path: str) -> None:
    refused(site.client.post("/api/v1/revocations", data=body, headers=ACME), status, "invalid_payload", path)


def test_revocations_need_an_api_key_or_admin(site: Site) -> None:
    refused(site.client.post("/api/v1/revocations", json={"jti": "j1"}, headers=bearer(token())), 403, "forbidden")
    large = b'{"jti":"' + b"j" * 20_000 + b'"}'
    refused(site.client.post("/api/v1/revocations", data=large, headers=ACME), 413, "too_large")


# The host application


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/logs", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("DELETE", RUN, "GET, HEAD, OPTIONS"),
        ("GET", f"{RUN}/events", "OPTIONS, POST"),
        ("HEAD", "/api/v1/tickets", "OPTIONS, POST"),
        ("PATCH", "/api/v1/revocations", "OPTIONS, POST"),
    ],
)
def test_a_wrong_method_is_answered_in_the_same_form(site: Site, method: str, path: str, allowed: str) -> None:
    response = site.client.open(path, method=method)
    assert response.status_code == 405 and response.headers["Allow"] == allowed
    if method != "HEAD":
        refused(response, 405, "method_not_allowed")
    options = site.client.options(path)
    assert options.status_code == 204 and options.headers["Allow"] == allowed and options.data == b""


def test_head_is_get_without_its_body(site: Site) -> None:
    response = site.client.head("/api/v1/logs", headers=ACME)
    assert response.status_code == 200 and response.data == b""


def test_the_host_application_stays_as_it_was(site: Site) -> None:
    assert site.before == site.after
    for path in ("/api/v1/nothing", "/api/v1/logs/", "/nothing"):
        response = site.client.get(path, headers=ACME)
        assert (response.status_code, response.get_data(as_text=True)) == (404, "the host's own page")
    assert site.client.get("/broken").status_code == 418
    # Its own refusals hold on our paths too, in its own form.
    response = site.client.get("/api/v1/logs", headers={**ACME, "X-Host": "refuse"})
    assert (response.status_code, response.get_data(as_text=True)) == (418, "refused by the host")


@pytest.mark.parametrize("testing", [False, True])
def test_a_fault_of_ours_says_nothing_but_where_to_look(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, testing: bool
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("the secret of the house")

    monkeypatch.setattr(Logs, "read", broken)
    monkeypatch.setitem(site.app.config, "TESTING", testing)
    response = site.client.get("/api/v1/logs", headers=ACME)
    error = refused(response, 500, "internal")
    assert set(error) == {"code", "message", "retryable", "correlationId"}
    assert "secret" not in response.get_data(as_text=True)
    (record,) = [record for record in caplog.records if record.name == "mintflow.routes"]
    assert error["correlationId"] in record.getMessage() and "the secret of the house" in caplog.text


# Whatever is sent

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "logLevel": st.sampled_from(["info", "error"]) | documents,
        "message": st.text(max_size=20) | documents,
        "type": st.sampled_from(["flow_started", "node_failed", "flow_progress"]) | documents,
        "flowId": st.sampled_from(["f1", ""]) | documents,
        "nodeId": st.just("n1") | documents,
        "progress": st.integers() | st.floats() | documents,
        "metadata": documents,
        "data": documents,
        "error": documents,
        "userId": documents,
        "jti": documents,
    },
)
bodies = (
    st.binary(max_size=60)
    | (documents | nearly | st.lists(nearly, max_size=3)).map(lambda value: json.dumps(value).encode())
    | nearly.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    | st.integers(1, 1200).map(lambda depth: nested(depth, b'"message":"","logLevel":"info","metadata"'))
    | st.integers(1, 1200).map(lambda depth: nested(depth, b'"type":"flow_failed","error"'))
)


def nested(depth: int, field: bytes) -> bytes:
    return b"{" + field + b':{"a":' + b"[" * depth + b"]" * depth + b"}}"


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=bodies,
    path=st.sampled_from(["/api/v1/logs", f"{RUN}/events", "/api/v1/revocations", "/api/v1/tickets"]),
    kind=st.sampled_from(["application/json", "application/x-ndjson", "text/plain", "multipart/form-data", ""]),
    key=st.sampled_from([None, "k1"]),
)
def test_no_body_is_a_fault_of_ours(site: Site, body: bytes, path: str, kind: str, key: str | None) -> None:
    headers = {**ACME, "Content-Type": kind, **({"Idempotency-Key": key} if key else {})}
    response = site.client.post(path, data=body, headers=headers)
    assert response.status_code in (202, 400, 403, 409, 413, 422), response.get_data(as_text=True)
    if response.status_code >= 400:
        error = response.get_json()["error"]
        assert error["code"] and error["message"] and error["retryable"] is False


@pytest.mark.parametrize("key", [None, "k1"])
@pytest.mark.parametrize("path", ["/api/v1/logs", f"{RUN}/events"])
def test_no_depth_of_nesting_is_a_fault_of_ours(site: Site, path: str, key: str | None) -> None:
    # What can just be read can be too deep to be written again, a few frames further down.
    field = b'"message":"","logLevel":"info","metadata"' if path.endswith("logs") else b'"type":"flow_failed","error"'
    answers = {}
    for depth in range(700, 1010):
        headers = {**ACME, **({"Idempotency-Key": f"{key}{depth}"} if key else {})}
        answers[depth] = site.client.post(path, data=nested(depth, field), headers=headers).status_code
    assert set(answers.values()) == {202, 422}
    assert list(answers.values()) == sorted(answers.values())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(st.characters(max_codepoint=255), max_size=40)
    | st.lists(
        st.tuples(
            st.sampled_from(["flowId", "limit", "logLevel", "from", "to", "before", "search"]),
            st.sampled_from(["1", "info", "2026-01-31T08:15:30Z", "0001-01-01T00:00:00%2B23:59", "1-1", "%00", ""]),
        ),
        max_size=3,
    ).map(lambda pairs: "&".join("=".join(pair) for pair in pairs)),
    method=st.sampled_from(["GET", "DELETE"]),
)
def test_no_query_is_a_fault_of_ours(site: Site, query: str, method: str) -> None:
    environ = {"QUERY_STRING": query}
    for path in ("/api/v1/logs", RUN):
        response = site.client.open(path, method=method, headers=ACME, environ_overrides=environ)
        assert response.status_code in (200, 400, 404, 405), response.get_data(as_text=True)


# Ids of other systems


@pytest.mark.parametrize(
    "name",
    [
        "scheduled__2026-01-01T00:00:00+00:00",
        "load[eu]",
        "Übergröße",
        "a/b",
        "/",
        "a//b/",
        "50%2F",
        "a/runs/b",
        "a/runs/b/events",
        "x" * 255,
        "?#;&=",
    ],
)
def test_any_text_is_an_id_in_a_path_a_body_and_a_query(site: Site, name: str) -> None:
    quoted = quote(name, safe="")

    def ask(method: str, path: str, **more: Any) -> TestResponse:
        environ = EnvironBuilder(path, method=method, headers=ACME, **more).get_environ()
        return site.client.open(Request(keep_encoded_slashes(environ, "/api/v1")))

    run = f"/api/v1/flows/{quoted}/runs/{quoted}"
    accepted(ask("POST", run + "/events", json={"type": "node_started", "nodeId": name}), 1)
    shown = ask("GET", run).get_json()["run"]
    assert (shown["flowId"], shown["runId"], list(shown["nodes"])) == (name, name, [name])
    workspace = f"/api/v1/workspaces/{quoted}"
    assert ask("PUT", workspace, json={"a": 1}).get_json()["workspace"] == name
    assert ask("GET", workspace).get_json()["state"] == {"a": 1}
    accepted(ask("POST", "/api/v1/logs", json={**LOG, "flowId": name, "runId": name, "nodeId": name}), 1)
    accepted(ask("POST", "/api/v1/logs", json={**LOG, "flowId": "other"}), 1)
    for field in ("flowId", "runId", "nodeId"):
        (found,) = ask("GET", f"/api/v1/logs?{field}={quoted}").get_json()["logs"]
        assert found[field] == name
    assert ask("DELETE", f"/api/v1/logs?flowId={quoted}").get_json() == {"deleted": 1}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/flows/a/b/runs/c",
        "/api/v1/flows/a%2Fb/c/runs/d",
        "/api/v1/flows%2Fa/runs/b",
        "/api/v1%2Fworkspaces/a",
        "/elsewhere/workspaces/a%2Fb",
    ],
)
def test_slashes_that_belong_to_no_id_are_the_paths_own(path: str) -> None:
    environ = EnvironBuilder(path).get_environ()
    assert keep_encoded_slashes(environ, "/api/v1") is environ


def test_what_stands_for_a_slash_is_no_slash_when_a_client_sends_it(site: Site) -> None:
    for path in ("/api/v1/workspaces/a%01b", "/api/v1/workspaces/a%01%2Fb"):
        environ = EnvironBuilder(path, headers=ACME).get_environ()
        answer = site.client.open(Request(keep_encoded_slashes(environ, "/api/v1")))
        assert answer.status_code in (400, 404)


def test_a_path_that_somebody_rewrote_is_left_alone() -> None:
    environ = EnvironBuilder("/api/v1/workspaces/a%2Fb").get_environ()
    environ["PATH_INFO"] = "/api/v1/workspaces/other"
    assert keep_encoded_slashes(environ, "/api/v1") is environ
    below = EnvironBuilder("/api/v1/workspaces/a%2Fb").get_environ()
    below |= {"SCRIPT_NAME": "/shop", "REQUEST_URI": "https://host/shop/api/v1/workspaces/a%2Fb?x=%2F"}
    assert keep_encoded_slashes(below, "/api/v1")["PATH_INFO"] == "/api/v1/workspaces/a\x01b"
