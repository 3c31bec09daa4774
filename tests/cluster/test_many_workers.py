"""Long-polling over many workers and hosts with stock clients and no sticky proxy: nobody meets an error."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.crowd import Crowd
from tests.front import Front
from tests.servers import API_KEY, Node, RedisServer, run_js, stopping, token, until

pytestmark = pytest.mark.thorough

POLLING = "/socket.io/?EIO=4&transport=polling"
ENV = {
    "SOCKET_RATE_LIMIT": "0",
    "SOCKET_PING_INTERVAL": "3",
    "DRAIN_SECONDS": "1",
    # What is open when a node stops is cut soon.
    "GUNICORN_CMD_ARGS": "--graceful-timeout 3",
}


@pytest.fixture(scope="module")
def four_workers(redis_server: RedisServer) -> Iterator[Node]:
    """`gunicorn -w 4` with this project's configuration; each worker has served a request."""
    node = Node(workers=4, REDIS_URL=redis_server.url, REDIS_PREFIX="four", **ENV)
    with stopping(node):
        node.wait_ready()
        for place in range(4):
            with node.accepting_only(place):
                node.wait_ready()
        yield node


@pytest.fixture(scope="module")
def hosts(redis_server: RedisServer) -> Iterator[tuple[Node, Node]]:
    """Two hosts of two workers each."""
    first, second = (
        Node(workers=2, HOST_ID=str(number), REDIS_URL=redis_server.url, REDIS_PREFIX="hosts", **ENV)
        for number in (1, 2)
    )
    with stopping(first, second):
        yield first.wait_ready(), second.wait_ready()


@pytest.fixture(scope="module")
def front(hosts: tuple[Node, Node]) -> Iterator[Front]:
    front = Front(*hosts)
    with stopping(front):
        yield front


def stay(url: str, clients: int, padding: int = 0, seconds: int = 90) -> Any:
    arguments = (url, str(clients), token("crowd"), API_KEY, str(padding), str(seconds * 1000))
    return json.loads(run_js("stay.mjs", *arguments, seconds=seconds + 15).splitlines()[-1])


def undisturbed(clients: int) -> dict[str, Any]:
    """What `stay` reports where everyone connected, upgraded, heard, and none met an error."""
    names = ("clients", "upgraded", "followed", "beaten", "heard", "stayed")
    return {**dict.fromkeys(names, clients), "errors": {}, "lost": {}}


@pytest.mark.timeout(240)
def test_five_hundred_clients_of_four_workers(four_workers: Node) -> None:
    assert stay(four_workers.url, 500) == undisturbed(500)


def test_clients_with_queries_of_eight_kilobytes(four_workers: Node) -> None:
    assert stay(four_workers.url, 40, padding=8000) == undisturbed(40)


def sessions(node: Node) -> list[str]:
    """Return a session of each worker, joined to /flows; the first packets are read."""
    found: list[str] = []
    for place in range(len(node.workers())):
        with node.accepting_only(place):
            opened = requests.get(node.url + POLLING, headers={"Connection": "close"}, timeout=5)
        found.append(json.loads(opened.text[1:])["sid"])
    for sid in found:
        joined = requests.post(
            f"{node.url}{POLLING}&sid={sid}", "40/flows," + json.dumps({"token": token()}), timeout=5
        )
        assert joined.text == "ok"
        assert requests.get(f"{node.url}{POLLING}&sid={sid}", timeout=5).text.startswith("40/flows,")
    assert len({sid[:8] for sid in found}) == len(found)
    return found


def subscribing(sid: str, number: int, query: str = "") -> bytes:
    """Return a request that sends one command with the ack id `number`."""
    body = f'42/flows,{number}["subscribe_flow",{{"flowId":"f"}}]'.encode()
    head = f"POST {POLLING}&sid={sid}{query} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def polling(sid: str) -> bytes:
    return f"GET {POLLING}&sid={sid} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


class Line:
    """One TCP connection, on which answers are read whole."""

    def __init__(self, node: Node) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def answer(self) -> tuple[int, str]:
        """Return the next answer's status and body."""
        while not (head := re.match(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n", self._buffer, re.DOTALL)):
            self._read()
        length = re.search(rb"content-length: (\d+)", head[0].lower())
        assert length is not None, head[0]
        end = head.end() + int(length[1])
        while len(self._buffer) < end:
            self._read()
        body, self._buffer = self._buffer[head.end() : end], self._buffer[end:]
        return int(head[1]), body.decode()

    def _read(self) -> None:
        chunk = self.socket.recv(65536)
        assert chunk, f"closed after {self._buffer[:200]!r}"
        self._buffer += chunk

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def acked(node: Node, sid: str, numbers: set[int]) -> None:
    """Read a session's packets until each command was acked; nothing else comes but pings."""
    found: set[int] = set()
    deadline = time.monotonic() + 10
    while found != numbers and time.monotonic() < deadline:
        for packet in requests.get(f"{node.url}{POLLING}&sid={sid}", timeout=10).text.split("\x1e"):
            if packet == "2":
                assert requests.post(f"{node.url}{POLLING}&sid={sid}", "3", timeout=5).text == "ok"
            else:
                ack = re.fullmatch(r'43/flows,(\d+)\[\{"ok":true,.*\]', packet)
                assert ack and int(ack[1]) not in found, packet
                found.add(int(ack[1]))
    assert found == numbers


def test_a_head_split_at_every_byte(four_workers: Node) -> None:
    """Whoever accepts the first half gives the connection away with the second."""
    sid, *_ = sessions(four_workers)
    # Within the head: a session has one POST at a time, and one whose head is whole has begun.
    splits = range(1, subscribing(sid, 1000).index(b"\r\n\r\n") + 4)
    lines = [Line(four_workers) for _ in splits]
    for split, line in zip(splits, lines, strict=True):
        line.send(subscribing(sid, 1000 + split)[:split])
    # Whether the first halves have been read by now is left to chance; most have.
    time.sleep(0.3)
    for split, line in zip(splits, lines, strict=True):
        with line:
            line.send(subscribing(sid, 1000 + split)[split:])
            assert line.answer() == (200, "ok"), split
    acked(four_workers, sid, {1000 + split for split in splits})


def test_a_long_head_that_comes_byte_by_byte(four_workers: Node) -> None:
    for sid in sessions(four_workers):
        request = subscribing(sid, 1, "&padding=" + "p" * 8000)
        # One segment each at the start, where the id is, and at the end; nobody sends 8,000 segments.
        cut = [request[place : place + 1] for place in range(120)]
        with Line(four_workers) as line:
            line.send(
                *cut,
                request[120:-60],
                *(request[place : place + 1] for place in range(len(request) - 60, len(request))),
            )
            assert line.answer() == (200, "ok")
        acked(four_workers, sid, {1})


def test_pipelined_requests_of_different_workers_sessions(four_workers: Node) -> None:
    """One connection is given from worker to worker with what it has said already, and answers in order."""
    owners = sessions(four_workers)
    with Line(four_workers) as line:
        line.send(b"".join(subscribing(sid, number) for number in range(5) for sid in owners))
        line.send(b"".join(polling(sid) for sid in owners))
        for _ in range(5 * len(owners)):
            assert line.answer() == (200, "ok")
        for _ in owners:
            status, packets = line.answer()
            acks = re.findall(r'43/flows,(\d+)\[\{"ok":true', packets)
            assert status == 200 and acks == ["0", "1", "2", "3", "4"], packets


@pytest.mark.timeout(240)
def test_five_hundred_clients_of_two_hosts_behind_nginx(front: Front, hosts: tuple[Node, Node]) -> None:
    assert stay(front.url, 500) == undisturbed(500)
    assert stay(front.url, 20, padding=8000) == undisturbed(20)
    assert front.errors() == ""


def test_nginx_finds_a_sessions_host_by_its_id(front: Front, hosts: tuple[Node, Node]) -> None:
    for number, host in enumerate(hosts, 1):
        opened = requests.get(host.url + POLLING, timeout=5)
        sid = json.loads(opened.text[1:])["sid"]
        assert sid.startswith(f"{number:02x}")
        for _ in range(6):
            assert requests.post(f"{front.url}{POLLING}&sid={sid}", "3", timeout=5).text == "ok"
    # Both hosts get first requests.
    firsts = {json.loads(requests.get(front.url + POLLING, timeout=5).text[1:])["sid"][:2] for _ in range(12)}
    assert firsts == {"01", "02"}


def test_a_host_that_is_gone_costs_nobody_a_first_request(redis_server: RedisServer) -> None:
    env = {"REDIS_URL": redis_server.url, "REDIS_PREFIX": "gone", **ENV}
    first, second = Node(HOST_ID="1", **env), Node(HOST_ID="2", **env)
    with stopping(first, second):
        first.wait_ready(), second.wait_ready()
        front = Front(first, second)
        with stopping(front):
            sid = json.loads(requests.get(first.url + POLLING, timeout=5).text[1:])["sid"]
            for pid in [*first.workers(), first.process.pid]:
                os.kill(pid, signal.SIGKILL)
            first.process.wait(5)
            for _ in range(20):
                began = time.monotonic()
                assert requests.get(front.url + POLLING, timeout=5).status_code == 200
                assert time.monotonic() - began < 1.0
            # Its sessions end at once; their clients start anew, without an id.
            assert requests.post(f"{front.url}{POLLING}&sid={sid}", "3", timeout=5).status_code == 502


def test_one_host_after_the_other_is_replaced(redis_server: RedisServer) -> None:
    """A deploy over hosts: clients find the other host by themselves, and none is refused or left with a silent gap."""
    env = {"REDIS_URL": redis_server.url, "REDIS_PREFIX": "deploy", **ENV}
    first, second = (Node(workers=2, HOST_ID=str(number), **env) for number in (1, 2))
    settings = Settings.from_env(first.env)
    with stopping(first, second), Emitter(settings=settings) as emit:
        first.wait_ready(), second.wait_ready()
        front = Front(first, second)
        with stopping(front):
            crowd = Crowd(40, "deploy", front.url)
            with stopping(crowd):
                crowd.wait("subscribed")
                number = 0
                for host in (first, second):
                    host.process.send_signal(signal.SIGTERM)
                    while host.process.poll() is None:
                        number += 1
                        emit.flows.progress("acme", "deploy", "r", 1, data={"n": number})
                        ready = requests.get(front.url + "/readyz", timeout=5)
                        assert ready.status_code == 200, front.errors()
                        time.sleep(0.1)
                    until(crowd.online, 15)
                    host.process = host._start()
                    host.wait_ready()
                number += 1
                emit.flows.progress("acme", "deploy", "r", 1, data={"n": number})
                until(
                    lambda: all(
                        any(payload["n"] == number for payload in crowd.payloads(client, "flow_progress"))
                        for client in range(crowd.clients)
                    )
                )
                assert crowd.faults() == []
                assert crowd.counts()["refused"] == crowd.counts()["sent away"] == 0
                assert crowd.counts()["retrying"] == 0, "nginx finds the host that serves"
