"""The channels of a node against a real Redis: opened once, in order, told of losses, and heard again after them."""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis
import socketio
from gevent import socket as gevent_socket
from gevent.event import Event

import mintflow_realtime.fanout.publish.publisher
import mintflow_realtime.fanout.subscribe.channels
import mintflow_realtime.fanout.subscribe.health_probe
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, plain_event
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.fanout.subscribe.subscriber import RedisSubscriber
from mintflow_realtime.protocol.envelope import Announcement
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis
from tests.transport_client import until

pytestmark = pytest.mark.usefixtures("cooperative")
ROOT = Path(__file__).parent.parent.parent


class Node:
    """The channels of one node, and what it delivered, lost and heard."""

    def __init__(self, server: PrivateRedis, keys: Keys, name: str = "n1") -> None:
        self.keys, self.client = keys, RedisClient(connect(server.url))
        self.publisher = Publisher(self.client, keys, Caps())
        self.delivered: list[tuple[str, Announcement]] = []
        self.lost: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.outside: list[bytes] = []
        self.events: list[Any] = []
        self.subscribed = connect(server.url)
        self.channels = Channels(
            self.client,
            keys,
            self.publisher,
            partial(RedisSubscriber, self.subscribed),
            node=name,
            outside_channel=keys.shared("outside"),
            outside=self.outside.append,
            deliver=self._deliver,
            lost=self._lost,
            on_control=self.said.append,
        )

    def _deliver(self, namespace: str, announcement: Announcement) -> None:
        self.delivered.append((namespace, announcement))
        self.events.append(announcement.offset.number if announcement.offset else "-")

    def _lost(self, tenant: str, namespace: str, reason: str) -> None:
        self.lost.append((tenant, namespace, reason))
        self.events.append(reason)

    def publish(self, count: int = 1, tenant: str = "acme") -> None:
        for number in range(count):
            self.publisher.publish(tenant, "/n", [plain_event((f"{tenant}:",), "e", number)])

    def channel(self, tenant: str = "acme") -> str:
        return self.publisher.channel(tenant, "/n")

    def stop(self) -> None:
        self.channels.stop()
        self.subscribed.close()
        self.client.close()


@pytest.fixture
def node(private_redis: PrivateRedis, keys: Keys) -> Iterator[Node]:
    found = Node(private_redis, keys)
    found.channels.start()
    assert found.channels.wait_until_receiving(5)
    yield found
    found.stop()


@pytest.fixture
def admin(private_redis: PrivateRedis) -> Iterator["redis.Redis"]:
    with private_redis.client() as client:
        client.ping()
        yield client


def test_events_from_the_opening_on_are_delivered_in_order(node: Node) -> None:
    node.publish(3)
    node.channels.open("acme", "/n")
    node.publish(4)
    node.publish(2, tenant="other")
    node.publisher.announce_volatile("acme", "/n", plain_event(("acme:",), "v", 1))
    until(lambda: len(node.events) >= 5)
    assert node.events == [4, 5, 6, 7, "-"] and node.lost == []
    assert {namespace for namespace, _ in node.delivered} == {"/n"}


def test_nothing_is_heard_before_the_start_and_it_is_known(private_redis: PrivateRedis, keys: Keys) -> None:
    node = Node(private_redis, keys)
    assert not node.channels.receiving and not node.channels.wait_until_receiving(0.05)
    with gevent.Timeout(5), pytest.raises(Unavailable):
        node.channels.open("acme", "/n")
    node.channels.start()
    assert node.channels.wait_until_receiving(5) and node.channels.receiving
    node.channels.open("acme", "/n")
    node.stop()


def test_a_channel_is_shared_and_left_some_time_after_its_last_client(
    node: Node, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    def subscribed() -> list[int]:
        names = (node.channel(), node.keys.of("acme", "control"))
        return [count for _, count in admin.pubsub_numsub(*names)]

    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.channels, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.health_probe, "PROBE_SECONDS", 0.1)
    node.channels._probe.now.set()
    for _ in range(2):
        node.channels.open("acme", "/n")
    node.channels.close("acme", "/n")
    gevent.sleep(0.6)
    assert subscribed() == [1, 1]
    node.channels.close("acme", "/n")
    node.channels.close("nobody", "/n")
    until(lambda: subscribed() == [0, 0])
    assert node.channels._channels == {} and node.channels._controls == {}
    node.publish()
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [2])


def test_one_who_comes_as_the_channel_is_left_gets_in(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last client was gone for long, and the next one comes in the same turn of the event loop."""
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.channels, "LINGER_SECONDS", -1.0)
    node.channels.open("acme", "/n")
    node.channels.close("acme", "/n")
    node.channels._leave_idle(node.channels._channels)
    node.channels._leave_idle(node.channels._controls)
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [1])


def test_a_node_hears_its_own_canary(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.channels.receiving
    real = time.monotonic
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.health_probe.time, "monotonic", lambda: real() + 6.1)
    assert not node.channels.receiving


def test_a_deaf_node_knows_it(private_redis: PrivateRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 34: Redis hangs. Nothing in the library notices that it hears nothing."""
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.health_probe, "DEAF_SECONDS", 0.5)
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.health_probe, "PROBE_SECONDS", 0.1)
    node = Node(private_redis, keys)
    node.channels.start()
    until(lambda: node.channels.receiving)
    private_redis.pause()
    until(lambda: not node.channels.receiving)
    private_redis.resume()
    until(lambda: node.channels.receiving)
    node.stop()


def test_a_hung_redis_refuses_who_opens_within_two_seconds_and_admits_them_later(
    node: Node, private_redis: PrivateRedis
) -> None:
    private_redis.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        node.channels.open("acme", "/n")
    assert time.monotonic() - began < 2.5
    private_redis.resume()
    until(lambda: node.channels._channels[node.channel()].ready.is_set())
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [1])
    assert node.channels._channels[node.channel()].clients == 1


def test_one_who_is_killed_while_waiting_is_not_counted(node: Node, private_redis: PrivateRedis) -> None:
    private_redis.pause()
    waiting = gevent.spawn(node.channels.open, "acme", "/n")
    gevent.sleep(0.05)
    waiting.kill()
    private_redis.resume()
    assert node.channels._channels[node.channel()].clients == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "malformed"),
        (b"hello", "malformed"),
        (b"\xff" * 100, "malformed"),
        (b'{"method":"emit"}', "malformed"),
        (b"x" * 3_000_000, "oversized"),
    ],
    # A test's name is in its environment, where 3 MB leave no room for a server.
    ids=["empty", "text", "bytes", "emit", "oversized"],
)
def test_a_malformed_message_is_counted_and_the_rest_goes_on(
    node: Node, admin: "redis.Redis", message: bytes, reason: str
) -> None:
    """Row 35: the library's listener starts anew."""
    node.channels.open("acme", "/n")
    admin.publish(node.channel(), message)
    node.publish()
    until(lambda: node.events == [1])
    assert node.channels.dropped == {reason: 1} and node.lost == []


def test_the_librarys_own_channel_is_passed_on_and_capped(node: Node, admin: "redis.Redis") -> None:
    for message in (b"a", b"x" * 3_000_000, b"\xff"):
        admin.publish(node.keys.shared("outside"), message)
    until(lambda: len(node.outside) == 2)
    assert node.outside == [b"a", b"\xff"] and node.channels.dropped == {"oversized": 1}


def test_a_malformed_message_costs_the_library_its_subscription(private_redis: PrivateRedis) -> None:
    """Row 35: one `null` on the channel, and its loop over the subscription is left with an error."""
    manager = socketio.RedisManager(private_redis.url, logger=False)
    manager.set_server(socketio.Server(async_mode="threading", client_manager=manager))
    heard: list[Any] = []
    manager._handle_emit = heard.append

    def listen() -> Iterator[bytes]:
        yield b'{"method":"emit","host_id":"x","event":"before"}'
        yield b'["method"]'
        yield b'{"method":"emit","host_id":"x","event":"after"}'
        raise KeyboardInterrupt

    listens = iter([listen()])
    manager._listen = lambda: next(listens, iter(()))
    manager._thread()
    assert [message["event"] for message in heard] == ["before"]


def test_what_is_said_to_all_nodes_of_a_tenant_is_heard(node: Node, admin: "redis.Redis") -> None:
    node.channels.open("acme", "/n")
    assert node.said == ["acme"]
    admin.publish(node.keys.of("acme", "control"), "revoked")
    until(lambda: node.said == ["acme", "acme"])
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: node.said == ["acme", "acme", "acme"])


def test_a_connection_lost_for_a_moment_is_no_loss_where_nothing_was_missed(node: Node, admin: "redis.Redis") -> None:
    node.channels.open("acme", "/n")
    node.publish(3)
    until(lambda: len(node.events) == 3)
    aligned = node.said.count("acme")
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: node.said.count("acme") > aligned and node.channels._channels[node.channel()].order.aligned)
    node.publish(2)
    until(lambda: len(node.events) == 5)
    assert node.events == [1, 2, 3, 4, 5]


def test_an_event_published_while_the_head_is_read_is_delivered(
    node: Node, admin: "redis.Redis", private_redis: PrivateRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head says 4 before 4 has been read from the subscription: it is on its way, and not missed."""
    node.channels.open("acme", "/n")
    node.publish(3)
    until(lambda: len(node.events) == 3)
    monkeypatch.setattr(redis.connection, "socket", socket)
    blocking = RedisClient(connect(private_redis.url))
    blocking.command("PING")
    monkeypatch.setattr(redis.connection, "socket", gevent_socket)
    publisher, real = Publisher(blocking, keys, Caps()), node.publisher.head

    def head(tenant: str, namespace: str) -> Any:
        publisher.publish(tenant, namespace, [plain_event(("acme:",), "e", 4)])
        return publisher.head(tenant, namespace)

    monkeypatch.setattr(node.publisher, "head", head)
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: len(node.events) > 3)
    monkeypatch.setattr(node.publisher, "head", real)
    blocking.close()
    assert node.events == [1, 2, 3, 4]


def test_a_head_that_cannot_be_read_is_read_again(
    node: Node, private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, silent = node.publisher.head, [True, True]

    def head(tenant: str, namespace: str) -> Any:
        if silent:
            silent.pop()
            raise Unavailable("silent")
        return real(tenant, namespace)

    node.publish(2)
    monkeypatch.setattr(node.publisher, "head", head)
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [3])
    assert silent == []


def reconnect_with_events_missed(node: Node, admin: "redis.Redis", meanwhile: Callable[[], Any] = lambda: None) -> None:
    """Publish one event while this node has no subscription, and wait until it has one again."""
    said = len(node.said)
    real, blocked = node.subscribed.connection_pool.make_connection, Event()

    def make() -> Any:
        blocked.wait()
        return real()

    node.subscribed.connection_pool.make_connection = make
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: admin.client_list(_type="pubsub") == [])
    node.publish()
    meanwhile()
    blocked.set()
    until(lambda: len(node.said) > said and node.channels._channels[node.channel()].order.aligned)


def test_what_was_missed_is_read_from_the_log(node: Node, admin: "redis.Redis") -> None:
    """Row 32: the library loses it, and its clients never learn that they missed something."""
    node.channels.open("acme", "/n")
    node.publish(3)
    until(lambda: len(node.events) == 3)
    reconnect_with_events_missed(node, admin)
    node.publish()
    until(lambda: 5 in node.events)
    assert node.events == [1, 2, 3, 4, 5] and node.lost == []


def test_what_the_log_does_not_hold_any_more_is_told(node: Node, admin: "redis.Redis") -> None:
    node.channels.open("acme", "/n")
    node.publish(3)
    until(lambda: len(node.events) == 3)
    reconnect_with_events_missed(node, admin, lambda: admin.delete(node.keys.of("acme", "log", "/n")))
    node.publish()
    until(lambda: 5 in node.events)
    assert node.events == [1, 2, 3, "gap", 5]


def test_where_much_has_no_number_a_broken_subscription_is_always_told(node: Node, admin: "redis.Redis") -> None:
    node.channels._following._volatile = frozenset(["/n"])
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [1])
    reconnect_with_events_missed(node, admin)
    assert node.events == [1, 2, "gap"]


def test_more_than_a_page_is_caught_up_in_order(
    node: Node, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mintflow_realtime.fanout.publish.publisher, "PAGE_BYTES", 100)
    node.channels.open("acme", "/n")
    reconnect_with_events_missed(node, admin, lambda: node.publish(10))
    node.publish()
    until(lambda: 12 in node.events)
    assert node.events == list(range(1, 13)) and node.lost == []


def test_the_first_event_of_a_tenant_is_not_missed_in_silence_either(node: Node, admin: "redis.Redis") -> None:
    node.channels.open("acme", "/n")
    reconnect_with_events_missed(node, admin)
    node.publish()
    until(lambda: 2 in node.events)
    assert node.events == [1, 2] and node.lost == []


@pytest.mark.parametrize(("trimmed", "heard"), [(False, [1, 2, 3, 4, 5]), (True, [1, "gap", 5])])
def test_a_number_that_never_came_is_read_from_the_log(
    node: Node, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch, trimmed: bool, heard: list[Any]
) -> None:
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [1])
    real = node.channels._subscriber._on_message

    def deaf(name: str, message: bytes) -> None:
        if not message.partition(b"\n")[0].endswith((b"-2", b"-3")):
            real(name, message)

    monkeypatch.setattr(node.channels._subscriber, "_on_message", deaf)
    node.publish(2)
    if trimmed:
        admin.delete(node.keys.of("acme", "log", "/n"))
    node.publish()
    until(lambda: node.events[-1] in (4, "gap"))
    node.publish()
    until(lambda: 5 in node.events)
    assert node.events == heard


def test_a_flushed_redis_is_told_as_a_loss(node: Node, admin: "redis.Redis") -> None:
    node.channels.open("acme", "/n")
    node.publish(3)
    until(lambda: len(node.events) == 3)
    admin.flushall()
    node.publish(2)
    until(lambda: len(node.events) == 6)
    assert node.events == [1, 2, 3, "epoch", 1, 2]
    assert node.lost == [("acme", "/n", "epoch")]


def test_a_node_hears_again_about_a_second_after_an_outage(node: Node, private_redis: PrivateRedis) -> None:
    """Row 33: after seconds of outage, Redis empty; the clients are told, and what comes next is delivered."""
    node.channels.open("acme", "/n")
    node.publish()
    until(lambda: node.events == [1])
    private_redis.kill()
    gevent.sleep(3)
    private_redis.start()
    answered = time.monotonic()
    until(lambda: node.lost)
    assert time.monotonic() - answered < 1.7
    node.publish()
    until(lambda: node.events[1:] == ["gap", 1])
    until(lambda: node.channels.receiving)


def test_fifty_open_while_the_connection_is_killed_again_and_again(node: Node, admin: "redis.Redis") -> None:
    """Row 45: no error in any of them, and every subscription is in place afterwards."""
    errors: list[BaseException] = []
    opened: list[str] = []

    def open_until_admitted(tenant: str) -> None:
        gevent.sleep(random.uniform(0, 2))
        for _ in range(10):
            try:
                node.channels.open(tenant, "/n")
            except Unavailable:
                continue
            except BaseException as error:
                errors.append(error)
            opened.append(tenant)
            return

    tenants = [f"t{number}" for number in range(50)]
    opening = [gevent.spawn(open_until_admitted, tenant) for tenant in tenants]
    for _ in range(6):
        gevent.sleep(0.4)
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    gevent.joinall(opening)
    assert errors == [] and sorted(opened) == sorted(tenants)
    names = [name for tenant in tenants for name in (node.channel(tenant), node.keys.of(tenant, "control"))]
    until(lambda: [count for _, count in admin.pubsub_numsub(*names)] == [1] * 100)
    until(lambda: all(channel.order.aligned for channel in node.channels._channels.values()))
    gevent.sleep(0.2)
    for tenant in tenants:
        node.publish(tenant=tenant)
    until(lambda: len(node.events) >= 50)
    assert node.events == [1] * 50


def test_four_processes_publish_and_every_node_hears_in_order_without_a_gap(
    private_redis: PrivateRedis, node: Node, keys: Keys
) -> None:
    """Row 36: number and announcement are one step, so no higher number is announced before a lower one."""
    nodes = [node, Node(private_redis, keys, "n2")]
    nodes[1].channels.start()
    for one in nodes:
        one.channels.open("acme", "/n")
    command = [sys.executable, "-m", "tests.publishing", private_redis.url, keys.prefix, "300"]
    publishers = [
        subprocess.Popen([*command, name], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    try:
        for process in publishers:
            assert process.stdout and process.stdout.readline() == "ready\n"
        for process in publishers:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        until(lambda: all(len(one.events) >= 1200 for one in nodes), 30)
    finally:
        for process in publishers:
            process.communicate(timeout=10)
    for one in nodes:
        assert one.events == list(range(1, 1201)) and one.lost == []
    said = [announcement.arguments for _, announcement in nodes[0].delivered]
    assert said == [announcement.arguments for _, announcement in nodes[1].delivered]
    for name in "abcd":
        own = [text for text in said if f'"{name}"' in text]
        assert own == [f'["e",["{name}",{number}]]' for number in range(300)]
    nodes[1].stop()


def test_append_then_emit_announces_out_of_order(private_redis: PrivateRedis) -> None:
    """Row 36: what two steps do, without the luck of a race: the second one to number is the first to announce."""
    with private_redis.client() as one, private_redis.client() as other:
        listening = other.pubsub()
        listening.subscribe("c")
        first, second = one.incr("n"), one.incr("n")
        one.publish("c", second)
        one.publish("c", first)
        heard: list[int] = []
        while len(heard) < 2:
            message = listening.get_message(timeout=5)
            if message and message["type"] == "message":
                heard.append(int(message["data"]))
        listening.close()
    assert heard == [2, 1]


def test_stopping_leaves_nothing_behind(
    private_redis: PrivateRedis, admin: "redis.Redis", keys: Keys, no_leaks: None
) -> None:
    node = Node(private_redis, keys)
    node.channels.start()
    node.channels.open("acme", "/n")
    node.publish()
    node.stop()
