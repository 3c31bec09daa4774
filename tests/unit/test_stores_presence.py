"""Leases of users in a real Redis: joined once, left once, refreshed, and found when they ran out."""

from typing import Any

import pytest

import mintflow_realtime.stores.presence.store
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.envelope import Event, Header
from mintflow_realtime.protocol.errors import Conflict, NotFound, TooLarge
from mintflow_realtime.protocol.scripts import Change, Keys
from mintflow_realtime.protocol.workspaces import User, user_pieces
from mintflow_realtime.stores.presence.store import SLICE, PresenceStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.workspaces.store import WorkspaceStore

NS = "/workspaces"


def user(sid: str, name: str = "ann") -> User:
    return User(user_id=name, user_name=name.title(), socket_id=sid, joined_at="2026-01-01T00:00:00.000Z")


class Hall:
    def __init__(self, runner: RedisClient, keys: Keys) -> None:
        self.runner, self.keys = runner, keys
        self.store = PresenceStore(runner, keys, 60)
        self.publisher = Publisher(runner, keys, Caps())
        self.workspaces = WorkspaceStore(runner, keys, 60)

    def join(self, sid: str, workspace: str = "w1", lease: float = 20) -> None:
        store = PresenceStore(self.runner, self.keys, 60, lease)
        self._publish(store.join_change("acme", workspace, user(sid)), "{}")

    def leave(self, sid: str, workspace: str = "w1", *, only_expired: bool = False) -> Any:
        change = self.store.leave_change("acme", workspace, sid, only_expired=only_expired)
        return self._publish(change, None)["user"]

    def users(self, workspace: str = "w1") -> list[str]:
        found = self.workspaces.read("acme", workspace, self.publisher.head_key("acme", NS))
        return [one.socket_id for one in found.users]

    def life(self, *parts: str) -> int:
        return int(self.runner.command("PTTL", self.keys.of("acme", *parts)))

    def lives(self, *names: tuple[str, ...]) -> list[int]:
        """Return what keys have left to live at one moment: read twice, until no millisecond passed in between."""
        keys = [self.keys.of("acme", *parts) for parts in names]
        while True:
            first, second = ([int(self.runner.command("PTTL", key)) for key in keys] for _ in range(2))
            if first == second:
                return first

    def _publish(self, change: Change, text: str | None) -> Any:
        event = Event(Header(("acme:",)), user_pieces("user_left", "w1", text))
        return self.publisher.publish("acme", NS, [event], change).payload


@pytest.fixture
def hall(runner: RedisClient, keys: Keys) -> Hall:
    return Hall(runner, keys)


def test_a_client_joins_once_and_leaves_once(hall: Hall) -> None:
    hall.join("s1")
    hall.join("s2")
    with pytest.raises(Conflict):
        hall.join("s1")
    assert hall.users() == ["s1", "s2"]
    told = {"userId": "ann", "userName": "Ann", "socketId": "s1", "joinedAt": "2026-01-01T00:00:00.000Z"}
    assert hall.leave("s1") == told
    with pytest.raises(NotFound):
        hall.leave("s1")
    with pytest.raises(NotFound):
        hall.leave("s2", "w2")
    assert hall.users() == ["s2"]


def test_only_a_lease_that_ran_out_is_taken_away(hall: Hall) -> None:
    hall.join("alive")
    hall.join("dead", lease=0)
    assert hall.store.expired("acme", 10) == [("w1", "dead")]
    with pytest.raises(NotFound):
        hall.leave("alive", only_expired=True)
    assert hall.leave("dead", only_expired=True)["socketId"] == "dead"
    with pytest.raises(NotFound):
        hall.leave("dead", only_expired=True)
    assert hall.store.expired("acme", 10) == [] and hall.users() == ["alive"]


def test_a_refresh_keeps_leases_and_tells_which_are_gone(hall: Hall) -> None:
    hall.join("s1", lease=0)
    hall.join("s2", "w2", lease=0)
    assert hall.store.refresh("acme", [("w1", "s1"), ("w1", "gone"), ("w2", "s2"), ("w9", "s1")]) == [
        ("w1", "gone"),
        ("w9", "s1"),
    ]
    assert hall.store.expired("acme", 10) == []
    many = [("w1", f"n{number}") for number in range(SLICE + 2)] + [("w1", "s1")]
    assert hall.store.refresh("acme", many) == many[:-1]
    # A lease that was lost alone is made anew, or its user would never leave.
    hall.runner.command("DEL", hall.keys.of("acme", "ws-leases"))
    assert hall.store.refresh("acme", [("w1", "s1")]) == []
    assert hall.runner.command("ZCARD", hall.keys.of("acme", "ws-leases")) == 1


def test_everything_has_an_end_and_users_before_their_leases(hall: Hall) -> None:
    hall.join("s1")
    for _ in range(2):
        users, leases = hall.lives(("ws-users", "w1"), ("ws-leases",))
        assert 0 < users <= leases <= mintflow_realtime.stores.presence.store.LIFE_MS
        hall.runner.command("PEXPIRE", hall.keys.of("acme", "ws-users", "w1"), 1000)
        hall.runner.command("PEXPIRE", hall.keys.of("acme", "ws-leases"), 1000)
        hall.store.refresh("acme", [("w1", "s1")])
    assert hall.life("ws-leases") > 1000


def test_a_refresh_keeps_the_state_alive(hall: Hall) -> None:
    key = hall.keys.of("acme", "ws", "w1")
    hall.runner.command("HSET", key, "v", "1")
    hall.runner.command("PEXPIRE", key, 1000)
    hall.join("s1")
    assert hall.life("ws", "w1") > 50_000
    hall.runner.command("PEXPIRE", key, 1000)
    hall.store.refresh("acme", [("w1", "s1")])
    assert hall.life("ws", "w1") > 50_000


def test_a_lease_without_its_user_is_dropped(hall: Hall) -> None:
    hall.join("s1", lease=0)
    hall.runner.command("DEL", hall.keys.of("acme", "ws-users", "w1"))
    assert hall.store.expired("acme", 10) == []
    assert hall.runner.command("EXISTS", hall.keys.of("acme", "ws-leases")) == 0


def test_a_workspace_has_a_thousand_users_at_most(hall: Hall) -> None:
    sids = [f"s{number}" for number in range(1000)]
    fields = [part for sid in sids for part in (sid, "{}")]
    hall.runner.command("HSET", hall.keys.of("acme", "ws-users", "w1"), *fields)
    with pytest.raises(TooLarge):
        hall.join("one more")
    hall.leave("s0")
    hall.join("one more")
    assert len(hall.store.expired("acme", 10)) == 0


def test_the_oldest_leases_are_found_first(hall: Hall) -> None:
    for number in range(5):
        hall.join(f"s{number}", lease=-number)
    assert hall.store.expired("acme", 2) == [("w1", "s4"), ("w1", "s3")]
