"""The one timer: timers fire in their step, early or late as asked, and setting one again moves it."""

from collections.abc import Callable, Iterator

import gevent
import pytest

from mintflow_realtime.transport.loop.timer_wheel import NEVER, STEP, Timer, TimerWheel

pytestmark = pytest.mark.usefixtures("no_leaks")


class Hands:
    """A wheel on a clock that the test turns; `fired` is what fired, and when."""

    def __init__(self) -> None:
        self.now = 1000.01
        self.timers = TimerWheel(lambda: self.now)
        self.fired: list[tuple[str, float]] = []

    def timer(self, name: str, then: Callable[[], object] = lambda: None) -> Timer:
        return Timer(lambda: (self.fired.append((name, round(self.now, 3))), then()))

    def turn(self, seconds: float) -> None:
        """Let time pass in small steps, as the event loop would see it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            self.timers._advance()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.fired]


@pytest.fixture
def hands(no_leaks: None) -> Iterator[Hands]:
    hands = Hands()
    yield hands
    hands.timers.close()


def test_timers_fire_once_in_the_order_of_their_times(hands: Hands) -> None:
    for name, seconds in (("c", 3.0), ("a", 1.0), ("d", 60.0), ("b", 2.0)):
        hands.timers.set(hands.timer(name), seconds)
    hands.turn(10)
    assert hands.names == ["a", "b", "c"]
    hands.turn(60)
    assert hands.names == ["a", "b", "c", "d"]
    assert hands.timers._slots == {} and hands.timers._order == [] and hands.timers._loop_timer is None


@pytest.mark.parametrize("seconds", [0.0, 0.001, STEP, 0.12, 1.0, 25.0, 25.049])
def test_never_too_soon_and_at_most_a_step_late_or_the_other_way_round(hands: Hands, seconds: float) -> None:
    start = hands.now
    hands.timers.set(hands.timer("late"), seconds)
    hands.timers.set(hands.timer("early"), seconds, early=True)
    hands.turn(seconds + 2 * STEP)
    at = dict(hands.fired)
    assert start + seconds - 0.0015 <= at["late"] <= start + seconds + STEP + 0.0115
    assert start + seconds - STEP - 0.0015 <= at["early"] <= start + seconds + 0.0115


def test_a_cancelled_timer_does_not_fire(hands: Hands) -> None:
    gone, stays = hands.timer("gone"), hands.timer("stays")
    hands.timers.set(gone, 1)
    hands.timers.set(stays, 1)
    assert gone.armed
    hands.timers.cancel(gone)
    hands.timers.cancel(gone)
    hands.timers.cancel(hands.timer("never set"))
    assert not gone.armed and stays.armed
    hands.turn(2)
    assert hands.names == ["stays"] and not stays.armed


def test_setting_again_moves_a_timer(hands: Hands) -> None:
    timer = hands.timer("a")
    hands.timers.set(timer, 1)
    hands.timers.set(timer, 5)
    hands.turn(4)
    assert hands.names == []
    hands.timers.set(timer, 0.1)
    hands.turn(1)
    hands.turn(10)
    assert len(hands.fired) == 1


def test_a_timer_may_set_itself_again_while_it_fires(hands: Hands) -> None:
    """Also at once: it fires in a later turn, and not for ever in this one."""

    def again() -> None:
        if len(hands.fired) < 5:
            hands.timers.set(timer, 0)

    timer = hands.timer("a", again)
    hands.timers.set(timer, 1)
    hands.turn(2)
    assert len(hands.fired) == 5
    times = [at for _, at in hands.fired]
    assert times == sorted(times) and not timer.armed


def test_one_that_fires_may_cancel_and_move_others_of_its_step(hands: Hands) -> None:
    first: list[str] = []

    def fire(name: str, other: str) -> Callable[[], object]:
        def act() -> None:
            hands.fired.append((name, 0))
            if not first:
                first.append(name)
                hands.timers.cancel(timers[other])

        return act

    timers = {name: Timer(fire(name, other)) for name, other in (("a", "b"), ("b", "a"))}
    for timer in timers.values():
        hands.timers.set(timer, 1)
    hands.turn(2)
    assert hands.names == first, "the other one was cancelled before its turn"

    hands.fired.clear()
    moved = hands.timer("moved")
    hands.timers.set(hands.timer("mover", lambda: hands.timers.set(moved, 5)), 1)
    hands.timers.set(moved, 1)
    hands.turn(2)
    hands.turn(5)
    # Whichever of the two came first: the moved one fires at its new time.
    assert hands.names.count("mover") == 1 and hands.fired[-1][1] > hands.now - 3
    assert hands.names[-1] == "moved" and not moved.armed


def test_one_that_sets_itself_to_now_lets_the_others_have_their_turn(hands: Hands) -> None:
    def again() -> None:
        hands.timers.set(timer, 0, early=True)

    timer = hands.timer("a", again)
    hands.timers.set(timer, 0, early=True)
    with gevent.Timeout(1):
        hands.timers._advance()
    assert len(hands.fired) == 1


def test_one_that_fails_holds_up_no_other(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    hands.timers.set(hands.timer("fails", lambda: [].pop()), 1)
    hands.timers.set(hands.timer("next"), 1)
    hands.timers.set(hands.timer("later"), 2)
    hands.turn(3)
    assert sorted(hands.names) == ["fails", "later", "next"]
    assert "IndexError" in caplog.text


def test_a_thousand_timers_of_a_step_take_one_turn_and_one_timer(hands: Hands) -> None:
    for number in range(1000):
        hands.timers.set(hands.timer(str(number)), 25.0, early=True)
    assert len(hands.timers._order) == 1
    hands.now += 26
    hands.timers._advance()
    assert len(hands.fired) == 1000


def test_steps_whose_timers_were_all_cancelled_go_with_their_time(hands: Hands) -> None:
    """A connection that joins in time cancels one; a server that runs for a year must not keep them."""
    for _ in range(100):
        timer = hands.timer("a")
        hands.timers.set(timer, 10)
        hands.turn(0.1)
        hands.timers.cancel(timer)
    hands.turn(11)
    assert hands.fired == [] and hands.timers._slots == {} and hands.timers._order == []


def test_the_event_loop_turns_it() -> None:
    timers, fired = TimerWheel(), []
    slow, fast = Timer(lambda: fired.append("slow")), Timer(lambda: fired.append("fast"))
    timers.set(slow, 0.15)
    timers.set(fast, 0.01)
    with gevent.Timeout(2):
        while len(fired) < 2:
            gevent.sleep(0.01)
    assert fired == ["fast", "slow"] and timers._loop_timer is None
    timers.set(slow, 0.01)
    timers.close()
    assert not slow.armed and timers._loop_timer is None
    gevent.sleep(0.1)
    assert fired == ["fast", "slow"]


def test_a_closed_one_can_be_used_again(hands: Hands) -> None:
    timer = hands.timer("a")
    hands.timers.set(timer, 1)
    hands.timers.close()
    hands.turn(2)
    hands.timers.set(timer, 1)
    hands.turn(2)
    assert hands.names == ["a"]


def test_never_is_a_timer_that_does_nothing(hands: Hands) -> None:
    hands.timers.cancel(NEVER)
    assert not NEVER.armed
