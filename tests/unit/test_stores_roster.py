"""Whom a node's end left without an answer: lines of who came and went, found again by who and when."""

from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.nodes import roster
from mintflow_realtime.stores.nodes.roster import LINE_BYTES, MAX_PIECES, PIECE_BYTES, Roster, was_there
from mintflow_realtime.stores.nodes.store import NodeStore
from mintflow_realtime.stores.redis.client import RedisClient


def there(pieces: list[bytes], at: float, user: str = "ann", tenant: str = "acme", namespace: str = "/logs") -> bool:
    return was_there(pieces, tenant, namespace, user, at)


def test_who_was_there_when() -> None:
    lines = Roster()
    lines.note("acme", "/logs", "ann", "s1", 1000, came=True)
    lines.note("acme", "/logs", "ann", "s2", 2000, came=True)
    lines.note("acme", "/logs", "ann", "s1", 3000, came=False)
    # Noted anew, as every half an hour.
    lines.note("acme", "/logs", "ann", "s2", 2000, came=True)
    lines.note("acme", "/logs", "ann", "s2", 4000, came=False)
    lines.note("acme", "/flows", "ann", "s3", 500, came=True)
    pieces = [lines.take(), b"", b"half a line"]
    assert [there(pieces, at) for at in (999, 1000, 2500, 3500, 4000, 9000)] == [False, True, True, True, False, False]
    assert there(pieces, 9000, namespace="/flows")
    assert not there(pieces, 2500, user="bob") and not there(pieces, 2500, tenant="globex")
    assert lines.take() == b""


def test_who_came_and_left_within_a_millisecond_is_gone() -> None:
    lines = Roster()
    lines.note("acme", "/logs", "bob", "s1", 1000, came=True)
    lines.note("acme", "/logs", "bob", "s1", 1000, came=False)
    assert not was_there([lines.take()], "acme", "/logs", "bob", 1000)


def test_what_could_not_be_written_comes_first_the_next_time() -> None:
    lines = Roster()
    for number in range(2000):
        lines.note("acme", "/logs", f"user-{number}", f"s{number}", number, came=True)
    first = lines.take()
    assert len(first) == PIECE_BYTES
    lines.give_back(first)
    assert lines.take() == first and len(lines.take()) == (2000 - 1024) * LINE_BYTES


def test_what_waits_is_bounded() -> None:
    lines = Roster()
    for number in range(roster.MAX_WAITING + 10):
        lines.note("acme", "/logs", "ann", f"s{number}", number, came=True)
    lines.give_back(b"x" * LINE_BYTES)
    assert len(lines.take()) == PIECE_BYTES


def test_pieces_are_joined_bounded_and_end(runner: RedisClient, keys: Keys) -> None:
    store = NodeStore(runner, keys)
    assert store.clients_of("n1") == []
    lines = Roster()
    assert [store.note_clients("n3", b"x" * LINE_BYTES) for _ in range(2)] == [False, True]
    for number in range(3000):
        lines.note("acme", "/logs", f"user-{number}", f"s{number}", number, came=True)
        if number % 10 == 9:
            store.note_clients("n1", lines.take())
    pieces = store.clients_of("n1")
    assert [len(piece) // LINE_BYTES for piece in pieces] == [1020, 1020, 960]
    assert all(there(pieces, 3000, user=f"user-{number}") for number in (0, 1500, 2999))
    assert store.clients_of("n2") == []
    for _ in range(MAX_PIECES):
        store.note_clients("n1", b"x" * PIECE_BYTES)
    assert len(store.clients_of("n1")) == MAX_PIECES and not there(store.clients_of("n1"), 3000, user="user-0")
    assert 3_590_000 < runner.command("PTTL", keys.shared("node-clients", "n1")) <= 3_600_000
