"""What is said of a Redis that doesn't answer, to whom, and how often it is asked."""

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.stores.redis import circuit
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.redis.url import open_redis
from tests.ports import free_port
from tests.redis_fixture import PrivateRedis
from tests.servers import until

PASSWORD = "hunter2hunter2"


def failure(client: RedisClient) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        client.command("PING")
    return caught.value


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that takes connections and never answers; it counts them by `accepted`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_caller_is_told_which_redis_since_when_and_why_and_clients_are_not(deaf: int) -> None:
    now = [100.0]
    url = f"redis://ann:{PASSWORD}@127.0.0.1:{deaf}/0"
    client = RedisClient(connect(url), clock=lambda: now[0], called="REDIS_URL")
    first = failure(client)
    assert str(first) == (
        f"Redis at 127.0.0.1:{deaf} (REDIS_URL) does not answer: timed out. Whether this happened is unknown. "
        "Is it running, and reachable from here?"
    )
    now[0] += 2.5
    second = failure(client)
    assert f"127.0.0.1:{deaf} (REDIS_URL) has not answered for 2 s: timed out. This was not sent." in str(second)
    for error in (first, second):
        assert PASSWORD not in str(error) and PASSWORD not in repr(error)
        wire = error.to_wire()
        assert set(wire) == {"code", "message", "retryable"} and str(deaf) not in wire["message"]
        assert "REDIS_URL" not in wire["message"]
    client.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "redis://127.0.0.1:{port}/0",
            "Redis at 127.0.0.1:{port} (REDIS_URL) does not answer: the connection is refused.",
        ),
        ("redis://[::1]:{port}/0", "Redis at [::1]:{port} (REDIS_URL) does not answer: "),
        (
            "unix:///tmp/nothing-here.sock",
            "Redis at /tmp/nothing-here.sock (REDIS_URL) does not answer: there is no such socket.",
        ),
        (
            "redis://no-such-host.invalid/0",
            "Redis at no-such-host.invalid:6379 (REDIS_URL) does not answer: its host's name",
        ),
        ("redis+sentinel://127.0.0.1:{port}/0/main", "Redis's master 'main' (REDIS_URL) does not answer: "),
    ],
)
def test_each_cause_has_its_words(url: str, says: str) -> None:
    port = free_port()
    client = open_redis(url.format(port=port), called="REDIS_URL")
    assert isinstance(client, RedisClient)
    assert str(failure(client)).startswith(says.format(port=port))
    client.close()


def test_a_wrong_password_is_named_and_not_shown(private_redis: PrivateRedis) -> None:
    with private_redis.client() as admin:
        admin.config_set("requirepass", "another")
    client = RedisClient(connect(f"{private_redis.url}?password={PASSWORD}"))
    text = str(failure(client))
    assert "it does not take this user and password" in text and PASSWORD not in text
    client.close()


def test_redis_own_words_are_for_the_caller_alone(private_redis: PrivateRedis) -> None:
    client = RedisClient(connect(private_redis.url))
    client.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable, match="refuses this at the moment: command not allowed when used memory") as caught:
        client.command("SET", "a", "b")
    assert caught.value.to_wire()["message"] == "Redis refuses this at the moment; nothing of it happened"
    client.close()


def test_a_refused_connection_works_again_at_once(private_redis: PrivateRedis) -> None:
    client = RedisClient(connect(private_redis.url))
    private_redis.kill()
    for _ in range(3):
        began = time.monotonic()
        failure(client)
        assert time.monotonic() - began < 0.2
    private_redis.start()
    assert client.command("PING")
    client.close()


def test_many_threads_and_a_hung_redis_are_one_probe(deaf: int) -> None:
    client = RedisClient(connect(f"redis://127.0.0.1:{deaf}/0"))
    failure(client)
    threads = [threading.Thread(target=failure, args=(client,)) for _ in range(20)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began < 1
    probes = [thread for thread in threading.enumerate() if thread.name == "mintflow-redis-probe"]
    assert len(probes) == 1
    client.close()
    until(lambda: not probes[0].is_alive(), 10, "the probe ends with its client")


def test_where_no_thread_runs_a_call_is_let_through_now_and_then(
    private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "_probe", lambda found: None)
    now = [100.0]
    client = RedisClient(connect(private_redis.url), clock=lambda: now[0])
    client.command("PING")
    private_redis.pause()
    failure(client)
    private_redis.resume()
    now[0] += circuit.PROBE_LOST_SECONDS - 0.1
    assert "was not sent" in str(failure(client))
    now[0] += 0.2
    assert client.command("PING") and client.command("PING")
    client.close()


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    private_redis: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mintflow.redis")
    client = RedisClient(connect(private_redis.url), called="REDIS_URL")
    private_redis.kill()
    for _ in range(5):
        failure(client)
    private_redis.start()
    client.command("PING")
    texts = [record.getMessage() for record in caplog.records if record.name == "mintflow.redis"]
    assert len(texts) == 2 and "does not answer" in texts[0] and "answers again after" in texts[1]
    client.close()


def test_a_master_that_became_a_replica_is_asked_for_anew(private_redis: PrivateRedis) -> None:
    """redis-py keeps the connection, and goes on writing to the replica."""
    client = RedisClient(connect(private_redis.url))
    client.command("REPLICAOF", "127.0.0.1", "1")
    number = client.command("CLIENT", "ID")
    with pytest.raises(Unavailable, match="read only replica"):
        client.command("SET", "a", "b")
    assert client.command("CLIENT", "ID") != number
    client.close()
