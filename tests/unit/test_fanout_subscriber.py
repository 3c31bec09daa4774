"""The node's ear against a real Redis that is killed, paused and restarted."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import redis
import socketio

import mintflow_realtime.fanout.subscribe.subscriber
import mintflow_realtime.stores.redis.connect
from mintflow_realtime.fanout.subscribe.subscriber import RedisSubscriber
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis
from tests.transport_client import until

pytestmark = pytest.mark.usefixtures("cooperative")


class Recorder:
    """A listener, and what it heard and confirmed."""

    def __init__(self, server: PrivateRedis) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.confirmed: list[str] = []
        self.client = connect(server.url)
        self.listener = RedisSubscriber(self.client, self._hear, self.confirmed.append)

    def _hear(self, channel: str, message: bytes) -> None:
        if message == b"raise":
            raise LookupError("a message that can't be delivered")
        self.heard.append((channel, message))

    def want(self, *channels: str) -> None:
        for channel in channels:
            self.listener.subscribe(channel)
        until(lambda: set(channels) <= set(self.confirmed))


@pytest.fixture
def ear(private_redis: PrivateRedis) -> Iterator[Recorder]:
    found = Recorder(private_redis)
    found.listener.start()
    yield found
    found.listener.stop()
    found.client.close()


@pytest.fixture
def admin(private_redis: PrivateRedis) -> Iterator["redis.Redis"]:
    with private_redis.client() as client:
        client.ping()
        yield client


def subscribers(admin: "redis.Redis", *channels: str) -> list[int]:
    return [count for _, count in admin.pubsub_numsub(*channels)]


def test_it_hears_what_it_wants_and_no_more(ear: Recorder, admin: "redis.Redis") -> None:
    ear.want("a", "b")
    admin.publish("a", b"1\x00\xff")
    admin.publish("c", "2")
    admin.publish("b", "")
    until(lambda: len(ear.heard) == 2)
    assert ear.heard == [("a", b"1\x00\xff"), ("b", b"")]
    ear.listener.unsubscribe("a")
    until(lambda: subscribers(admin, "a", "b") == [0, 1])
    admin.publish("a", "3")
    admin.publish("b", "4")
    until(lambda: ear.heard[2:] == [("b", b"4")])


def test_thousands_of_channels(ear: Recorder, admin: "redis.Redis") -> None:
    channels = [f"c{number}" for number in range(3000)]
    ear.want(*channels)
    assert subscribers(admin, *channels) == [1] * 3000


def test_many_messages_in_order_and_large_ones(ear: Recorder, admin: "redis.Redis") -> None:
    ear.want("a")
    expected = [str(number).encode() * (50_000 if number % 100 == 0 else 1) for number in range(2000)]
    with admin.pipeline(transaction=False) as pipeline:
        for message in expected:
            pipeline.publish("a", message)
        pipeline.execute()
    until(lambda: len(ear.heard) == 2000, 20)
    assert [message for _, message in ear.heard] == expected


def test_a_message_that_cannot_be_delivered_costs_no_other(
    ear: Recorder, admin: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    """Row 35: the library's listener starts anew for one malformed message, and misses others meanwhile."""
    ear.want("a")
    for message in ("1", "raise", "2"):
        admin.publish("a", message)
    until(lambda: len(ear.heard) == 2)
    assert ear.heard == [("a", b"1"), ("a", b"2")] and ear.confirmed == ["a"]
    assert "was not delivered" in caplog.text


def test_a_killed_connection_is_made_again_with_all_its_channels(ear: Recorder, admin: "redis.Redis") -> None:
    ear.want("a", "b")
    for _ in range(3):
        ear.confirmed.clear()
        assert admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        until(lambda: sorted(ear.confirmed) == ["a", "b"])
        admin.publish("a", "x")
        until(lambda: ear.heard.pop() == ("a", b"x") if ear.heard else False)


def test_a_node_hears_again_within_about_a_second_of_redis_answering(
    ear: Recorder, private_redis: PrivateRedis
) -> None:
    """Row 33: the library backs off for up to 60 s, and doubles from the first second on."""
    ear.want("a")
    private_redis.kill()
    gevent.sleep(4)
    ear.confirmed.clear()
    private_redis.start()
    answered = time.monotonic()
    until(lambda: ear.confirmed == ["a"])
    assert time.monotonic() - answered < 1.5


def test_any_number_of_reconnections(
    private_redis: PrivateRedis, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's pool counts every connection that it makes, and makes no more after max_connections."""
    monkeypatch.setattr(mintflow_realtime.stores.redis.connect, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.subscriber, "LONGEST_PAUSE", 0.2)
    ear = Recorder(private_redis)
    ear.listener.start()
    ear.want("a")
    for _ in range(5):
        ear.confirmed.clear()
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        until(lambda: "a" in ear.confirmed)
    ear.listener.stop()
    ear.client.close()


def test_how_long_the_library_stays_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 33: its pauses while Redis is down, without waiting for them."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise KeyboardInterrupt

    manager = socketio.RedisManager("redis://127.0.0.1:1/0", logger=False)
    manager.set_server(socketio.Server(async_mode="threading", client_manager=manager))
    monkeypatch.setattr("socketio.redis_manager.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        next(manager._redis_listen_with_retries())
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_our_pauses_are_jittered_and_a_second_at_most(
    private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_redis.kill()
    pauses: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: pauses.append((low, high)) or 0.0)
    ear = Recorder(private_redis)
    ear.listener.start()
    until(lambda: len(pauses) > 3)
    ear.listener.stop()
    assert {high for _, high in pauses} == {1.0} and all(0 < low < 1 for low, _ in pauses)


def test_a_silent_connection_is_given_up(
    ear: Recorder, private_redis: PrivateRedis, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 34: Redis hangs. The library waits for ever; here the connection is made anew when it goes on."""
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.subscriber, "SILENCE_SECONDS", 0.4)
    ear.want("a")
    ear.confirmed.clear()
    private_redis.pause()
    gevent.sleep(1.5)
    private_redis.resume()
    until(lambda: "a" in ear.confirmed)
    assert admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1


def test_a_silent_connection_is_given_up_though_new_channels_are_wanted_all_the_time(
    ear: Recorder, private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mintflow_realtime.fanout.subscribe.subscriber, "SILENCE_SECONDS", 0.4)
    ear.want("a")
    private_redis.pause()
    deadline = time.monotonic() + 4
    for number in range(100_000):
        ear.listener.subscribe(f"b{number}")
        gevent.sleep(0.05)
        if "heard nothing" in caplog.text or time.monotonic() > deadline:
            break
    private_redis.resume()
    assert "heard nothing" in caplog.text


def test_a_channel_left_and_wanted_again_at_once_is_confirmed_again(ear: Recorder, admin: "redis.Redis") -> None:
    """Whoever wants a channel waits for its confirmation; between the two nothing may swallow it."""
    ear.want("a")
    for _ in range(3):
        ear.confirmed.clear()
        ear.listener.unsubscribe("a")
        ear.listener.subscribe("a")
        until(lambda: "a" in ear.confirmed, 2)
    assert subscribers(admin, "a") == [1]


class SlowSocket:
    """A socket whose buffer is full: writing lets others run."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile, self.written = meanwhile, b""

    def settimeout(self, seconds: float) -> None:
        assert seconds in (0, 1.0)

    def sendall(self, packed: bytes) -> None:
        self.meanwhile()
        self.written += packed


def test_a_channel_wanted_while_others_are_written_is_asked_for_too(private_redis: PrivateRedis) -> None:
    ear = Recorder(private_redis)
    connection: Any = ear.client.connection_pool.make_connection()
    socket = SlowSocket(lambda: ear.listener.subscribe("late"))
    ear.listener.subscribe("early")
    ear.listener._send_changes(connection, socket)
    ear.listener._send_changes(connection, socket)
    ear.client.close()
    assert b"early" in socket.written and b"late" in socket.written


def test_starting_twice_is_one_connection_and_stopping_leaves_none(
    private_redis: PrivateRedis, admin: "redis.Redis", no_leaks: None
) -> None:
    ear = Recorder(private_redis)
    ear.listener.start()
    ear.listener.start()
    ear.want("a")
    assert len(admin.client_list(_type="pubsub")) == 1
    ear.listener.stop()
    ear.listener.stop()
    until(lambda: admin.client_list(_type="pubsub") == [])
    ear.client.close()


class Bracket:
    """Notes what was heard within it."""

    def __init__(self, ear: Recorder) -> None:
        self.ear, self.groups = ear, [[]]  # type: ignore[var-annotated]

    def __enter__(self) -> None:
        self.began = len(self.ear.heard)

    def __exit__(self, *_: object) -> None:
        self.groups.append([int(message) for _, message in self.ear.heard[self.began :]])


def test_what_was_read_at_once_is_handed_on_together(private_redis: PrivateRedis, admin: "redis.Redis") -> None:
    ear = Recorder(private_redis)
    cork = Bracket(ear)
    ear.listener = RedisSubscriber(ear.client, ear._hear, ear.confirmed.append, cork)
    ear.listener.start()
    try:
        ear.want("a")
        admin.publish("a", 0)
        until(lambda: len(ear.heard) == 1)
        assert cork.groups == [[]], "one alone waits for nobody"
        publish_all = "for i = 1, 1000 do redis.call('PUBLISH', 'a', i) end"
        admin.eval(publish_all, 0)
        until(lambda: len(ear.heard) == 1001)
        assert [int(message) for _, message in ear.heard] == list(range(1001))
        sizes = [len(group) for group in cork.groups]
        assert max(sizes) == 64 and 1000 - sum(sizes) < len(sizes) and len(sizes) < 100
    finally:
        ear.listener.stop()
        ear.client.close()
