"""Server-sent events on a real server: in order, once, going on without a gap, and without a greenlet while quiet."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.redis_fixture import PrivateRedis
from tests.servers import SECRET, Node, stopping, until
from tests.tenants import Tenant

LOGS, FLOWS = "/streams/logs", "/streams/flows"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[PrivateRedis]:
    server = PrivateRedis()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stream_node(redis_server: PrivateRedis) -> Iterator[Node]:
    env = {"RECOVERY_MAX_EVENTS": "200", "SOCKET_OUTBOX_BYTES": "100000", "TICKET_SECRET": SECRET}
    node = Node(application="tests.integration.apps.root:application", REDIS_URL=redis_server.url, **env)
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text()


@pytest.fixture
def acme(stream_node: Node) -> Iterator[Tenant]:
    tenant = Tenant(stream_node)
    yield tenant
    tenant.stop()


class Reader:
    """Reads a stream of events as they come."""

    def __init__(self, tenant: Tenant, path: str, last: str | None = None, **options: Any) -> None:
        headers = options.pop("headers", {"Authorization": f"Bearer {tenant.token()}"})
        if last is not None:
            headers["Last-Event-ID"] = last
        url = tenant.url + "/api/v1" + path
        self.answer = requests.get(url, headers=headers, stream=True, timeout=10, **options)
        self._lines = self.answer.iter_lines(chunk_size=None)

    def next(self) -> dict[str, str]:
        """Return the next event with data; {} at the end."""
        event: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.decode().partition(": ")
            if line:
                event[name] = value
            elif "data" in event:
                return event
            else:
                event = {}
        return {}

    def told(self, name: str) -> list[Any]:
        """Return (id, data) of the next event, which must be `name`."""
        event = self.next()
        assert event.get("event") == name, event
        return [event["id"], json.loads(event["data"])]

    def logs(self, count: int) -> list[str]:
        return [self.told("new_log")[1]["log"]["message"] for _ in range(count)]

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def follow(acme: Tenant) -> Iterator[Any]:
    readers: list[Reader] = []

    def begin(path: str, last: str | None = None, **options: Any) -> Reader:
        readers.append(Reader(acme, path, last, **options))
        return readers[-1]

    yield begin
    for reader in readers:
        reader.close()


def counts(node: Node) -> dict[str, Any]:
    return dict(requests.get(node.url + "/_counts", headers={"Connection": "close"}, timeout=10).json())


def test_logs_as_they_come(acme: Tenant, follow: Any) -> None:
    every, narrow = follow(LOGS), follow(f"{LOGS}?flowId=f1&minLevel=warn")
    assert every.answer.headers["Content-Type"].startswith("text/event-stream")
    assert every.answer.headers["Cache-Control"] == "no-store"
    for reader in (every, narrow):
        reader.told("position")
    acme.log("one", flowId="f1")
    offsets = acme.log("two", flowId="f1", level="error")
    assert every.logs(1) == ["one"]
    for reader in (every, narrow):
        id, data = reader.told("new_log")
        assert id == offsets[0] and data["log"]["message"] == "two"


def test_it_goes_on_without_a_gap(acme: Tenant, follow: Any) -> None:
    reader = follow(f"{LOGS}?flowId=f1")
    reader.told("position")
    acme.log("one", flowId="f1")
    last, _ = reader.told("new_log")
    reader.close()
    acme.log("other", flowId="f2")
    acme.log("two", "three", flowId="f1")
    for again in (follow(f"{LOGS}?flowId=f1", last), follow(f"{LOGS}?flowId=f1&since={last}")):
        assert again.told("position")[0] == last
        assert again.logs(2) == ["two", "three"]
        acme.log("four", flowId="f1")
        assert again.logs(1) == ["four"]
        acme.http("DELETE", "/logs?runId=nothing")
        assert again.told("clear_logs")[1]["deleted"] == 0
        acme.log("x", flowId="f2")
        break
    newer = follow(f"{LOGS}?flowId=f2&since=0-0", last)
    newer.told("position")
    assert newer.logs(1) == ["other"], "the header says more than the address"


@pytest.mark.parametrize("begins", [0, 1])
def test_the_first_event_of_all_is_not_missed(acme: Tenant, follow: Any, begins: int) -> None:
    if begins:
        acme.log("before")
    last, _ = follow(LOGS).told("position")
    acme.log("one")
    again = follow(LOGS, last)
    again.told("position")
    assert again.logs(1) == ["one"]


def test_much_that_was_missed_comes_whole_and_in_order(acme: Tenant, follow: Any) -> None:
    last, _ = follow(LOGS).told("position")
    for first in range(0, 150, 50):
        acme.log(*[f"{number} {'x' * 10_000}" for number in range(first, first + 50)])
    reader = follow(LOGS, last)
    reader.told("position")
    numbers = [message.partition(" ")[0] for message in reader.logs(75)]
    acme.log("150 live")
    numbers += [message.partition(" ")[0] for message in reader.logs(76)]
    assert numbers == [str(number) for number in range(151)]


@pytest.mark.parametrize("last", ["gap", "0123456789abcdef-1", "nonsense"])
def test_what_can_not_go_on_says_so(acme: Tenant, follow: Any, last: str) -> None:
    begun, _ = follow(LOGS).told("position")
    acme.log("one")
    if last == "gap":
        acme.log(*[str(number) for number in range(500)])
        acme.log(*[str(number) for number in range(500)])
    reader = follow(LOGS, begun if last == "gap" else last)
    id, data = reader.told("resync")
    assert data["reason"] in ("gap", "epoch", "offset")
    acme.log("live")
    assert reader.logs(1) == ["live"]
    acme.log("after")
    again = follow(LOGS, id)
    again.told("position")
    assert again.logs(2) == ["live", "after"]


def test_a_run_until_its_end(acme: Tenant, follow: Any) -> None:
    path = f"{FLOWS}?flowId=f1&runId=r1"
    reader, every = follow(path), follow(FLOWS)
    begun, _ = reader.told("position")
    every.told("position")
    acme.run("f1", "r1", {"type": "flow_started"}, {"type": "node_started", "nodeId": "n"}, {"type": "flow_completed"})
    names = [reader.next()["event"] for _ in range(3)]
    assert names == ["flow_started", "node_started", "flow_completed"]
    last, _ = reader.told("end")
    assert reader.next() == {}, "the stream ends"
    assert [every.next()["event"] for _ in range(2)] == ["flow_started", "flow_completed"]
    assert follow(path, last).answer.status_code == 204
    again = follow(f"{FLOWS}?runId=r1", begun)
    assert [again.next()["event"] for _ in range(5)][1:] == [*names, "end"]
    late = follow(path)
    late.told("position")
    late.told("end")
    assert late.next() == {}
    acme.run("f1", "r1", {"type": "flow_started"})
    assert [follow(path, last).next()["event"]] == ["position"], "the next attempt"


def test_who_may(acme: Tenant, follow: Any) -> None:
    ticket = acme.http("POST", "/tickets").json()["ticket"]
    path = f"{LOGS}?token={ticket}&tenantId={acme.name}"
    assert follow(path, headers={}).told("position")
    assert follow(path, headers={}).answer.status_code == 401, "a ticket is good once"
    assert follow(f"{LOGS}?token={acme.token()}", headers={}).answer.status_code == 200
    assert follow(f"{LOGS}?token=wrong", headers={}).answer.status_code == 401
    other = {"Authorization": f"Bearer {acme.token(scope='flows:read')}"}
    assert follow(LOGS, headers=other).answer.status_code == 403
    assert follow(f"{LOGS}?tenantId=other").answer.status_code == 403
    assert follow(f"{LOGS}?colour=red").answer.json()["error"]["path"] == "$.colour"
    assert follow(f"{LOGS}?since=nowhere").answer.json()["error"]["path"] == "$.since"
    assert follow(f"{FLOWS}?runId=").answer.status_code == 400
    anonymous = follow(LOGS, headers={})
    assert anonymous.told("position"), "as on the socket"
    acme.log("secret")
    Tenant(acme.node, "default").log("open")
    assert anonymous.logs(1) == ["open"], "a tenant's alone"


def test_a_token_that_ends_or_is_revoked_ends_the_stream(acme: Tenant, follow: Any) -> None:
    def of(user: str, **claims: Any) -> Reader:
        found: Reader = follow(LOGS, headers={"Authorization": f"Bearer {acme.token(user, **claims)}"})
        found.told("position")
        return found

    short, bob = of("ann", exp=int(time.time()) + 2), of("bob")
    assert short.next() == {}
    admin = {"Authorization": f"Bearer {acme.token('root', scope='admin')}"}
    assert acme.http("POST", "/revocations", {"userId": "bob"}, headers=admin).status_code == 202
    assert bob.next() == {}


def test_who_is_quiet_holds_no_greenlet_and_who_leaves_nothing_at_all(acme: Tenant, follow: Any) -> None:
    before = counts(acme.node)
    readers = [follow(LOGS) for _ in range(30)]
    for reader in readers:
        reader.told("position")
    until(lambda: counts(acme.node)["greenlets"] <= before["greenlets"], what="no greenlet a stream")
    held = counts(acme.node)
    assert held["leftovers"]["streams"] - before["leftovers"]["streams"] == 30
    for reader in readers:
        reader.close()
    acme.log("to nobody")
    until(lambda: counts(acme.node)["leftovers"]["streams"] == before["leftovers"]["streams"], what="no stream is left")
    # The pool of connections to Redis may have grown by some meanwhile.
    until(lambda: counts(acme.node)["descriptors"] <= held["descriptors"] - 25, what="descriptors are closed")
    after = counts(acme.node)["leftovers"]
    assert after["held_channels"] <= before["leftovers"]["held_channels"]


def test_who_leaves_in_the_middle_of_what_it_missed_leaves_nothing(acme: Tenant, follow: Any) -> None:
    last, _ = follow(LOGS).told("position")
    for _ in range(3):
        acme.log(*["x" * 60_000 for _ in range(50)])
    before = counts(acme.node)["leftovers"]
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    sock.connect(("127.0.0.1", acme.node.port))
    head = f"GET /api/v1{LOGS}?since={last} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {acme.token()}\r\n\r\n"
    sock.sendall(head.encode())
    assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    until(lambda: counts(acme.node)["leftovers"]["streams"] > before["streams"])
    sock.close()
    until(lambda: counts(acme.node)["leftovers"] == before, what="nothing is left")


def test_a_slow_reader_is_told_what_it_has_missed(acme: Tenant, follow: Any) -> None:
    reader = follow(LOGS)
    reader.told("position")
    for _ in range(12):
        acme.log(*["x" * 30_000 for _ in range(50)])
    acme.log("last")
    heard, dropped = 0, 0
    while True:
        event = reader.next()
        if event["event"] == "logs_dropped":
            dropped += json.loads(event["data"])["count"]
        elif event["event"] == "new_log":
            heard += 1
        if heard + dropped == 601:
            break
    assert dropped > 0


def test_without_redis_who_comes_is_sent_away_for_now_and_who_is_there_goes_on(
    acme: Tenant, follow: Any, redis_server: PrivateRedis
) -> None:
    reader = follow(LOGS)
    last, _ = reader.told("position")
    redis_server.pause()
    try:
        sent_away = follow(LOGS, last)
        # A browser takes a 503 for final.
        assert sent_away.answer.status_code == 200 and "retry: " in sent_away.answer.text
    finally:
        redis_server.resume()
    acme.node.wait_ready()
    until(lambda: acme.http("POST", "/logs", {"message": "on", "logLevel": "info"}).status_code == 202)
    for again in (reader, follow(LOGS, last)):
        while (event := again.next())["event"] == "position":
            pass
        assert json.loads(event["data"])["log"]["message"] == "on"


def test_a_log_that_was_lost_is_told(acme: Tenant, follow: Any, redis_server: PrivateRedis) -> None:
    reader = follow(LOGS)
    reader.told("position")
    acme.log("one")
    assert reader.logs(1) == ["one"]
    with redis_server.client() as client:
        client.flushall()
    acme.log("anew")
    assert reader.told("resync")[1]["reason"] == "epoch"
    acme.log("more")
    while "more" not in reader.next()["data"]:
        pass


def test_a_drain_ends_streams_and_another_worker_goes_on(redis_server: PrivateRedis) -> None:
    node = Node(REDIS_URL=redis_server.url, REDIS_PREFIX="drain", DRAIN_SECONDS="1")
    with stopping(node):
        tenant = Tenant(node.wait_ready())
        reader = Reader(tenant, LOGS)
        last, _ = reader.told("position")
        tenant.log("one")
        assert reader.logs(1) == ["one"]
        node.process.send_signal(signal.SIGHUP)
        assert reader.next() == {}, "a whole end"
        node.wait_ready()
        again = Reader(tenant, LOGS, last)
        again.told("position")
        assert again.logs(1) == ["one"]
        again.close()
