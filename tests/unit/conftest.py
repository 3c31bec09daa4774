"""Fixtures of unit tests."""

from collections.abc import Iterator

import gevent
import pytest

from tests.redis_fixture import OLDEST, PrivateRedis


@pytest.fixture(autouse=True)
def clock_of_now() -> None:
    """Set the clock of gevent's loop: where it has not run for seconds, a timer of some seconds would end at once."""
    gevent.get_hub().loop.update_now()


@pytest.fixture(scope="module", params=[None, OLDEST], ids=["installed", "6.2"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    """A Redis for a module that may flush it: the installed one, and then the oldest that is served."""
    found = PrivateRedis(request.param)
    yield found
    found.stop()
