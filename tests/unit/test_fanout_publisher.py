"""The publisher against a real Redis: numbers, caps, epochs, repeats, and that nothing is ever half done."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
import redis

from mintflow_realtime.fanout.publish.publisher import (
    HEAD_LIFE_MS,
    IDEMPOTENCY_LIFE_MS,
    PAGE_BYTES,
    Caps,
    Publisher,
    Repeat,
    plain_event,
)
from mintflow_realtime.protocol.envelope import (
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    Event,
    Header,
    Offset,
    Policy,
    decode,
    event_pieces,
)
from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, NotFound, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Change, Keys, Runner
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis

# Counts what it is called with in a hash, and answers the count: what a store's change does, without the store.
COUNTING = """
local function change(keys, args)
  if args[1] == 'refuse' then return nil, args[2], 'no' end
  local n = redis.call('HINCRBY', keys[1], 'n', 1)
  if args[1] == 'break' then return redis.call('LPUSH', keys[1], 'x') end
  return {string.format('%.0f', n)}
end
"""


@pytest.fixture
def runner(server: PrivateRedis) -> Iterator[RedisClient]:
    client = RedisClient(connect(server.url))
    yield client
    client.close()


class Press:
    """A publisher of /n for `acme`, and everything in Redis that it writes."""

    def __init__(self, runner: Runner, keys: Keys, caps: Caps | None = None, now: int = 1_000_000) -> None:
        self.runner, self.keys, self.now = runner, keys, now
        self.publisher = Publisher(runner, keys, caps or Caps(), clock_ms=lambda: self.now)

    def publish(self, *names: str, tenant: str = "acme", **more: Any) -> Any:
        events = [plain_event(("acme:",), name, {"n": name}) for name in names]
        return self.publisher.publish(tenant, "/n", events, **more)

    def count(self, *first_args: Sequence[str], key: str | None = None) -> Any:
        """Publish an event for each of `first_args` under the counting change."""
        events = [Event(Header(("acme:",)), event_pieces("counted", ('{"n":', "}"))) for _ in first_args]
        change = Change(COUNTING, [self.keys.of("acme", "counter")], first_args)
        repeat = Repeat.of(key, *first_args) if key else None
        return self.publisher.publish("acme", "/n", events, change, repeat)

    def key(self, *parts: str) -> str:
        return self.keys.of("acme", *parts)

    def entries(self) -> list[tuple[str, dict[str, bytes]]]:
        found = self.runner.command("XRANGE", self.key("log", "/n"), "-", "+")
        return [(entry.decode(), {name.decode(): value for name, value in fields.items()}) for entry, fields in found]

    def offsets(self) -> list[str]:
        return [str(decode(fields["m"]).offset) for _, fields in self.entries()]

    def numbers(self) -> list[int]:
        return [int(entry.partition("-")[0]) for entry, _ in self.entries()]

    def everything(self) -> dict[str, bytes]:
        names = self.runner.command("KEYS", f"{self.keys.prefix}:*")
        return {name.decode(): self.runner.command("DUMP", name) for name in names}


@pytest.fixture
def press(runner: RedisClient, keys: Keys) -> Press:
    return Press(runner, keys)


@pytest.fixture
def ear(server: PrivateRedis, press: Press) -> Iterator[Any]:
    """A subscription of the channel of /n."""
    client = server.client()
    heard = client.pubsub()
    heard.subscribe(press.publisher.channel("acme", "/n"))
    assert heard.get_message(timeout=5)["type"] == "subscribe"
    yield heard
    heard.close()
    client.close()


def announced(ear: Any) -> list[bytes]:
    found = []
    while message := ear.get_message(timeout=0.1):
        found.append(message["data"])
    return found


def test_numbers_go_on_by_one_and_what_is_logged_is_what_is_announced(press: Press, ear: Any) -> None:
    first = press.publish("a")
    batch = press.publish("b", "c")
    epoch = first.offset.rpartition("-")[0]
    assert first.offsets == (f"{epoch}-1",) and batch.offsets == (f"{epoch}-2", f"{epoch}-3")
    heard = announced(ear)
    assert heard == [fields["m"] for _, fields in press.entries()] and len(heard) == 3
    assert [json.loads(decode(message).arguments) for message in heard] == [[n, {"n": n}] for n in "abc"]
    assert press.publisher.head("acme", "/n") == (Offset(epoch, 3), None)
    assert [text for text in batch.texts] == ['["b",{"n":"b"}]', '["c",{"n":"c"}]']


def test_tenants_and_namespaces_have_numbers_of_their_own(press: Press) -> None:
    press.publish("a", "b")
    other = press.publish("a", tenant="other")
    elsewhere = press.publisher.publish("acme", "/m", [plain_event(("acme:",), "a", 1)])
    epochs = {published.offset.rpartition("-")[0] for published in (other, elsewhere, press.publish("c"))}
    assert other.offset.endswith("-1") and elsewhere.offset.endswith("-1") and len(epochs) == 3


def test_the_header_is_announced_as_it_was_given_with_the_time(press: Press, ear: Any) -> None:
    header = Header(("acme:", "acme:run:r"), Policy.LATEST_ONLY, "k", "sid")
    press.publisher.publish("acme", "/n", [Event(header, ('["e",null]',))])
    assert decode(announced(ear)[0]).header == msgspec.structs.replace(header, at=press.now)


def test_an_empty_log_has_no_head(press: Press) -> None:
    assert press.publisher.head("acme", "/n") == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "9007199254740993",
        "1.0",
        "[" * 1200 + "]" * 1200,
        '{"a":' * 1200 + "[]" + "}" * 1200,
        '"\\u0000\\n\\"é€𝄞"',
        '"' + "%d %s %1" * 3 + '"',
    ],
)
def test_payloads_pass_unchanged(press: Press, ear: Any, text: str) -> None:
    """Row 44: Redis's own JSON in Lua changes or refuses most of these."""
    press.publisher.publish("acme", "/n", [Event(Header(("acme:",)), event_pieces("e", (text,)))])
    assert decode(announced(ear)[0]).arguments == f'["e",{text}]'


def test_what_cjson_does_to_payloads(server: PrivateRedis) -> None:
    with server.client() as client:
        both = "return cjson.encode(cjson.decode(ARGV[1]))"
        assert client.eval(both, 0, "[]") == b"{}"
        assert client.eval(both, 0, "9007199254740993") == b"9.007199254741e+15"
        with pytest.raises(redis.ResponseError):
            client.eval(both, 0, "[" * 1200 + "]" * 1200)


def test_a_change_fills_the_gaps_in_order(press: Press, ear: Any) -> None:
    assert press.count(["a"], ["b"]).inserts == (("1",), ("2",))
    third = press.count(["c"])
    assert third.payload == {"n": 3} and third.offset.endswith("-3")
    assert [json.loads(decode(message).arguments)[1]["n"] for message in announced(ear)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("conflict", Conflict), ("not_found", NotFound), ("too_large", TooLarge), ("unavailable", Unavailable)],
)
def test_a_refused_change_publishes_nothing(press: Press, ear: Any, code: str, kind: type[Exception]) -> None:
    press.count(["a"])
    announced(ear)
    before = press.everything()
    with pytest.raises(kind, match="no"):
        press.count(["refuse", code])
    assert press.everything() == before and announced(ear) == []


def test_a_change_that_breaks_numbers_and_announces_nothing(press: Press, ear: Any) -> None:
    press.count(["a"])
    announced(ear)
    log, head = press.entries(), press.publisher.head("acme", "/n")
    with pytest.raises(redis.ResponseError):
        press.count(["break"])
    assert (press.entries(), press.publisher.head("acme", "/n"), announced(ear)) == (log, head, [])


def test_every_key_expires(press: Press) -> None:
    press.publish("a", repeat=Repeat.of("k", "a"))
    lives = {
        name.rpartition("}:")[2].partition(":")[0]: press.runner.command("PTTL", name) for name in press.everything()
    }
    assert lives.keys() == {"head", "log", "idempotency"}
    for name, most in (("head", HEAD_LIFE_MS), ("log", 600_000), ("idempotency", IDEMPOTENCY_LIFE_MS)):
        assert most - 5000 < lives[name] <= most


def test_the_log_is_capped_in_entries(runner: RedisClient, keys: Keys) -> None:
    press = Press(runner, keys, Caps(events=5))
    for number in range(12):
        press.publish(str(number))
    assert press.numbers() == [8, 9, 10, 11, 12]
    press.publish(*"abcdefgh")
    assert press.numbers() == [16, 17, 18, 19, 20]


def test_the_log_is_capped_in_bytes(runner: RedisClient, keys: Keys) -> None:
    press = Press(runner, keys, Caps(total_bytes=5000))
    for size in (10, 900, 900, 900, 900, 900, 10, 4000, 10, 10):
        press.publisher.publish("acme", "/n", [plain_event(("acme:",), "e", "x" * size)])
        held = sum(len(fields["m"]) for _, fields in press.entries())
        assert 0 < held <= 5000
    assert press.numbers() == [8, 9, 10] or press.numbers() == [7, 8, 9, 10]


def test_many_small_events_give_way_to_one_large(runner: RedisClient, keys: Keys) -> None:
    press = Press(runner, keys, Caps(total_bytes=100_000))
    press.publish(*(str(number) for number in range(1000)))
    before = len(press.numbers())
    press.publisher.publish("acme", "/n", [plain_event(("acme:",), "e", "x" * 90_000)])
    held = sum(len(fields["m"]) for _, fields in press.entries())
    assert 90_000 < held <= 100_000 and 0 < len(press.numbers()) < before


def test_an_event_larger_than_the_log_is_announced_and_the_log_stays_within_its_bytes(
    runner: RedisClient, keys: Keys, server: PrivateRedis
) -> None:
    press = Press(runner, keys, Caps(total_bytes=1000))
    press.publish("a")
    assert press.publisher.publish("acme", "/n", [plain_event(("acme:",), "e", "x" * 2000)]).offset.endswith("-2")
    assert press.numbers() == []
    assert press.publish("b").offset.endswith("-3") and press.numbers() == [3]


def test_the_log_is_capped_in_age(runner: RedisClient, keys: Keys) -> None:
    press = Press(runner, keys, Caps(window_seconds=10))
    press.publish("a", "b")
    press.now += 6_000
    press.publish("c")
    press.now += 6_000
    press.publish("d")
    assert press.numbers() == [3, 4]
    press.now += 60_000
    press.publish("e")
    assert press.numbers() == [5]


def test_old_age_gives_way_slowly_but_surely(runner: RedisClient, keys: Keys) -> None:
    press = Press(runner, keys, Caps(window_seconds=10))
    press.publish(*(str(number) for number in range(100)))
    press.now += 11_000
    for left in (69, 38, 7, 4, 5):
        press.publish("x")
        assert len(press.numbers()) == left
    assert press.numbers() == [101, 102, 103, 104, 105]


def test_a_lost_head_begins_a_new_epoch_with_an_empty_log(press: Press) -> None:
    old = press.publish("a", "b").offset
    press.runner.command("DEL", press.key("head", "/n"))
    new = press.publish("c").offset
    assert new.rpartition("-")[0] != old.rpartition("-")[0] and new.endswith("-1")
    assert press.offsets() == [new]
    assert press.publisher.head("acme", "/n")[1] is None


def test_a_lost_log_leaves_the_numbering(press: Press) -> None:
    old = press.publish("a", "b").offset
    press.runner.command("DEL", press.key("log", "/n"))
    assert press.publish("c").offset == old.replace("-2", "-3") and press.numbers() == [3]


def test_another_server_goes_on_under_a_new_epoch(press: Press) -> None:
    """Row 46: a replica that was promoted may lack what was acknowledged, so its numbers are of another epoch."""
    old, number = press.publish("a", "b").offset.rpartition("-")[::2]
    press.runner.command("HSET", press.key("head", "/n"), "run_id", "0" * 40)
    new = press.publish("c").offset
    epoch = new.rpartition("-")[0]
    assert number == "2" and epoch != old and new.endswith("-3")
    assert press.publisher.head("acme", "/n") == (Offset(epoch, 3), Offset(old, 2))
    assert press.offsets() == [f"{old}-1", f"{old}-2", new]
    assert press.publish("d").offset == f"{epoch}-4"


def test_a_restarted_redis_begins_a_new_epoch_and_so_does_a_flushed_one(keys: Keys) -> None:
    server = PrivateRedis(None, "--appendonly", "yes")
    client = RedisClient(connect(server.url))
    try:
        press = Press(client, keys)
        first, _, _ = press.publish("a").offset.rpartition("-")
        client.command("FLUSHALL")
        second, _, number = press.publish("a").offset.rpartition("-")
        assert number == "1"
        server.kill()
        server.start()
        third, _, number = press.publish("b").offset.rpartition("-")
        assert number == "2" and len({first, second, third}) == 3
        assert press.publisher.head("acme", "/n") == (Offset(third, 2), Offset(second, 1))
    finally:
        client.close()
        server.stop()


def test_a_repeat_is_the_first_ones_answer_and_happens_once(press: Press, ear: Any) -> None:
    first = press.count(["a"], key="k")
    again = press.count(["a"], key="k")
    assert (again.offsets, again.inserts, again.texts) == (first.offsets, first.inserts, first.texts)
    assert again.repeated and not first.repeated
    assert len(announced(ear)) == len(press.entries()) == 1


def test_a_batch_without_gaps_is_repeated_too(press: Press) -> None:
    first = press.publish("a", "b", repeat=Repeat.of("k", "ab"))
    again = press.publish("a", "b", repeat=Repeat.of("k", "ab"))
    assert (again.offsets, again.inserts) == (first.offsets, first.inserts) and again.repeated
    assert press.numbers() == [1, 2]


def test_the_same_key_for_another_request_is_a_conflict(press: Press) -> None:
    press.publish("a", repeat=Repeat.of("k", "/n", "a"))
    with pytest.raises(Conflict):
        press.publish("b", repeat=Repeat.of("k", "/n", "b"))
    assert press.numbers() == [1]
    press.publish("b", repeat=Repeat.of("other", "/n", "b"))
    press.publish("b", tenant="other", repeat=Repeat.of("k", "/n", "b"))
    assert press.numbers() == [1, 2]


def test_a_key_is_its_users_and_its_namespaces(press: Press) -> None:
    for number, (user, namespace) in enumerate([("ann", "/n"), ("bob", "/n"), ("ann", "/m"), ("", "/n")], 1):
        repeat = Repeat.of("k", namespace, user, user=user)
        assert not press.publish("a", repeat=repeat).repeated
        assert press.publish("a", repeat=repeat).repeated and press.numbers() == list(range(1, number + 1))


@pytest.mark.parametrize("count", [1, 100])
def test_a_request_that_an_earlier_version_has_done_is_not_done_again(press: Press, count: int) -> None:
    """Its record was named by the key alone; for another request it counts as little as another user's does."""
    names = ["a"] * count
    repeat = Repeat.of("k", "/n", "a")
    assert repeat is not None
    first = press.publish(*names, repeat=repeat)
    ours, theirs = press.key("idempotency", repeat.record), press.key("idempotency", repeat.earlier)
    assert theirs.endswith(hashlib.sha256(b"k").hexdigest())
    press.runner.command("RENAME", ours, theirs)
    again = press.publish(*names, repeat=repeat)
    assert again.repeated and again.offsets == first.offsets
    assert not press.publish("b", repeat=Repeat.of("k", "/n", "b")).repeated
    assert press.numbers() == list(range(1, count + 2))


def test_what_was_published_before_is_told_without_publishing(press: Press) -> None:
    events, repeat = [plain_event(("acme:",), "a", {"n": "a"})], Repeat.of("k", "/n", "a")
    assert press.publisher.published_before("acme", "/n", events, repeat) is None
    assert press.publisher.published_before("acme", "/n", events, None) is None
    first = press.publish("a", repeat=repeat)
    told = press.publisher.published_before("acme", "/n", events, repeat)
    assert told is not None and told.offsets == first.offsets and press.numbers() == [1]
    with pytest.raises(Conflict):
        press.publisher.published_before("acme", "/n", events, Repeat.of("k", "/n", "b"))


def test_a_refused_request_may_be_repeated(press: Press) -> None:
    with pytest.raises(Conflict):
        press.count(["refuse", "conflict"], key="k")
    assert not press.count(["a"], key="k").repeated


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_is_1_to_255_characters(key: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        Repeat.of(key, 1)
    assert refused.value.details["path"] == "$.idempotencyKey"


def test_a_key_is_honoured_however_it_is_written(press: Press) -> None:
    for key in ("x" * 255, "a:b{c} d\n", "é"):
        press.publish("a", repeat=Repeat.of(key, "a"))
        assert press.publish("a", repeat=Repeat.of(key, "a")).repeated
    assert Repeat.of(None, 1) is None


@pytest.mark.parametrize("request_", [object(), {"a": object()}])
def test_a_request_that_json_cannot_say_is_refused(request_: object) -> None:
    with pytest.raises(InvalidPayload):
        Repeat.of("k", request_)
    assert Repeat.of("\ud800", 1) != Repeat.of("k", 1)


def test_sizes_have_limits(press: Press) -> None:
    def sized(size: int) -> Event:
        return Event(Header(("acme:",)), ("x" * size,))

    for events in (
        [sized(MAX_EVENT_BYTES + 1)],
        [sized(1), Event(Header(()), ("é" * (MAX_EVENT_BYTES // 2 + 1),))],
        [sized(MAX_EVENT_BYTES)] * 4 + [sized(1)],
    ):
        with pytest.raises(TooLarge):
            press.publisher.publish("acme", "/n", events)
        assert press.everything() == {}
    with pytest.raises(TooLarge):
        press.publisher.announce_volatile("acme", "/n", sized(MAX_EVENT_BYTES + 1))
    assert MAX_BATCH_BYTES == 4 * MAX_EVENT_BYTES
    press.publisher.publish("acme", "/n", [sized(MAX_EVENT_BYTES)] * 4)


def test_nothing_to_publish_is_an_error_of_the_tree(press: Press) -> None:
    with pytest.raises(InvalidPayload):
        press.publisher.publish("acme", "/n", [])


def test_a_batch_of_a_thousand(press: Press) -> None:
    published = press.publish(*(str(number) for number in range(1000)))
    assert published.offset.endswith("-1000") and press.numbers() == list(range(1, 1001))


def test_a_volatile_event_has_no_number_and_is_nowhere_kept(press: Press, ear: Any) -> None:
    press.publisher.announce_volatile("acme", "/n", plain_event(("acme:",), "p", {"x": []}))
    header = Header(("acme:",), at=press.now)
    assert [decode(message)[:3] for message in announced(ear)] == [(None, header, '["p",{"x":[]}]')]
    assert press.everything() == {}


def test_volatile_events_of_a_batch_keep_their_place_between_the_numbered_ones(press: Press, ear: Any) -> None:
    def batch() -> Any:
        events = [Event(Header(("acme:",)), (f'["{n}",null]',), volatile=n in "bd") for n in "abcd"]
        return press.publisher.publish("acme", "/n", events, repeat=Repeat.of("k", 1))

    published = batch()
    epoch = published.offsets[0].partition("-")[0]
    assert published.offsets == (f"{epoch}-1", "-", f"{epoch}-2", "-")
    heard = [decode(message) for message in announced(ear)]
    assert [(one.offset and one.offset.number, one.arguments[2]) for one in heard] == [
        (1, "a"),
        (None, "b"),
        (2, "c"),
        (None, "d"),
    ]
    assert press.numbers() == [1, 2] and batch().offsets == published.offsets and announced(ear) == []


def test_a_volatile_event_alone_begins_a_numbering_of_nothing(press: Press) -> None:
    event = Event(Header(("acme:",)), ('["a",null]',), volatile=True)
    assert press.publisher.publish("acme", "/n", [event]).offset == "-"
    assert press.numbers() == [] and press.publish("b").offset.endswith("-1")
    assert all(press.runner.command("PTTL", name) > 0 for name in press.everything())


def test_what_a_refusal_gives_along_is_for_the_service(press: Press) -> None:
    change = Change("local function change() return nil, 'conflict', 'no', {'1', ARGV[1]} end", [], [()])
    with pytest.raises(Conflict) as refused:
        press.publisher.publish("acme", "/n", [plain_event(("acme:",), "e", 1)], change)
    assert refused.value.texts == (b"1", press.publisher.channel("acme", "/n").encode())
    assert refused.value.to_wire() == {"code": "conflict", "message": "no", "retryable": False}


def test_what_json_cannot_say_is_refused_before_redis_is_asked() -> None:
    with pytest.raises(TypeError):
        plain_event(("acme:",), "e", object())


@pytest.mark.parametrize(("count", "size"), [(0, 10), (15, 10), (16, 10), (17, 10), (400, 600), (30, 20_000)])
def test_pages_are_what_the_log_holds_however_long(press: Press, count: int, size: int) -> None:
    for first in range(0, count, 20):
        press.publish(*(f"{number} " + "x" * size for number in range(first, min(count, first + 20))))
    held = [fields["m"] for _, fields in press.entries()]
    for first, last in ((1, None), (7, None), (1, max(1, count - 3)), (count, count), (count + 1, None)):
        wanted, after, pages = [one for one in held if first <= _number(one) <= (last or count)], first, 0
        found: list[int] = []
        while True:
            page = press.publisher.page("acme", "/n", after, last)
            pages += 1
            found += [one.offset.number for one in page.events if one.offset]
            assert page.head is None or page.head.number == count
            assert len(page.events) == 1 or sum(len(one.arguments) for one in page.events) <= PAGE_BYTES
            if not page.more:
                break
            after = found[-1] + 1
        assert found == [_number(one) for one in wanted]
        assert pages <= 1 + sum(map(len, wanted)) // (PAGE_BYTES - size - 200)


def test_pages_pass_what_is_missing_of_a_log(press: Press) -> None:
    for first in range(0, 200, 20):
        press.publish(*(f"{number} " + "x" * 300 for number in range(first, first + 20)))
    for number in (1, 2, 16, 17, 18, 90, 100, 199, 200):
        press.runner.command("XDEL", press.key("log", "/n"), f"{number}-0")
    page = press.publisher.page("acme", "/n", 1)
    gone = {1, 2, 16, 17, 18, 90, 100, 199, 200}
    assert [one.offset.number for one in page.events if one.offset] == [n for n in range(1, 201) if n not in gone]
    assert not page.more


def _number(message: bytes) -> int:
    return int(message.partition(b"\n")[0].rpartition(b"-")[2])
