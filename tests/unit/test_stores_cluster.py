"""One door to a cluster: who owns a slot, what is asked again, and what is said where nobody answers. One real node."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys, Script
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.url import open_redis
from tests.ports import free_port
from tests.redis_groups import Member, paused
from tests.servers import stopping, until

COUNT = Script("return redis.call('INCR', KEYS[1])")
SLOT = key_slot(b"acme")
PROMISED = 2.3


def alone() -> Member:
    """Return a cluster of one master, which has all slots. It takes Redis two seconds to believe in itself."""
    member = Member("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    try:
        member.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in member.ask("CLUSTER", "INFO"))
    except BaseException:
        member.stop()
        raise
    return member


@pytest.fixture(scope="module")
def member() -> Iterator[Member]:
    member = alone()
    with stopping(member):
        yield member


@pytest.fixture
def key(keys: Keys) -> str:
    return keys.of("acme", "n")


@pytest.fixture
def door() -> Iterator[Callable[..., ClusterClient]]:
    made: list[ClusterClient] = []

    def make(*members: Member, **options: Any) -> ClusterClient:
        client = open_redis("redis+cluster://" + ",".join(one.place for one in members), **options)
        assert isinstance(client, ClusterClient)
        made.append(client)
        return client

    yield make
    for one in made:
        one.close()


def refused(call: Callable[[], Any], says: str = ".") -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=says):
        call()
    assert time.monotonic() - began < PROMISED


@pytest.mark.parametrize("rest", ["a", "a:1,b", "a:1/3", "a:x", ":1", "a:1,,b:2", "a:1/0/x"])
def test_a_cluster_url_says_hosts_and_no_database(rest: str) -> None:
    for scheme in ("redis+cluster", "rediss+cluster"):
        with pytest.raises(ValueError, match="redis\\+cluster"):
            open_redis(f"{scheme}://{rest}")


def test_every_node_of_a_cluster_gets_the_url_s_login_and_tls() -> None:
    client = open_redis("rediss+cluster://us%40er:p%3Aw@a:1,[::1]:2/0?ssl_cert_reqs=none")
    assert isinstance(client, ClusterClient)
    for address in (("a", 1), ("::1", 2)):
        pool = client.connect(address).connection_pool
        options = pool.connection_kwargs
        assert (options["host"], options["port"]) == address
        assert (options["username"], options["password"]) == ("us@er", "p:w")
        assert issubclass(pool.connection_class, redis.SSLConnection)


def test_commands_and_scripts_with_and_without_a_key(
    member: Member, door: Callable[..., ClusterClient], keys: Keys, key: str
) -> None:
    client = door(member)
    assert client.owner(key) is None
    assert [client.run(COUNT, [key], []) for _ in range(2)] == [1, 2]
    assert client.owner(key) == ("127.0.0.1", member.port)
    assert client.command("GET", key) == client.command("GET", key.encode()) == b"2"
    assert client.command("PING")
    assert client.command("PUBLISH", "c", b"\xff") == 0
    with pytest.raises(redis.ResponseError, match="slot"):
        client.run(COUNT, [key, keys.of("other", "n")], [])


def test_a_dead_or_hung_seed_is_passed_over(member: Member, door: Callable[..., ClusterClient], key: str) -> None:
    other = Member("--cluster-enabled", "yes")
    try:
        with paused(other):
            began = time.monotonic()
            assert door(other, member).run(COUNT, [key], []) == 1
            assert time.monotonic() - began < 1.0
        other.kill()
        assert door(other, member).run(COUNT, [key], []) == 2
    finally:
        other.stop()


def test_nobody_answers_or_nobody_has_the_slot(member: Member, door: Callable[..., ClusterClient], key: str) -> None:
    nowhere = open_redis(f"redis+cluster://127.0.0.1:{free_port()}")
    refused(lambda: nowhere.command("GET", key), "none of its nodes")
    client = door(member)
    assert client.run(COUNT, [key], []) == 1
    member.ask("CLUSTER", "DELSLOTS", SLOT)
    # As it still believes; then as it has learned.
    refused(lambda: client.run(COUNT, [key], []), "refuses")
    until(lambda: _unknown(client, key), 2)
    assert client.command("PING"), "other slots go on"
    member.ask("CLUSTER", "ADDSLOTS", SLOT)
    assert until(lambda: _counted(client, key), 3) == 2


def _unknown(client: ClusterClient, key: str) -> bool:
    with pytest.raises(Unavailable):
        client.run(COUNT, [key], [])
    return client.owner(key) is None


def _counted(client: ClusterClient, key: str) -> Any:
    try:
        return client.run(COUNT, [key], [])
    except Unavailable:
        return None


def test_a_node_that_hangs_or_has_gone(door: Callable[..., ClusterClient], key: str) -> None:
    member = alone()
    with stopping(member):
        client = door(member)
        assert client.run(COUNT, [key], []) == 1
        with paused(member):
            refused(lambda: client.run(COUNT, [key], []), "unknown")
            refused(lambda: client.run(COUNT, [key], []), "was not sent")
        # What was sent to it while it hung runs once, when it goes on.
        assert until(lambda: _counted(client, key), 5) in (2, 3)
        member.kill()
        for _ in range(3):
            began = time.monotonic()
            refused(lambda: client.run(COUNT, [key], []))
            assert time.monotonic() - began < 0.5


def test_a_durable_script_waits_for_replicas_here_too(
    member: Member, door: Callable[..., ClusterClient], key: str
) -> None:
    client = door(member, wait_replicas=1)
    assert client.run(COUNT, [key], []) == 1
    refused(lambda: client.run(Script(COUNT.text, durable=True), [key], []), "replicas")
    assert client.command("GET", key) == b"2"


def test_closing_leaves_no_connection(member: Member, key: str, no_leaks: None) -> None:
    client = open_redis(f"redis+cluster://{member.place}")
    client.command("GET", key)
    client.close()
