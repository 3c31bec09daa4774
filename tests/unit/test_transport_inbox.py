"""An inbox: in order, bounded, one greenlet while there is work and none otherwise."""

from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event

from mintflow_realtime.transport.loop.greenlet_pool import GreenletPool
from mintflow_realtime.transport.socket_io.inbox import MAX_WAITING, Inbox
from tests.transport_client import until

pytestmark = pytest.mark.usefixtures("no_leaks")


class Emptied(Inbox):
    """An inbox that counts how often it told that it was empty."""

    def __init__(self, pool: GreenletPool) -> None:
        self.greenlets, self.times = pool, 0
        self.paused = 0
        self.crowded: list[Callable[[], None]] | None = None
        super().__init__(pool, self, self.emptied)

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1

    def room(self, then: Callable[[], None]) -> bool:
        if self.crowded is None:
            return True
        self.crowded.append(then)
        return False

    def emptied(self) -> None:
        self.times += 1


@pytest.fixture
def inbox(no_leaks: None) -> Iterator[Emptied]:
    pool = GreenletPool()
    yield Emptied(pool)
    until(lambda: len(pool) == 0)
    pool.close()


def test_work_is_done_in_order_though_it_waits(inbox: Emptied) -> None:
    done, go = [], Event()
    for number in range(10):
        inbox.put(lambda number=number: (go.wait() if number == 0 else gevent.sleep(0), done.append(number)))
    gevent.sleep(0.01)
    assert done == []
    go.set()
    until(lambda: len(done) == 10)
    assert done == list(range(10))
    inbox.put(lambda: done.append("again"))
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


def test_a_full_inbox_pauses_the_reading_until_half_of_it_is_done(inbox: Emptied) -> None:
    done, go, half = [], Event(), Event()
    inbox.put(go.wait)
    gevent.sleep(0)
    for number in range(MAX_WAITING):
        assert inbox.paused == 0
        inbox.put(lambda number=number: (half.wait() if number == MAX_WAITING // 2 + 1 else None, done.append(number)))
    inbox.put(lambda: done.append("was read already"))
    assert inbox.paused == 1
    go.set()
    until(lambda: inbox.paused == 0)
    assert done == list(range(MAX_WAITING // 2 + 1))
    half.set()
    until(lambda: done == [*range(MAX_WAITING), "was read already"])


def test_the_next_piece_waits_until_there_is_room_for_an_answer(inbox: Emptied) -> None:
    done: list[int] = []
    inbox.put(lambda: (done.append(1), setattr(inbox, "crowded", [])))
    inbox.put(lambda: done.append(2))
    inbox.put(lambda: done.append(3))
    until(lambda: bool(inbox.crowded))
    gevent.sleep(0.01)
    assert done == [1] and inbox.crowded and len(inbox.crowded) == 1 and inbox.times == 0
    (again,), inbox.crowded = inbox.crowded, None
    again()
    until(lambda: done == [1, 2, 3])
    assert inbox.times == 1


def test_a_closed_inbox_forgets_what_waits_and_lets_end_what_has_begun(inbox: Emptied) -> None:
    done, go = [], Event()
    inbox.put(lambda: (go.wait(), done.append("begun")))
    inbox.put(lambda: done.append("waited"))
    gevent.sleep(0)
    inbox.close()
    inbox.put(lambda: done.append("after"))
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


def test_nothing_is_read_beside_dear_work_and_it_is_let_go_of_at_the_end(inbox: Emptied) -> None:
    done: list[str] = []
    go = Event()
    inbox.put(lambda: (go.wait(), done.append("before"))[1])
    inbox.put(lambda: done.append("dear"), lambda: done.append("let go"))
    inbox.put(lambda: done.append("read before"))
    assert inbox.paused == 1
    go.set()
    until(lambda: len(done) == 4)
    assert done.index("dear") < done.index("let go") and done[0] == "before"
    until(lambda: inbox.paused == 0)


def test_what_is_dear_is_let_go_of_though_nobody_is_left_to_answer(inbox: Emptied) -> None:
    done: list[str] = []
    go = Event()
    inbox.put(go.wait)
    inbox.put(lambda: done.append("work"), lambda: done.append("let go"))
    inbox.close()
    inbox.put(lambda: done.append("work"), lambda: done.append("let go"))
    go.set()
    until(lambda: len(done) == 2)
    assert done == ["let go"] * 2
