"""The connection to Redis: one second of patience, no second try, and a breaker; and what redis-py does by default."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import redis

import mintflow_realtime.stores.redis.connect
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, plain_event
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys, Script
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis
from tests.transport_client import until

COUNT = Script("return redis.call('INCR', KEYS[1])")
# Runs the first time for longer than anybody waits for the answer, on Redis's own clock.
SLOW = Script(
    "if redis.call('INCR', KEYS[1]) > 1 then return 1 end local t = redis.call('TIME') "
    "local stop = t[1] * 1000 + t[2] / 1000 + tonumber(ARGV[1]) "
    "repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > stop return 1"
)


def timed(call: Callable[[], Any]) -> tuple[float, BaseException | None]:
    """Return how long a call took in seconds, and what it raised."""
    began = time.monotonic()
    try:
        call()
    except Exception as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


@pytest.fixture
def client(private_redis: PrivateRedis) -> Iterator[RedisClient]:
    found = RedisClient(connect(private_redis.url))
    yield found
    found.close()


def test_a_script_is_sent_once_and_known_by_its_sha_from_then_on(client: RedisClient, keys: Keys) -> None:
    key = keys.shared("n")
    assert [client.run(COUNT, [key], []) for _ in range(3)] == [1, 2, 3]
    calls = client.command("INFO", "commandstats")
    assert (calls["cmdstat_eval"]["calls"], calls["cmdstat_evalsha"]["calls"]) == (1, 3)
    client.command("SCRIPT", "FLUSH")
    assert client.run(COUNT, [key], []) == 4


def test_texts_come_back_as_bytes(client: RedisClient) -> None:
    assert client.run(Script("return {ARGV[1], 1, false}"), [], ["é"]) == ["é".encode(), 1, None]
    assert client.command("ECHO", b"\xff") == b"\xff"


@pytest.mark.parametrize(
    "url", ["", "http://x", "localhost:6379", "redis+cluster://a:1", "valkey://x", "redis+sentinel://a/0/m", "mailto:x"]
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


@pytest.mark.parametrize("rest", ["a:1,b:2", "a:1/0", "a:1/x/m", "a:1/0/", "a:1/0/m/n", "a/0/m", "a:x/0/m"])
def test_a_sentinel_url_says_hosts_database_and_service(rest: str) -> None:
    with pytest.raises(ValueError, match="redis\\+sentinel"):
        connect(f"redis+sentinel://{rest}")


def test_a_sentinel_url_as_it_should_be() -> None:
    client = connect("redis+sentinel://us%40er:p%3Aw@a:1,b:2/3/main?sentinel_password=s")
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("us@er", "p:w", 3)
    sentinels = client.connection_pool.sentinel_manager.sentinels
    places = [s.connection_pool.connection_kwargs for s in sentinels]
    assert [(p["host"], p["port"], p["password"]) for p in places] == [("a", 1, "s"), ("b", 2, "s")]


def test_a_redis_that_is_not_there_is_unavailable_at_once(private_redis: PrivateRedis, client: RedisClient) -> None:
    private_redis.kill()
    for _ in range(2):
        seconds, error = timed(lambda: client.command("PING"))
        assert isinstance(error, Unavailable) and seconds < 0.5
    private_redis.start()
    assert client.command("PING")


def test_a_hung_redis_costs_one_call_a_second_and_the_next_nothing(
    private_redis: PrivateRedis, client: RedisClient
) -> None:
    """Row 34: the library waits 5 s and more for each."""
    client.command("PING")
    private_redis.pause()
    seconds, error = timed(lambda: client.command("PING"))
    assert isinstance(error, Unavailable) and error.retryable and 0.8 < seconds < 2
    for _ in range(5):
        seconds, error = timed(lambda: client.run(COUNT, ["n"], []))
        assert isinstance(error, Unavailable) and seconds < 0.1
    private_redis.resume()
    assert redis.Redis().connection_pool.connection_kwargs.get("socket_timeout", 5) in (None, 5)


def test_a_new_connection_to_a_hung_redis_takes_less_than_two_seconds(private_redis: PrivateRedis) -> None:
    fresh = RedisClient(connect(private_redis.url))
    private_redis.pause()
    seconds, error = timed(lambda: fresh.run(COUNT, ["n"], []))
    private_redis.resume()
    fresh.close()
    assert isinstance(error, Unavailable) and seconds < 2


def test_the_breaker_closes_within_a_second_of_redis_return(private_redis: PrivateRedis, client: RedisClient) -> None:
    client.command("PING")
    private_redis.pause()
    with pytest.raises(Unavailable, match="Whether this happened is unknown"):
        client.command("PING")
    # Whatever the probe is at, calls wait for nothing.
    end = time.monotonic() + 3
    while time.monotonic() < end:
        seconds, error = timed(lambda: client.command("PING"))
        assert isinstance(error, Unavailable) and "This was not sent" in str(error) and seconds < 0.1
        time.sleep(0.05)
    private_redis.resume()
    began = time.monotonic()
    until(lambda: timed(lambda: client.command("PING"))[1] is None, 5)
    assert time.monotonic() - began < 1.5


def test_an_unanswered_script_runs_once_and_with_the_librarys_defaults_more_often(
    private_redis: PrivateRedis, client: RedisClient, keys: Keys
) -> None:
    """Row 43: the answer comes too late. Ours says that the outcome is unknown; redis-py 8 asks again by itself."""
    ours, theirs = keys.shared("ours"), keys.shared("theirs")
    with pytest.raises(Unavailable, match="unknown"):
        client.run(SLOW, [ours], [1500])
    with private_redis.client() as patient:
        assert patient.get(ours) == b"1"
        careless = redis.Redis(unix_socket_path=str(private_redis.path), socket_timeout=0.3)
        assert careless.eval(SLOW.text, 1, theirs, 1200) == 1
        careless.close()
        assert int(patient.get(theirs)) > 1


def test_a_script_sent_to_a_stopped_redis_runs_at_most_once_when_it_goes_on(
    private_redis: PrivateRedis, client: RedisClient, keys: Keys
) -> None:
    """Row 43, stopped and continued."""
    publisher = Publisher(client, keys, Caps())
    publisher.publish("acme", "/n", [plain_event(("acme:",), "before", 1)])
    private_redis.pause()
    seconds, error = timed(lambda: publisher.publish("acme", "/n", [plain_event(("acme:",), "unknown", 1)]))
    assert isinstance(error, Unavailable) and seconds < 2
    private_redis.resume()
    with private_redis.client() as patient:
        patient.ping()
        assert patient.xlen(keys.of("acme", "log", "/n")) in (1, 2)


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        (("maxmemory", "1"), "OOM"),
        (("min-replicas-to-write", "3"), "NOREPLICAS"),
    ],
)
def test_a_redis_that_refuses_writes_is_unavailable(
    private_redis: PrivateRedis, client: RedisClient, keys: Keys, setting: tuple[str, str], code: str
) -> None:
    publisher = Publisher(client, keys, Caps())
    publisher.publish("acme", "/n", [plain_event(("acme:",), "e", 1)])
    client.command("CONFIG", "SET", *setting)
    with pytest.raises(Unavailable):
        publisher.publish("acme", "/n", [plain_event(("acme:",), "e", 1)])
    with pytest.raises(Unavailable):
        client.command("SET", "a", "b")
    client.command("CONFIG", "SET", setting[0], "0")
    assert publisher.publish("acme", "/n", [plain_event(("acme:",), "e", 1)]).offset.endswith("-2")


def test_a_replica_is_unavailable_for_writes(private_redis: PrivateRedis, client: RedisClient, keys: Keys) -> None:
    client.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable):
        client.command("SET", "a", "b")
    with pytest.raises(Unavailable):
        client.run(COUNT, [keys.shared("n")], [])


def test_a_redis_busy_with_a_long_script_is_unavailable(private_redis: PrivateRedis, client: RedisClient) -> None:
    client.command("CONFIG", "SET", "busy-reply-threshold", "100")
    with pytest.raises(Unavailable):
        client.run(SLOW, ["n"], [2500])
    other = RedisClient(connect(private_redis.url))
    with pytest.raises(Unavailable):
        other.command("SET", "a", "b")
    other.close()


def test_a_wrong_password_is_unavailable_and_not_a_fault_of_the_request(private_redis: PrivateRedis) -> None:
    with private_redis.client() as admin:
        admin.config_set("requirepass", "secret")
    other = RedisClient(connect(private_redis.url))
    with pytest.raises(Unavailable):
        other.command("PING")
    other.close()


def test_a_fault_of_ours_is_no_outage(client: RedisClient) -> None:
    for wrong in (lambda: client.command("NOSUCH"), lambda: client.run(Script("return x.y"), [], [])):
        with pytest.raises(redis.ResponseError):
            wrong()
    assert client.command("PING")


def test_closing_leaves_no_connection(private_redis: PrivateRedis, no_leaks: None) -> None:
    client = RedisClient(connect(private_redis.url))
    client.command("PING")
    client.close()


def test_more_calls_at_once_than_connections_wait_for_their_turn(
    private_redis: PrivateRedis, cooperative: None, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    """redis-py's pool refuses them: of 500 publishes in one moment some were answered 503."""
    monkeypatch.setattr(mintflow_realtime.stores.redis.connect, "MAX_CONNECTIONS", 4)
    client = RedisClient(connect(private_redis.url))
    key = keys.shared("n")
    calls = [gevent.spawn(client.run, COUNT, [key], []) for _ in range(500)]
    gevent.joinall(calls, raise_error=True)
    assert sorted(call.value for call in calls) == list(range(1, 501))
    assert not client._waiting and client.command("CLIENT", "LIST").count(b"id=") <= 4
    client.close()


def test_whoever_waits_goes_before_whoever_comes_later(
    private_redis: PrivateRedis, cooperative: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.redis.connect, "MAX_CONNECTIONS", 1)
    client = RedisClient(connect(private_redis.url))
    order: list[int] = []

    def call(number: int) -> None:
        client.command("PING")
        order.append(number)
        if number < 5:
            gevent.spawn(call, number + 100)

    gevent.joinall([gevent.spawn(call, number) for number in range(10)], raise_error=True)
    until(lambda: len(order) == 15)
    assert order == [*range(10), *range(100, 105)]
    client.close()


def test_more_calls_at_once_than_connections_are_unavailable_in_time(
    private_redis: PrivateRedis, cooperative: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.redis.connect, "MAX_CONNECTIONS", 4)
    client = RedisClient(connect(private_redis.url))
    private_redis.pause()
    outcomes: list[tuple[float, BaseException | None]] = []
    calls = [gevent.spawn(lambda: outcomes.append(timed(lambda: client.command("PING")))) for _ in range(20)]
    # Without a timeout: where the loop has not run for seconds, its clock is as old, and joinall's timer ends at once.
    gevent.joinall(calls)
    private_redis.resume()
    client.close()
    assert len(outcomes) == 20
    assert all(isinstance(error, Unavailable) and seconds < 2 for seconds, error in outcomes)
