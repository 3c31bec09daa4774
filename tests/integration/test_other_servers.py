"""Servers that aren't ours: views publish and read as ever, sockets get 503 with one sentence, and nothing hangs."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import socketio

from tests.processes import Served
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, SECRET, stopping
from tests.watcher import Watcher

pytestmark = pytest.mark.independent

STORE = "tests.integration.apps.store"
GUNICORN = ("-m", "gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}", f"{STORE}:application")
SERVERS = {
    "flask run": ("-m", "flask", "--app", f"{STORE}:app", "run", "--port", "{port}"),
    "sync": (*GUNICORN, "-k", "sync"),
    "sync of the Flask app, preloaded": (*GUNICORN[:-1], f"{STORE}:app", "-k", "sync", "--preload"),
    "gthread": (*GUNICORN, "-k", "gthread", "--threads", "8"),
    "gevent": (*GUNICORN, "-k", "gevent"),
    "waitress": ("-m", "waitress", "--listen", "127.0.0.1:{port}", f"{STORE}:application"),
}
SENTENCE = (
    "A client asked for sockets, which this server's workers can't serve: run `gunicorn -c "
    "python:mintflow_realtime.app.gunicorn store:application` or `mintflow serve store:application`."
)
# What a request may take on a busy machine. One that hung would take for ever.
PATIENCE = 20


def serve(name: str, **env: str) -> Served:
    return Served(*SERVERS[name], STORE_APPLICATION="1", JWT_SECRET=SECRET, API_KEYS=f"{API_KEY}:acme", **env)


def log(server: Served, text: str) -> Any:
    return requests.post(f"{server.url}/log/{text}", timeout=PATIENCE)


def messages(server: Served) -> set[str]:
    answer = requests.get(f"{server.url}/api/v1/logs?limit=1000", headers={"X-API-Key": API_KEY}, timeout=PATIENCE)
    return {record["message"] for record in answer.json()["logs"]}


@pytest.mark.parametrize("name", SERVERS)
def test_views_publish_and_read_and_sockets_are_refused_with_one_sentence(
    name: str, shared_redis: PrivateRedis
) -> None:
    server = serve(name, REDIS_URL=shared_redis.url, REDIS_PREFIX=f"other{[*SERVERS].index(name)}")
    with stopping(server):
        began = time.monotonic()
        assert requests.get(server.ready().url + "/", timeout=PATIENCE).text == "store: 127.0.0.1"
        with ThreadPoolExecutor(16) as pool:
            answers = [*pool.map(lambda nth: log(server, f"m{nth}"), range(48))]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["offsets"][0] for answer in answers}) == 48
        assert messages(server) == {f"m{nth}" for nth in range(48)}
        assert requests.get(server.url + "/healthz", timeout=PATIENCE).status_code == 200
        ready = requests.get(server.url + "/readyz", timeout=PATIENCE)
        assert (ready.status_code, ready.json()) == (503, {"status": "unready", "reasons": ["sockets"]})
        assert SENTENCE not in server.text()
        for path in ("/socket.io", "/socket.io/?EIO=4&transport=polling"):
            for method in ("GET", "POST", "OPTIONS"):
                answer = requests.request(method, server.url + path, data="4x", timeout=PATIENCE)
                assert (answer.status_code, answer.headers["Cache-Control"]) == (503, "no-store")
                assert answer.json()["error"]["retryable"] is True
        for transport in ("polling", "websocket"):
            with pytest.raises(socketio.exceptions.ConnectionError):
                Watcher(server.url, "/cart", transports=[transport])
        assert server.text().count(SENTENCE) == 1
        assert server.terminate() < PATIENCE and time.monotonic() - began < 3 * PATIENCE
        assert "Traceback" not in server.text()


def test_published_by_one_server_is_heard_on_another(shared_redis: PrivateRedis) -> None:
    """An application under gthread, and its sockets under our worker: one Redis joins them."""
    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "joined"}
    views = serve("gthread", **env)
    sockets = Served(
        *("-m", "gunicorn", "-k", "mintflow_realtime.transport.worker.Worker", "--no-control-socket"),
        *("-b", "127.0.0.1:{port}", f"{STORE}:application"),
        STORE_APPLICATION="1",
        DATA_DIR="{data}",
        JWT_SECRET=SECRET,
        SOCKET_ANONYMOUS_TENANTS="acme",
        **env,
    )
    with stopping(views, sockets):
        sockets.ready("/readyz")
        with stopping(watcher := Watcher(sockets.url, "/logs", "/cart")):
            assert watcher.call("/logs", "subscribe_logs", {"flowId": "buy"})["ok"]
            assert log(views.ready(), "across").status_code == 200
            assert watcher.wait("logged") == ["across"]
            assert [one["log"]["message"] for one in watcher.wait("new_log")] == ["across"]


@pytest.mark.parametrize("name", ["flask run", "sync", "gevent"])
def test_without_a_redis_url_the_embedded_one_is_started_with_the_first_publish(name: str) -> None:
    server = serve(name, DATA_DIR="{data}")
    with stopping(server):
        assert requests.get(server.ready().url + "/", timeout=PATIENCE).status_code == 200
        assert not server.data.exists(), "who doesn't publish needs none"
        assert log(server, "first").status_code == 200
        assert messages(server) == {"first"}
        assert server.terminate() < PATIENCE


def test_where_redis_is_away_views_hear_it_at_once(private_redis: PrivateRedis) -> None:
    server = serve("gthread", REDIS_URL=private_redis.url)
    with stopping(server):
        assert log(server.ready(), "one").status_code == 200
        private_redis.stop()
        began = time.monotonic()
        assert log(server, "two").status_code == 500, "the application's own error page"
        assert requests.get(server.url + "/readyz", timeout=PATIENCE).json()["reasons"] == ["redis", "sockets"]
        assert requests.get(server.url + "/healthz", timeout=PATIENCE).status_code == 200
        assert time.monotonic() - began < PATIENCE
