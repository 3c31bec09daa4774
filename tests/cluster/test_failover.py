"""A replica takes the master's place: what was acknowledged, what the numbers say, and how soon all goes on."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, Repeat, plain_event
from mintflow_realtime.protocol.envelope import Event, Offset, Published
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.url import open_redis
from tests.crowd import Crowd
from tests.redis_groups import Member, Pair, paused
from tests.servers import Node, stopping, until

PROMISED = 2.3
FLOW = "f"
NS = "/n"


class Press:
    """A publisher of a Redis, by its URL."""

    def __init__(self, url: str, wait_replicas: int = 0) -> None:
        self.redis = open_redis(url, wait_replicas)
        self.publisher = Publisher(self.redis, Keys("p"), Caps())

    def publish(self, number: int, key: str | None = None) -> Published:
        event = plain_event(("acme:",), "e", number)
        return self.publisher.publish("acme", NS, [event], repeat=Repeat.of(key, NS, number))

    def confirmed(self, number: int) -> Published:
        """Publish until a replica has it: on a busy machine one may be late."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.publish(number, f"confirmed {number}")
            except Unavailable:
                assert time.monotonic() < deadline

    def numbers(self) -> list[Any]:
        """Return what the log holds."""
        entries = self.redis.command("XRANGE", Keys("p").of("acme", "log", NS), "-", "+")
        return [fields[b"m"].decode().rpartition("\n")[2] for _, fields in entries]

    def refused(self, number: int, key: str | None = None) -> str:
        began = time.monotonic()
        with pytest.raises(Unavailable) as error:
            self.publish(number, key)
        assert time.monotonic() - began < PROMISED
        return str(error.value)

    def stop(self) -> None:
        self.redis.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    with stopping(pair):
        yield pair


@pytest.fixture
def press() -> Iterator[Callable[..., Press]]:
    made: list[Press] = []

    def make(member: Member, wait_replicas: int = 0) -> Press:
        made.append(Press(f"redis://{member.place}/0", wait_replicas))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def cut_off(pair: Pair) -> None:
    """Let the replica, which is stopped, have nothing of what the master is told from now on."""
    pair.master.ask("CLIENT", "KILL", "TYPE", "replica")
    until(lambda: not pair.replicas_of(pair.master), 5)


def test_what_a_replica_confirmed_survives_and_begins_a_new_epoch(pair: Pair, press: Callable[..., Press]) -> None:
    ours = press(pair.master, 1)
    acknowledged = [ours.confirmed(number).offset for number in range(1, 21)]
    with paused(pair.replica):
        assert "replicas" in ours.refused(21, "once")
        # A repeat has nothing to write, and must wait all the same.
        assert "replicas" in ours.refused(21, "once")
        cut_off(pair)
        assert "replicas" in ours.refused(21, "once")
    last = until(lambda: _repeated(ours, 21, "once"), 10)
    assert last.repeated and last.offset == acknowledged[-1].replace("-20", "-21")
    pair.master.kill()
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    theirs = press(pair.replica)
    assert theirs.numbers() == [f'["e",{number}]' for number in range(1, 22)]
    epoch, _, number = theirs.publish(22).offset.rpartition("-")
    old_epoch = acknowledged[0].rpartition("-")[0]
    assert number == "22" and epoch != old_epoch
    assert theirs.publisher.head("acme", NS) == (Offset(epoch, 22), Offset(old_epoch, 21))


def _repeated(press: Press, number: int, key: str) -> Published | None:
    try:
        return press.publish(number, key)
    except Unavailable:
        return None


def test_without_the_setting_a_replica_may_lack_events_and_the_epoch_says_so(
    pair: Pair, press: Callable[..., Press]
) -> None:
    """Row 46: a lagging replica went on with 101 after 150 had been acknowledged, in the same numbering."""
    ours, careful = press(pair.master), press(pair.master, 1)
    for number in range(1, 11):
        careful.confirmed(number)
    with paused(pair.replica):
        cut_off(pair)
        lost = [ours.publish(number).offset for number in range(11, 16)]
        assert lost[-1].endswith("-15")
        pair.master.kill()
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    theirs = press(pair.replica)
    first = theirs.publish(16).offset
    assert first.endswith("-11") and first != lost[0]
    old_epoch = lost[0].rpartition("-")[0]
    assert theirs.publisher.head("acme", NS)[1] == Offset(old_epoch, 10)


def test_a_large_batch_is_confirmed_whole_and_is_whole_after_a_failover(
    pair: Pair, press: Callable[..., Press]
) -> None:
    ours = press(pair.master, 1)
    whole = [plain_event(("acme:",), "e", number) for number in range(200)]
    until(lambda: not _unconfirmed(ours, whole, "first"), 20)
    with paused(pair.replica):
        # On a busy machine the wait for replicas may outlast the one for an answer.
        with pytest.raises(Unavailable, match="replicas|Whether this happened is unknown"):
            ours.publisher.publish("acme", NS, whole, repeat=Repeat.of("k", NS, 1))
        cut_off(pair)
        with pytest.raises(Unavailable, match="replicas|Whether this happened is unknown"):
            ours.publisher.publish("acme", NS, whole, repeat=Repeat.of("k", NS, 1))
        assert len(ours.numbers()) == 400, "all of it is there, and not confirmed"
    until(lambda: pair.replicas_of(pair.master), 10)
    until(lambda: not _unconfirmed(ours, whole), 10)
    pair.master.kill()
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    theirs = press(pair.replica)
    assert theirs.numbers() == [f'["e",{number}]' for number in range(200)] * 2
    assert theirs.publisher.publish("acme", NS, whole, repeat=Repeat.of("k", NS, 1)).repeated
    theirs.publisher.batches.finish_abandoned(0)
    assert len(theirs.numbers()) == 400


def _unconfirmed(press: Press, events: list[Event], key: str = "k") -> bool:
    try:
        return not press.publisher.publish("acme", NS, events, repeat=Repeat.of(key, NS, 1)).repeated
    except Unavailable:
        return True


def test_the_setting_costs_nothing_where_nothing_is_published(pair: Pair, press: Callable[..., Press]) -> None:
    ours = press(pair.master, 1)
    ours.confirmed(1)
    with paused(pair.replica):
        cut_off(pair)
        began = time.monotonic()
        assert ours.publisher.head("acme", NS)[0] is not None
        assert ours.redis.command("PUBLISH", "c", "x") == 0
        assert time.monotonic() - began < 0.3
        ours.refused(2)


def published(emit: Emitter, number: int) -> bool:
    try:
        emit.flows.progress("acme", FLOW, "r", 1, data={"n": number}, idempotency_key=f"n{number}")
        return True
    except Unavailable:
        return False


def goes_on(emit: Emitter, number: int) -> float:
    """Publish one event, again and again for at most 15 s; return how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < 15:
        tried = time.monotonic()
        if published(emit, number):
            return time.monotonic() - began
        assert time.monotonic() - tried < PROMISED
        time.sleep(0.1)
    raise AssertionError("publishing did not go on")


def all_hear(crowd: Crowd, number: int, seconds: float) -> None:
    until(
        lambda: all(
            any(payload["n"] == number for payload in crowd.payloads(client, "flow_progress"))
            for client in range(crowd.clients)
        ),
        seconds,
        f"all hear {number}: {[seen[-3:] for seen in crowd.seen]}",
    )


def test_sentinel_replaces_a_killed_and_a_hung_master() -> None:
    pair = Pair(sentinels=3)
    node = Node(REDIS_URL=pair.url, SOCKET_RATE_LIMIT="0", SOCKET_CONNECT_TIMEOUT="4")
    with stopping(pair, node), Emitter(pair.url) as emit:
        node.wait_ready()
        crowd = Crowd(4, FLOW, node.url)
        with stopping(crowd):
            crowd.wait("subscribed")
            for number in range(1, 6):
                assert published(emit, number)
            all_hear(crowd, 5, 5)
            # The replica lacks three events that clients have seen.
            with paused(pair.replica):
                cut_off(pair)
                for number in range(6, 9):
                    assert published(emit, number)
                all_hear(crowd, 8, 5)
                pair.master.kill()
            assert goes_on(emit, 9) < 12
            assert pair.replica.told("replication")["role"] == "master"
            crowd.wait("resync", 1, 5)
            assert published(emit, 10)
            all_hear(crowd, 10, 5)
            assert crowd.faults() == []
            assert crowd.counts()["lost"] == crowd.counts()["refused"] == 0
            resyncs = [crowd.times(client, "resync") for client in range(4)]

            # The old one comes back as a replica, and takes over again when the other hangs.
            pair.master.start()
            # Sentinel would do the same, but looks only every ten seconds.
            pair.master.ask("REPLICAOF", "127.0.0.1", pair.replica.port)
            until(lambda: pair.master.told("replication").get("master_link_status") == "up", 20)
            with paused(pair.replica):
                assert goes_on(emit, 11) < 14
                assert published(emit, 12)
                all_hear(crowd, 12, 8)
            until(lambda: pair.replica.told("replication")["role"] == "slave", 20)
            assert published(emit, 13)
            all_hear(crowd, 13, 5)
            assert crowd.faults() == []
            # Nothing was lost this time, so nobody was told anything more: the log was whole.
            assert [crowd.times(client, "resync") for client in range(4)] == resyncs
            assert crowd.counts()["refused"] == crowd.counts()["sent away"] == 0


def test_a_hung_sentinel_in_front_costs_a_call_less_than_two_seconds() -> None:
    pair = Pair(sentinels=3)
    with stopping(pair), paused(*pair.sentinels[:1]):
        with Emitter(pair.url) as emit:
            began = time.monotonic()
            assert published(emit, 1)
            assert time.monotonic() - began < PROMISED
            began = time.monotonic()
            assert published(emit, 2)
            assert time.monotonic() - began < 0.5


def test_a_killed_call_leaves_no_answer_for_the_next_one(cooperative: None) -> None:
    """By Sentinel, the library puts a connection back whose answer is still to come, and the next call gets it."""
    pair = Pair(sentinels=1)
    with stopping(pair):
        client = open_redis(pair.url)
        client.command("SET", "mine", "mine")
        call = gevent.spawn(lambda: client.command("BLPOP", "nothing", 1))
        gevent.sleep(0.3)
        call.kill()
        assert client.command("GET", "mine") == b"mine"
        client.close()
