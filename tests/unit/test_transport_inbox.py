"""An inbox: in order, bounded, one greenlet while there is work and none otherwise."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from tests.transport_client import until
from transport.crew import Crew
from transport.inbox import MAX_WAITING, Inbox

pytestmark = pytest.mark.usefixtures("no_leaks")


class Emptied(Inbox):
    """An inbox that counts how often it told that it was empty."""

    def __init__(self, crew: Crew) -> None:
        self.crew, self.times = crew, 0
        super().__init__(crew, self.emptied)

    def emptied(self) -> None:
        self.times += 1


@pytest.fixture
def inbox(no_leaks: None) -> Iterator[Emptied]:
    crew = Crew()
    yield Emptied(crew)
    until(lambda: len(crew) == 0)
    crew.close()


def test_work_is_done_in_order_though_it_waits(inbox: Emptied) -> None:
    done, go = [], Event()
    for number in range(10):
        assert inbox.put(lambda number=number: (go.wait() if number == 0 else gevent.sleep(0), done.append(number)))
    gevent.sleep(0.01)
    assert done == []
    go.set()
    until(lambda: len(done) == 10)
    assert done == list(range(10))
    assert inbox.put(lambda: done.append("again"))
    until(lambda: done[-1] == "again")
    assert inbox.times == 2


def test_one_greenlet_works_and_none_waits_for_work(inbox: Emptied) -> None:
    most = now = 0

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


def test_a_full_inbox_takes_no_more_until_there_is_room(inbox: Emptied) -> None:
    done, go = [], Event()
    assert inbox.put(go.wait)
    gevent.sleep(0)
    assert all(inbox.put(lambda: done.append(1)) for _ in range(MAX_WAITING))
    assert not inbox.put(lambda: done.append("too much"))
    go.set()
    until(lambda: len(done) == MAX_WAITING)
    assert inbox.put(lambda: done.append("room again"))
    until(lambda: done[-1] == "room again")
    assert "too much" not in done


def test_a_closed_inbox_forgets_what_waits_and_lets_end_what_has_begun(inbox: Emptied) -> None:
    done, go = [], Event()
    inbox.put(lambda: (go.wait(), done.append("begun")))
    inbox.put(lambda: done.append("waited"))
    gevent.sleep(0)
    inbox.close()
    assert not inbox.put(lambda: done.append("after"))
    go.set()
    until(lambda: not inbox._working)
    assert done == ["begun"] and inbox.times == 0


def test_work_that_raises_after_all_does_not_stop_what_comes_next(
    inbox: Emptied, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    inbox.put(lambda: [].pop())
    inbox.put(lambda: done.append("next"))
    gevent.sleep(0.01)
    inbox.put(lambda: done.append("later"))
    until(lambda: done == ["next", "later"])
    assert "IndexError" in caplog.text
