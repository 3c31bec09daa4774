"""Batches of several scripts against a real Redis: whole or not at all, wherever their publisher was cut off."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import mintflow_realtime.fanout.publish.batches
from mintflow_realtime.fanout.publish.batches import LIFE_MS, SLICE_BYTES, SLICE_EVENTS, Batches, cut
from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.protocol.envelope import Event, Header, decode, event_pieces
from mintflow_realtime.protocol.errors import Conflict, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Script
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis

# Counts the events that it is called with, and how many scripts end with what closes them.
COUNTING = """
local function change(keys, args)
  local n = redis.call('HINCRBY', keys[1], 'n', 1)
  if args[2] == 'closing' then redis.call('HINCRBY', keys[1], 'scripts', 1) end
  return {string.format('%.0f', n)}
end
"""
EVENTS = 3 * SLICE_EVENTS + 1


class Cut(RedisClient):
    """Counts what is asked of Redis, and may cut off one question before it gets there, or its answer."""

    def __init__(self, url: str) -> None:
        super().__init__(connect(url))
        self.asked: list[Script | str] = []
        self.at, self.after = -1, False
        self.between: Callable[[], Any] | None = None

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        return self._ask(script, lambda: super(Cut, self).run(script, keys, args))

    def command(self, *args: Arg, asking: bool = False) -> Any:
        return self._ask(str(args[0]), lambda: super(Cut, self).command(*args))

    def _ask(self, what: Script | str, ask: Callable[[], Any]) -> Any:
        number = len(self.asked)
        self.asked.append(what)
        if number == self.at and not self.after:
            raise Unavailable("cut before")
        if self.between:
            between, self.between = self.between, None
            between()
            self.between = between
        answer = ask()
        if number == self.at:
            raise Unavailable("cut after")
        return answer


class Press:
    """A publisher of /n for `acme` that can be cut off, and what came of it."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.redis, self.keys = Cut(url), keys
        self.publisher = Publisher(self.redis, keys, mintflow_realtime.fanout.publish.publisher.Caps())
        # What another node sees, and does.
        self.plain = RedisClient(connect(url))
        self.other = Publisher(self.plain, keys, mintflow_realtime.fanout.publish.publisher.Caps())

    def publish(self, key: str | None = None, publisher: Publisher | None = None, first: int = 0) -> Any:
        events = [
            Event(Header(("acme:",)), event_pieces("counted", ('{"n":', f',"i":{number}}}')))
            for number in range(first, first + EVENTS)
        ]
        change = Change(COUNTING, [self.keys.of("acme", "counter")], [["x"]] * EVENTS, ["closing"], sliced=True)
        repeat = Repeat.of(key, "/n", first) if key else None
        return (publisher or self.publisher).publish("acme", "/n", events, change, repeat)

    def heard(self) -> list[int]:
        """Return which events are in the log, in its order; check that they are numbered without a gap."""
        entries = self.plain.command("XRANGE", self.keys.of("acme", "log", "/n"), "-", "+")
        found = [decode(fields[b"m"]) for _, fields in entries]
        assert [one.offset and one.offset.number for one in found] == list(range(1, len(found) + 1))
        return [json.loads(one.arguments)[1]["i"] for one in found]

    def counted(self, name: str = "n") -> int:
        return int(self.plain.command("HGET", self.keys.of("acme", "counter"), name) or 0)

    def left(self) -> set[str]:
        """Return which kinds of keys there are; every one but the test's own counter expires."""
        names = [name.decode() for name in self.plain.command("KEYS", f"{self.keys.prefix}:*")]
        assert all(0 < self.plain.command("PTTL", name) <= 31 * LIFE_MS for name in names if "counter" not in name)
        return {name.rpartition("}:")[2].partition(":")[0] for name in names} - {"counter"}

    def close(self) -> None:
        self.redis.close()
        self.plain.close()


@pytest.fixture
def press(server: PrivateRedis, keys: Keys) -> Iterator[Press]:
    press = Press(server.url, keys)
    yield press
    press.close()


WHOLE = list(range(EVENTS))


def test_a_large_batch_goes_in_slices_and_is_answered_like_a_small_one(press: Press) -> None:
    published = press.publish()
    epoch = published.offset.rpartition("-")[0]
    assert published.offsets == tuple(f"{epoch}-{number}" for number in range(1, EVENTS + 1))
    assert published.inserts == tuple((str(number),) for number in range(1, EVENTS + 1))
    assert published.payload == {"n": EVENTS, "i": EVENTS - 1} and not published.repeated
    assert press.heard() == WHOLE and press.counted() == EVENTS and press.counted("scripts") == 4
    assert press.left() == {"head", "log", "batch"}
    assert press.plain.command("ZCARD", press.keys.shared("batches")) == 0
    assert [asked.durable for asked in press.redis.asked if isinstance(asked, Script)][-4:] == [False] * 3 + [True]


def test_what_others_publish_comes_between_two_slices(press: Press) -> None:
    small = Event(Header(("acme:",)), ('["small",{"i":-1}]',))
    press.redis.between = lambda: press.other.publish("acme", "/n", [small])
    published = press.publish()
    press.redis.between = None
    heard = press.heard()
    assert [number for number in heard if number >= 0] == WHOLE
    first, last = heard.index(0), heard.index(EVENTS - 1)
    assert -1 in heard[first:last] and len(set(published.offsets)) == EVENTS


def asked_of_redis(press: Press) -> int:
    press.publish()
    return len(press.redis.asked)


@pytest.mark.parametrize("after", [False, True], ids=["question", "answer"])
def test_wherever_a_publisher_is_cut_off_its_batch_is_whole_or_nothing(
    server: PrivateRedis, keys: Keys, after: bool
) -> None:
    trial = Press(server.url, Keys(keys.prefix + "-trial"))
    steps = asked_of_redis(trial)
    trial.close()
    outcomes = []
    for at in range(steps):
        press = Press(server.url, Keys(f"{keys.prefix}-{at}"))
        press.redis.at, press.redis.after = at, after
        try:
            press.publish(key="k")
            outcomes.append("published")
            assert press.heard() == WHOLE
        except Unavailable:
            outcomes.append("cut")
            before = press.heard()
            assert before == WHOLE[: len(before)]
            press.other.batches.finish_abandoned(0)
            assert press.heard() in ([], WHOLE) and (press.heard() == WHOLE or not before)
        # Whoever asks again under the same key has it once.
        again = press.publish(key="k")
        assert press.heard() == WHOLE and press.counted() == EVENTS and len(set(again.offsets)) == EVENTS
        press.redis.at = -1
        assert press.publish(key="k").repeated
        press.other.batches.finish_abandoned(0)
        assert press.plain.command("ZCARD", press.keys.shared("batches")) == 0
        assert press.heard() == WHOLE and press.left() <= {"head", "log", "batch", "idempotency"}
        press.close()
    # Only the last step, which takes the batch off a list, isn't needed.
    assert outcomes == ["cut"] * (steps - 1) + ["published"]


def test_a_repeat_finishes_what_the_first_call_left(press: Press) -> None:
    press.redis.at = asked_of_redis(press) * 2 - 4
    with pytest.raises(Unavailable):
        press.publish(key="k", first=1000)
    assert 0 < press.counted() - EVENTS < EVENTS
    again = press.publish(key="k", first=1000, publisher=press.other)
    assert again.repeated and press.counted() == 2 * EVENTS
    assert again.offsets == press.publish(key="k", first=1000).offsets
    with pytest.raises(Conflict):
        press.publish(key="k", first=2000)
    assert press.counted() == 2 * EVENTS and press.heard() == WHOLE + [1000 + number for number in WHOLE]
    assert press.plain.command("ZCARD", press.keys.shared("batches")) == 0


def test_two_who_finish_the_same_batch_publish_it_once(press: Press) -> None:
    press.redis.between = lambda: press.other.batches.finish_abandoned(0)
    published = press.publish()
    press.redis.between = None
    assert press.heard() == WHOLE and len(set(published.offsets)) == EVENTS and press.counted() == EVENTS


def test_a_batch_is_not_abandoned_while_its_publisher_may_be_at_it(press: Press) -> None:
    press.redis.at = asked_of_redis(press) * 2 - 4
    with pytest.raises(Unavailable):
        press.publish(first=1000)
    assert press.other.batches.finish_abandoned() == 0 and press.counted() < 2 * EVENTS
    assert press.other.batches.finish_abandoned(0) == 1 and press.counted() == 2 * EVENTS


def test_a_redis_that_loses_everything_meanwhile_is_told_and_nothing_is_left(server: PrivateRedis, keys: Keys) -> None:
    trial = Press(server.url, Keys(keys.prefix + "-trial"))
    steps = asked_of_redis(trial)
    trial.close()
    # Not before the first step, when there is nothing, nor before the last, when the answer is there.
    for at in range(1, steps - 1):
        press = Press(server.url, Keys(f"{keys.prefix}-{at}"))

        def lose(press: Press = press, at: int = at) -> None:
            if len(press.redis.asked) == at + 1:
                for name in press.plain.command("KEYS", f"{press.keys.prefix}:*"):
                    press.plain.command("DEL", name)

        press.redis.between = lose
        try:
            press.publish()
            whole = True
        except Unavailable:
            whole = False
        # What is lost before the batch is laid down is not missed.
        assert whole is (at == 1)
        assert press.heard() == (WHOLE if whole else [])
        press.redis.between = None
        assert press.other.batches.finish_abandoned(0) == 0
        press.close()


def test_what_takes_too_long_is_given_up_and_done_later(server: PrivateRedis, keys: Keys) -> None:
    press = Press(server.url, keys)
    now = [0.0]
    press.publisher.batches = Batches(press.redis, keys, clock=lambda: now[0])

    def slow() -> None:
        now[0] += 0.2

    press.redis.between = slow
    with pytest.raises(Unavailable, match="soon"):
        press.publish()
    assert 0 < press.counted() < EVENTS
    assert press.other.batches.finish_abandoned(0) == 1 and press.heard() == WHOLE
    press.close()


def test_a_slow_redis_is_given_up_before_anything_is_published(server: PrivateRedis, keys: Keys) -> None:
    press = Press(server.url, keys)
    now = [0.0]
    press.publisher.batches = Batches(press.redis, keys, clock=lambda: now[0])

    def hang() -> None:
        now[0] += 1

    press.redis.between = hang
    with pytest.raises(Unavailable, match="nothing was published"):
        press.publish()
    press.redis.between = None
    assert press.other.batches.finish_abandoned(0) == 0 and press.heard() == [] and press.left() == set()
    press.close()


def test_a_numbering_that_changes_hands_within_a_batch(press: Press) -> None:
    def promote() -> None:
        if press.counted() == SLICE_EVENTS:
            press.plain.command("HSET", press.keys.of("acme", "head", "/n"), "run_id", "0" * 40)

    press.redis.between = promote
    offsets = press.publish().offsets
    press.redis.between = None
    epochs = [offset.rpartition("-")[0] for offset in offsets]
    assert epochs[0] == epochs[SLICE_EVENTS - 1] != epochs[SLICE_EVENTS] == epochs[-1] and press.heard() == WHOLE


def test_a_batch_that_no_script_can_publish_is_left_and_the_others_are_not(press: Press) -> None:
    broken = Change(
        "local function change() return redis.call('LPUSH', KEYS[1], 'x') end", [], [()] * EVENTS, sliced=True
    )
    events = [Event(Header(("acme:",)), ('["e",null]',))] * EVENTS
    press.plain.command("HSET", press.keys.of("acme", "head", "/n"), "n", 0)
    press.plain.command("PEXPIRE", press.keys.of("acme", "head", "/n"), LIFE_MS)
    with pytest.raises(Exception, match="WRONGTYPE"):
        press.publisher.publish("acme", "/n", events, broken)
    press.redis.at = len(press.redis.asked) + 3
    with pytest.raises(Unavailable):
        press.publish()
    assert press.other.batches.finish_abandoned(0) == 1 and press.heard() == WHOLE
    assert press.other.batches.finish_abandoned(0) == 0


def test_a_change_that_may_refuse_is_one_script_however_large(press: Press) -> None:
    refusing = "local function change(keys, args) return nil, 'too_large', 'no' end"
    events = [Event(Header(("acme:",)), ('["e","' + "x" * SLICE_BYTES + '"]',))] * 2
    with pytest.raises(TooLarge):
        press.publisher.publish("acme", "/n", events, Change(refusing, [], [(), ()]))
    assert press.left() == set() and len(press.redis.asked) == 1


@pytest.mark.parametrize(
    ("sizes", "bounds"),
    [
        ([1], [(0, 1)]),
        ([1] * SLICE_EVENTS, [(0, SLICE_EVENTS)]),
        ([1] * (SLICE_EVENTS + 1), [(0, SLICE_EVENTS), (SLICE_EVENTS, SLICE_EVENTS + 1)]),
        ([SLICE_BYTES * 8], [(0, 1)]),
        ([1, SLICE_BYTES, 1], [(0, 1), (1, 2), (2, 3)]),
        ([SLICE_BYTES // 2, SLICE_BYTES // 2, 1], [(0, 2), (2, 3)]),
    ],
)
def test_slices_are_bounded_in_events_and_bytes(sizes: list[int], bounds: list[tuple[int, int]]) -> None:
    assert cut(sizes) == bounds
