"""Readings: a few at once, in order, and one for all who ask for the same before it begins."""

from typing import Any

import gevent
import pytest
from gevent.event import Event

from mintflow_realtime.protocol import readings as module
from mintflow_realtime.protocol.readings import Readings


@pytest.fixture(autouse=True)
def patched_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.threading, "Lock", gevent.lock.BoundedSemaphore)


def test_so_many_at_once_and_the_others_in_order() -> None:
    readings, now, most, done = Readings(3), 0, 0, []

    def read(number: int) -> None:
        nonlocal now, most
        with readings:
            now += 1
            most = max(most, now)
            gevent.sleep(0.001)
            done.append(number)
            now -= 1

    gevent.joinall([gevent.spawn(read, number) for number in range(20)], 5, raise_error=True)
    assert most == 3 and done == list(range(20)) and readings._free == 3


def test_who_asks_before_it_begins_shares_it_and_who_comes_later_has_the_next() -> None:
    readings, go, begun = Readings(1), Event(), []

    def ask(key: str) -> Any:
        def read() -> int:
            begun.append(key)
            go.wait()
            return len(begun)

        return readings.shared(key, read)

    first = gevent.spawn(ask, "a")
    gevent.sleep(0)
    later = [gevent.spawn(ask, key) for key in "aabaab"]
    gevent.sleep(0.01)
    assert begun == ["a"]
    go.set()
    gevent.joinall([first, *later], 5, raise_error=True)
    assert begun == ["a", "a", "b"] and first.value == 1
    assert [one.value for one in later] == [2, 2, 3, 2, 2, 3]
    assert readings._next == {} and readings._free == 1


def test_all_who_share_a_reading_are_told_that_it_failed() -> None:
    readings, held = Readings(1), Event()

    def fail() -> None:
        raise LookupError("nothing")

    first = gevent.spawn(readings.shared, "held", held.wait)
    gevent.sleep(0)
    others = [gevent.spawn(readings.shared, "a", fail) for _ in range(3)]
    gevent.sleep(0)
    held.set()
    gevent.joinall([first, *others], 5)
    assert [type(one.exception) for one in others] == [LookupError] * 3
    assert readings._next == {} and readings._free == 1


def test_who_is_ended_while_it_waits_leaves_nothing_behind() -> None:
    readings, held = Readings(1), Event()
    first = gevent.spawn(readings.shared, "held", held.wait)
    gevent.sleep(0)
    leader = gevent.spawn(readings.shared, "a", lambda: 1)
    gevent.sleep(0)
    follower = gevent.spawn(readings.shared, "a", lambda: 1)
    gevent.sleep(0)
    leader.kill()
    follower.join(1)
    assert isinstance(follower.exception, RuntimeError)
    held.set()
    first.join(1)
    assert readings.shared("a", lambda: 2) == 2 and readings._free == 1
