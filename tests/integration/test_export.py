"""`GET /api/v1/logs/export` on a real server: all that matches, in order, as it is read; never whole when it is not."""

import gzip
import json
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, token, until
from tests.tenants import Tenant

EXPORT = "/logs/export"
# Of 30 KB each: far more than what sockets on both sides hold.
LARGE = 400


@pytest.fixture(scope="module")
def redis_server() -> Iterator[PrivateRedis]:
    server = PrivateRedis()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def export_node(redis_server: PrivateRedis) -> Iterator[Node]:
    node = Node(application="tests.integration.apps.root:application", REDIS_URL=redis_server.url)
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text()


@pytest.fixture
def acme(export_node: Node) -> Tenant:
    return Tenant(export_node)


@pytest.fixture
def large(acme: Tenant) -> Tenant:
    for first in range(0, LARGE, 100):
        acme.log(*[f"{number} {secrets.token_hex(15_000)}" for number in range(first, first + 100)])
    return acme


class Slow:
    """A client with little room, which reads only when it is told to."""

    def __init__(self, tenant: Tenant, version: str = "1.1") -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._sock.settimeout(10)
        self._sock.connect(("127.0.0.1", tenant.node.port))
        head = f"GET /api/v1{EXPORT} HTTP/{version}\r\nHost: a\r\nAuthorization: Bearer {tenant.token()}\r\n\r\n"
        self._sock.sendall(head.encode())

    def begin(self) -> bytes:
        """Return the head and what came with it."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._sock.recv(4096)
        return read

    def rest(self) -> bytes:
        """Return all that comes until the connection ends. Raises ConnectionResetError."""
        read = []
        while chunk := self._sock.recv(65_536):
            read.append(chunk)
        return b"".join(read)

    def close(self) -> None:
        self._sock.close()


def lines(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson" and answer.headers["Cache-Control"] == "no-store"
    assert answer.text == "" or answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def messages(tenant: Tenant, query: str = "") -> list[str]:
    return [record["message"] for record in lines(tenant.http("GET", EXPORT + query))]


def greenlets(node: Node) -> int:
    return int(requests.get(node.url + "/_counts", timeout=10).json()["greenlets"])


def test_every_record_once_oldest_first_as_pages_show_it(acme: Tenant) -> None:
    acme.log(*[f"m{number}" for number in range(1000)], flowId="f1")
    acme.log(*[f"m{number}" for number in range(1000, 1300)], flowId="f2", level="warn", metadata={"l": [], "o": {}})
    answer = acme.http("GET", EXPORT)
    exported = lines(answer)
    assert [record["message"] for record in exported] == [f"m{number}" for number in range(1300)]
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert exported[300:] == acme.http("GET", "/logs?limit=1000").json()["logs"]


def test_the_filters_of_reading_and_after(acme: Tenant) -> None:
    for flow in ("f1", "f2"):
        for level in ("debug", "info", "warn", "error"):
            acme.log(f"{level} of {flow}", flowId=flow, level=level)
    for query in ("flowId=f1", "minLevel=warn", "logLevel=debug,error&flowId=f2", "search=OF+F1", "to=2020-01-01T00Z"):
        assert lines(acme.http("GET", f"{EXPORT}?{query}")) == acme.http("GET", f"/logs?{query}").json()["logs"], query
    every = lines(acme.http("GET", EXPORT))
    assert lines(acme.http("GET", f"{EXPORT}?after={every[2]['logId']}")) == every[3:]
    assert messages(acme, f"?flowId=f2&after={every[5]['logId']}") == ["warn of f2", "error of f2"]
    assert messages(acme, f"?after={every[-1]['logId']}") == []
    assert acme.http("HEAD", EXPORT).status_code == 200


@pytest.mark.parametrize(
    ("accepts", "zipped"), [("gzip, deflate", True), ("br;q=1, *;q=0.1", True), ("gzip;q=0", False), ("br", False)]
)
def test_gzip_for_who_accepts_it(acme: Tenant, accepts: str, zipped: bool) -> None:
    acme.log(*[f"m{number}" for number in range(700)])
    headers = {"Authorization": f"Bearer {acme.token()}", "Accept-Encoding": accepts}
    answer = acme.http("GET", EXPORT, headers=headers, stream=True)
    body = answer.raw.read(decode_content=False)
    assert answer.headers.get("Content-Encoding") == ("gzip" if zipped else None)
    assert "Accept-Encoding" in answer.headers["Vary"]
    text = gzip.decompress(body) if zipped else body
    assert [json.loads(line)["message"] for line in text.splitlines()] == [f"m{number}" for number in range(700)]


def test_refusals(acme: Tenant) -> None:
    def asked(query: str = "", headers: Any = None) -> tuple[int, str]:
        options = {} if headers is None else {"headers": headers}
        answer = acme.http("GET", EXPORT + query, **options)
        return answer.status_code, answer.json()["error"]["code"]

    assert asked(headers={}) == (401, "authentication_required")
    writer = token("ann", [acme.name], scope="logs:write")
    assert asked(headers={"Authorization": f"Bearer {writer}"}) == (403, "forbidden")
    assert asked("?colour=red") == (400, "invalid_payload")
    assert acme.http("POST", EXPORT, {}).status_code == 405


def test_who_hangs_up_leaves_nothing_and_who_waits_holds_a_place(large: Tenant, redis_server: PrivateRedis) -> None:
    def read() -> int:
        with redis_server.client() as client:
            return int(client.info("stats")["total_net_output_bytes"])

    node = large.node
    before, read_before = greenlets(node), read()
    slow = [Slow(large) for _ in range(4)]
    for client in slow:
        assert client.begin().startswith(b"HTTP/1.1 200 OK\r\n")
    headers = {"Authorization": f"Bearer {large.token()}", "Connection": "close"}
    answer = large.http("GET", EXPORT, headers=headers)
    assert answer.status_code == 429 and answer.json()["error"]["retryable"] and answer.headers["Retry-After"] == "1"
    assert messages(Tenant(node)) == [], "another tenant's places are its own"
    assert greenlets(node) - before >= 4
    assert read() - read_before < 4 * LARGE * 30_000 / 2, "what nobody reads stays in Redis"
    for client in slow:
        client.close()
    until(lambda: greenlets(node) <= before, what="the greenlets of exports have ended")
    assert len(messages(large)) == LARGE


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_export_without_redis_is_refused_or_visibly_incomplete(
    large: Tenant, redis_server: PrivateRedis, version: str
) -> None:
    client = Slow(large, version)
    assert b" 200 OK\r\n" in client.begin()
    redis_server.kill()
    try:
        if version == "1.1":
            rest = client.rest()
            assert rest and not rest.endswith(b"0\r\n\r\n")
        else:
            # Without chunks, a plain end would say that it is whole.
            with pytest.raises(ConnectionResetError):
                client.rest()
        client.close()
        answer = large.http("GET", EXPORT)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "unavailable"
    finally:
        redis_server.start()
        large.node.wait_ready()
    assert f"The answer to /api/v1{EXPORT} was cut" in large.node.text()
    until(lambda: large.http("GET", EXPORT).status_code == 200, what="exports go on")
