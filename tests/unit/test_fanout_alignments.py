"""Alignments: a few at once, who waits first, and again where Redis didn't answer."""

import gevent
import pytest

from mintflow_realtime.fanout.subscribe import alignments as module
from mintflow_realtime.fanout.subscribe.alignments import AT_ONCE, Alignments
from tests.transport_client import until


def test_of_thousands_a_few_are_at_work_and_who_is_waited_for_comes_first() -> None:
    now = most = 0
    done: list[int] = []

    def align(number: int) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        gevent.sleep(0)
        now -= 1
        done.append(number)
        return True

    alignments: Alignments[int] = Alignments(align)
    for number in range(2000):
        alignments.ask(number)
    alignments.ask(-1, first=True)
    assert len(alignments._workers) == AT_ONCE
    until(lambda: len(done) == 2001)
    assert most == AT_ONCE and done[0] == -1 and sorted(done[1:]) == list(range(2000))
    until(lambda: not alignments._workers)


def test_what_failed_is_done_again_and_the_others_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.02)
    tries: list[str] = []

    def align(name: str) -> bool:
        tries.append(name)
        if name == "raises" and tries.count(name) < 2:
            raise LookupError
        return name != "waits" or tries.count(name) == 3

    alignments: Alignments[str] = Alignments(align, 1)
    for name in ("waits", "raises", "other"):
        alignments.ask(name)
    until(lambda: not alignments._workers)
    assert tries == ["waits", "raises", "other", "waits", "raises", "waits"]


def test_nothing_goes_on_after_the_stop() -> None:
    asked: list[int] = []
    alignments: Alignments[int] = Alignments(lambda number: bool(asked.append(number)), 1)
    alignments.ask(1)
    gevent.sleep(0.01)
    alignments.stop()
    until(lambda: not alignments._workers)
    assert asked == [1] and len(alignments) == 0
