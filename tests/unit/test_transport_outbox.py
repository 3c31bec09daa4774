"""An outbox: in order, bounded, what each policy gives up, and that a slow reader costs no more than a fast one."""

import json
import random
from typing import Any

import pytest

from mintflow_realtime.protocol.ai import merged_packets
from mintflow_realtime.transport.engine_io.message import (
    CLOSE,
    DROP_OLDEST,
    LATEST_ONLY,
    MERGE,
    Closing,
    Message,
    Slow,
)
from mintflow_realtime.transport.engine_io.outbox import SEND_BYTES, Outbox

SIZE = 100
LIMIT = 10 * SIZE


def message(name: object, policy: str = CLOSE, key: str = "", size: int = SIZE) -> Message:
    """Return a message that takes `size` bytes and begins with its name."""
    made = Message(f"4{name} ".ljust(size - (2 if size < 128 else 4), "."), slow=Slow(policy, key))
    assert made.size == size
    return made


def names(outbox: Outbox) -> list[str]:
    """Take all that waits."""
    found = []
    while (one := outbox.take()) is not None:
        found.append(one.text[1:].split()[0])
    assert outbox.empty and outbox.size == 0 and outbox._latest == {}
    return found


def filled(*messages: Message, limit: int = LIMIT) -> Outbox:
    outbox = Outbox(limit)
    for one in messages:
        assert outbox.put(one)
    return outbox


def test_messages_are_taken_in_their_order_and_counted() -> None:
    outbox = filled(message(1), message(2, DROP_OLDEST), message(3, LATEST_ONLY, "k"))
    assert (outbox.size, outbox.share, outbox.empty) == (300, 0.3, False)
    assert outbox.peek() is outbox.take()
    assert names(outbox) == ["2", "3"] and outbox.peek() is None


@pytest.mark.parametrize("policy", [CLOSE, DROP_OLDEST, LATEST_ONLY, MERGE])
def test_one_message_is_always_let_into_an_empty_outbox(policy: str) -> None:
    outbox = filled(message("large", policy, size=5 * LIMIT))
    assert outbox.share == 5
    # Which a log does not outstay, nor anything else but a log.
    assert outbox.put(message("next")) is (policy == DROP_OLDEST)
    assert names(outbox) == ["next" if policy == DROP_OLDEST else "large"]


def test_what_the_kernel_left_is_no_empty_outbox() -> None:
    outbox = Outbox(LIMIT)
    outbox.keep(memoryview(b"x" * LIMIT))
    assert not outbox.empty and outbox.share == 1
    assert not outbox.put(message(1))
    assert bytes(outbox.take_bytes()) == b"x" * LIMIT and outbox.empty and outbox.size == 0


def test_a_full_outbox_refuses_what_must_not_be_lost() -> None:
    outbox = filled(*(message(number) for number in range(10)))
    assert not outbox.put(message("more"))
    assert names(outbox) == [str(number) for number in range(10)]


def test_a_last_word_is_always_taken() -> None:
    outbox = filled(*(message(number) for number in range(10)))
    outbox.put_last(Closing(1001))
    assert len(outbox.take_bytes()) == LIMIT + 4


# drop_oldest


def test_the_oldest_logs_go_down_to_three_quarters_and_are_counted_by_key() -> None:
    outbox = filled(*(message(number, DROP_OLDEST, "ab"[number % 2]) for number in range(10)))
    assert outbox.put(message(10, DROP_OLDEST, "a"))
    assert outbox.dropped == {"a": 2, "b": 2} and outbox.size == 7 * SIZE
    assert outbox.told() == {"a": 2, "b": 2} and outbox.told() == {} == outbox.dropped
    assert names(outbox) == ["4", "5", "6", "7", "8", "9", "10"]


def test_logs_give_way_to_what_must_not_be_lost() -> None:
    outbox = filled(*(message(number, DROP_OLDEST if number % 2 else CLOSE) for number in range(10)))
    assert outbox.put(message("more"))
    assert names(outbox) == ["0", "2", "4", "6", "8", "9", "more"] and outbox.dropped == {"": 4}


def test_a_log_that_finds_no_room_is_lost_itself_and_counted() -> None:
    outbox = filled(*(message(number) for number in range(10)))
    for _ in range(3):
        assert outbox.put(message("log", DROP_OLDEST, "logs"))
    assert outbox.told() == {"logs": 3} and "log" not in names(outbox)


def test_runs_of_dropped_logs_are_told_by_their_marks() -> None:
    def log(number: int, key: str = "/logs dropped") -> Message:
        made = message(number, DROP_OLDEST, key)
        made.mark = f"e-{number}"
        return made

    outbox = filled(*map(log, range(10)))
    assert outbox.put(log(10)) and outbox.put(log(11)) and outbox.first_marks() == {"/logs dropped": "e-4"}
    for number in range(12, 17):
        assert outbox.put(log(number))
    # One run, as nothing was taken in between; then another.
    first_end = outbox.gaps[0][2]
    assert outbox.gaps == [("/logs dropped", "e-0", first_end)]
    assert outbox.take() is not None
    for number in range(17, 30):
        assert outbox.put(log(number))
    (_, (_, again, _)) = outbox.gaps
    assert int(again[2:]) == int(first_end[2:]) + 2, "what was taken is in neither"
    assert len(outbox.take_gaps()) == 2 and outbox.gaps == []
    for number in range(30, 3000):
        outbox.put(log(number))
        outbox.take()
        outbox.put(log(number, f"{number}"))
    assert len(outbox.gaps) <= 64


# latest_only


def test_of_each_key_the_last_stays_where_it_came() -> None:
    sent = [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2), ("a", 3)]
    outbox = filled(*(message(f"{key}{n}", LATEST_ONLY, key) for key, n in sent), message("x"), limit=7 * SIZE)
    assert outbox.put(message("y"))
    assert names(outbox) == ["c1", "b2", "a3", "x", "y"]


def test_nothing_is_given_up_while_there_is_room() -> None:
    assert names(filled(*(message(number, LATEST_ONLY, "k") for number in range(10)))) == list("0123456789")


def test_a_newer_one_takes_the_room_of_the_older_of_its_key() -> None:
    outbox = filled(*(message(f"{key}1", LATEST_ONLY, key) for key in "abcdefghij"))
    assert not outbox.put(message("z1", LATEST_ONLY, "z")), "another key"
    assert outbox.put(message("c2", LATEST_ONLY, "c"))
    assert names(outbox) == ["a1", "b1", "d1", "e1", "f1", "g1", "h1", "i1", "j1", "c2"]


def test_keys_of_different_policies_have_nothing_to_do_with_each_other() -> None:
    outbox = filled(message("log", DROP_OLDEST, "k"), *(message(n) for n in range(8)), message("p1", LATEST_ONLY, "k"))
    assert outbox.put(message("p2", LATEST_ONLY, "k"))
    assert names(outbox) == ["log", *"01234567", "p2"] and outbox.dropped == {}


# merge


def chunk(number: int, text: str, stream: str = "r") -> Message:
    payload: dict[str, Any] = {"requestId": stream, "chunk": text, "index": number, "timestamp": f"t{number}"}
    return Message("42/ai," + json.dumps(["ai_stream_chunk", payload]), slow=Slow(MERGE, stream))


def merge(older: str, newer: str) -> str | None:
    """Merge Engine.IO messages of AI chunks, as the node does with Socket.IO packets."""
    merged = merged_packets(older[1:], newer[1:])
    return None if merged is None else "4" + merged


def chunks(outbox: Outbox) -> list[dict[str, Any]]:
    found = []
    while (one := outbox.take()) is not None:
        name, payload = json.loads(one.text[one.text.index("[") :])
        assert name == "ai_stream_chunk"
        found.append(payload)
    return found


def test_chunks_of_a_stream_become_one_with_the_last_index() -> None:
    outbox = Outbox(4000)
    texts = [f"word {number} " for number in range(200)]
    for number, text in enumerate(texts):
        assert outbox.put(chunk(number, text), merge), number
        assert outbox.size <= 4000
    found = chunks(outbox)
    assert "".join(one["chunk"] for one in found) == "".join(texts)
    assert len(found) < 30 and found[-1]["index"] == 199 and found[-1]["timestamp"] == "t199"
    assert [one["index"] for one in found] == sorted(one["index"] for one in found)


def test_only_neighbours_of_one_stream_are_joined() -> None:
    outbox = Outbox(10**6)
    for number, stream in enumerate("rrrsrrss"):
        outbox.put(chunk(number, f"{stream}{number} ", stream))
        if number == 5:
            outbox.put(Message('42/ai,["other",{}]'))
    outbox._limit = outbox.size
    assert outbox.put(chunk(8, "s8 ", "s"), merge)
    events = []
    while (one := outbox.take()) is not None:
        name, payload = json.loads(one.text[one.text.index("[") :])
        events.append(payload.get("chunk", name))
    assert events == ["r0 r1 ", "r2 ", "s3 ", "r4 r5 ", "other", "s6 s7 ", "s8 "]


def test_what_cannot_be_merged_stays_as_it_is() -> None:
    outbox = filled(*(message(number, MERGE, "k") for number in range(10)))
    assert not outbox.put(message("more", MERGE, "k"), lambda older, newer: None)
    assert not outbox.put(message("more", MERGE, "k"))
    assert names(outbox) == list("0123456789")


def test_merging_gives_room_at_no_loss_before_a_log_is_lost() -> None:
    outbox = filled(message("log", DROP_OLDEST), *(message(number, MERGE, "k") for number in range(9)))
    assert outbox.put(message("more"), lambda older, newer: "4m")
    assert outbox.dropped == {} and "log" in names(outbox)


# What it costs


class Counting:
    """Counts how many waiting messages were looked at to make room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked = self.merges = 0
        whole, front = Outbox._look_through, Outbox._drop_from_front

        def look_through(outbox: Outbox, *args: Any) -> None:
            self.looked += len(outbox._waiting)
            whole(outbox, *args)

        def drop_from_front(outbox: Outbox, *args: Any) -> None:
            before = len(outbox._waiting)
            front(outbox, *args)
            self.looked += 1 + before - len(outbox._waiting)

        monkeypatch.setattr(Outbox, "_look_through", look_through)
        monkeypatch.setattr(Outbox, "_drop_from_front", drop_from_front)

    def merge(self, older: str, newer: str) -> str | None:
        self.merges += len(older) + len(newer)
        return merge(older, newer)


def mixed(number: int, chosen: random.Random) -> Message:
    policy = chosen.choice([DROP_OLDEST, DROP_OLDEST, LATEST_ONLY, MERGE])
    if policy == MERGE:
        return chunk(number, "word ", f"s{number % 2}")
    return message(number, policy, f"k{chosen.randrange(50)}", chosen.randrange(20, 120))


@pytest.mark.parametrize("policies", ["logs", "presence", "few logs among what must stay", "mixed"])
@pytest.mark.parametrize("takes", [0, 1])
def test_a_slow_reader_costs_a_bounded_number_of_looks_a_message(
    policies: str, takes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`takes`: it takes a message for every second one that comes."""
    counting, chosen, outbox = Counting(monkeypatch), random.Random(7), Outbox(1000 * SIZE)
    sent = 10_000
    if policies == "few logs among what must stay":
        for number in range(990):
            assert outbox.put(message(number))
    for number in range(sent):
        if policies == "logs":
            one = message(number, DROP_OLDEST, "logs")
        elif policies == "presence":
            one = message(number, LATEST_ONLY, f"user {number % 1000}")
        elif policies == "mixed":
            one = mixed(number, chosen)
        else:
            one = message(number, DROP_OLDEST, "logs")
        outbox.put(one, counting.merge)
        assert outbox.size <= 1000 * SIZE
        if takes and number % 2:
            outbox.take()
    assert counting.looked <= 6 * sent


def test_a_long_stream_is_not_copied_for_each_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 chunks that wait are half a megabyte of text; joining each to all before it would copy 1.3 GB."""
    counting, outbox = Counting(monkeypatch), Outbox(600_000)
    number = 0
    while outbox.size + chunk(number, "some words ").size <= 600_000:
        assert outbox.put(chunk(number, "some words "), counting.merge)
        number += 1
    assert outbox.put(chunk(number, "some words "), counting.merge)
    assert 0 < counting.merges < 6 * 600_000
    assert "".join(one["chunk"] for one in chunks(outbox)) == "some words " * (number + 1)


# Bytes of a WebSocket


def test_frames_go_together_up_to_a_bound() -> None:
    sent = [message(number, size=1000) for number in range(200)]
    outbox = filled(*sent, limit=10**6)
    first = outbox.take_bytes()
    assert SEND_BYTES <= len(first) < SEND_BYTES + 1000
    rest = memoryview(first)[5000:]
    outbox.keep(rest)
    assert outbox.size == 200_000 - 5000
    assert outbox.take_bytes() is rest
    taken = bytes(first)
    while more := outbox.take_bytes():
        taken += bytes(more)
    assert taken == b"".join(one.frame for one in sent) and outbox.empty


def test_a_single_message_is_not_copied() -> None:
    one = message(1)
    assert filled(one).take_bytes() is one.frame
    assert Outbox(LIMIT).take_bytes() == b""
