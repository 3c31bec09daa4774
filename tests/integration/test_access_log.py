"""The access log: who connects, leaves, is refused, calls and revokes; gunicorn's own lines and counters; no token."""

import contextlib
import http.client
import json
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import socketio

from tests.processes import Served
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, SECRET, stopping, token, until
from tests.watcher import Watcher

pytestmark = pytest.mark.independent

APP = """
import socketio
from flask import Flask
from mintflow_realtime import SocketManager
app = Flask("shop")
realtime = SocketManager(app)
class Open(socketio.Namespace):
    def on_connect(self, sid, environ, auth=None):
        return (auth or {}).get("word") != "wrong"
realtime.register_namespace(Open("/open"), authenticate=False)
application = realtime.wsgi_app
@app.get("/hello")
def hello():
    return "hello"
@app.get("/fails")
def fails():
    raise RuntimeError("it fails")
"""
OPTIONS = ("-k", "mintflow_realtime.transport.worker.Worker", "--no-control-socket", "-b", "127.0.0.1:{port}")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    (path / "shop.py").write_text(APP)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def serving(folder: Path, redis: PrivateRedis, *options: str, **env: str) -> Iterator[Served]:
    settings = {
        "JWT_SECRET": SECRET,
        "SOCKET_AUTH_REQUIRED": "true",
        "API_KEYS": f"{API_KEY}:acme",
        "REDIS_URL": redis.url,
        "REDIS_PREFIX": f"access{time.time_ns()}",
        "DRAIN_SECONDS": "0",
        **env,
    }
    server = Served("-m", "gunicorn", *OPTIONS, *options, "shop:application", cwd=folder, **settings)
    with stopping(server):
        yield server.ready("/readyz")


def lines(server: Served, message: str) -> list[dict[str, Any]]:
    """Return the access log's lines of one kind, without what is different each time."""
    found = []
    for line in server.text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("logger") == "mintflow.access" and entry["message"] == message:
                assert entry.pop("level") == "info" and entry.pop("time") and entry.pop("logger")
                found.append(entry)
    return found


def one(server: Served, message: str, **fields: Any) -> dict[str, Any]:
    """Wait for the one line of a kind that has these fields."""

    def matching() -> list[dict[str, Any]]:
        return [line for line in lines(server, message) if fields.items() <= line.items()]

    until(matching, 10, f"{message} {fields} in {server.text()[-3000:]}")
    (line,) = matching()
    return line


FORWARDED = {"X-Forwarded-For": "203.0.113.9"}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_who_comes_and_goes(folder: Path, shared_redis: PrivateRedis, transport: str) -> None:
    with serving(folder, shared_redis) as server:
        shown = token("ann")
        watcher = Watcher(server.url, "/logs", auth={"token": shown}, transports=[transport], headers=FORWARDED)
        line = one(server, "connected", user="ann", tenant="acme", namespace="/logs", address="203.0.113.9")
        time.sleep(0.3)
        watcher.stop()
        closed = one(server, "closed", sid=line["sid"])
        assert 0.3 < closed.pop("duration") < 10
        assert closed.pop("reason") in ("client disconnect", "transport close")
        assert closed == line | {"message": "closed"}
        assert shown not in server.text()


def test_who_is_refused(folder: Path, shared_redis: PrivateRedis) -> None:
    with serving(folder, shared_redis) as server:

        def refused(namespace: str, auth: dict[str, Any], query: str = "") -> None:
            client = socketio.Client(reconnection=False)
            with pytest.raises(socketio.exceptions.ConnectionError):
                client.connect(server.url + query, headers=FORWARDED, namespaces=[namespace], auth=auth)
            client.disconnect()

        wrong, other = token("ann") + "wrong", token("bob", ["elsewhere"])
        narrow = token("cleo", scope="flows:read")
        refused("/logs", {"token": wrong})
        refused("/logs", {})
        refused("/logs", {"token": other, "tenantId": "acme"})
        refused("/logs", {"token": narrow})
        refused("/logs", {}, f"?token={wrong}")
        refused("/open", {"word": "wrong"})
        until(lambda: len(lines(server, "refused")) == 6, 10)
        said = [(line.get("code"), line.get("user"), line.get("tenant")) for line in lines(server, "refused")]
        assert said == [
            ("authentication_failed", None, None),
            ("authentication_required", None, None),
            ("tenant_denied", "bob", "acme"),
            ("forbidden", "cleo", "acme"),
            ("authentication_failed", None, None),
            (None, None, None),
        ]
        assert all(line["address"] == "203.0.113.9" and line["reason"] for line in lines(server, "refused"))
        assert {line["namespace"] for line in lines(server, "refused")} == {"/logs", "/open"}
        assert not lines(server, "connected") and not lines(server, "closed")
        for secret in (wrong, other, narrow):
            assert secret not in server.text()


def test_a_stock_namespace_that_admits_everyone_is_logged_too(folder: Path, shared_redis: PrivateRedis) -> None:
    with serving(folder, shared_redis) as server:
        watcher = Watcher(server.url, "/open")
        line = one(server, "connected", namespace="/open")
        assert "user" not in line and line["address"] == "127.0.0.1"
        watcher.stop()
        one(server, "closed", sid=line["sid"])


def test_calls_of_the_api_and_revocations(folder: Path, shared_redis: PrivateRedis) -> None:
    with serving(folder, shared_redis) as server:
        url, key = f"{server.url}/api/v1", {"X-API-Key": API_KEY, **FORWARDED}
        shown = token("ann")
        record = {"message": "hello", "logLevel": "info"}
        assert requests.post(url + "/logs?token=abc", json=record, headers=key, timeout=10).status_code == 202
        call = one(server, "called", path="/api/v1/logs", code=202)
        assert call["user"].startswith("api-key-") and (call["tenant"], call["method"]) == ("acme", "POST")
        assert call["address"] == "203.0.113.9" and 0 < call["duration"] < 10
        bearer = {"Authorization": f"Bearer {shown}"}
        assert requests.get(url + "/flows/f/runs/none", headers=bearer, timeout=10).status_code == 404
        one(server, "called", path="/api/v1/flows/f/runs/none", code=404, user="ann", tenant="acme", reason="not_found")
        with_wrong = {"Authorization": f"Bearer {shown}x"}
        assert requests.get(url + "/logs", headers=with_wrong, timeout=10).status_code == 401
        one(server, "refused", path="/api/v1/logs", code=401, reason="authentication_failed", address="127.0.0.1")
        ticket = requests.post(url + "/tickets", headers=bearer, timeout=10).json()["ticket"]
        one(server, "called", path="/api/v1/tickets", code=201, user="ann")
        watcher = Watcher(server.url, "/logs", auth={"token": shown})
        revoked = requests.post(url + "/revocations", json={"userId": "ann"}, headers=key, timeout=10)
        assert revoked.status_code == 202
        line = one(server, "revoked", revoked_user="ann", tenant="acme")
        assert line["user"] == call["user"]
        assert watcher.disconnected.wait(10)
        watcher.stop()
        assert one(server, "closed", user="ann")["reason"] == "revoked"
        for secret in (shown, ticket, API_KEY):
            assert secret not in server.text()


def test_a_flood_is_counted(folder: Path, shared_redis: PrivateRedis) -> None:
    with serving(folder, shared_redis) as server, requests.Session() as session:
        began, sent = time.monotonic(), 0
        # A hundred lines at once and ten a second, however fast this machine is.
        while sent < 250 or sent < 200 + 10 * (time.monotonic() - began):
            assert time.monotonic() < began + 60, f"only {sent} requests in a minute"
            assert session.get(server.url + "/api/v1/logs", timeout=10).status_code == 401
            sent += 1
        took = time.monotonic() - began

        def counted() -> int:
            return sum(int(number) for number in re.findall(r"(\d+) more refused, which came too fast", server.text()))

        until(lambda: len(lines(server, "refused")) + counted() == sent, 25)
        assert counted() > 0 and 100 <= len(lines(server, "refused")) <= 101 + 10 * (took + 1)


def test_nothing_where_the_level_is_higher(folder: Path, shared_redis: PrivateRedis) -> None:
    with serving(folder, shared_redis, LOG_LEVEL="warning") as server:
        requests.get(server.url + "/api/v1/logs", timeout=10)
        Watcher(server.url, "/open").stop()
        time.sleep(1)
        assert "mintflow.access" not in server.text()


def test_gunicorns_own_lines(folder: Path, shared_redis: PrivateRedis) -> None:
    log = folder / "access"
    form = (
        '%(h)s "%(r)s" %(s)s %(b)s %(L)s q=%(q)s f=%(f)s a=%(a)s %({x-request-id}i)s %({content-type}o)s %({raw_uri}e)s'
    )
    with serving(folder, shared_redis, "--access-logfile", str(log), "--access-logformat", form) as server:
        headers = {
            **FORWARDED,
            "User-Agent": "tests",
            "X-Request-Id": "r-1",
            "Referer": "http://example.com/?a=b&token=geheim",
        }
        # Not requests, which decodes what need not be encoded.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/hello?a=1&token=geheim&t%6Fken=geheim&b=2", headers=headers)
        assert connection.getresponse().read() == b"hello"
        connection.close()
        (line,) = until(lambda: [line for line in log.read_text().splitlines() if "/hello" in line], 10)
        target, query = "/hello?a=1&token=***&t%6Fken=***&b=2", "a=1&token=***&t%6Fken=***&b=2"
        assert line.startswith(f'203.0.113.9 "GET {target} HTTP/1.1" 200 5 0.')
        assert f"q={query} f=http://example.com/?a=b&token=*** a=tests r-1 text/html; charset=utf-8 {target}" in line
        assert requests.get(server.url + "/fails", timeout=10).status_code == 500
        until(lambda: '"GET /fails HTTP/1.1" 500 ' in log.read_text(), 10)
        for transport in ("polling", "websocket"):
            watcher = Watcher(server.url + "?token=geheim", "/open", transports=[transport])
            before = log.read_text()
            assert "transport=websocket" not in before, "when it has ended"
            time.sleep(0.3)
            watcher.stop()
        until(lambda: "transport=websocket" in log.read_text(), 10)
        text = log.read_text()
        assert '"GET /socket.io/?token=***&transport=polling&EIO=4&t=' in text and '"POST /socket.io/?token=***' in text
        (ended,) = [line for line in text.splitlines() if "transport=websocket" in line]
        assert " 101 - 0." in ended and float(ended.split(" 101 - ")[1].split()[0]) > 0.29
        assert "geheim" not in text and "geheim" not in server.text().replace("RuntimeError", "")
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.recv(4096)
            raw.sendall(b"NO HEAD\r\n\r\n")
            while raw.recv(4096):
                pass
        until(lambda: log.read_text().count("GET /hello ") == 1, 10)


def test_statsd_counts_requests(folder: Path, shared_redis: PrivateRedis) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(0.2)
        host = f"127.0.0.1:{daemon.getsockname()[1]}"
        heard: list[str] = []

        def hear() -> str:
            with contextlib.suppress(TimeoutError):
                while True:
                    heard.append(daemon.recv(4096).decode())
            return "\n".join(heard)

        with serving(folder, shared_redis, "--statsd-host", host, "--statsd-prefix", "shop") as server:
            assert requests.get(server.url + "/absent", timeout=10).status_code == 404
            Watcher(server.url, "/open", transports=["websocket"]).stop()
            until(lambda: "shop.gunicorn.request.status.101:1|c" in hear(), 10)
        text = "\n".join(heard)
        assert "shop.gunicorn.request.status.404:1|c" in text and "shop.gunicorn.requests:1|c" in text
        assert "shop.gunicorn.request.duration:" in text and "shop.gunicorn.workers:1|g" in text
