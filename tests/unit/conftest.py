"""Fixtures of unit tests."""

from collections.abc import Iterator

import pytest

from tests.redis_fixture import OLDEST, PrivateRedis


@pytest.fixture(scope="module", params=[None, OLDEST], ids=["installed", "6.2"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    """A Redis for a module that may flush it: the installed one, and then the oldest that is served."""
    found = PrivateRedis(request.param)
    yield found
    found.stop()
