"""The HTTP API and readiness while Redis is down or hung: 503 within 2 s, and nothing half published."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from mintflow_realtime.protocol.errors import Unavailable
from tests.routes_app import ACME, RedisServer, Site, bearer, token

RUN = "/api/v1/flows/f1/runs/r1"
BATCH = [{"logLevel": "info", "message": f"m{i}"} for i in range(200)]


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), keep=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(redis_server: RedisServer) -> Iterator[Site]:
    site = Site(redis_server.url)
    yield site
    site.close()


def unavailable(site: Site, method: str, path: str, headers: dict[str, str], body: Any = None) -> None:
    began = time.monotonic()
    response = site.client.open(path, method=method, json=body, headers=headers)
    assert time.monotonic() - began < 2
    assert response.status_code == 503, response.get_data(as_text=True)
    assert response.headers["Retry-After"] == "1"
    error = response.get_json()["error"]
    assert error["code"] == "unavailable" and error["retryable"] is True
    # Which Redis it was, and where, is for the log alone.
    assert not re.search(r"redis at|127\.0|/|:\d", error["message"], re.IGNORECASE) and set(error) == {
        "code",
        "message",
        "retryable",
    }


def once_back(site: Site, method: str, path: str, headers: dict[str, str] = ACME, **options: Any) -> TestResponse:
    """Repeat a request until Redis and the breaker let it pass."""
    deadline = time.monotonic() + 10
    while True:
        response = site.client.open(path, method=method, headers=headers, **options)
        if response.status_code != 503:
            return response
        assert time.monotonic() < deadline, "Redis did not come back"
        time.sleep(0.02)


REQUESTS = [
    ("POST", "/api/v1/logs", BATCH),
    ("GET", "/api/v1/logs", None),
    ("DELETE", "/api/v1/logs?flowId=f1", None),
    ("POST", f"{RUN}/events", [{"type": "flow_started"}, {"type": "flow_completed"}]),
    ("GET", RUN, None),
    ("POST", "/api/v1/revocations", {"jti": "j9"}),
]


def test_redis_down_is_503_and_nothing_happened(site: Site, redis_server: RedisServer) -> None:
    site.client.post("/api/v1/logs", json={"logLevel": "info", "message": "before"}, headers=ACME)
    redis_server.stop()
    for method, path, body in REQUESTS:
        unavailable(site, method, path, ACME, body)
        # A token is looked up among the revoked ones: whether it was revoked is unknown, so nobody is let in.
        unavailable(site, method, path, bearer(token(scope="admin logs:read flows:read")), body)
    unavailable(site, "POST", "/api/v1/tickets", bearer(token()))
    redis_server.start()
    assert once_back(site, "GET", "/api/v1/logs").status_code == 200
    assert site.messages() == ["before"]
    assert site.count("acme", "/logs") == 1 and site.count("acme", "/flows") == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [(*request, ACME) for request in REQUESTS] + [(*REQUESTS[0], bearer(token()))],
)
def test_redis_hung_is_503_within_two_seconds(
    site: Site, redis_server: RedisServer, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    redis_server.pause()
    unavailable(site, method, path, headers, body)
    # The breaker is open: the next one fails at once.
    began = time.monotonic()
    unavailable(site, method, path, headers, body)
    assert time.monotonic() - began < 0.5
    redis_server.resume()
    assert once_back(site, "GET", "/api/v1/logs").status_code == 200
    assert site.count("acme", "/logs") in ((0, len(BATCH)) if path.endswith("/logs") else (0,))
    assert site.count("acme", "/flows") in ((0, 2) if path.endswith("/events") else (0,))


@pytest.mark.parametrize("warm", [False, True], ids=["new-connection", "used-connection"])
def test_a_repeat_after_a_hang_stores_once(site: Site, redis_server: RedisServer, warm: bool) -> None:
    if warm:
        # The connection is open and the script known, so Redis finds the command in its buffer when it wakes.
        site.client.post("/api/v1/logs", json=BATCH[:1], headers=ACME)
        site.client.delete("/api/v1/logs?logId=1-1", headers=ACME)
    before = site.messages()
    head = site.count("acme", "/logs")
    keyed = {**ACME, "Idempotency-Key": "k1"}
    redis_server.pause()
    unavailable(site, "POST", "/api/v1/logs", keyed, BATCH)
    redis_server.resume()
    response = once_back(site, "POST", "/api/v1/logs", headers=keyed, json=BATCH)
    assert response.status_code == 202 and response.get_json()["accepted"] == len(BATCH)
    assert site.messages() == before + [log["message"] for log in BATCH]
    assert site.count("acme", "/logs") == head + len(BATCH)


def test_health_says_only_that_the_process_answers(site: Site, redis_server: RedisServer) -> None:
    redis_server.stop()
    site.hears = site.accepting = False
    response = site.client.get("/healthz")
    assert response.status_code == 200 and response.get_json() == {"status": "ok"}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("fault", ["stop", "pause"])
def test_readiness_follows_redis(site: Site, redis_server: RedisServer, fault: str) -> None:
    ready = site.client.get("/readyz")
    assert ready.status_code == 200 and ready.get_json() == {"status": "ready"}
    getattr(redis_server, fault)()
    began = time.monotonic()
    unready = site.client.get("/readyz")
    assert time.monotonic() - began < 2
    assert unready.status_code == 503 and unready.get_json() == {"status": "unready", "reasons": ["redis"]}
    assert unready.headers["Cache-Control"] == "no-store"
    redis_server.start() if fault == "stop" else redis_server.resume()
    assert once_back(site, "GET", "/readyz").get_json() == {"status": "ready"}


def test_readiness_names_every_reason(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.hears = False
    assert site.client.get("/readyz").get_json()["reasons"] == ["listener"]
    site.accepting = False
    assert site.client.get("/readyz").get_json()["reasons"] == ["listener", "draining"]
    site.hears = True
    assert site.client.get("/readyz").get_json()["reasons"] == ["draining"]

    def silent(*_: Any) -> None:
        raise Unavailable("silent")

    monkeypatch.setattr(site.redis, "command", silent)
    assert site.client.get("/readyz").get_json()["reasons"] == ["redis", "draining"]
