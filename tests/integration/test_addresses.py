"""Where a server listens, and whose addresses it sees."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mintflow_realtime.app import addresses
from tests.servers import Node, RedisServer, stopping

APPLICATION = "tests.integration.apps.remote:application"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


def seen_from(url: str) -> str:
    return requests.get(f"{url}/remote", timeout=5).text


needs_ipv6 = pytest.mark.skipif(addresses._v6_only() is None, reason="no IPv6 here")


@needs_ipv6
@pytest.mark.parametrize("workers", [1, 2])
def test_by_default_both_families_reach_it_and_are_seen_as_what_they_are(server: RedisServer, workers: int) -> None:
    node = Node(workers=workers, application=APPLICATION, REDIS_URL=server.url)
    with stopping(node):
        node.wait_ready()
        assert seen_from(f"http://127.0.0.1:{node.port}") == "127.0.0.1"
        assert seen_from(f"http://[::1]:{node.port}") == "::1"
        assert f"Serving on http://127.0.0.1:{node.port}: sockets at /socket.io" in node.text()


@needs_ipv6
def test_host_is_where_it_listens_and_nowhere_else(server: RedisServer) -> None:
    node = Node(application=APPLICATION, REDIS_URL=server.url, HOST="127.0.0.1")
    with stopping(node):
        node.wait_ready()
        assert seen_from(f"http://127.0.0.1:{node.port}") == "127.0.0.1"
        with pytest.raises(requests.ConnectionError):
            seen_from(f"http://[::1]:{node.port}")


@pytest.mark.parametrize(
    ("v6_only", "host", "port", "bind"),
    [
        (False, "", 3000, ["[::]:3000"]),
        (True, "", 3000, ["0.0.0.0:3000", "[::]:3000"]),
        (True, "", 0, ["0.0.0.0:0"]),
        (None, "", 3000, ["0.0.0.0:3000"]),
        (False, "::1", 3000, ["[::1]:3000"]),
        (False, "127.0.0.1", 3000, ["127.0.0.1:3000"]),
        (False, "localhost", 0, ["localhost:0"]),
    ],
)
def test_what_gunicorn_binds(
    monkeypatch: pytest.MonkeyPatch, v6_only: bool | None, host: str, port: int, bind: list[str]
) -> None:
    monkeypatch.setattr(addresses, "_v6_only", lambda: v6_only)
    assert addresses.bind_addresses(host, port) == bind
    assert addresses.any_host() == ("0.0.0.0" if v6_only is None else "::")


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refuse(family: int, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError("Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(addresses.socket, "socket", refuse)
    assert addresses.bind_addresses("", 3000) == ["0.0.0.0:3000"]
