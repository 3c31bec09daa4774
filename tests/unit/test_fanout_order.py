"""One channel as a node hears it: in number order, each once, and no silence about what was missed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.fanout.subscribe.order import MAX_EARLY, Order
from mintflow_realtime.protocol.envelope import Announcement, Header, Offset, parse_offset


def said(text: str) -> Announcement:
    """Return the announcement at an offset such as `a-3`; `-` is a volatile one."""
    return Announcement(parse_offset(text), Header(("t:",)), "[]")


def at(text: str | None) -> Offset | None:
    return None if text is None else parse_offset(text)


class Recorder:
    """An order, and what it delivered and reported, in one list: offsets and reasons."""

    def __init__(self) -> None:
        self.order = Order()
        self.told: list[str] = []

    def hear(self, *texts: str) -> "Recorder":
        for text in texts:
            self._take(self.order.accept(said(text)))
        return self

    def align(self, head: str | None, ended: str | None = None) -> "Recorder":
        self._take(self.order.align(at(head), at(ended)))
        return self

    def hold(self) -> "Recorder":
        self.order.keep()
        return self

    def _take(self, announcements: Any) -> None:
        for announcement in announcements:
            self._report()
            self.told.append(str(announcement.offset or "-"))
        self._report()

    def _report(self) -> None:
        if self.order.lost is not None:
            self.told.append(self.order.lost)
            self.order.lost = None


@pytest.mark.parametrize(
    ("head", "heard", "told"),
    [
        (None, ["a-1", "a-2"], ["a-1", "a-2"]),
        ("a-5", ["a-6", "a-7"], ["a-6", "a-7"]),
        ("a-5", ["a-5", "a-6", "a-6", "a-4", "a-7"], ["a-6", "a-7"]),
        ("a-5", ["-", "a-6", "-"], ["-", "a-6", "-"]),
        ("a-5", ["a-7", "a-8"], ["gap", "a-7", "a-8"]),
        ("a-5", ["a-6", "a-9", "a-9", "a-8", "a-10"], ["a-6", "gap", "a-9", "a-10"]),
        (None, ["a-2"], ["gap", "a-2"]),
        ("a-5", ["b-6", "b-7"], ["b-6", "b-7"]),
        ("a-5", ["b-1", "b-2"], ["epoch", "b-1", "b-2"]),
        ("a-5", ["b-8", "b-9"], ["epoch", "b-8", "b-9"]),
        ("a-9007199254740992", ["a-9007199254740993"], ["a-9007199254740993"]),
    ],
)
def test_after_the_head_is_known(head: str | None, heard: list[str], told: list[str]) -> None:
    assert Recorder().align(head).hear(*heard).told == told


@pytest.mark.parametrize(
    ("early", "head", "told"),
    [
        ([], None, []),
        (["a-1"], None, ["a-1"]),
        (["a-5", "a-6"], "a-5", ["a-6"]),
        (["a-5", "a-6"], "a-6", []),
        (["a-4", "-", "a-5"], "a-4", ["-", "a-5"]),
        (["a-6", "a-8"], "a-5", ["a-6", "gap", "a-8"]),
    ],
)
def test_what_comes_before_the_head_waits_for_it(early: list[str], head: str | None, told: list[str]) -> None:
    ear = Recorder().hear(*early)
    assert ear.told == []
    assert ear.align(head).told == told


@pytest.mark.parametrize(
    ("before", "head", "ended", "told"),
    [
        ("a-5", "a-5", None, []),
        ("a-5", "a-7", None, ["gap"]),
        ("a-5", None, None, ["gap"]),
        ("a-5", "b-1", None, ["gap"]),
        ("a-5", "b-5", None, ["gap"]),
        ("a-5", "b-5", "a-5", []),
        ("a-5", "b-6", "a-5", ["gap"]),
        ("a-5", "b-5", "a-4", ["gap"]),
        ("a-5", "c-5", "b-5", ["gap"]),
    ],
)
def test_a_new_subscription_tells_what_was_missed_between(
    before: str, head: str | None, ended: str | None, told: list[str]
) -> None:
    assert Recorder().align(before).hold().align(head, ended).told == told


def test_an_event_after_a_silent_renumbering_is_delivered_once() -> None:
    ear = Recorder().align("a-5").hold().align("b-5", "a-5").hear("b-6", "b-6", "b-7")
    assert ear.told == ["b-6", "b-7"]


def test_a_first_event_missed_while_the_log_was_empty_is_a_gap() -> None:
    """The clients of an empty log are as entitled to its first event as to any later one."""
    assert Recorder().align(None).hold().align("a-1").told == ["gap"]


def test_what_a_new_subscription_heard_itself_was_not_missed() -> None:
    """6 and 7 arrived between the confirmation and the head: they continue what was heard before."""
    assert Recorder().align("a-5").hold().hear("a-6", "a-7").align("a-7").told == ["a-6", "a-7"]


def test_what_a_new_subscription_heard_continues_only_the_numbering_that_was_heard_before() -> None:
    """A promoted replica that lacked 5: its own 5 was missed, though 6 looks like the next number."""
    assert Recorder().align("a-5").hold().hear("b-6").align("b-6", "a-5").told == ["b-6"]
    for ended in ("a-4", "c-5", None):
        assert Recorder().align("a-5").hold().hear("b-6").align("b-6", ended).told[:1] in (["gap"], ["epoch"])


def test_a_late_head_does_not_turn_back_the_position() -> None:
    """Two subscriptions in quick succession: the head that the second one read is older than what came since."""
    assert Recorder().align("a-5").hear("a-6").align("a-5").hear("a-6", "a-7").told == ["a-6", "a-7"]


def test_too_many_early_events_are_a_gap_and_not_a_memory_leak() -> None:
    ear = Recorder()
    for number in range(1, MAX_EARLY + 10):
        ear.hear(f"a-{number}")
    assert ear.told == ["gap"] * 9 and len(ear.order._early) == MAX_EARLY
    ear.told.clear()
    assert ear.align("a-5000").hear("a-5001").told == ["a-5001"]


@given(st.data())
def test_no_event_is_told_twice_and_none_is_missed_in_silence(data: st.DataObject) -> None:
    """Against a channel that loses messages and reconnects: a skipped number is always preceded by a report."""
    ear, published, delivered_to = Recorder(), 0, 0
    ear.align(None)
    for _ in range(data.draw(st.integers(1, 30))):
        action = data.draw(st.sampled_from(["publish", "publish", "repeat", "lose", "reconnect"]))
        if action == "publish":
            published += 1
            ear.hear(f"a-{published}")
        elif action == "repeat" and published:
            ear.hear(f"a-{data.draw(st.integers(1, published))}") if delivered_to == published else None
        elif action == "lose":
            published += 1
        else:
            ear.hold().align(f"a-{published}" if published else None)
        delivered_to = ear.order.position.number if ear.order.position else 0
    ear.hold().align(f"a-{published}" if published else None)
    last, reported = 0, False
    for entry in ear.told:
        if entry in ("gap", "epoch"):
            reported = True
            continue
        number = int(entry.partition("-")[2])
        assert number > last
        assert number == last + 1 or reported
        last, reported = number, False
    assert last == published or reported
