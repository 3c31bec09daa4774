"""Clients that go away without a word, that are gone and don't say so, or read nothing: nothing of them is left."""

import contextlib
import selectors
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.conformance.ends import ends
from tests.conformance.wire import Polling, WebSocket, text
from tests.measured import memory
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until

pytestmark = pytest.mark.thorough

INTERVAL, TIMEOUT, CONNECT = 1.0, 1.0, 2.0
OUTBOX = 262_144
LOST, WARM = 10_000, 5_000
# Of 5,000 connections, when pools, caches and the heap have grown to their size: seen is up to 1 MB, until 15,000 have
# been, and none from then on. A session that is kept costs over 4 KB.
MEMORY_GROWTH = 4_000_000


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis) -> Iterator[Node]:
    node = Node(
        application="tests.integration.apps.conformance:application",
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="ends",
        SOCKET_PING_INTERVAL=str(INTERVAL),
        SOCKET_PING_TIMEOUT=str(TIMEOUT),
        SOCKET_CONNECT_TIMEOUT=str(CONNECT),
        SOCKET_OUTBOX_BYTES=str(OUTBOX),
        SOCKET_RATE_LIMIT="0",
    )
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text(), node.text()[node.text().index("Traceback") :][:3000]


def counts(node: Node) -> dict[str, int]:
    found = requests.get(node.url + "/_counts", timeout=5).json()
    # Greenlets that are kept for the next piece of work are few, and wait in one place.
    greenlets = [place for place in found["standing"] if not place.endswith("greenlet_pool.py:_live")]
    return {**found["leftovers"], "greenlets": len(greenlets), "descriptors": found["descriptors"]}


def nothing_left(node: Node, before: dict[str, int], seconds: float) -> None:
    left: list[Any] = []

    def as_before() -> bool:
        now = counts(node)
        left[:] = [(name, now[name], before[name]) for name in now if now[name] > before[name]]
        return not left

    try:
        until(as_before, seconds)
    except AssertionError:
        pytest.fail(f"left behind (name, now, before): {left}")


def settled(node: Node) -> dict[str, int]:
    """Return the counts of a node that has served, and has nobody."""
    with WebSocket(node.port).joined("/", "/chat") as client:
        client.send(text('421["room","abrupt"]'))
        assert client.next().content == "431[]"
    until(lambda: counts(node)["sessions"] == 0)
    return counts(node)


@pytest.mark.timeout(180)
def test_ten_thousand_abrupt_ends_leave_nothing(node: Node) -> None:
    before = settled(node)
    kinds = list(ends.items())

    def lose(number: int) -> None:
        name, run = kinds[number % len(kinds)]
        try:
            run(node.port)
        except (AssertionError, OSError, EOFError) as error:
            raise AssertionError(f"{name}: {error}") from error

    held = 0
    with ThreadPoolExecutor(12) as pool, WebSocket(node.port).joined("/") as healthy:
        # It answers its pings when it asks: within two seconds, on a slow machine too.
        for number in range(0, LOST, 20):
            list(pool.map(lose, range(number, number + 20)))
            assert healthy.ask(number) == [number]
            if number == WARM:
                held = memory(node.workers()[0])
    # The ping timeout of an abandoned poller, or the wait for one who joins nothing.
    nothing_left(node, before, INTERVAL + TIMEOUT + CONNECT + 8)
    assert memory(node.workers()[0]) - held < MEMORY_GROWTH


def test_peers_that_are_gone_in_silence_are_found_in_time(node: Node) -> None:
    before = settled(node)
    clients = [WebSocket(node.port).joined("/") for _ in range(100)]
    sessions = [Polling(node.port).joined("/") for _ in range(30)]
    silent = time.monotonic()
    assert counts(node)["sessions"] == 130
    until(lambda: counts(node)["sessions"] == 0, INTERVAL + TIMEOUT + 1.5)
    assert time.monotonic() - silent > TIMEOUT
    for client in clients:
        client.close()
    for session in sessions:
        session.gets.close()
        session.posts.close()
    nothing_left(node, before, 5)


@pytest.fixture(scope="module")
def patient_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    """A node whose heartbeats don't end who reads nothing: its outbox has to."""
    node = Node(
        application="tests.integration.apps.conformance:application",
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="patient",
        SOCKET_OUTBOX_BYTES=str(OUTBOX),
        SOCKET_RATE_LIMIT="0",
    )
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text(), node.text()[node.text().index("Traceback") :][:3000]


class Readers:
    """WebSockets in one thread; counts what comes of `room_bytes`."""

    def __init__(self, clients: list[WebSocket]) -> None:
        self.selector = selectors.DefaultSelector()
        self.received = dict.fromkeys(clients, 0)
        for client in clients:
            client.socket.setblocking(False)
            self.selector.register(client.socket, selectors.EVENT_READ, client)

    def read(self, wanted: int, seconds: float = 30.0) -> float:
        """Read until each has so many events; return how long that took."""
        begun = time.monotonic()
        while missing := [count for count in self.received.values() if count < wanted]:
            assert time.monotonic() - begun < seconds, missing
            for key, _ in self.selector.select(0.2):
                self._take(key.data)
        return time.monotonic() - begun

    def _take(self, client: WebSocket) -> None:
        chunk = client.socket.recv(1 << 20)
        assert chunk, "a healthy client was closed"
        client.buffer += chunk
        while (found := client._frame()) is not None:
            self.received[client] += found.content.startswith('42["bytes"')


@contextlib.contextmanager
def watched(node: Node) -> Iterator[list[int]]:
    """Measure the node's memory all the time; the list ends with the most."""
    found, over = [memory(node.workers()[0])], threading.Event()

    def measure() -> None:
        while not over.wait(0.02):
            found[1:] = [max(found[-1], memory(node.workers()[0]))]

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(120)
def test_a_stalled_reader_among_500_costs_the_others_nothing_and_the_process_its_outbox(patient_node: Node) -> None:
    node = patient_node
    before = settled(node)
    size, count = 100_000, 400
    # Its kernel takes little, so that what the server's own kernel and the outbox hold is most of it.
    sleeper = WebSocket(node.port, receive_buffer=4096).joined("/")
    clients = [WebSocket(node.port).joined("/") for _ in range(499)]
    flooder = WebSocket(node.port).joined("/")
    for client, room in [(sleeper, "flood"), (sleeper, "all"), *[(one, "all") for one in clients]]:
        client.send(text(f'421["room","{room}"]'))
        assert client.next().content == "431[]"
    readers = Readers(clients)

    def all_get(number: int) -> float:
        flooder.send(text('42["room_bytes","all",200,20]'))
        return readers.read(number)

    alone = all_get(20)
    with watched(node) as held:
        flooder.send(text(f'421["room_bytes","flood",{size},{count}]'))
        beside = all_get(40)
        assert flooder.next(30).content == "431[]"
        afterwards = all_get(60)
    assert held[-1] - held[0] < OUTBOX + MEMORY_GROWTH, held
    assert max(beside, afterwards) < 2 * alone + 1
    # Sent away as a slow consumer, though it takes not a byte.
    until(lambda: counts(node)["sessions"] == 500, 5)
    assert sleeper.at_end()
    for client in [sleeper, flooder, *clients]:
        client.close()
    nothing_left(node, before, 10)
