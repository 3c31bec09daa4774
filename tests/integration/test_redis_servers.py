"""A node on the Redis that people have: four servers, the smallest rights, full memory, a failover, a cluster."""

import contextlib
import os
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.stores.redis.rights import setuser_line
from tests.forwarder import Forwarder
from tests.ports import free_member_port
from tests.redis_fixture import SERVERS, PrivateRedis
from tests.servers import API_KEY, ROOT, Node, free_port, stopping, until
from tests.tenants import Tenant

pytestmark = [pytest.mark.timeout(180), pytest.mark.thorough]
RECORD = {"message": "x", "logLevel": "info"}
KEY = {"X-API-Key": API_KEY}
EACH = pytest.mark.parametrize("server", SERVERS, indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    found = PrivateRedis(SERVERS[getattr(request, "param", "installed")])
    yield found
    found.stop()


def give(server: PrivateRedis, *rights: str) -> str:
    """Give the user `app` rights, and return its URL."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights)
    return f"unix://app:secret@{server.path}"


def readiness(node: Node) -> tuple[int, Any]:
    answer = requests.get(node.url + "/readyz", timeout=5)
    assert answer.headers["Content-Type"] == "application/json", answer.text
    return answer.status_code, answer.json()


def until_answers(node: Node) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(node.url + "/healthz", timeout=5).ok
        return False

    until(answers, 60, node.text())


def test_the_line_of_the_page_is_the_one_that_is_told() -> None:
    line = setuser_line("mintflow", "mf0", "socketio")
    assert line in (ROOT / "docs" / "redis.md").read_text()


@EACH
def test_a_node_does_its_work_with_the_rights_of_that_line_alone(server: PrivateRedis) -> None:
    rights = setuser_line("app", "mf0", "socketio").removeprefix("ACL SETUSER app ").split()
    node = Node(REDIS_URL=give(server, *rights), AI_BACKEND="echo").wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant):
        assert readiness(node) == (200, {"status": "ready"})
        watcher = tenant.watcher("/logs", "/flows", "/workspaces", "/ai")
        tenant.log("one", "two", flowId="f", runId="r")
        assert [one["log"]["message"] for one in watcher.wait("new_log", 2)] == ["one", "two"]
        assert len(watcher.call("/logs", "log_history")["data"]["logs"]) == 2
        assert watcher.call("/logs", "clear_logs", {"flowId": "f"})["ok"]
        assert watcher.call("/flows", "subscribe_flow", {"flowId": "f", "runId": "r"})["ok"]
        tenant.run("f", "r", {"type": "flow_started"}, {"type": "flow_completed"})
        watcher.wait("flow_completed")
        joined = watcher.call("/workspaces", "join_workspace", {"workspaceId": "w"})
        assert joined["ok"], joined
        updated = watcher.call("/workspaces", "update_workspace", {"workspaceId": "w", "state": {"a": 1}})
        assert updated["ok"], updated
        assert watcher.call("/ai", "ai_request", {"requestId": "r1", "prompt": "hello", "stream": True})["ok"]
        until(lambda: any(event.startswith("ai_") and "end" in event for _, event, _ in watcher.events), 20)
        batch = tenant.http("POST", "/logs", [{**RECORD, "message": str(number)} for number in range(200)])
        assert batch.status_code == 202
        recovering = tenant.plain()
        recovering.join("/logs", {"token": tenant.token(), "recover": True})
        revoked = tenant.http("POST", "/revocations", {"userId": "ann"}, headers=_admin(tenant))
        assert revoked.status_code == 202, revoked.text
        assert watcher.disconnected.wait(10)
        assert "NOPERM" not in node.text() and "no permissions" not in node.text(), node.text()


def _admin(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.token('root', scope='admin')}"}


@EACH
def test_a_right_that_is_missing_is_named_and_waited_for(server: PrivateRedis) -> None:
    node = Node(REDIS_URL=give(server, "~mf0:*", "resetchannels", "&mf0:*", "&socketio", "+@all", "-xadd", "-zadd"))
    with stopping(node):
        until_answers(node)
        status, told = readiness(node)
        assert status == 503 and told["reasons"][0] == "redis", told
        assert told["details"] == ["not allowed: +zadd +xadd"]
        line = re.search(r"ACL SETUSER app [^\"]*", node.text())
        assert line is not None, node.text()
        give(server, *line[0].removeprefix("ACL SETUSER app ").split())
        node.wait_ready()


@pytest.mark.parametrize("missing", ["-ping", "-select", "-info", "-evalsha", "-subscribe", "-publish", "resetkeys"])
def test_readiness_is_always_json(server: PrivateRedis, missing: str) -> None:
    url = give(server, "allkeys" if missing == "resetkeys" else "~mf3:*", "allchannels", "+@all", missing)
    node = Node(REDIS_URL=url + "?db=3")
    with stopping(node):
        until_answers(node)
        status, told = readiness(node)
        assert (status == 200) is (missing == "-ping"), told
        assert status == 200 or set(told["reasons"]) & {"redis", "listener"}
        assert "ACL SETUSER app" in node.text()
        give(server, "~mf3:*" if missing == "resetkeys" else "+@all")
        node.wait_ready()


def test_a_database_that_is_not_there(server: PrivateRedis) -> None:
    node = Node(REDIS_URL=f"unix://{server.path}?db=99")
    with stopping(node):
        until_answers(node)
        assert readiness(node)[0] == 503
        answer = requests.post(node.url + "/api/v1/logs", json=RECORD, headers=KEY, timeout=5)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "out of range" not in answer.text and "there is no such database" in node.text()


@pytest.mark.parametrize("right", ["publish", "evalsha", "hmget", "pexpire"])
def test_a_right_that_is_gone_for_a_while_ends_nothing(server: PrivateRedis, right: str) -> None:
    node = Node(REDIS_URL=give(server, "~mf0:*", "allchannels", "+@all")).wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant):
        watcher = tenant.watcher("/logs")
        give(server, f"-{right}")
        answer = tenant.http("POST", "/logs", RECORD)
        assert answer.status_code == 503 and "NOPERM" not in answer.text, answer.text
        if right in ("publish", "pexpire"):
            until(lambda: readiness(node)[0] == 503, 20)
        give(server, f"+{right}")
        node.wait_ready()
        tenant.log("again")
        assert watcher.wait("new_log")[0]["log"]["message"] == "again"
        assert tenant.plain("/logs") is not None


@EACH
def test_a_replica_is_never_ready(server: PrivateRedis) -> None:
    master = PrivateRedis(server.binary)
    with stopping(master), server.client() as client, master.client() as other:
        port = free_port()
        other.config_set("port", str(port))
        client.replicaof("127.0.0.1", port)
        until(lambda: client.info("replication")["master_link_status"] == "up", 20)
        node = Node(REDIS_URL=server.url)
        with stopping(node):
            until_answers(node)
            status, told = readiness(node)
            assert (status, told["reasons"][0]) == (503, "redis")
            assert told["details"] == ["a replica, which takes no writes"]
            client.replicaof("NO", "ONE")
            node.wait_ready()


@EACH
def test_one_call_fails_at_most_where_the_master_changes_behind_an_address(server: PrivateRedis) -> None:
    other = PrivateRedis(server.binary)
    front = Forwarder(str(server.path))
    with stopping(other, front), server.client() as old, other.client() as new:
        port = free_port()
        old.config_set("port", str(port))
        new.replicaof("127.0.0.1", port)
        until(lambda: new.info("replication")["master_link_status"] == "up", 20)
        node = Node(REDIS_URL=f"redis://127.0.0.1:{front.port}/0").wait_ready()
        with stopping(node), Emitter(f"redis://127.0.0.1:{front.port}/0") as emit:
            # Many idle connections, all to the old one.
            together = threading.Barrier(12)

            def publish(_: int) -> None:
                together.wait(10)
                emit.logs.append("default", message="before")

            threads = [threading.Thread(target=publish, args=(number,)) for number in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            front.target = str(other.path)
            new.replicaof("NO", "ONE")
            new.config_set("port", str(free_port()))
            old.replicaof("127.0.0.1", int(new.config_get("port")["port"]))
            failed = 0
            for _ in range(100):
                try:
                    emit.logs.append("default", message="after")
                except Unavailable:
                    failed += 1
            assert failed <= 1
            statuses = [
                requests.post(node.url + "/api/v1/logs", json=RECORD, headers=KEY, timeout=5).status_code
                for _ in range(50)
            ]
            assert statuses.count(503) <= 1 and statuses[-1] == 202, statuses
            node.wait_ready()


@EACH
def test_a_node_of_a_cluster_under_the_url_of_one_server(server: PrivateRedis) -> None:
    server.kill()
    port = free_member_port()
    server.options = ("--cluster-enabled", "yes", "--port", str(port), "--dir", str(server.directory))
    server.start()
    with server.client() as client:
        # Half of the slots, so that some tenants are elsewhere.
        client.execute_command("CLUSTER", "ADDSLOTS", *range(8192))
        client.config_set("cluster-require-full-coverage", "no")
        until(lambda: client.cluster("info")["cluster_state"] == "ok", 20)
    url = f"redis://127.0.0.1:{port}/0"
    node = Node(REDIS_URL=url)
    with stopping(node), Emitter(url) as emit:
        until_answers(node)
        until(lambda: "redis+cluster://127.0.0.1" in node.text(), 10, node.text())
        assert readiness(node)[0] == 503
        errors = []
        for number in range(20):
            try:
                emit.logs.append(f"t{number}", message="x")
            except Unavailable as error:
                errors.append(str(error))
        assert errors and all("redis+cluster://" in error for error in errors), errors


@EACH
def test_with_full_memory_what_gives_some_back_goes_on(server: PrivateRedis) -> None:
    node = Node(REDIS_URL=server.url).wait_ready()
    tenant = Tenant(node)
    with stopping(node, tenant), server.client() as client:
        watcher = tenant.watcher("/logs", "/flows")
        recovering = tenant.plain()
        recovering.join("/flows", {"token": tenant.token(), "recover": True})
        tenant.log(*("x" * 1000 for _ in range(100)), flowId="f", runId="r")
        tenant.log("of another run", flowId="g", runId="s")
        client.config_set("maxmemory", 1)
        full = tenant.http("POST", "/logs", RECORD)
        assert full.status_code == 503 and "OOM" not in full.text, full.text
        refused = recovering.call("/flows", "subscribe_flow", {"flowId": "f"})
        assert not refused["ok"] and "OOM" not in str(refused), refused
        cleared = tenant.http("DELETE", "/logs?flowId=f")
        assert cleared.status_code == 200 and cleared.json() == {"deleted": 100}, cleared.text
        by_run = tenant.http("DELETE", "/logs?runId=s")
        assert by_run.json() == {"deleted": 1}, by_run.text
        revoked = tenant.http("POST", "/revocations", {"userId": "bob"}, headers=_admin(tenant))
        assert revoked.status_code == 202, revoked.text
        client.config_set("maxmemory", 0)
        watcher.call("/flows", "subscribe_flow", {"flowId": "f"})
        tenant.run("f", "r", {"type": "flow_started"}, {"type": "node_started", "nodeId": "n"})
        watcher.wait("node_started")
        # What was refused is not in force: the event of the flow alone doesn't come, a command's answer does.
        heard = recovering.call("/flows", "unsubscribe_flow", {"flowId": "f"})
        assert heard["ok"]
        assert "node_started" not in [message.content[0] for message in recovering._waiting if message.content]
        lines = node.text().count("sessions wait")
        assert lines <= 2, node.text()


@EACH
def test_tls(server: PrivateRedis, tmp_path: Path) -> None:
    from tests.integration.test_redis_urls import certificate

    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    front = Forwarder(str(server.path), context)
    node = Node(REDIS_URL=f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={cert}").wait_ready()
    tenant = Tenant(node)
    with stopping(front, node, tenant):
        watcher = tenant.watcher("/logs")
        tenant.log("in private")
        watcher.wait("new_log")


def test_a_sentinel_over_tls(tmp_path: Path) -> None:
    import subprocess

    from tests.integration.test_redis_urls import certificate

    cert, key = certificate(tmp_path)
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert))
    master_port, port = free_port(), free_port()
    server = PrivateRedis(None, *files, "--tls-auth-clients", "no", "--tls-port", str(master_port))
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\ntls-cert-file {cert}\n"
        f"tls-key-file {key}\ntls-ca-cert-file {cert}\ndir {tmp_path}\n"
        f"sentinel monitor flows 127.0.0.1 {master_port} 1\n"
    )
    with open(tmp_path / "out", "ab") as out:
        sentinel = subprocess.Popen([server.binary, str(conf), "--sentinel"], stdout=out, stderr=out)
    try:
        with stopping(server):
            url = f"rediss+sentinel://127.0.0.1:{port}/0/flows?ssl_ca_certs={cert}"

            def published() -> bool:
                with contextlib.suppress(Unavailable), Emitter(url) as emit:
                    return emit.logs.append("default", message="in private").offset.endswith("-1")
                return False

            until(published, 20, (tmp_path / "out").read_text())
            node = Node(REDIS_URL=url).wait_ready()
            node.stop()
    finally:
        sentinel.terminate()
        sentinel.wait(10)


def test_what_is_emitted_past_a_node_is_told_once(server: PrivateRedis) -> None:
    import pickle

    node = Node(REDIS_URL=server.url).wait_ready()
    other = Node(REDIS_URL=server.url, REDIS_PREFIX="theirs").wait_ready()
    with stopping(node, other), server.client() as client:
        emit = {"method": "emit", "event": "e", "data": 1, "namespace": "/", "room": None, "host_id": "x"}
        for _ in range(3):
            client.publish("socketio", pickle.dumps({**emit, "ran": Runs()}))
            client.publish("flask-socketio", pickle.dumps(emit))
            client.publish(
                "socketio", '{"method":"emit","event":"e","data":1,"namespace":"/","room":null,"prefix":"theirs"}'
            )
        until(lambda: "another installation" in node.text(), 10, node.text())
        text = node.text()
        assert text.count("python-socketio 5.14 or newer") == 2  # a line for each channel
        assert text.count("set SOCKET_CHANNEL=flask-socketio") == 1
        assert text.count("another installation, of REDIS_PREFIX 'theirs'") == 1
        assert "another installation" not in other.text() and not Path("/tmp", Runs.mark).exists()


class Runs:
    """Unpickled, it leaves a file behind."""

    mark = f"mf-unpickled-{os.getpid()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (f"/tmp/{self.mark}",)
