"""Sessions in a real Redis: taken over once at a time, saved by their holder alone, gone after the window."""

import threading
import time
from typing import Any

import pytest

from mintflow_realtime.fanout.recover.sessions import MAX_TAKEN, NotRecovered, SessionStore, new_pid, read_offset
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.envelope import Offset
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from tests.servers import until

SCOPE = "flows:read"


def fields(memo: str = "") -> dict[str, str]:
    return {"user": "ann", "anonymous": "0", "scope": SCOPE, "memo": memo}


@pytest.fixture
def store(runner: RedisClient, keys: Keys) -> SessionStore:
    return SessionStore(runner, keys, "node-1", 60)


@pytest.fixture
def other(runner: RedisClient, keys: Keys) -> SessionStore:
    return SessionStore(runner, keys, "node-2", 60)


@pytest.fixture
def session(store: SessionStore) -> Session:
    session = Session("acme", "/flows", "s1", new_pid("acme"), "a-1", rooms={"acme:": "a-1", "acme:run:r": "a-2"})
    assert store.save(session, fields)
    return session


def keys_of(runner: RedisClient, keys: Keys) -> list[Any]:
    return list(runner.command("KEYS", f"{keys.prefix}:*session*"))


def test_a_session_goes_on_elsewhere_under_a_new_generation(
    store: SessionStore, other: SessionStore, session: Session
) -> None:
    claimed = other.claim("acme", "/flows", session.pid, "ann", SCOPE)
    found = claimed.session
    assert (found.sid, found.start, found.generation, found.rooms) == ("s1", "a-1", 2, session.rooms)
    assert (claimed.user_id, claimed.memo, claimed.node, claimed.open) == ("ann", "", "node-1", True)
    assert not other.acknowledged(found)
    assert store.save(session, fields) is False
    assert store.refresh("acme", [session]) == [(session, -1)]
    assert store.release(session, for_good=True) is False
    assert other.acknowledged(found) and other.refresh("acme", [found]) == []
    assert other.release(found, for_good=False) is True
    third = store.claim("acme", "/flows", session.pid, "ann", SCOPE)
    assert (third.session.generation, third.node, third.open) == (3, "node-2", False)


def test_only_what_changed_is_written_and_what_was_lost_is_written_whole(
    store: SessionStore, session: Session, runner: RedisClient, keys: Keys
) -> None:
    session.rooms["acme:run:q"] = "a-3"
    del session.rooms["acme:run:r"]
    session.changed |= {"acme:run:q", "acme:run:r"}
    assert store.save(session, lambda: fields("kept")) and session.changed == set()
    claimed = store.claim("acme", "/flows", session.pid, "ann", SCOPE)
    assert claimed.session.rooms == {"acme:": "a-1", "acme:run:q": "a-3"} and claimed.memo == "kept"
    session = claimed.session
    runner.command("DEL", *keys_of(runner, keys))
    assert store.refresh("acme", [session]) == [(session, 0)]
    assert store.save(session, fields) and session.start == ""
    claimed = store.claim("acme", "/flows", session.pid, "ann", SCOPE)
    assert claimed.session.rooms == {"acme:": "a-1", "acme:run:q": "a-3"} and claimed.session.start == ""


@pytest.mark.parametrize(
    ("tenant", "pid", "user", "scope", "reason"),
    [
        ("other", None, "ann", SCOPE, "tenant"),
        ("acme", None, "bob", SCOPE, "user"),
        ("acme", None, None, SCOPE, "user"),
        ("acme", None, "ann", "", "scope"),
        ("acme", None, "ann", f"admin {SCOPE}", "scope"),
        pytest.param("acme", new_pid("acme"), "ann", SCOPE, "expired", id="another of the tenant"),
        ("acme", "x", "ann", SCOPE, "expired"),
        ("acme", "x." * 100, "ann", SCOPE, "expired"),
    ],
)
def test_whose_it_is_not_does_not_get_it_and_does_no_harm(
    store: SessionStore, session: Session, tenant: str, pid: str | None, user: str | None, scope: str, reason: str
) -> None:
    with pytest.raises(NotRecovered) as refused:
        store.claim(tenant, "/flows", pid or session.pid, user, scope)
    assert refused.value.reason == reason
    with pytest.raises(NotRecovered):
        store.claim("acme", "/logs", session.pid, "ann", SCOPE)
    assert store.claim("acme", "/flows", session.pid, "ann", SCOPE).session.generation == 2


def test_an_anonymous_session_is_anybodys_with_the_pid_but_no_user_s(store: SessionStore) -> None:
    session = Session("acme", "/n", "s", new_pid("acme"), "0-0")
    store.save(session, lambda: {"user": "anonymous-1", "anonymous": "1", "scope": SCOPE, "memo": ""})
    with pytest.raises(NotRecovered):
        store.claim("acme", "/n", session.pid, "anonymous-1", SCOPE)
    assert store.claim("acme", "/n", session.pid, None, SCOPE).user_id == "anonymous-1"


def test_a_save_that_fails_is_whole_again_later(
    store: SessionStore, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.rooms["acme:x"] = "a-9"
    session.changed.add("acme:x")

    def fail(*_: Any) -> Any:
        raise LookupError("silent")

    with monkeypatch.context() as patch, pytest.raises(LookupError):
        patch.setattr(store._redis, "run", fail)
        store.save(session, fields)
    assert session.changed == {"acme:x"} and session.stale and not session.saving.locked()
    assert store.save(session, fields) and not session.stale
    assert store.claim("acme", "/flows", session.pid, "ann", SCOPE).session.rooms["acme:x"] == "a-9"


def test_it_lives_for_the_window_and_a_quarter_and_after_its_end_for_the_window(
    runner: RedisClient, keys: Keys, session: Session, store: SessionStore
) -> None:
    (key,) = keys_of(runner, keys)
    assert session.pid.encode() not in key
    assert 74_000 < runner.command("PTTL", key) <= 75_000
    store.release(session, for_good=False)
    assert 59_000 < runner.command("PTTL", key) <= 60_000
    store.release(session, for_good=True)
    assert keys_of(runner, keys) == []
    assert store.release(session, for_good=False) is True, "nobody else has it"


def test_nothing_is_left_after_a_short_window(runner: RedisClient, keys: Keys) -> None:
    store = SessionStore(runner, keys, "n", 0.2)
    session = Session("acme", "/n", "s", new_pid("acme"), "0-0")
    store.save(session, fields)
    began = time.monotonic()
    until(lambda: keys_of(runner, keys) == [], 2)
    assert time.monotonic() - began > 0.15


def test_of_many_who_take_it_over_each_has_a_generation_of_its_own(store: SessionStore, session: Session) -> None:
    found: list[int] = []
    claims = [
        threading.Thread(
            target=lambda: found.append(store.claim("acme", "/flows", session.pid, "ann", SCOPE).session.generation)
        )
        for _ in range(8)
    ]
    for claim in claims:
        claim.start()
    for claim in claims:
        claim.join()
    assert sorted(found) == list(range(2, 10))


def test_a_thousand_rooms_come_back(store: SessionStore) -> None:
    session = Session("acme", "/n", "s", new_pid("acme"), "0-0", rooms={f"acme:own:{n}": f"a-{n}" for n in range(1002)})
    store.save(session, fields)
    assert store.claim("acme", "/n", session.pid, "ann", SCOPE).session.rooms == session.rooms


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [("a-3", "a-1", Offset("a", 3)), (None, "a-1", Offset("a", 1)), (None, "0-0", Offset("0", 0)), ("a-0", "", None)],
)
def test_an_offset_is_read(text: Any, start: str, found: Offset | None) -> None:
    assert read_offset(text, start) == (found or Offset("a", 0))


@pytest.mark.parametrize("text", ["", "-", "a", "a-", "-1", "a-b", "é-1", "a-1 ", "a" * 64 + "-1", 1, {}, [], True])
def test_an_offset_that_is_none(text: Any) -> None:
    with pytest.raises(NotRecovered) as refused:
        read_offset(text, "a-1")
    assert refused.value.reason == "offset"


def test_no_offset_and_no_start_is_no_place_to_go_on_from() -> None:
    with pytest.raises(NotRecovered) as refused:
        read_offset(None, "")
    assert refused.value.reason == "epoch"


def test_two_who_take_a_session_from_each_other_end_with_one_each(
    store: SessionStore, other: SessionStore, session: Session, runner: RedisClient, keys: Keys
) -> None:
    for _ in range(MAX_TAKEN + 2):
        # Of connections that were cut nobody answers; they don't count.
        store.claim("acme", "/flows", session.pid, "ann", SCOPE)
    for turn in range(MAX_TAKEN):
        claimed = (other, store)[turn % 2].claim("acme", "/flows", session.pid, "ann", SCOPE)
        store.taken(claimed.session)
    for _ in range(3):
        with pytest.raises(NotRecovered) as caught:
            store.claim("acme", "/flows", session.pid, "ann", SCOPE)
        assert caught.value.reason == "taken"
    (key,) = keys_of(runner, keys)
    # Whose connection has ended may come back however often, and a minute later all is forgotten.
    runner.command("HSET", key, "open", "0")
    assert store.claim("acme", "/flows", session.pid, "ann", SCOPE).session.generation == 2 * MAX_TAKEN + 4
    runner.command("HINCRBY", key, "taken_since", "-60")
    assert store.claim("acme", "/flows", session.pid, "ann", SCOPE).open
