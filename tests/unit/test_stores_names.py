"""Looking a Redis's name up where the name server hangs or fails: half a second, and the addresses of before."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.stores.redis import names
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.redis.names import look_up
from tests.servers import RedisServer, stopping, until


class NameServer:
    """Answers for `redis.test`, or hangs, or fails, until it is let go."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.real = real
        self.asked = 0
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, host: str, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "redis.test":
            return self.real(host, port, *rest, **more)
        self.asked += 1
        self.answers.wait(20)
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.real("127.0.0.1", port, *rest, **more)


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    found = NameServer(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    names._known.clear()
    yield found
    found.answers.set()
    until(lambda: not names._under_way)


def test_the_addresses_of_before_serve_where_the_name_server_hangs_or_fails(name_server: NameServer) -> None:
    before = look_up("redis.test", 6379)
    name_server.answers.clear()
    began = time.monotonic()
    assert look_up("redis.test", 6379) == before
    assert time.monotonic() - began < 1
    name_server.answers.set()
    name_server.fails = True
    assert look_up("redis.test", 6379) == before


def test_a_publish_takes_no_longer_than_is_promised(name_server: NameServer) -> None:
    server = RedisServer()
    with stopping(server):
        client = RedisClient(connect(f"redis://redis.test:{server.port}/0"))
        name_server.answers.clear()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            client.command("SET", "a", "1")
        assert time.monotonic() - began < 2
        name_server.answers.set()
        until_asked = time.monotonic() + 10
        while True:
            try:
                assert client.command("GET", "a") is None
                break
            except Unavailable:
                assert time.monotonic() < until_asked
                time.sleep(0.05)
        client._redis.connection_pool.disconnect()
        name_server.answers.clear()
        began = time.monotonic()
        client.command("SET", "a", "2")
        assert time.monotonic() - began < 2
        client.close()


def test_one_question_is_asked_for_all_who_wait(name_server: NameServer) -> None:
    name_server.answers.clear()
    outcomes: list[Any] = []

    def ask() -> None:
        try:
            outcomes.append(look_up("redis.test", 1))
        except OSError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert name_server.asked == 1 and len(outcomes) == 10


def test_a_name_that_nobody_knows_is_told_at_once(name_server: NameServer) -> None:
    name_server.fails = True
    with pytest.raises(socket.gaierror):
        look_up("redis.test", 1)


def test_a_child_asks_anew(name_server: NameServer) -> None:
    name_server.answers.clear()
    with pytest.raises(TimeoutError):
        look_up("redis.test", 1)
    child = os.fork()
    if child == 0:
        name_server.answers = threading.Event()
        name_server.answers.set()
        try:
            os._exit(0 if look_up("redis.test", 1) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("looked up")

    monkeypatch.setattr(names, "look_up", never)
    server = RedisServer()
    with stopping(server):
        client = RedisClient(connect(server.url))
        assert client.command("PING")
        client.close()
