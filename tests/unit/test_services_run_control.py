"""Word back: what viewers ask of runs is told, durable, bounded, and taken by one process, which may die."""

import json
import threading
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Conflict, Forbidden, NotFound, RealtimeError, TooLarge
from mintflow_realtime.protocol.runs import CancelRun, SignalRun
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.runs import control
from tests.house import House
from tests.unit.test_services_run_leases import Time

WHO = Principal.system("acme")


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


@pytest.fixture
def passing(house: House, runner: RedisClient, keys: Keys) -> Time:
    return Time(runner, keys, "run-unclaimed")


def cancel(house: House, run: str = "r", **more: Any) -> Any:
    return house.flows.control.cancel(WHO, CancelRun(flow_id="f", run_id=run, **more))


def signal(house: House, run: str = "r", **more: Any) -> Any:
    return house.flows.control.signal(WHO, SignalRun(flow_id="f", run_id=run, **{"name": "go", **more}))


def take(house: House, consumer: str = "a", **more: Any) -> list[tuple[str, str]]:
    return [(one.kind, one.run_id) for one in house.flows.control.take(WHO, "f", consumer, **more)]


def test_a_cancel_is_answered_told_and_taken(house: House) -> None:
    house.flows.queued("acme", "f", "r")
    viewer = house.join("/flows")
    answer = house.did(viewer, "cancel_run", {"flowId": "f", "runId": "r", "reason": "late"})
    assert answer == {"flowId": "f", "runId": "r", "status": "queued"}
    house.hear("/flows")
    (name, told) = house.hall.heard("e1")[-1]
    assert name == "flow_cancelling" and (told["status"], told["reason"], told["by"]) == ("queued", "late", "system")
    shown = json.loads(json.dumps(house.did(viewer, "subscribe_flow", {"runId": "r"})))["run"]
    assert shown["cancelling"]["reason"] == "late" and shown["status"] == "queued"
    (message,) = house.flows.control.take(WHO, "f", "a")
    assert (message.kind, message.run_id, message.reason, message.by) == ("cancel", "r", "late", "system")
    assert message.control_id == told["controlId"] and message.at


def test_a_signal_is_told_without_its_data(house: House) -> None:
    house.flows.waiting("acme", "f", "r", reason="approval")
    viewer = house.join("/flows")
    house.did(viewer, "subscribe_flow", {"runId": "r"})
    data = {"approved": True, "note": "é\n", "list": [], "n": 9007199254740993}
    answer = house.did(viewer, "signal_run", {"flowId": "f", "runId": "r", "name": "approval", "data": data})
    house.hear("/flows")
    (name, told) = house.hall.heard("e1")[-1]
    assert name == "flow_signalled" and told["name"] == "approval" and "data" not in told
    (message,) = house.flows.control.take(WHO, "f", "a")
    assert message.data == data and message.name == "approval"
    assert answer["signalId"] == told["controlId"] == message.control_id


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_run_that_has_ended_is_a_conflict_with_its_state(house: House, runner: RedisClient, end: str) -> None:
    house.flows.started("acme", "f", "r")
    getattr(house.flows, end)("acme", "f", "r")
    before = {
        key: runner.command("DUMP", key) for key in runner.command("KEYS", f"{house.run_store._keys.prefix}:{{acme}}*")
    }
    for ask in (cancel, signal):
        with pytest.raises(Conflict) as refused:
            ask(house)
        assert refused.value.to_wire()["status"] == end
    assert {
        key: runner.command("DUMP", key) for key in runner.command("KEYS", f"{house.run_store._keys.prefix}:{{acme}}*")
    } == before
    with pytest.raises(NotFound):
        cancel(house, "unknown")
    assert take(house) == []


def test_each_message_is_one_process_s(house: House) -> None:
    house.flows.started("acme", "f", "r")
    for number in range(40):
        signal(house, data=number)
    got: list[Any] = []

    def engine(name: str) -> None:
        while found := house.flows.control.take(WHO, "f", name):
            got.extend(one.data for one in found)
            house.flows.control.take(WHO, "f", name, done=tuple(one.place for one in found), wait=0)

    threads = [threading.Thread(target=engine, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == len(set(got))


def test_what_one_that_died_had_taken_another_takes_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.flows.started("acme", "f", "r")
    cancel(house)
    assert take(house, "dies") == [("cancel", "r")] and take(house, "lives") == []
    monkeypatch.setattr(control, "DEAD_MS", 0)
    found = house.flows.control.take(WHO, "f", "lives")
    assert [one.kind for one in found] == ["cancel"]
    house.flows.control.take(WHO, "f", "lives", done=(found[0].place, "nonsense", "1-1"))
    assert take(house, "other") == []
    # Nothing is left of it.
    keys = house.run_store.control.keys_of("acme", "f")
    assert house.run_store._redis.command("XLEN", keys[0]) == 0


def test_the_process_of_a_run_takes_what_is_its_own(house: House) -> None:
    for run in ("r", "other"):
        house.flows.started("acme", "f", run)
        signal(house, run, data=run)
        cancel(house, run)
    own = house.flows.control.take_of_run("acme", "f", "r", "signal")
    assert [(one.kind, one.data) for one in own] == [("signal", "r")]
    assert [one.kind for one in house.flows.control.take_of_run("acme", "f", "r")] == ["cancel"]
    assert house.flows.control.take_of_run("acme", "f", "r") == []
    assert take(house) == [("signal", "other"), ("cancel", "other")]
    assert house.flows.control.take_of_run("acme", "f", "other") == []


def test_an_engine_of_several_flows_takes_who_wants_runs_cancelled_and_nothing_else(
    house: House, passing: Time
) -> None:
    for flow in ("f", "g", "other"):
        house.flows.started("acme", flow, "r")
        house.flows.cancel("acme", flow, "r", flow)
        house.flows.signal("acme", flow, "r", "approve")
    control = house.flows.control
    assert [(one.flow_id, one.reason) for one in control.take_cancels("acme", {"f"})] == [("f", "f")]
    # Nobody has taken it in time, so that it is only found by looking for it.
    passing.pass_by(31)
    house.flows.tick()
    assert control.take_cancels("acme", {"f", "g"}) == []
    assert [one.flow_id for one in control.take_cancels("acme", {"f", "g"}, old=True)] == ["g"]
    assert [one.kind for one in control.take_of_run("acme", "g", "r")] == ["signal"]
    assert [one.kind for one in control.take_of_run("acme", "other", "r")] == ["cancel", "signal"]


def test_an_engine_iterates_and_what_it_has_not_finished_comes_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.flows.started("acme", "f", "r")
    for number in range(3):
        signal(house, data=number)
    follower = house.flows.control.follow("acme", "f")
    assert [next(follower).data for _ in range(3)] == [0, 1, 2]
    follower.close()
    monkeypatch.setattr(control, "DEAD_MS", 0)
    assert [next(house.flows.control.follow("acme", "f")).data] == [2]


def test_who_waits_gets_it_when_it_comes(house: House) -> None:
    house.flows.started("acme", "f", "r")
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.extend(take(house, wait=20)))
    thread.start()
    cancel(house)
    thread.join(20)
    assert got == [("cancel", "r")]


@pytest.mark.parametrize("taken", ["nobody", "flow", "run"])
def test_what_nobody_takes_is_told_once(house: House, passing: Time, taken: str) -> None:
    house.flows.started("acme", "f", "r")
    house.join("/flows")
    cancel(house)
    if taken == "flow":
        take(house)
    elif taken == "run":
        house.flows.control.take_of_run("acme", "f", "r")
    passing.pass_by(29)
    house.flows.tick()
    passing.pass_by(2)
    for _ in range(3):
        house.flows.tick()
        passing.pass_by(2)
    house.hear("/flows")
    told = [payload for name, payload in house.hall.heard("e1") if name == "flow_unclaimed"]
    assert [(one["kind"], one["status"]) for one in told] == ([("cancel", "started")] if taken == "nobody" else [])
    # It is still there for an engine that comes later.
    assert take(house) == ([("cancel", "r")] if taken == "nobody" else [])


def test_what_an_engine_does_not_take_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST", 3)
    house.flows.started("acme", "f", "r")
    for _ in range(3):
        cancel(house)
    seq = house.flows.read(WHO, "f", "r").run.seq
    with pytest.raises(TooLarge):
        cancel(house)
    assert house.flows.read(WHO, "f", "r").run.seq == seq
    with pytest.raises(TooLarge):
        signal(house, data="x" * 70_000)


def test_asking_does_not_keep_a_run_alive(house: House, runner: RedisClient, keys: Keys) -> None:
    passing = Time(runner, keys)
    house.flows.started("acme", "f", "r", lease=5)
    passing.pass_by(4)
    cancel(house)
    signal(house)
    passing.pass_by(2)
    house.flows.tick()
    assert house.flows.read(WHO, "f", "r").run.status == "lost"
    # One that was lost may come back, and is told then.
    cancel(house)
    assert house.flows.beat(WHO, "f", "r").cancelling


def test_a_repeat_asks_nothing_more(house: House) -> None:
    house.flows.started("acme", "f", "r")
    first = signal(house, idempotency_key="k", data=1)
    assert signal(house, idempotency_key="k", data=1) == first
    assert cancel(house, idempotency_key="k2") == cancel(house, idempotency_key="k2")
    assert take(house) == [("signal", "r"), ("cancel", "r")]
    with pytest.raises(Conflict):
        signal(house, idempotency_key="k", data=2)


def test_who_may_ask_and_who_may_take(house: House) -> None:
    house.flows.started("acme", "f", "r")
    writer = house.join("/flows", "w", permissions=frozenset({"flows:read", "flows:write"}))
    for command, payload in (("cancel_run", {}), ("signal_run", {"name": "n"})):
        assert house.refused(writer, command, {"flowId": "f", "runId": "r", **payload}) == "forbidden"
    viewer = house.join("/flows", "v", permissions=frozenset({"flows:read", "flows:control"}))
    house.did(viewer, "cancel_run", {"flowId": "f", "runId": "r"})
    with pytest.raises(Forbidden):
        house.flows.control.take(viewer.principal, "f")
    other = house.join("/flows", "o", tenant="other")
    assert house.refused(other, "cancel_run", {"flowId": "f", "runId": "r"}) == "not_found"


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("cancel_run", {"flowId": "f"}),
        ("cancel_run", {"flowId": "f", "runId": "r", "reason": "x" * 1001}),
        ("cancel_run", {"flowId": "f", "runId": "r", "why": "x"}),
        ("signal_run", {"flowId": "f", "runId": "r"}),
        ("signal_run", {"flowId": "f", "runId": "r", "name": ""}),
    ],
)
def test_what_is_wrong_is_refused(house: House, command: str, payload: dict[str, Any]) -> None:
    house.flows.started("acme", "f", "r")
    assert house.refused(house.join("/flows"), command, payload) == "invalid_payload"


def test_bad_places_raise_from_one_tree(house: House) -> None:
    for tenant, flow in (("a b", "f"), ("acme", "")):
        with pytest.raises(RealtimeError):
            next(house.flows.control.follow(tenant, flow))
