"""An inbox: in order, bounded, one greenlet while there is work and none otherwise."""

import gevent
import pytest
from gevent.event import Event

from tests.transport_client import until
from transport.inbox import MAX_WAITING, Inbox

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_work_is_done_in_order_though_it_waits() -> None:
    inbox, done, go = Inbox(), [], Event()
    for number in range(10):
        assert inbox.put(lambda number=number: (go.wait() if number == 0 else gevent.sleep(0), done.append(number)))
    gevent.sleep(0.01)
    assert done == []
    go.set()
    until(lambda: len(done) == 10)
    assert done == list(range(10))
    assert inbox.put(lambda: done.append("again"))
    until(lambda: done[-1] == "again")


def test_one_greenlet_works_and_none_waits_for_work() -> None:
    inbox, most, now = Inbox(), 0, 0

    def work() -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        gevent.sleep(0.001)
        now -= 1

    for _ in range(20):
        inbox.put(work)
    until(lambda: not inbox._working)
    assert most == 1


def test_a_full_inbox_takes_no_more_until_there_is_room() -> None:
    inbox, done, go = Inbox(), [], Event()
    assert inbox.put(go.wait)
    gevent.sleep(0)
    assert all(inbox.put(lambda: done.append(1)) for _ in range(MAX_WAITING))
    assert not inbox.put(lambda: done.append("too much"))
    go.set()
    until(lambda: len(done) == MAX_WAITING)
    assert inbox.put(lambda: done.append("room again"))
    until(lambda: done[-1] == "room again")
    assert "too much" not in done


def test_a_closed_inbox_forgets_what_waits_and_lets_end_what_has_begun() -> None:
    inbox, done, go = Inbox(), [], Event()
    inbox.put(lambda: (go.wait(), done.append("begun")))
    inbox.put(lambda: done.append("waited"))
    gevent.sleep(0)
    inbox.close()
    assert not inbox.put(lambda: done.append("after"))
    go.set()
    until(lambda: not inbox._working)
    assert done == ["begun"]


def test_work_that_raises_after_all_does_not_stop_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    inbox, done = Inbox(), []
    inbox.put(lambda: [].pop())
    inbox.put(lambda: done.append("next"))
    gevent.sleep(0.01)
    inbox.put(lambda: done.append("later"))
    until(lambda: done == ["next", "later"])
    assert "IndexError" in capsys.readouterr().err
