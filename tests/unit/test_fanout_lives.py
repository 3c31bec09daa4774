"""The rings of lives and of times: bounded, and found again."""

import msgspec

from mintflow_realtime.fanout.heard import HeardTimes
from mintflow_realtime.fanout.lives import CONNECTED, ENTERED, Lives, lines_with
from mintflow_realtime.protocol.envelope import Offset


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def found(lives: Lives, text: bytes) -> list[list[object]]:
    return [msgspec.json.decode(line) for block in lives.blocks() for line in lines_with(block, text)]


def test_lines_are_found_by_what_is_in_them() -> None:
    lives = Lives(clock=Clock())
    lives.note(CONNECTED, "s1", "/flows", "acme", 'a"\n\\nn', "e-1", "", "")
    lives.note(ENTERED, "s1", "/flows", "acme:run:r", "e-2")
    lives.note(ENTERED, "s2", "/flows", "acme:run:s1", "e-2")
    assert [line[1:3] for line in found(lives, b'"s1"')] == [["c", "s1"], ["e", "s1"]]
    (line,) = found(lives, msgspec.json.encode('a"\n\\nn'))
    assert line == [1_000_000, "c", "s1", "/flows", "acme", 'a"\n\\nn', "e-1", "", ""]
    assert found(lives, b"nothing") == []


def test_they_are_bounded_in_bytes_and_in_age_and_it_is_known_from_when_on_they_are_whole() -> None:
    clock = Clock()
    lives = Lives(max_bytes=4000, seconds=60, clock=clock, block_bytes=1000)
    assert lives.complete_from == 1_000_000
    for number in range(1000):
        clock.now += 0.01
        lives.note(ENTERED, f"s{number}", "/flows", "acme:run:r", "e-2")
        assert lives.size < 5100
    first = min(line[0] for line in found(lives, b"acme"))
    assert 1_000_000 < lives.complete_from <= first and found(lives, b'"s999"') and not found(lives, b'"s5"')
    clock.now += 100
    lives.note(ENTERED, "late", "/flows", "acme:run:r", "e-2")
    # All but the block that is written, which may have begun long ago.
    assert lives.complete_from > first and lives.size < 1100


def test_a_line_of_a_plain_connection_is_short() -> None:
    """An idle connection costs some 15 KB; a hundredth of that may be its life."""
    lives = Lives()
    for _ in range(1000):
        lives.note(
            CONNECTED,
            "0123456789abcdef0123456789ab",
            "/flows",
            "acme",
            "user-12345",
            "0123456789abcdef-1234567",
            "",
            "",
        )
    assert lives.size / 1000 < 149


def test_when_an_event_was_heard() -> None:
    clock = Clock()
    heard = HeardTimes(max_bytes=400, clock=clock, block_bytes=100)
    for number in range(1, 100):
        clock.now += 1
        for channel in ("one", "two"):
            heard.note(channel, Offset("e", number))
    assert heard.when("one", Offset("e", 99)) == heard.when("two", Offset("e", 99)) == 1_099_000
    assert heard.when("one", Offset("e", 97)) == 1_097_000
    for wrong in (Offset("e", 1), Offset("f", 99), Offset("e", 100)):
        assert heard.when("one", wrong) is None
    assert heard.when("three", Offset("e", 99)) is None
