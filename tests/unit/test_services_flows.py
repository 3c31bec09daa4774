"""The service of flows: what is published to whom, what is answered, and that snapshot and live events meet."""

import json
import math
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.errors import (
    Conflict,
    Forbidden,
    InvalidPayload,
    NotFound,
    RealtimeError,
    TooLarge,
    Unavailable,
)
from mintflow_realtime.protocol.flows import SubscribeFlow, UnsubscribeFlow
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs.store import RunStore
from tests.house import House


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


def names(house: House, connection: str) -> list[tuple[str, Any]]:
    return [(name, payload.get("seq")) for name, payload in house.hall.heard(connection)]


def test_each_method_publishes_its_event(house: House) -> None:
    told = [
        house.flows.started("acme", "f", "r", data={"trigger": "cron"}),
        house.flows.node_started("acme", "f", "r", "n"),
        house.flows.node_failed("acme", "f", "r", "n", {"why": []}),
        house.flows.node_completed("acme", "f", "r", "m"),
        house.flows.progress("acme", "f", "r", 140),
        house.flows.failed("acme", "f", "r", "broken"),
        house.flows.completed("acme", "f", "r"),
    ]
    assert [json.loads(one.texts[0])[0] for one in told] == [
        "flow_started",
        "node_started",
        "node_failed",
        "node_completed",
        "flow_progress",
        "flow_failed",
        "flow_completed",
    ]
    assert [one.payload["seq"] for one in told] == [1, 2, 3, 4, 5, 6, 7]
    assert told[0].payload["trigger"] == "cron" and told[2].payload["error"] == {"why": []}
    assert told[4].payload["progress"] == 100 and told[5].payload["error"] == "broken"
    run = house.flows.read(Principal.system("acme"), "f", "r").run
    assert (run.status, run.seq) == ("failed", 7)


def test_events_go_to_those_who_follow_and_each_gets_them_once(house: House) -> None:
    tenant = house.join("/flows", "tenant")
    everything = house.join("/flows", "everything")
    other = house.join("/flows", "other", tenant="other")
    for client in (everything, other):
        for payload in ({"flowId": "f"}, {"runId": "r"}, {"flowId": "f", "runId": "r"}):
            house.did(client, "subscribe_flow", payload)
    house.flows.started("acme", "f", "r")
    house.flows.node_started("acme", "f", "r", "n")
    house.flows.started("acme", "f2", "r2")
    house.hear("/flows")
    assert names(house, "tenant") == [("flow_started", 1), ("flow_started", 1)]
    assert names(house, "everything") == [("flow_started", 1), ("node_started", 2), ("flow_started", 1)]
    assert "other" not in house.hall.sent
    house.did(everything, "unsubscribe_flow", {"flowId": "f"})
    house.did(everything, "unsubscribe_flow", {"runId": "r"})
    house.did(everything, "unsubscribe_flow", {"flowId": "f", "runId": "r"})
    house.flows.node_started("acme", "f", "r", "n2")
    house.hear("/flows")
    assert len(names(house, "everything")) == 3
    assert tenant.sid != everything.sid


@pytest.mark.parametrize(
    ("payload", "follows"),
    [
        ({"flowId": "f"}, {("f", "r"), ("f", "r2")}),
        ({"runId": "r"}, {("f", "r"), ("f2", "r")}),
        ({"flowId": "f", "runId": "r"}, {("f", "r")}),
    ],
)
def test_what_a_subscription_follows(house: House, payload: dict[str, str], follows: set[tuple[str, str]]) -> None:
    client = house.join("/flows")
    answer = house.did(client, "subscribe_flow", payload)
    assert answer == {"success": True, **payload}
    for flow in ("f", "f2"):
        for run in ("r", "r2"):
            house.flows.node_started("acme", flow, run, "n")
    house.hear("/flows")
    assert {(told["flowId"], told["runId"]) for _, told in house.hall.heard("e1")} == follows
    assert house.did(client, "unsubscribe_flow", payload) == {"success": True, **payload}


def test_a_subscription_to_a_run_begins_with_its_snapshot(house: House) -> None:
    house.flows.started("acme", "f", "r")
    house.flows.progress("acme", "f", "r", 30)
    client = house.join("/flows")
    for payload in ({"runId": "r"}, {"flowId": "f", "runId": "r"}):
        answer = house.did(client, "subscribe_flow", payload)
        assert (answer["run"]["seq"], answer["run"]["progress"], answer["run"]["flowId"]) == (2, 30, "f")
        assert "events" not in answer
    answer = house.did(client, "subscribe_flow", {"runId": "r", "since": 1})
    assert [(one["type"], one["seq"]) for one in answer["events"]] == [("flow_progress", 2)]
    assert house.did(client, "subscribe_flow", {"runId": "r", "since": 2})["events"] == []
    assert "run" not in house.did(client, "subscribe_flow", {"flowId": "another", "runId": "r"})


@pytest.mark.parametrize("heard_before", range(5))
def test_snapshot_then_live_has_no_gap_and_no_duplicate_wherever_the_node_stands(
    house: House, heard_before: int
) -> None:
    for _ in range(4):
        house.flows.progress("acme", "f", "r", 1)
    house.hear("/flows", to=heard_before)
    client = house.join("/flows")
    answer = house.did(client, "subscribe_flow", {"runId": "r", "since": 2})
    assert [one["seq"] for one in answer["events"]] == [3, 4] and answer["run"]["seq"] == 4
    assert house.hall.sent == {} and house.manager._held == {}
    house.flows.progress("acme", "f", "r", 2)
    house.hear("/flows")
    assert names(house, "e1") == [("flow_progress", 5)]


@pytest.mark.parametrize("heard_before", range(5))
def test_a_run_that_was_followed_already_goes_on_before_the_snapshot_and_after_it(
    house: House, heard_before: int
) -> None:
    client = house.join("/flows")
    house.did(client, "subscribe_flow", {"runId": "r"})
    for _ in range(4):
        house.flows.progress("acme", "f", "r", 1)
    house.hear("/flows", to=heard_before)
    answer = house.did(client, "subscribe_flow", {"runId": "r", "since": 2})
    assert [one["seq"] for one in answer["events"]] == [3, 4]
    assert [payload["seq"] for _, payload in house.before_answer] == [1, 2, 3, 4]
    house.flows.progress("acme", "f", "r", 2)
    house.hear("/flows")
    assert [seq for _, seq in names(house, "e1")] == [1, 2, 3, 4, 5]


def test_two_runs_followed_one_after_the_other_while_the_node_is_behind(house: House) -> None:
    for run in ("1", "2"):
        for _ in range(3):
            house.flows.progress("acme", "f", run, 1)
    client = house.join("/flows")
    for run in ("1", "2"):
        answer = house.did(client, "subscribe_flow", {"runId": run, "since": 0})
        assert [one["seq"] for one in answer["events"]] == [1, 2, 3]
    house.flows.progress("acme", "f", "1", 2)
    house.hear("/flows")
    assert names(house, "e1") == [("flow_progress", 4)]


@pytest.mark.parametrize("heard_before", range(5))
@pytest.mark.parametrize("payload", [{"runId": "r"}, {"flowId": "f", "runId": "r"}, {"runId": "r", "since": 1}])
def test_who_followed_the_flow_misses_no_event_by_a_snapshot_of_its_run(
    house: House, heard_before: int, payload: dict[str, Any]
) -> None:
    """What the other subscription lets the client hear comes before the answer, which tells the state after it."""
    client = house.join("/flows")
    house.did(client, "subscribe_flow", {"flowId": "f"})
    house.flows.node_started("acme", "f", "r", "n")
    house.flows.node_started("acme", "f", "another", "n")
    house.flows.node_completed("acme", "f", "r", "n")
    house.flows.node_started("acme", "unfollowed", "another", "n")
    house.hear("/flows", to=heard_before)
    answer = house.did(client, "subscribe_flow", payload)
    assert answer["run"]["seq"] == 2
    told = [("node_started", 1), ("node_started", 1), ("node_completed", 2)]
    assert names(house, "e1") == told and len(house.before_answer) == 3
    assert house.manager._held == {}
    house.flows.node_failed("acme", "f", "r", "n", "why")
    house.flows.node_completed("acme", "f", "another", "n")
    house.hear("/flows")
    assert names(house, "e1") == [*told, ("node_failed", 3), ("node_completed", 2)]


@pytest.mark.parametrize("follows", [True, False])
def test_events_that_come_while_the_client_is_held_are_told_once_each(
    house: House, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    """The node is ahead of the snapshot: 2 is in it, 3 is not, and both are heard before the answer is sent."""
    client = house.join("/flows")
    if follows:
        house.did(client, "subscribe_flow", {"flowId": "f"})
    house.flows.progress("acme", "f", "r", 1)
    real = house.run_store.read

    def read(*args: Any) -> Any:
        house.flows.progress("acme", "f", "r", 2)
        house.hear("/flows")
        found = real(*args)
        house.flows.progress("acme", "f", "r", 3)
        house.flows.started("acme", "another", "r9")
        house.hear("/flows")
        assert house.hall.sent == {}
        return found

    monkeypatch.setattr(house.run_store, "read", read)
    answer = house.did(client, "subscribe_flow", {"runId": "r", "since": 0})
    assert [one["seq"] for one in answer["events"]] == [1, 2]
    before = [("flow_progress", 1), ("flow_progress", 2)] if follows else []
    assert [(name, payload["seq"]) for name, payload in house.before_answer] == before
    assert names(house, "e1") == [*before, ("flow_progress", 3), ("flow_started", 1)]


@pytest.mark.parametrize("followed", [{"runId": "r"}, {"flowId": "f"}])
def test_a_node_that_does_not_catch_up_leaves_the_subscriptions_as_they_were_and_loses_nothing(
    house: House, followed: dict[str, str]
) -> None:
    client = house.join("/flows")
    house.did(client, "subscribe_flow", followed)
    before = sorted(house.manager.get_rooms(client.sid, "/flows"))
    for run in ("r", "new"):
        house.flows.progress("acme", "f" if run == "r" else "f2", run, 1)

    def behind(*_: Any) -> None:
        house.hear("/flows")
        raise Unavailable("behind")

    house.manager.wait_until_passed = behind
    for run in ("r", "new"):
        assert house.refused(client, "subscribe_flow", {"runId": run}) == "unavailable"
    assert sorted(house.manager.get_rooms(client.sid, "/flows")) == before and house.manager._held == {}
    assert [(payload["runId"], payload["seq"]) for _, payload in house.hall.heard("e1")] == [("r", 1)]


def test_a_client_has_so_many_subscriptions_and_no_more(house: House) -> None:
    client = house.join("/flows")
    for number in range(5):
        house.did(client, "subscribe_flow", {"flowId": f"f{number}"})
    assert house.refused(client, "subscribe_flow", {"flowId": "f5"}) == "too_large"
    house.did(client, "subscribe_flow", {"flowId": "f3"})
    house.did(client, "unsubscribe_flow", {"flowId": "f0"})
    house.did(client, "subscribe_flow", {"runId": "r5"})
    assert house.refused(client, "subscribe_flow", {"runId": "r6"}) == "too_large"


def test_a_snapshot_that_cannot_be_read_leaves_the_subscriptions_as_they_were(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.join("/flows")
    house.did(client, "subscribe_flow", {"runId": "kept"})
    before = sorted(house.manager.get_rooms(client.sid, "/flows"))

    def fail(*_: Any) -> Any:
        raise Unavailable("silent")

    monkeypatch.setattr(house.run_store, "read", fail)
    monkeypatch.setattr(house.run_store, "flow_of", lambda *_: "f")
    for run in ("kept", "new"):
        assert house.refused(client, "subscribe_flow", {"runId": run}) == "unavailable"
    assert sorted(house.manager.get_rooms(client.sid, "/flows")) == before and house.manager._held == {}


def test_permissions_are_checked_here_for_every_door(house: House) -> None:
    reader = Principal.system("acme")
    writer = house.join("/flows", "w", permissions=frozenset({"flows:write"}))
    nobody = writer.principal.__class__.system("acme")
    object.__setattr__(nobody, "permissions", frozenset({"flows:read"}))
    with pytest.raises(Forbidden):
        house.flows.publish(nobody, "f", "r", [RunEvent(type="flow_started")])
    house.flows.publish(writer.principal, "f", "r", [RunEvent(type="flow_started")])
    with pytest.raises(Forbidden):
        house.flows.read(writer.principal, "f", "r")
    assert house.refused(writer, "subscribe_flow", {"runId": "r"}) == "forbidden"
    assert house.flows.read(reader, "f", "r").run.seq == 1


def test_reading_a_run_and_its_events(house: House) -> None:
    who = Principal.system("acme")
    with pytest.raises(NotFound):
        house.flows.read(who, "f", "r")
    house.flows.started("acme", "f", "r")
    with pytest.raises(NotFound):
        house.flows.read(Principal.system("other"), "f", "r")
    assert "events" not in json.loads(dumps(house.flows.read(who, "f", "r")))
    assert [one["seq"] for one in json.loads(dumps(house.flows.read(who, "f", "r", 0)))["events"]] == [1]


def test_a_batch_is_published_whole_or_not_at_all(house: House) -> None:
    who = Principal.system("acme")
    good = RunEvent(type="flow_progress", progress=1)
    for bad in (
        RunEvent(type="flow_failed", data={"x": "y" * 1_000_001}),
        RunEvent(type="node_started", node_id="a\n"),
        RunEvent(type="flow_started", data={"a": object()}),
    ):
        with pytest.raises((TooLarge, InvalidPayload)):
            house.flows.publish(who, "f", "r", [good, bad])
    published = house.flows.publish(who, "f", "r", [good] * 3)
    assert [json.loads(text)[1]["seq"] for text in published.texts] == [1, 2, 3]


def test_a_repeat_changes_nothing_twice(house: House) -> None:
    first = house.flows.progress("acme", "f", "r", 1, idempotency_key="k")
    again = house.flows.progress("acme", "f", "r", 1, idempotency_key="k")
    assert again.repeated and again.offsets == first.offsets and again.payload["seq"] == 1
    assert house.flows.read(Principal.system("acme"), "f", "r").run.seq == 1
    with pytest.raises(Conflict):
        house.flows.progress("acme", "f", "r", 2, idempotency_key="k")


@pytest.mark.parametrize(
    "call",
    [
        lambda flows: flows.started("a b", "f", "r"),
        lambda flows: flows.started("acme", "", "r"),
        lambda flows: flows.started("acme", "f", None),
        lambda flows: flows.started("-", "f", "r"),
        lambda flows: flows.node_started("acme", "f", "r", "a\n"),
        lambda flows: flows.node_started("acme", "f", "r", None),
        lambda flows: flows.node_started("acme", "f", "r", 7),
        lambda flows: flows.progress("acme", "f", "r", "40"),
        lambda flows: flows.progress("acme", "f", "r", None),
        lambda flows: flows.progress("acme", "f", "r", True),
        lambda flows: flows.progress("acme", "f", "r", 1j),
        lambda flows: flows.started("acme", "f", "r", data=[]),
        lambda flows: flows.started("acme", "f", "r", data=""),
        lambda flows: flows.started("acme", "f", "r", data=False),
        lambda flows: flows.started("acme", "f", "r", data=[1]),
        lambda flows: flows.started("acme", "f", "r", data="text"),
        lambda flows: flows.started("acme", "f", "r", data={None: 1}),
        lambda flows: flows.started("acme", "f", "r", idempotency_key=""),
        lambda flows: flows.started("acme", "f", "r", data={"x": "y" * 1_000_001}),
    ],
)
def test_whatever_is_wrong_raises_from_one_tree(house: House, call: Any) -> None:
    with pytest.raises(RealtimeError):
        call(house.flows)
    assert house.publisher.head("acme", "/flows") == (None, None)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"progress": True}, "$.progress"),
        ({"progress": "40"}, "$.progress"),
        ({"progress": None}, "$.progress"),
        ({"progress": 1, "data": [1]}, "$.data"),
        ({"progress": 1, "data": "text"}, "$.data"),
        ({"progress": 1, "attempt": 0}, "$.attempt"),
        ({"progress": 1, "attempt": True}, "$.attempt"),
        ({"tenant": "a b", "progress": 1}, "$.tenant"),
        ({"flow_id": "", "progress": 1}, "$.flowId"),
        ({"run_id": None, "progress": 1}, "$.runId"),
    ],
)
def test_a_wrong_argument_is_named(house: House, wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        house.flows.progress(**{"tenant": "acme", "flow_id": "f", "run_id": "r", **wrong})
    assert caught.value.to_wire()["path"] == path


def test_a_step_that_is_tried_again_is_shown_live_and_in_the_snapshot(house: House) -> None:
    client = house.join("/flows")
    house.did(client, "subscribe_flow", {"runId": "r"})
    house.flows.node_started("acme", "f", "r", "n")
    house.flows.node_failed("acme", "f", "r", "n", OSError("caf\udce9 " + "x" * 70_000))
    house.flows.node_started("acme", "f", "r", "n", attempt=2)
    house.flows.node_failed("acme", "f", "r", "n", "late", attempt=1)
    house.hear("/flows")
    told = [payload for name, payload in house.hall.heard("e1")]
    assert [one.get("attempt") for one in told] == [1, 1, 2, 1]
    assert told[1]["truncated"] and told[1]["error"].startswith("OSError: caf� xxx")
    run = house.did(client, "subscribe_flow", {"runId": "r"})["run"]
    assert (run["attempt"], run["nodes"]["n"]["status"], run["nodes"]["n"]["attempt"]) == (1, "started", 2)


@pytest.mark.parametrize("progress", [math.nan, math.inf, -math.inf, 10**300, -0.0])
def test_any_number_is_a_progress_that_can_be_read_back(house: House, progress: float) -> None:
    house.flows.progress("acme", "f", "r", progress)
    shown = json.loads(dumps(house.flows.read(Principal.system("acme"), "f", "r", 0)))
    for value in (shown["run"]["progress"], shown["events"][0]["progress"]):
        assert not isinstance(value, bool) and 0 <= value <= 100


def test_a_process_without_sockets_publishes_and_follows_nothing(runner: RedisClient, keys: Keys) -> None:
    flows = Flows(Publisher(runner, keys, Caps()), RunStore(runner, keys, 60))
    flows.started("acme", "f", "r")
    who = Principal.system("acme")
    for call in (
        lambda: flows.subscribe(who, "sid", SubscribeFlow(run_id="r")),
        lambda: flows.subscribe(who, "sid", SubscribeFlow(flow_id="f")),
        lambda: flows.unsubscribe(who, "sid", UnsubscribeFlow(run_id="r")),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_without_redis_every_method_is_unavailable(keys: Keys) -> None:
    silent = RedisClient(connect("redis://127.0.0.1:1/0"))
    flows = Flows(Publisher(silent, keys, Caps()), RunStore(silent, keys, 60))
    for call in (
        lambda: flows.started("acme", "f", "r"),
        lambda: flows.read(Principal.system("acme"), "f", "r"),
    ):
        with pytest.raises(Unavailable):
            call()


def test_a_list_of_runs_is_answered_with_what_it_is_as_of(house: House) -> None:
    for run in ("r1", "r2", "r3"):
        house.flows.started("acme", "f", run, tags=["nightly"])
    told = house.flows.completed("acme", "f", "r2")
    client = house.join("/flows")
    answer = house.did(client, "list_runs", {"tag": "nightly", "limit": 2})
    assert [(run["runId"], run["status"]) for run in answer["runs"]] == [("r3", "started"), ("r2", "completed")]
    assert answer["asOf"] == told.offset
    rest = house.did(client, "list_runs", {"before": answer["nextCursor"]})
    assert [run["runId"] for run in rest["runs"]] == ["r1"] and "nextCursor" not in rest
    assert house.did(client, "list_runs", {"status": ["completed", "lost"]})["runs"][0]["runId"] == "r2"
    assert house.refused(client, "list_runs", {"limit": 201}) == "invalid_payload"
    assert house.did(house.join("/flows", "e2", tenant="other"), "list_runs", {}) == {"runs": []}
    writer = house.join("/flows", "w", permissions=frozenset({"flows:write"}))
    assert house.refused(writer, "list_runs", {}) == "forbidden"
