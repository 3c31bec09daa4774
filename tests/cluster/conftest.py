"""Fixtures of several nodes: one Redis with a file for each module, which a test may stop, pause and flush."""

from collections.abc import Iterator

import pytest

from tests.servers import Node, RedisServer, stopping

BOARD = "tests.integration.apps.board:application"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer) -> Iterator[tuple[Node, Node]]:
    """Two gunicorns of one worker each on one Redis."""
    env = {
        "REDIS_URL": redis_server.url,
        "SOCKET_ANONYMOUS_TENANTS": "acme,other",
        "SOCKET_RATE_LIMIT": "0",
        "SOCKET_CONNECT_TIMEOUT": "4",
    }
    first, second = (Node(application=BOARD, **env) for _ in range(2))
    with stopping(first, second):
        yield first.wait_ready(), second.wait_ready()
