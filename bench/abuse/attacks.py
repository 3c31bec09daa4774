"""Abuse by kind: each does its worst and says in a few words what it was told."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import requests
import websocket

from bench.abuse.client import Client, Resting
from bench.abuse.payloads import patches, payloads

CROWD = 140
TENANTS = 4000
NAMESPACES = ("/logs", "/flows", "/workspaces", "/ai")
REST_SECONDS = 20.0
# Of a core, with TENANTS at rest; and milliseconds of CPU for a head of 16 KB.
MOST_AT_REST = 0.05
MOST_FOR_A_HEAD = 1.0


class Missed(str):
    """What was told of an abuse that took more than its target."""


class Attack(NamedTuple):
    """One abuse. Targets in milliseconds: of the slowest ack of another client, and of the loop's longest turn."""

    name: str
    act: Callable[[int], str]
    most_delay: float = 20.0
    most_held: float = 20.0


def heads(port: int) -> str:
    """Send request heads that are dear to read, or wrong."""
    lines = [
        b"X: " + b" " * 16_000,
        b"X: " + b" \t" * 8000 + b"x",
        b"Cookie: " + b"a=b; " * 3000,
        b"X-Forwarded-For: " + b"1," * 8000,
        b"Transfer-Encoding: " + b"chunked, " * 1700,
        b"Content-Length: " + b"0" * 16_000,
        *(b"Host: a\r\n" * 2, b"X : y", b"Content-Length: +1", b"\0: x"),
    ]
    told: Counter[str] = Counter()
    before = cpu_seconds(port)
    for line in lines * 5:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(
                    b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
                )
                told[connection.recv(12).decode(errors="replace")[9:] or "closed"] += 1
    # The canary's acks are in it.
    each = (cpu_seconds(port) - before) * 1000 / (5 * len(lines))
    return (Missed if each > MOST_FOR_A_HEAD else str)(f"{each:.2f} ms of CPU each; {_words(told)}")


def frames(port: int) -> str:
    """Send WebSocket frames that are wrong, tiny by the thousand, or endless."""
    told: Counter[str] = Counter()
    for data in (b"\xff" * 1000, b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 50_000, b"\x89\x80\0\0\0\0" * 50_000):
        client = Client(port, "/logs")
        with contextlib.suppress(OSError, websocket.WebSocketException):
            _raw(client).sendall(data)
            client.socket.settimeout(3)
            client.socket.recv()
        told["taken" if client.socket.connected else "closed"] += 1
        client.close()
    return _words(told)


def stock_payload(payload: str) -> Callable[[int], str]:
    """Return what sends a payload to a stock namespace."""

    def act(port: int) -> str:
        with _client(port, "/stock") as client:
            return client.call("/stock", f'["take",{payload}]')

    return act


def attached(payload: str) -> Callable[[int], str]:
    """Return what sends a payload and an attachment to a stock namespace."""

    def act(port: int) -> str:
        with _client(port, "/stock") as client:
            client.socket.send(f'451-/stock,7["take",[{payload},{{"_placeholder":true,"num":0}}]]')
            client.socket.send_binary(b"x")
            return client.answer("/stock", 7)

    return act


def state(payload: str) -> Callable[[int], str]:
    """Return what makes a payload a workspace's state."""

    def act(port: int) -> str:
        value = payload if payload[0] == "{" else f'{{"a":{payload}}}'
        with _client(port, "/workspaces") as client:
            client.call("/workspaces", '["join_workspace",{"workspaceId":"w"}]')
            return client.call(
                "/workspaces", f'["update_workspace",{{"workspaceId":"w","state":{value},"partial":false}}]'
            )

    return act


def patch(before: str, operations: str) -> Callable[[int], str]:
    """Return what applies a patch."""

    def act(port: int) -> str:
        with _client(port, "/workspaces") as client:
            client.call("/workspaces", '["join_workspace",{"workspaceId":"w","deltas":true}]')
            client.call("/workspaces", f'["update_workspace",{{"workspaceId":"w","state":{before},"partial":false}}]')
            return client.call("/workspaces", f'["update_workspace",{{"workspaceId":"w","patch":{operations}}}]')

    return act


def crowd(port: int) -> str:
    """Let many anonymous clients send the dearest patch at one moment."""
    before, operations = patches()["1,000 insertions before 490,000"]
    told: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(port, "/workspaces")) for _ in range(CROWD)]
        for client in clients:
            client.call("/workspaces", '["join_workspace",{"workspaceId":"w","deltas":true}]')
        clients[0].call("/workspaces", f'["update_workspace",{{"workspaceId":"w","state":{before},"partial":false}}]')
        command = f'["update_workspace",{{"workspaceId":"w","patch":{operations}}}]'
        threads = [
            threading.Thread(target=lambda one=client: told.update([one.call("/workspaces", command)]))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
    return _words(told)


def burst(port: int) -> str:
    """Send 600 commands at once, without waiting."""
    with _client(port, "/flows") as client:
        ids = [client.send("/flows", f'["subscribe_flow",{{"flowId":"f{number}"}}]') for number in range(600)]
        return _words(Counter(client.answer("/flows", id) for id in ids))


def flood(port: int) -> str:
    """Send commands for 30 s, as fast as they are taken; read the answers meanwhile."""
    client = Client(port, "/logs")
    told: Counter[str] = Counter()

    def read() -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException):
            while True:
                said = client._recv()
                told["rate_limited" if "rate_limited" in said else "ok"] += 1

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    client.socket.settimeout(40)
    end = time.monotonic() + 30
    with contextlib.suppress(OSError, websocket.WebSocketException):
        while time.monotonic() < end:
            client.send("/logs", '["log_history",{"limit":1}]')
    client.close()
    return _words(told)


def slow_line(port: int) -> str:
    """Ask for twenty pages of half a megabyte at once, and read them at 8 Mbit/s."""
    _log(port, 200, 5000)
    with _client(port, "/logs") as client:
        raw = _raw(client)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        ids = [client.send("/logs", '["log_history",{"limit":90}]') for _ in range(20)]
        got, wanted = b"", [f'43/logs,{id}[{{"ok":true'.encode() for id in ids]
        while wanted[-1] not in got and (piece := raw.recv(131_072)):
            got += piece
            time.sleep(len(piece) / 1e6)
        return f"{sum(one in got for one in wanted)} of {len(ids)} answered"


def tenants(port: int) -> str:
    """Connect clients of many tenants in four namespaces each, and let them rest."""
    with Resting() as resting:
        for number in range(TENANTS):
            resting.add(Client(port, *NAMESPACES, tenant=f"t{number}"))
        before = cpu_seconds(port)
        time.sleep(REST_SECONDS)
        share, left = (cpu_seconds(port) - before) / REST_SECONDS, len(resting)
    # The canary's acks are in it.
    return (Missed if share > MOST_AT_REST or left < TENANTS else str)(f"{left} at rest take {share:.1%} of a core")


def neighbour(port: int) -> str:
    """Publish logs of other tenants as fast as one can, with followers."""
    with _client(port, "/logs"):
        for _ in range(20):
            _log(port, 1000, 200)
    return "20,000 records"


def cpu_seconds(port: int) -> float:
    """Return the CPU time that the worker has taken."""
    return float(requests.get(f"http://127.0.0.1:{port}/cpu", timeout=60).json())


def _raw(client: Client) -> socket.socket:
    found = client.socket.sock
    assert found is not None
    return found


def _log(port: int, count: int, size: int) -> None:
    records = [{"logLevel": "info", "message": "x" * size}] * count
    for first in range(0, count, 100):
        url = f"http://127.0.0.1:{port}/api/v1/logs"
        while (
            requests.post(url, json=records[first : first + 100], headers={"X-API-Key": KEY}, timeout=30).status_code
            == 503
        ):
            time.sleep(0.1)


KEY = "abuse-Hn4vR8wQ2zX6tB9mL1pJ7sD5fGc0a"


@contextlib.contextmanager
def _client(port: int, *namespaces: str) -> Iterator[Client]:
    client = Client(port, *namespaces)
    try:
        yield client
    finally:
        client.close()


def _words(told: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in told.most_common())


def attacks() -> list[Attack]:
    """Return all of them: those of one input each, then those of many."""
    made = [Attack("heads", heads), Attack("frames", frames)]
    made += [Attack(f"stock: {name}", stock_payload(payload), 20, 10) for name, payload in payloads().items()]
    made += [Attack(f"state: {name}", state(payload), 20, 10) for name, payload in payloads().items()]
    made += [Attack(f"attached: {name}", attached(payloads()[name]), 20, 10) for name in ("lists", "integers")]
    made += [Attack(f"patch: {name}", patch(*found)) for name, found in patches().items()]
    made += [Attack("burst of 600 commands", burst), Attack("flood for 30 s", flood)]
    made += [Attack("slow line", slow_line), Attack(f"{TENANTS} tenants come", tenants), Attack("neighbour", neighbour)]
    return [*made, Attack(f"{CROWD} clients, a patch each", crowd, 250)]
