"""The one timer: alarms ring in their step, early or late as asked, and setting one again moves it."""

from collections.abc import Callable, Iterator

import gevent
import pytest

from transport.wheel import NEVER, STEP, Alarm, Wheel

pytestmark = pytest.mark.usefixtures("no_leaks")


class Hands:
    """A wheel on a clock that the test turns; `rung` is what rang, and when."""

    def __init__(self) -> None:
        self.now = 1000.01
        self.wheel = Wheel(lambda: self.now)
        self.rung: list[tuple[str, float]] = []

    def alarm(self, name: str, then: Callable[[], object] = lambda: None) -> Alarm:
        return Alarm(lambda: (self.rung.append((name, round(self.now, 3))), then()))

    def turn(self, seconds: float) -> None:
        """Let time pass in small steps, as the event loop would see it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            self.wheel._turn()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.rung]


@pytest.fixture
def hands(no_leaks: None) -> Iterator[Hands]:
    hands = Hands()
    yield hands
    hands.wheel.close()


def test_alarms_ring_once_in_the_order_of_their_times(hands: Hands) -> None:
    for name, seconds in (("c", 3.0), ("a", 1.0), ("d", 60.0), ("b", 2.0)):
        hands.wheel.set(hands.alarm(name), seconds)
    hands.turn(10)
    assert hands.names == ["a", "b", "c"]
    hands.turn(60)
    assert hands.names == ["a", "b", "c", "d"]
    assert hands.wheel._steps == {} and hands.wheel._order == [] and hands.wheel._timer is None


@pytest.mark.parametrize("seconds", [0.0, 0.001, STEP, 0.12, 1.0, 25.0, 25.049])
def test_never_too_soon_and_at_most_a_step_late_or_the_other_way_round(hands: Hands, seconds: float) -> None:
    start = hands.now
    hands.wheel.set(hands.alarm("late"), seconds)
    hands.wheel.set(hands.alarm("early"), seconds, early=True)
    hands.turn(seconds + 2 * STEP)
    at = dict(hands.rung)
    assert start + seconds - 0.0015 <= at["late"] <= start + seconds + STEP + 0.0115
    assert start + seconds - STEP - 0.0015 <= at["early"] <= start + seconds + 0.0115


def test_a_cancelled_alarm_does_not_ring(hands: Hands) -> None:
    gone, stays = hands.alarm("gone"), hands.alarm("stays")
    hands.wheel.set(gone, 1)
    hands.wheel.set(stays, 1)
    assert gone.armed
    hands.wheel.cancel(gone)
    hands.wheel.cancel(gone)
    hands.wheel.cancel(hands.alarm("never set"))
    assert not gone.armed and stays.armed
    hands.turn(2)
    assert hands.names == ["stays"] and not stays.armed


def test_setting_again_moves_an_alarm(hands: Hands) -> None:
    alarm = hands.alarm("a")
    hands.wheel.set(alarm, 1)
    hands.wheel.set(alarm, 5)
    hands.turn(4)
    assert hands.names == []
    hands.wheel.set(alarm, 0.1)
    hands.turn(1)
    hands.turn(10)
    assert len(hands.rung) == 1


def test_an_alarm_may_set_itself_again_while_it_rings(hands: Hands) -> None:
    """Also at once: it rings in a later turn, and not for ever in this one."""

    def again() -> None:
        if len(hands.rung) < 5:
            hands.wheel.set(alarm, 0)

    alarm = hands.alarm("a", again)
    hands.wheel.set(alarm, 1)
    hands.turn(2)
    assert len(hands.rung) == 5
    times = [at for _, at in hands.rung]
    assert times == sorted(times) and not alarm.armed


def test_one_that_rings_may_cancel_and_move_others_of_its_step(hands: Hands) -> None:
    first: list[str] = []

    def ring(name: str, other: str) -> Callable[[], object]:
        def act() -> None:
            hands.rung.append((name, 0))
            if not first:
                first.append(name)
                hands.wheel.cancel(alarms[other])

        return act

    alarms = {name: Alarm(ring(name, other)) for name, other in (("a", "b"), ("b", "a"))}
    for alarm in alarms.values():
        hands.wheel.set(alarm, 1)
    hands.turn(2)
    assert hands.names == first, "the other one was cancelled before its turn"

    hands.rung.clear()
    moved = hands.alarm("moved")
    hands.wheel.set(hands.alarm("mover", lambda: hands.wheel.set(moved, 5)), 1)
    hands.wheel.set(moved, 1)
    hands.turn(2)
    hands.turn(5)
    # Whichever of the two came first: the moved one rings at its new time.
    assert hands.names.count("mover") == 1 and hands.rung[-1][1] > hands.now - 3
    assert hands.names[-1] == "moved" and not moved.armed


def test_one_that_sets_itself_to_now_lets_the_others_have_their_turn(hands: Hands) -> None:
    def again() -> None:
        hands.wheel.set(alarm, 0, early=True)

    alarm = hands.alarm("a", again)
    hands.wheel.set(alarm, 0, early=True)
    with gevent.Timeout(1):
        hands.wheel._turn()
    assert len(hands.rung) == 1


def test_one_that_fails_holds_up_no_other(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    hands.wheel.set(hands.alarm("fails", lambda: [].pop()), 1)
    hands.wheel.set(hands.alarm("next"), 1)
    hands.wheel.set(hands.alarm("later"), 2)
    hands.turn(3)
    assert sorted(hands.names) == ["fails", "later", "next"]
    assert "IndexError" in caplog.text


def test_a_thousand_alarms_of_a_step_take_one_turn_and_one_timer(hands: Hands) -> None:
    for number in range(1000):
        hands.wheel.set(hands.alarm(str(number)), 25.0, early=True)
    assert len(hands.wheel._order) == 1
    hands.now += 26
    hands.wheel._turn()
    assert len(hands.rung) == 1000


def test_steps_whose_alarms_were_all_cancelled_go_with_their_time(hands: Hands) -> None:
    """A connection that joins in time cancels one; a server that runs for a year must not keep them."""
    for _ in range(100):
        alarm = hands.alarm("a")
        hands.wheel.set(alarm, 10)
        hands.turn(0.1)
        hands.wheel.cancel(alarm)
    hands.turn(11)
    assert hands.rung == [] and hands.wheel._steps == {} and hands.wheel._order == []


def test_the_event_loop_turns_it() -> None:
    wheel, rung = Wheel(), []
    slow, fast = Alarm(lambda: rung.append("slow")), Alarm(lambda: rung.append("fast"))
    wheel.set(slow, 0.15)
    wheel.set(fast, 0.01)
    with gevent.Timeout(2):
        while len(rung) < 2:
            gevent.sleep(0.01)
    assert rung == ["fast", "slow"] and wheel._timer is None
    wheel.set(slow, 0.01)
    wheel.close()
    assert not slow.armed and wheel._timer is None
    gevent.sleep(0.1)
    assert rung == ["fast", "slow"]


def test_a_closed_one_can_be_used_again(hands: Hands) -> None:
    alarm = hands.alarm("a")
    hands.wheel.set(alarm, 1)
    hands.wheel.close()
    hands.turn(2)
    hands.wheel.set(alarm, 1)
    hands.turn(2)
    assert hands.names == ["a"]


def test_never_is_an_alarm_that_does_nothing(hands: Hands) -> None:
    hands.wheel.cancel(NEVER)
    assert not NEVER.armed
