"""Two workers that let nobody in without a token, with a console, behind nginx."""

from collections.abc import Iterator

import pytest

from tests.nginx import Nginx
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping


@pytest.fixture(scope="session")
def console_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    """The node. Scripts are quicker than people, and some are about load."""
    env = {"SOCKET_AUTH_REQUIRED": "true", "AI_BACKEND": "echo", "SOCKET_RATE_LIMIT": "0"}
    node = Node(workers=2, REDIS_URL=shared_redis.url, REDIS_PREFIX="console", **env)
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="session")
def front(console_node: Node) -> Iterator[Nginx]:
    """nginx in front of it."""
    proxy = Nginx(console_node.port)
    with stopping(proxy):
        yield proxy
