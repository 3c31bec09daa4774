"""The nodes that all integration tests share: few, started when first asked for, told apart by prefix and tenant."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping
from tests.tenants import Tenant

# Tests send as fast as they can, from one connection.
UNLIMITED = {"SOCKET_RATE_LIMIT": "0"}


@contextlib.contextmanager
def _serving(node: Node) -> Iterator[Node]:
    """Stop the node at the end, and fail where it has written of a fault of its own."""
    with stopping(node):
        yield node.wait_ready()
        faults = [line[:2000] for line in node.text().splitlines() if "Traceback" in line or '"level": "error"' in line]
        assert not faults


@pytest.fixture(scope="session")
def single_node() -> Iterator[Node]:
    """One worker on an embedded Redis; clients without a token are anonymous."""
    node = Node(measured=True, **UNLIMITED)
    with _serving(node):
        yield node


@pytest.fixture(scope="session")
def two_workers(shared_redis: PrivateRedis) -> Iterator[Node]:
    """Two workers on the external Redis."""
    node = Node(workers=2, REDIS_URL=shared_redis.url, REDIS_PREFIX="two", AI_BACKEND="echo", **UNLIMITED)
    with _serving(node):
        for place in range(2):
            with node.accepting_only(place):
                node.wait_ready()
        yield node


@pytest.fixture(scope="session")
def closed_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    """One worker that lets nobody in without a token."""
    env = {"SOCKET_AUTH_REQUIRED": "true", "AI_BACKEND": "echo", **UNLIMITED}
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="closed", **env)
    with _serving(node):
        yield node


@pytest.fixture(scope="session")
def limited_node(shared_redis: PrivateRedis) -> Iterator[Node]:
    """One worker with limits that a test reaches at once."""
    limits = {"SOCKET_RATE_LIMIT": "2", "SOCKET_RATE_BURST": "5", "SOCKET_MAX_SUBSCRIPTIONS": "3"}
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="limited", **limits)
    with _serving(node):
        yield node


@pytest.fixture(params=["single_node", "two_workers"])
def node(request: pytest.FixtureRequest) -> Node:
    """One worker on an embedded Redis, then two on an external one."""
    found: Node = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def new_tenant() -> Iterator[Callable[[Node], Tenant]]:
    """Makes tenants that nobody else is in; their clients are closed at the end."""
    made: list[Tenant] = []

    def make(node: Node) -> Tenant:
        made.append(Tenant(node))
        return made[-1]

    yield make
    for tenant in made:
        tenant.stop()


@pytest.fixture
def tenant(node: Node, new_tenant: Callable[[Node], Tenant]) -> Tenant:
    """A tenant of the test's own."""
    return new_tenant(node)
