"""Greenlets that are kept: work begins at once, they are used again, bounded, and end with their pool."""

import contextvars
from collections.abc import Iterator

import gevent
import pytest
from gevent import get_hub
from gevent.event import Event
from greenlet import getcurrent

from mintflow_realtime.transport.loop import greenlet_pool as crew_module
from mintflow_realtime.transport.loop.greenlet_pool import GreenletPool
from tests.transport_client import until

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def pool(no_leaks: None) -> Iterator[GreenletPool]:
    pool = GreenletPool()
    yield pool
    until(lambda: len(pool) == 0)
    pool.close()
    assert pool._idle == []


def in_the_hub(act: object) -> None:
    """Run `act` as the event loop would."""
    done = Event()
    get_hub().loop.run_callback(lambda: (act(), done.set()))  # type: ignore[operator]
    done.wait()


def test_work_runs_in_a_greenlet_that_may_wait(pool: GreenletPool) -> None:
    seen: list[object] = []
    pool.run(lambda: (gevent.sleep(0.01), seen.append(getcurrent())))
    assert seen == [] and len(pool) == 0, "not before the hub has its turn"
    until(lambda: seen)
    assert seen[0] is not getcurrent() and seen[0] is not get_hub()


def test_in_the_hub_it_begins_at_once(pool: GreenletPool) -> None:
    seen: list[str] = []
    in_the_hub(lambda: (pool.run(lambda: seen.append("work")), seen.append("after")))
    assert seen == ["work", "after"]


def test_greenlets_are_used_again(pool: GreenletPool) -> None:
    seen = set()
    for _ in range(50):
        pool.run(lambda: seen.add(getcurrent()))
        gevent.sleep(0)
    assert len(seen) == 1 and len(pool._idle) == 1


def test_as_many_at_once_as_there_is_work_and_a_bounded_number_afterwards(
    pool: GreenletPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "MOST_IDLE", 3)
    go, done = Event(), []
    for number in range(10):
        pool.run(lambda number=number: (go.wait(), done.append(number)))
    gevent.sleep(0)
    assert len(pool) == 10
    go.set()
    until(lambda: len(done) == 10)
    assert len(pool) == 0 and len(pool._idle) == 3


def test_each_piece_of_work_has_a_fresh_context(pool: GreenletPool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="fresh")
    seen: list[str] = []
    for _ in range(2):
        pool.run(lambda: (seen.append(variable.get()), variable.set("used")))
        gevent.sleep(0)
    assert seen == ["fresh", "fresh"]


@pytest.mark.parametrize("error", [ValueError("a fault"), gevent.Timeout(1), SystemExit(3)])
def test_what_work_raises_is_logged_and_costs_nothing(
    pool: GreenletPool, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    done: list[int] = []
    pool.run(fail)
    pool.run(lambda: done.append(1))
    until(lambda: done)
    assert len(pool) == 0 and type(error).__name__ in caplog.text
    if isinstance(error, gevent.Timeout):
        error.close()


def test_work_that_is_killed_is_not_logged(pool: GreenletPool, caplog: pytest.LogCaptureFixture) -> None:
    pool.run(lambda: (_ for _ in ()).throw(gevent.GreenletExit()))
    gevent.sleep(0)
    assert len(pool) == 0 and caplog.text == ""


def test_finish_calls_where_one_may_wait(pool: GreenletPool) -> None:
    seen: list[object] = []
    assert pool.finish(lambda: seen.append(getcurrent()))
    assert seen == [getcurrent()]
    with pytest.raises(LookupError):
        pool.finish(lambda: {}[1])  # type: ignore[index]


def test_finish_in_the_hub_tells_whether_it_is_done(pool: GreenletPool, caplog: pytest.LogCaptureFixture) -> None:
    go, told, done = Event(), [], []
    in_the_hub(lambda: told.append(pool.finish(lambda: done.append("short"))))
    in_the_hub(lambda: told.append(pool.finish(lambda: (go.wait(), done.append("long")))))
    in_the_hub(lambda: told.append(pool.finish(lambda: [].pop())))
    assert told == [True, False, True] and done == ["short"]
    assert "IndexError" in caplog.text
    go.set()
    until(lambda: done == ["short", "long"])


def test_closing_ends_the_idle_at_once_and_the_others_with_their_work() -> None:
    pool, go, done = GreenletPool(), Event(), []
    pool.run(lambda: (go.wait(), done.append(1)))
    pool.run(lambda: None)
    gevent.sleep(0)
    (idle,) = pool._idle
    pool.close()
    assert idle.dead and len(pool) == 1
    go.set()
    until(lambda: done)
    assert pool._idle == [] and len(pool) == 0


@pytest.mark.parametrize("from_the_hub", [True, False])
def test_a_bounded_crew_lets_the_rest_wait_in_order(no_leaks: None, from_the_hub: bool) -> None:
    pool = GreenletPool(most=4)
    began: list[int] = []
    go = Event()

    def work(number: int) -> None:
        began.append(number)
        go.wait()
        if number % 5 == 0:
            raise LookupError("one that fails holds up no other")

    def put() -> None:
        for number in range(50):
            pool.run(lambda number=number: work(number))

    in_the_hub(put) if from_the_hub else put()
    until(lambda: len(pool) == 50)
    gevent.sleep(0)
    assert began == [0, 1, 2, 3]
    go.set()
    until(lambda: len(pool) == 0)
    assert began == list(range(50)) and len(pool._idle) == 4
    pool.close()
