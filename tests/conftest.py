"""Fixtures of all tests: one Redis a session, keys of a test's own, cooperative sockets, and the leak detector."""

import gc
import itertools
import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage
import gevent
import pytest
import redis
from gevent import socket as gevent_socket
from gevent.thread import LockType
from greenlet import getcurrent, greenlet

import mintflow_realtime.stores.redis.client
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.ports import held_descriptors
from tests.redis_fixture import PrivateRedis

_runs = itertools.count(1)
_measuring = True
UNIT = Path(__file__).parent / "unit"

# CI tries the same mutations of the conformance corpus each time, a developer's machine others. Set here, in the
# process that starts those which collect the tests: they must all collect the same.
os.environ.setdefault("MUTATIONS", "7" if os.environ.get("CI") else str(random.randrange(10**6)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, so that they share its servers, unless each of them brings its own.

    Thorough ones come last: a run that has to end in time has seen each thing once by then.
    """
    for item in items:
        if not item.get_closest_marker("independent") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=_is_thorough)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out, and say so, thorough tests that come after TESTS_UNTIL, in seconds since 1970: CI has half an hour."""
    until = float(os.environ.get("TESTS_UNTIL") or "inf")
    if _is_thorough(item) and time.time() > until:
        pytest.skip("no time was left for the thorough ones; `make test` runs all")


def _is_thorough(item: pytest.Item) -> bool:
    return item.get_closest_marker("thorough") is not None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the cycle collector from what is collected: more than a million objects, which stay to the end.

    Each look at them takes half a second, and the leak detector looks several times a test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Measure what runs in this process in unit tests alone.

    The others' clients are no part of what is measured, and cost twice as much; their servers measure for themselves.
    """
    global _measuring
    running, here = coverage.Coverage.current(), UNIT in item.path.parents
    if running is not None and here != _measuring:
        (running.start if here else running.stop)()
        _measuring = here
    return (yield)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name keys that are made anew by each process by their parameter: all processes must collect the same tests."""
    return argname if isinstance(val, str) and "-----BEGIN" in val else None


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[PrivateRedis]:
    """A Redis for the whole session; who stops, pauses or flushes one takes `private_redis`."""
    server = PrivateRedis()
    yield server
    server.stop()


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis that this test alone may stop, pause and flush."""
    server = PrivateRedis()
    yield server
    server.stop()


@pytest.fixture
def runner(shared_redis: PrivateRedis) -> Iterator[RedisClient]:
    """The project's client of the session's Redis."""
    client = RedisClient(connect(shared_redis.url))
    yield client
    client.close()


@pytest.fixture
def keys() -> Keys:
    """Keys that no other test uses."""
    return Keys(f"t{next(_runs)}{secrets.token_hex(3)}")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for sockets: a UNIX socket's path has at most 107 bytes, and `tmp_path` uses up most of them."""
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def cooperative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let redis-py, and who waits for its turn, wait in gevent's event loop, as in a monkey-patched process."""
    monkeypatch.setattr(redis.connection, "socket", gevent_socket)
    monkeypatch.setattr(mintflow_realtime.stores.redis.client, "threading", SimpleNamespace(Lock=LockType))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail where a test leaves a greenlet or a file descriptor behind."""
    gevent.get_hub()
    gevent.sleep(0)
    descriptors, before = _descriptors(), {id(one) for one in _greenlets()}
    yield
    left: list[Any] = []
    for _ in range(200):
        gc.collect()
        left = [one for one in _greenlets() if id(one) not in before]
        if not left and not _descriptors() - descriptors:
            return
        gevent.sleep(0.01)
    opened = {number: os.readlink(f"/proc/self/fd/{number}") for number in _descriptors() - descriptors}
    pytest.fail(f"left behind: {left} {opened}")


def _greenlets() -> list[Any]:
    hub = gevent.get_hub()
    found = [one for one in gc.get_objects() if isinstance(one, greenlet)]
    return [one for one in found if one and one is not hub and one is not getcurrent()]


def _descriptors() -> set[int]:
    opened = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    return opened - held_descriptors()
