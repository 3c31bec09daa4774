"""Leases: what renews them, that a run is told to be lost once, by whichever node, and that it may come back."""

import json
import threading
import time
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Forbidden, NotFound
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.runs import leases
from tests.house import House

WHO = Principal.system("acme")


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


class Time:
    """Lets leases end, and tenants' looks be due: by moving what Redis holds back, not by waiting."""

    def __init__(self, runner: RedisClient, keys: Keys, which: str = "run-leases") -> None:
        self.runner, self.keys = runner, keys
        self.leases, self.tenants = keys.of("acme", which), keys.shared("lease-tenants")
        self.noted = keys.shared("lease-noted")

    def pass_by(self, seconds: float) -> None:
        for key in (self.leases, self.tenants):
            for member, score in self._scores(key):
                self.runner.command("ZADD", key, score - seconds * 1000, member)
        for tenant, at in self._hash():
            self.runner.command("HSET", self.noted, tenant, str(round(at - seconds * 1000)))

    def _scores(self, key: str) -> list[tuple[bytes, float]]:
        flat = self.runner.command("ZRANGE", key, 0, -1, "WITHSCORES")
        pairs = flat if flat and isinstance(flat[0], (tuple, list)) else list(zip(flat[::2], flat[1::2], strict=True))
        return [(member, float(score)) for member, score in pairs]

    def _hash(self) -> list[tuple[bytes, float]]:
        found = self.runner.command("HGETALL", self.noted)
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return [(tenant, float(at)) for tenant, at in pairs]

    def due(self) -> float:
        """Return in how many seconds the tenant is looked at; -1 for never."""
        found = dict(self._scores(self.tenants))
        return found[b"acme"] / 1000 - time.time() if b"acme" in found else -1


@pytest.fixture
def passing(house: House, runner: RedisClient, keys: Keys) -> Time:
    return Time(runner, keys)


def status(house: House, run: str = "r") -> str:
    return str(house.flows.read(WHO, "f", run).run.status)


def kept(house: House, run: str = "r") -> list[tuple[str, int]]:
    events = house.flows.read(WHO, "f", run, 0).events
    return [(one["type"], one["attempt"]) for one in (json.loads(bytes(raw)) for raw in events)]


def test_a_run_without_a_word_is_lost_once(house: House, passing: Time) -> None:
    house.flows.started("acme", "f", "r", lease=5)
    house.flows.started("acme", "f", "other", lease=60)
    house.flows.started("acme", "f", "none")
    passing.pass_by(4)
    house.flows.tick()
    assert status(house) == "started"
    passing.pass_by(2)
    for _ in range(3):
        house.flows.tick()
        passing.pass_by(1)
    assert (status(house), status(house, "other"), status(house, "none")) == ("lost", "started", "started")
    assert kept(house) == [("flow_started", 1), ("flow_lost", 1)]
    # The next look is when the other's lease ends.
    assert 40 < passing.due() < 60


def test_everybody_who_looks_at_once_says_it_once(house: House, passing: Time) -> None:
    for number in range(30):
        house.flows.started("acme", "f", f"r{number}", lease=5)
    passing.pass_by(6)
    expired = house.run_store.leases.expired
    both = threading.Barrier(2)

    def together(tenant: str) -> Any:
        found = expired(tenant)
        if found.runs:
            both.wait(5)
        return found

    def say() -> None:
        for flow_id, run_id in together("acme").runs:
            house.flows._events._tell_lost("acme", flow_id, run_id)

    threads = [threading.Thread(target=say) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(kept(house, f"r{number}")[1:] == [("flow_lost", 1)] for number in range(30))


@pytest.mark.parametrize(
    "renew",
    [
        lambda flows: flows.progress("acme", "f", "r", 3),
        lambda flows: flows.node_started("acme", "f", "r", "n"),
        lambda flows: flows.waiting("acme", "f", "r"),
        lambda flows: flows.beat(WHO, "f", "r"),
    ],
)
def test_any_event_or_a_beat_renews_a_lease(house: House, passing: Time, renew: Any) -> None:
    house.flows.started("acme", "f", "r", lease=5)
    for _ in range(3):
        passing.pass_by(4)
        renew(house.flows)
        house.flows.tick()
    assert status(house) in ("started", "waiting")
    passing.pass_by(6)
    house.flows.tick()
    assert status(house) == "lost"


@pytest.mark.parametrize(
    ("again", "after", "told"),
    [
        (lambda flows: flows.progress("acme", "f", "r", 3), "started", [("flow_started", 1), ("flow_progress", 1)]),
        (
            lambda flows: flows.node_started("acme", "f", "r", "n"),
            "started",
            [("flow_started", 1), ("node_started", 1)],
        ),
        (lambda flows: flows.beat(WHO, "f", "r"), "started", [("flow_started", 1)]),
        (lambda flows: flows.completed("acme", "f", "r"), "completed", [("flow_completed", 1)]),
        (lambda flows: flows.started("acme", "f", "r", lease=5), "started", [("flow_started", 2)]),
        (lambda flows: flows.waiting("acme", "f", "r"), "waiting", [("flow_started", 1), ("flow_waiting", 1)]),
    ],
)
def test_a_lost_run_is_taken_up_again_and_may_be_lost_again(
    house: House, passing: Time, again: Any, after: str, told: list[tuple[str, int]]
) -> None:
    client = house.join("/flows")
    house.flows.started("acme", "f", "r", lease=5)
    passing.pass_by(6)
    house.flows.tick()
    # So long that no node looks at the tenant any more.
    passing.pass_by(10)
    house.flows.tick()
    assert status(house) == "lost" and passing.due() == -1
    again(house.flows)
    assert status(house) == after and kept(house)[2:] == told
    passing.pass_by(6)
    house.flows.tick()
    assert status(house) == ("completed" if after == "completed" else "lost")
    house.hear("/flows")
    heard = [name for name, _ in house.hall.heard("e1")]
    assert heard.count("flow_lost") == (1 if after == "completed" else 2) and "flow_started" in heard
    assert client.sid


def test_what_was_taken_up_is_not_lost_by_the_lease_before(house: House, passing: Time) -> None:
    house.flows.started("acme", "f", "r", lease=5)
    passing.pass_by(6)
    house.flows.progress("acme", "f", "r", 1)
    house.flows._events._tell_lost("acme", "f", "r")
    assert status(house) == "started"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_an_end_ends_the_lease(house: House, passing: Time, end: str) -> None:
    house.flows.started("acme", "f", "r", lease=5)
    getattr(house.flows, end)("acme", "f", "r")
    passing.pass_by(10)
    house.flows.tick()
    assert status(house) == end and passing.due() == -1


def test_a_shorter_lease_is_looked_at_in_time_beside_a_longer_one(house: House, passing: Time) -> None:
    house.flows.started("acme", "f", "long", lease=3600)
    passing.pass_by(20)
    house.flows.tick()
    house.flows.started("acme", "f", "r", lease=5)
    assert passing.due() <= 5
    passing.pass_by(6)
    house.flows.tick()
    assert (status(house), status(house, "long")) == ("lost", "started")


def test_a_tenant_that_was_noted_is_looked_at_until_its_lease_is_there(house: House, passing: Time) -> None:
    """A node looks between a publisher's note and its publish: the tenant must not be forgotten."""
    house.run_store.leases.note("acme", 5)
    passing.pass_by(5)
    (noted,) = house.run_store.leases.look()
    assert house.run_store.leases.look() == []
    assert house.run_store.leases.expired("acme").runs == []
    house.run_store.leases.note("acme", 5)
    house.run_store.leases.settle(*noted, "")
    assert 0 < passing.due() < 2


def test_more_than_one_slice(house: House, passing: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RUNS_AT_ONCE", 3)
    for number in range(10):
        house.flows.started("acme", "f", f"r{number}", lease=5)
    passing.pass_by(6)
    house.flows.tick()
    assert {status(house, f"r{number}") for number in range(10)} == {"lost"}


def test_a_beat_says_what_is_wanted(house: House) -> None:
    with pytest.raises(NotFound):
        house.flows.beat(WHO, "f", "r")
    house.flows.started("acme", "f", "r")
    assert house.flows.beat(WHO, "f", "r").attempt == 1
    house.flows.cancelling("acme", "f", "r", reason="why")
    beaten = house.flows.beat(WHO, "f", "r")
    assert beaten.status == "started" and json.loads(bytes(beaten.cancelling))["reason"] == "why"
    house.flows.completed("acme", "f", "r")
    assert house.flows.beat(WHO, "f", "r").status == "completed"
    reader = house.join("/flows", "w", permissions=frozenset({"flows:read"})).principal
    with pytest.raises(Forbidden):
        house.flows.beat(reader, "f", "r")


def test_a_beat_keeps_a_silent_run(house: House, runner: RedisClient) -> None:
    house.flows.started("acme", "f", "r")
    key = house.run_store._run_key("acme", "f", "r")
    runner.command("PEXPIRE", key, 1000)
    house.flows.beat(WHO, "f", "r")
    assert runner.command("PTTL", key) > 10_000


def test_a_repeat_of_a_large_batch_is_no_conflict(house: House) -> None:
    events = [{"type": "node_skipped", "node_id": f"n{number}"} for number in range(30)] + [{"type": "flow_lost"}]
    first = house.flows.publish_many("acme", "f", "r", events, idempotency_key="k")
    again = house.flows.publish_many("acme", "f", "r", events, idempotency_key="k")
    assert again.repeated and again.offsets == first.offsets
