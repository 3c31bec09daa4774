"""/flows on a real server: each command by ack and by event, snapshots, the live events and who gets them."""

import json
import re
import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.plain_client import ACK, EVENT, Plain
from tests.servers import Node, until
from tests.tenants import Tenant

FLOWS = "/flows"
NewTenant = Callable[[Node], Tenant]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

STARTED = {"type": "flow_started", "data": {"trigger": "cron"}}
N1_STARTED = {"type": "node_started", "nodeId": "n1"}
N1_COMPLETED = {"type": "node_completed", "nodeId": "n1", "data": {"rows": []}}
N2_FAILED = {"type": "node_failed", "nodeId": "n2", "error": {"code": 5, "list": []}}
HALF = {"type": "flow_progress", "progress": 50}
COMPLETED = {"type": "flow_completed"}
FAILED = {"type": "flow_failed", "error": "out of memory"}


def subscribe(client: Plain, **payload: Any) -> dict[str, Any]:
    answer = client.call(FLOWS, "subscribe_flow", payload)
    assert answer["ok"] and answer["data"]["success"] is True, answer
    data: dict[str, Any] = answer["data"]
    return data


def snapshot(tenant: Tenant, flow: str = "f1", run: str = "r1") -> dict[str, Any]:
    """Return a run's snapshot, which is the same on both doors."""
    by_http = tenant.http("GET", f"/flows/{flow}/runs/{run}").json()["run"]
    by_socket = subscribe(tenant.plain(FLOWS), flowId=flow, runId=run)["run"]
    assert by_http == by_socket
    return dict(by_http)


def until_heard(client: Plain, tenant: Tenant) -> list[tuple[str, int]]:
    """Return (event, seq) of all that comes until an event that all of the tenant get."""
    marker = "end-" + secrets.token_hex(5)
    tenant.run(marker, marker, STARTED)
    heard = []
    while True:
        name, payload = client._next(lambda m: m.kind == EVENT and m.namespace == FLOWS).content
        if payload["flowId"] == marker:
            return heard
        if not payload["flowId"].startswith("end-"):
            heard.append((name, payload["seq"]))


# Answers


@pytest.mark.parametrize(
    ("command", "payload", "expected"),
    [
        ("subscribe_flow", {"flowId": "f9"}, {"success": True, "flowId": "f9"}),
        ("subscribe_flow", {"flowId": "f9", "since": 0}, {"success": True, "flowId": "f9"}),
        ("subscribe_flow", {"runId": "r9"}, {"success": True, "runId": "r9"}),
        ("subscribe_flow", {"flowId": "f9", "runId": "r9"}, {"success": True, "flowId": "f9", "runId": "r9"}),
        ("unsubscribe_flow", {"flowId": "f9"}, {"success": True, "flowId": "f9"}),
        ("unsubscribe_flow", {"runId": "r9"}, {"success": True, "runId": "r9"}),
        ("unsubscribe_flow", {"flowId": "f9", "runId": "r9"}, {"success": True, "flowId": "f9", "runId": "r9"}),
    ],
)
@pytest.mark.parametrize("acked", [True, False], ids=["ack", "event"])
def test_a_command_has_exactly_one_answer(
    tenant: Tenant, command: str, payload: dict[str, Any], expected: dict[str, Any], acked: bool
) -> None:
    client = tenant.plain(FLOWS)
    client.emit(FLOWS, command, payload, id=7 if acked else None)
    (answer,) = client.settle(FLOWS)
    assert answer.kind == (ACK if acked else EVENT)
    assert answer.content == ([{"ok": True, "data": expected}] if acked else [command, expected])


WRONG: list[tuple[str, Any, str, str | None]] = [
    ("subscribe_flow", None, "invalid_payload", "$"),
    ("subscribe_flow", {}, "invalid_payload", "$"),
    ("subscribe_flow", {"since": 1}, "invalid_payload", "$"),
    ("subscribe_flow", {"flowId": None}, "invalid_payload", "$"),
    ("subscribe_flow", {"flowId": "x\n"}, "invalid_payload", "$.flowId"),
    ("subscribe_flow", {"flowId": "f" * 256}, "invalid_payload", "$.flowId"),
    ("subscribe_flow", {"runId": ["r1"]}, "invalid_payload", "$.runId"),
    ("subscribe_flow", {"runId": "r1", "since": -1}, "invalid_payload", "$.since"),
    ("subscribe_flow", {"runId": "r1", "since": 2**53 + 1}, "invalid_payload", "$.since"),
    ("subscribe_flow", {"runId": "r1", "since": "0"}, "invalid_payload", "$.since"),
    ("subscribe_flow", "f1", "invalid_payload", "$"),
    ("unsubscribe_flow", {}, "invalid_payload", "$"),
    ("unsubscribe_flow", {"flowId": ""}, "invalid_payload", "$.flowId"),
    ("flow_started", {"flowId": "f1", "runId": "r1"}, "unknown_event", None),
    ("connect", {}, "unknown_event", None),
    ("disconnect", None, "unknown_event", None),
    ("log_history", {}, "unknown_event", None),
]


def test_what_is_wrong_is_refused_by_ack_and_by_event_with_its_path(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    for command, payload, code, path in WRONG:
        arguments = [command] if payload is None else [command, payload]
        client.emit(FLOWS, *arguments, id=5)
        client.emit(FLOWS, *arguments)
        ack, event = client.settle(FLOWS)
        assert (ack.kind, ack.id, event.kind) == (ACK, 5, EVENT), command
        error = ack.content[0]["error"]
        assert event.content == ["error", {"event": command, **error}]
        assert (error["code"], error.get("path"), error["retryable"]) == (code, path, False), (command, payload, error)


def test_subscriptions_are_bounded(limited_node: Node, new_tenant: NewTenant) -> None:
    client = new_tenant(limited_node).plain(FLOWS)
    for name in ("f1", "f2", "f3", "f3"):
        subscribe(client, flowId=name)
    refused = until(lambda: _not_limited(client, "subscribe_flow", {"flowId": "f4"}), 5)
    assert refused["error"]["code"] == "too_large"
    until(lambda: _not_limited(client, "unsubscribe_flow", {"flowId": "f1"}), 5)
    taken = until(lambda: _not_limited(client, "subscribe_flow", {"runId": "r4"}), 5)
    assert taken["ok"]


def _not_limited(client: Plain, command: str, payload: dict[str, Any]) -> Any:
    answer = client.call(FLOWS, command, payload)
    return None if not answer["ok"] and answer["error"]["code"] == "rate_limited" else answer


# Events


def test_every_event_has_its_fields_and_its_own_data(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    subscribe(client, runId="r1")
    events = [STARTED, N1_STARTED, N1_COMPLETED, N2_FAILED, HALF, FAILED]
    tenant.run("f1", "r1", *events)
    extra: list[dict[str, Any]] = [
        {"status": "started", "trigger": "cron"},
        {"status": "started", "nodeId": "n1"},
        {"status": "completed", "nodeId": "n1", "rows": []},
        {"status": "failed", "nodeId": "n2", "error": {"code": 5, "list": []}},
        {"status": "started", "progress": 50},
        {"status": "failed", "error": "out of memory"},
    ]
    for number, (event, more) in enumerate(zip(events, extra, strict=True), 1):
        payload = client.told(FLOWS, str(event["type"]))
        assert TIME.fullmatch(payload.pop("timestamp"))
        assert payload == {"tenantId": tenant.name, "flowId": "f1", "runId": "r1", "seq": number, "attempt": 1, **more}


def test_data_cannot_replace_fixed_fields(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    forged = {"tenantId": "x", "flowId": "x", "runId": "x", "nodeId": "x", "status": "x", "error": "x"}
    forged |= {"progress": "x", "timestamp": "x", "seq": "x", "kept": "yes"}
    tenant.run("f1", "r1", {"type": "flow_started", "data": forged})
    payload = client.told(FLOWS, "flow_started")
    assert TIME.fullmatch(payload.pop("timestamp"))
    assert payload == {
        "tenantId": tenant.name,
        "flowId": "f1",
        "runId": "r1",
        "status": "started",
        "seq": 1,
        "attempt": 1,
        "kept": "yes",
    }


def test_progress_is_clamped(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    subscribe(client, flowId="f1")
    given = [-5, 0, 33.3, 100, 101, 1e300]
    tenant.run("f1", "r1", *({"type": "flow_progress", "progress": progress} for progress in given))
    assert [client.told(FLOWS, "flow_progress")["progress"] for _ in given] == [0, 0, 33.3, 100, 100, 100]
    assert snapshot(tenant)["progress"] == 100


WHOLE = [STARTED, N1_STARTED, HALF, N1_COMPLETED, N2_FAILED, COMPLETED]
TENANT_WIDE = [("flow_started", 1), ("flow_completed", 6)]
EVERYTHING = [(str(event["type"]), number) for number, event in enumerate(WHOLE, 1)]


@pytest.mark.parametrize(
    ("subscriptions", "expected"),
    [
        ([], TENANT_WIDE),
        ([{"flowId": "f1"}], EVERYTHING),
        ([{"runId": "r1"}], EVERYTHING),
        ([{"flowId": "f1", "runId": "r1"}], EVERYTHING),
        ([{"flowId": "f1"}, {"runId": "r1"}, {"flowId": "f1", "runId": "r1"}, {"flowId": "f1"}], EVERYTHING),
        (
            [{"flowId": "f2"}, {"runId": "r2"}, {"flowId": "f1", "runId": "r2"}, {"flowId": "f2", "runId": "r1"}],
            TENANT_WIDE,
        ),
    ],
    ids=["tenant", "flow", "run", "flow and run", "all of them", "others"],
)
def test_each_client_gets_each_event_once_and_in_order(
    tenant: Tenant, new_tenant: NewTenant, subscriptions: list[dict[str, str]], expected: list[tuple[str, int]]
) -> None:
    clients = [tenant.plain(FLOWS, "/logs") for _ in range(3)]
    foreign = new_tenant(tenant.node).plain(FLOWS)
    for client in (*clients, foreign):
        for subscription in subscriptions:
            subscribe(client, **subscription)
    tenant.run("f1", "r1", *WHOLE)
    for client in clients:
        assert until_heard(client, tenant) == expected
    assert foreign.events(FLOWS) == []
    for client in clients:
        for subscription in subscriptions:
            assert client.call(FLOWS, "unsubscribe_flow", subscription)["ok"]
    # A new run of the same flow begins to count anew.
    tenant.run("f1", "r8", *WHOLE)
    for client in clients:
        assert until_heard(client, tenant) == TENANT_WIDE


# Snapshots


def test_a_snapshot_shows_what_the_events_made(tenant: Tenant) -> None:
    tenant.run("f1", "r1", STARTED)
    begun = snapshot(tenant)
    assert TIME.fullmatch(begun["startedAt"])
    assert begun == {
        "flowId": "f1",
        "runId": "r1",
        "status": "started",
        "attempt": 1,
        "progress": 0,
        "startedAt": begun["startedAt"],
        "nodes": {},
        "seq": 1,
    }
    tenant.run("f1", "r1", N1_STARTED, HALF, N1_COMPLETED, N2_FAILED)
    running = snapshot(tenant)
    assert (running["status"], running["progress"], running["seq"]) == ("started", 50, 5)
    assert running["startedAt"] == begun["startedAt"] and "finishedAt" not in running
    one, two = running["nodes"]["n1"], running["nodes"]["n2"]
    assert set(one) == {"status", "attempt", "startedAt", "finishedAt"} and one["status"] == "completed"
    assert (two["status"], two["error"]) == ("failed", {"code": 5, "list": []})
    tenant.run("f1", "r1", FAILED)
    ended = snapshot(tenant)
    assert (ended["status"], ended["error"], ended["progress"], ended["seq"]) == ("failed", "out of memory", 50, 6)
    assert TIME.fullmatch(ended["finishedAt"])


@pytest.mark.parametrize(("final", "late"), [(COMPLETED, FAILED), (FAILED, COMPLETED)])
def test_final_states_stay_whatever_arrives_later(tenant: Tenant, final: dict[str, Any], late: dict[str, Any]) -> None:
    tenant.run("f1", "r1", STARTED, N1_STARTED, N1_COMPLETED, final)
    before = snapshot(tenant)
    assert before["status"] == final["type"].removeprefix("flow_")
    client = tenant.plain(FLOWS)
    subscribe(client, runId="r1")
    again = [{**STARTED, "attempt": 1}, {**N1_STARTED, "attempt": 1}]
    more: list[dict[str, Any]] = [
        late,
        again[0],
        HALF,
        again[1],
        {"type": "node_failed", "nodeId": "n1", "error": "late"},
    ]
    tenant.run("f1", "r1", *more)
    # They are told, but change nothing.
    assert [name for name, _ in until_heard(client, tenant)] == [str(event["type"]) for event in more]
    after = snapshot(tenant)
    assert after.pop("seq") == before.pop("seq") + len(more)
    assert after == before
    if final is COMPLETED:
        assert after["progress"] == 100
    # The next attempt does, of a node alone or of the whole run.
    tenant.run("f1", "r1", N1_STARTED)
    node = snapshot(tenant)["nodes"]["n1"]
    assert (node["status"], node["attempt"]) == ("started", 2) and "finishedAt" not in node
    tenant.run("f1", "r1", STARTED)
    assert (snapshot(tenant)["attempt"], snapshot(tenant)["status"], snapshot(tenant)["nodes"]) == (2, "started", {})


def test_events_after_since_are_those_that_were_missed(tenant: Tenant) -> None:
    tenant.run("f1", "r1", *WHOLE)
    client = tenant.plain(FLOWS)
    for since in (0, 3, 6, 2**53):
        for wanted in ({"flowId": "f1", "runId": "r1"}, {"runId": "r1"}):
            data = subscribe(client, **wanted, since=since)
            assert [(event["type"], event["seq"]) for event in data["events"]] == EVERYTHING[since:]
            assert data["run"]["seq"] == 6
        by_http = tenant.http("GET", f"/flows/f1/runs/r1?since={since}").json()
        assert by_http == {"run": data["run"], "events": data["events"]}
    assert "events" not in subscribe(client, runId="r1")
    # Beyond what is kept, 1,000 and up to 15 more, the snapshot alone answers: never a part as if it were all.
    tenant.run("f1", "r2", *[HALF] * 1000)
    tenant.run("f1", "r2", *[HALF] * 30)
    data = subscribe(client, runId="r2", since=5)
    assert "events" not in data and data["run"]["seq"] == 1030
    assert [event["seq"] for event in subscribe(client, runId="r2", since=1000)["events"]] == list(range(1001, 1031))


def test_two_flows_may_use_the_same_run_id(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    subscribe(client, flowId="f1", runId="r1")
    tenant.run("f1", "r1", STARTED)
    tenant.run("f2", "r1", N1_STARTED, HALF)
    tenant.run("f1", "r1", HALF)
    assert until_heard(client, tenant) == [("flow_started", 1), ("flow_progress", 2)]
    assert snapshot(tenant, "f1")["seq"] == 2 and snapshot(tenant, "f2")["nodes"]["n1"]["status"] == "started"


def test_snapshot_then_live_has_no_gap_and_no_duplicate(tenant: Tenant) -> None:
    """Clients subscribe with a snapshot again and again, while a publisher writes as fast as it can."""
    stop, failures = threading.Event(), []
    sent: list[int] = []

    def publish() -> None:
        try:
            while not stop.is_set():
                tenant.run("f1", "r1", HALF)
                sent.append(1)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    clients = [tenant.plain(FLOWS) for _ in range(6)]
    try:
        until(lambda: len(sent) > 20)
        for round_number in range(12):
            choice = ({"runId": "r1"}, {"flowId": "f1", "runId": "r1"})[round_number % 2]
            for client in clients:
                client.settle(FLOWS)
                client.emit(FLOWS, "subscribe_flow", choice, id=1)
            for client in clients:
                run = client._next(lambda m: m.kind == ACK and m.id == 1).content[0]["data"]["run"]
                client._waiting.clear()
                seqs = [client.told(FLOWS, "flow_progress")["seq"] for _ in range(4)]
                assert seqs == list(range(run["seq"] + 1, run["seq"] + 5))
                assert client.call(FLOWS, "unsubscribe_flow", choice)["ok"]
    finally:
        stop.set()
        thread.join(10)
    assert not failures


def test_a_second_subscription_tells_nothing_again(tenant: Tenant) -> None:
    """A client that follows several runs gets each event once, also right after a further snapshot."""
    stop, failures = threading.Event(), []
    seqs: list[int] = []

    def publish() -> None:
        try:
            while not stop.is_set():
                tenant.run("f1", "r1", *[HALF] * 5)
                seqs.append(1)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    clients = [tenant.plain(FLOWS) for _ in range(8)]
    try:
        until(lambda: len(seqs) > 5)
        for _ in range(10):
            for client in clients:
                client.settle(FLOWS)
                client.emit(FLOWS, "subscribe_flow", {"runId": "r1"}, id=1)
                client.emit(FLOWS, "subscribe_flow", {"runId": "r2"}, id=2)
            for client in clients:
                run = client._next(lambda m: m.kind == ACK and m.id == 1).content[0]["data"]["run"]
                heard = [client.told(FLOWS, "flow_progress")["seq"] for _ in range(10)]
                heard = [seq for seq in heard if seq >= run["seq"]]
                assert heard == list(range(run["seq"] + 1, run["seq"] + 1 + len(heard)))
                for name in ("r1", "r2"):
                    assert client.call(FLOWS, "unsubscribe_flow", {"runId": name})["ok"]
    finally:
        stop.set()
        thread.join(10)
    assert not failures


def test_the_javascript_client_follows_a_run(tenant: Tenant) -> None:
    lines = [json.loads(line) for line in tenant.js("flows.mjs").splitlines()]
    assert lines[0] == {"subscribed": {"ok": True, "data": {"success": True, "flowId": "f1", "runId": "r1"}}}
    assert lines[1]["status"] == 202
    heard = lines[2:]
    assert [(line["event"], line["seq"]) for line in heard] == EVERYTHING
    assert all(line["flowId"] == "f1" for line in heard)


def test_a_snapshot_takes_no_event_from_another_subscription(tenant: Tenant) -> None:
    """Who follows the whole tenant hears of each run's end once, also where it subscribes to the run as it ends."""
    count, failures = 150, []

    def publish() -> None:
        try:
            for number in range(count):
                tenant.run("f1", f"r{number}", STARTED)
                tenant.run("f1", f"r{number}", COMPLETED)
        except BaseException as error:
            failures.append(error)

    clients = [tenant.plain(FLOWS) for _ in range(2)]
    thread = threading.Thread(target=publish)
    thread.start()
    ended: list[list[str]] = [[], []]
    for client, runs in zip(clients, ended, strict=True):
        while True:
            name, payload = client._next(lambda m: m.kind == EVENT).content
            if name == "flow_started":
                client.emit(FLOWS, "subscribe_flow", {"runId": payload["runId"]}, id=1)
                if payload["runId"] == f"r{count - 1}":
                    break
            else:
                runs.append(payload["runId"])
        runs += [payload["runId"] for name, payload in client.events(FLOWS) if name == "flow_completed"]
    thread.join(20)
    assert not failures
    for runs in ended:
        assert sorted(set(runs)) == sorted(runs), "each once"
        missing = {f"r{number}" for number in range(count - 1)} - set(runs)
        assert not missing
