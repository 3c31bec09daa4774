"""Greenlets that are kept: work begins at once, they are used again, bounded, and end with their crew."""

import contextvars
from collections.abc import Iterator

import gevent
import pytest
from gevent import get_hub
from gevent.event import Event
from greenlet import getcurrent

from tests.transport_client import until
from transport import crew as crew_module
from transport.crew import Crew

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def crew(no_leaks: None) -> Iterator[Crew]:
    crew = Crew()
    yield crew
    until(lambda: len(crew) == 0)
    crew.close()
    assert crew._idle == []


def in_the_hub(act: object) -> None:
    """Run `act` as the event loop would."""
    done = Event()
    get_hub().loop.run_callback(lambda: (act(), done.set()))  # type: ignore[operator]
    done.wait()


def test_work_runs_in_a_greenlet_that_may_wait(crew: Crew) -> None:
    seen: list[object] = []
    crew.run(lambda: (gevent.sleep(0.01), seen.append(getcurrent())))
    assert seen == [] and len(crew) == 0, "not before the hub has its turn"
    until(lambda: seen)
    assert seen[0] is not getcurrent() and seen[0] is not get_hub()


def test_in_the_hub_it_begins_at_once(crew: Crew) -> None:
    seen: list[str] = []
    in_the_hub(lambda: (crew.run(lambda: seen.append("work")), seen.append("after")))
    assert seen == ["work", "after"]


def test_greenlets_are_used_again(crew: Crew) -> None:
    seen = set()
    for _ in range(50):
        crew.run(lambda: seen.add(getcurrent()))
        gevent.sleep(0)
    assert len(seen) == 1 and len(crew._idle) == 1


def test_as_many_at_once_as_there_is_work_and_a_bounded_number_afterwards(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "MOST_IDLE", 3)
    go, done = Event(), []
    for number in range(10):
        crew.run(lambda number=number: (go.wait(), done.append(number)))
    gevent.sleep(0)
    assert len(crew) == 10
    go.set()
    until(lambda: len(done) == 10)
    assert len(crew) == 0 and len(crew._idle) == 3


def test_each_piece_of_work_has_a_fresh_context(crew: Crew) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="fresh")
    seen: list[str] = []
    for _ in range(2):
        crew.run(lambda: (seen.append(variable.get()), variable.set("used")))
        gevent.sleep(0)
    assert seen == ["fresh", "fresh"]


@pytest.mark.parametrize("error", [ValueError("a fault"), gevent.Timeout(1), SystemExit(3)])
def test_what_work_raises_is_logged_and_costs_nothing(
    crew: Crew, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    done: list[int] = []
    crew.run(fail)
    crew.run(lambda: done.append(1))
    until(lambda: done)
    assert len(crew) == 0 and type(error).__name__ in caplog.text
    if isinstance(error, gevent.Timeout):
        error.close()


def test_work_that_is_killed_is_not_logged(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    crew.run(lambda: (_ for _ in ()).throw(gevent.GreenletExit()))
    gevent.sleep(0)
    assert len(crew) == 0 and caplog.text == ""


def test_finish_calls_where_one_may_wait(crew: Crew) -> None:
    seen: list[object] = []
    assert crew.finish(lambda: seen.append(getcurrent()))
    assert seen == [getcurrent()]
    with pytest.raises(LookupError):
        crew.finish(lambda: {}[1])  # type: ignore[index]


def test_finish_in_the_hub_tells_whether_it_is_done(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    go, told, done = Event(), [], []
    in_the_hub(lambda: told.append(crew.finish(lambda: done.append("short"))))
    in_the_hub(lambda: told.append(crew.finish(lambda: (go.wait(), done.append("long")))))
    in_the_hub(lambda: told.append(crew.finish(lambda: [].pop())))
    assert told == [True, False, True] and done == ["short"]
    assert "IndexError" in caplog.text
    go.set()
    until(lambda: done == ["short", "long"])


def test_closing_ends_the_idle_at_once_and_the_others_with_their_work() -> None:
    crew, go, done = Crew(), Event(), []
    crew.run(lambda: (go.wait(), done.append(1)))
    crew.run(lambda: None)
    gevent.sleep(0)
    (idle,) = crew._idle
    crew.close()
    assert idle.dead and len(crew) == 1
    go.set()
    until(lambda: done)
    assert crew._idle == [] and len(crew) == 0


@pytest.mark.parametrize("from_the_hub", [True, False])
def test_a_bounded_crew_lets_the_rest_wait_in_order(no_leaks: None, from_the_hub: bool) -> None:
    crew = Crew(most=4)
    began: list[int] = []
    go = Event()

    def work(number: int) -> None:
        began.append(number)
        go.wait()
        if number % 5 == 0:
            raise LookupError("one that fails holds up no other")

    def put() -> None:
        for number in range(50):
            crew.run(lambda number=number: work(number))

    in_the_hub(put) if from_the_hub else put()
    until(lambda: len(crew) == 50)
    gevent.sleep(0)
    assert began == [0, 1, 2, 3]
    go.set()
    until(lambda: len(crew) == 0)
    assert began == list(range(50)) and len(crew._idle) == 4
    crew.close()
