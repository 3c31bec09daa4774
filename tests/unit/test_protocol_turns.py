"""Turns: one slice at a time in the process, in order, and everybody else in between."""

import gc
from typing import Any

import gevent
import pytest

from mintflow_realtime.protocol import turns as module
from mintflow_realtime.protocol.turns import Turns
from tests.transport_client import until


@pytest.fixture(autouse=True)
def patched_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, where gevent has patched both."""
    monkeypatch.setattr(module.time, "sleep", gevent.sleep)
    monkeypatch.setattr(module.threading, "Lock", gevent.lock.BoundedSemaphore)


def test_several_take_slices_one_after_the_other_and_others_go_between() -> None:
    turns, slices, ticks, now = Turns(lambda: clock[0]), [], [], 0
    clock = [0.0]

    def work(name: str) -> None:
        nonlocal now
        with turns.work() as pause:
            for _ in range(3):
                now += 1
                assert now == 1
                slices.append(name)
                clock[0] += 1
                now -= 1
                pause()

    def ticking() -> None:
        while len(ticks) < 1000:
            ticks.append(len(slices))
            gevent.sleep(0.0001)

    everybody = gevent.spawn(ticking)
    gevent.joinall([gevent.spawn(work, name) for name in "abc"], 5, raise_error=True)
    everybody.kill()
    assert slices == list("abcabcabc") and len(turns) == 0
    # Nobody had two slices before the others had a look.
    assert set(range(1, 9)) <= set(ticks)


def test_a_pause_before_the_slice_is_spent_costs_nothing() -> None:
    turns = Turns(lambda: 0.0)
    with turns.work() as pause:
        for _ in range(1000):
            pause()
    assert not turns._busy


@pytest.mark.parametrize("when", ["waiting for the first", "waiting for another"])
def test_who_is_ended_while_it_waits_keeps_no_slice(when: str) -> None:
    turns, go, clock = Turns(lambda: clock[0]), gevent.event.Event(), [0.0]

    def hold() -> None:
        with turns.work():
            go.wait()

    def work() -> None:
        with turns.work() as pause:
            clock[0] += 1
            gevent.spawn(hold)
            gevent.sleep(0)
            pause()

    first = gevent.spawn(hold if when == "waiting for the first" else work)
    gevent.sleep(0.01)
    waiting = gevent.spawn(hold) if when == "waiting for the first" else first
    gevent.sleep(0.01)
    waiting.kill()
    go.set()
    until(lambda: not turns._busy)
    with turns.work():
        pass
    first.join(1)
    assert not turns._busy and len(turns) == 0


def test_the_cycle_collector_is_kept_from_what_is_old_while_there_is_long_work() -> None:
    turns, before = Turns(), gc.get_threshold()
    with turns.calm(), turns.calm():
        made: Any = [[] for _ in range(200_000)]
        assert gc.get_threshold()[0] == before[0] and gc.get_threshold()[1:] > (2**20, 2**20)
        del made
    assert gc.get_threshold() == before
