"""The messages of /flows: what is refused, and the text of an event's payload."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.flows import FlowSubscribed, NodeState, RunSnapshot, SubscribeFlow, UnsubscribeFlow
from mintflow_realtime.protocol.run_events import (
    EVENT_TYPES,
    FIXED_FIELDS,
    MAX_ERROR_BYTES,
    RunEvent,
    clamp,
    payload_pieces,
)
from mintflow_realtime.protocol.wire_json import dumps

TIME = "2026-01-31T08:15:30.123Z"


def payload(event: RunEvent, seq: int = 7) -> dict[str, Any]:
    (start, end), _ = payload_pieces("acme", "f", "r", event, TIME)
    value: dict[str, Any] = json.loads(start + str(seq) + end)
    return value


@pytest.mark.parametrize("message", [SubscribeFlow, UnsubscribeFlow])
def test_a_subscription_names_a_flow_or_a_run(message: Any) -> None:
    assert msgspec.convert({"flowId": "f"}, message).flow_id == "f"
    assert msgspec.convert({"runId": "r", "flowId": "f"}, message).run_id == "r"
    for refused in ({}, {"flowId": None}, {"flowId": ""}, {"runId": "a\n"}, {"flowId": 1}, {"flowId": "f", "x": 1}, []):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(refused, message)


@pytest.mark.parametrize("since", [-1, 1.5, "1", True, 2**53 + 1])
def test_since_is_a_number_of_an_event(since: object) -> None:
    assert msgspec.convert({"runId": "r", "since": 0}, SubscribeFlow).since == 0
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"runId": "r", "since": since}, SubscribeFlow)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "node_started"},
        {"type": "flow_progress"},
        {"type": "flow_progress", "progress": "40"},
        {"type": "flow_progress", "progress": True},
        {"type": "unheard_of"},
        {"type": "flow_started", "data": []},
        {"type": "flow_started", "seq": 1},
        {"type": "node_failed", "nodeId": "a\n"},
    ],
)
def test_an_event_of_a_run_that_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, RunEvent)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("flow_started", "started"),
        ("flow_completed", "completed"),
        ("flow_failed", "failed"),
        ("node_started", "started"),
        ("node_completed", "completed"),
        ("node_failed", "failed"),
        ("flow_progress", "started"),
        ("flow_queued", "queued"),
        ("flow_waiting", "waiting"),
        ("flow_cancelled", "cancelled"),
        ("flow_lost", "lost"),
        ("node_waiting", "waiting"),
        ("node_skipped", "skipped"),
        ("node_cancelled", "cancelled"),
    ],
)
def test_each_type_has_its_status(kind: Any, status: str) -> None:
    assert kind in EVENT_TYPES and len(EVENT_TYPES) == 15
    event = RunEvent(type=kind, node_id="n", progress=1)
    assert event.status == status == payload(event)["status"]


def test_a_payload_has_the_fields_that_the_event_has() -> None:
    assert payload(RunEvent(type="flow_started")) == {
        "tenantId": "acme",
        "flowId": "f",
        "runId": "r",
        "status": "started",
        "seq": 7,
        "timestamp": TIME,
    }
    full = RunEvent(type="node_failed", node_id="n", progress=140.5, error={"why": []}, data={"more": [1], "seq": 9})
    assert payload(full) == {
        "tenantId": "acme",
        "flowId": "f",
        "runId": "r",
        "nodeId": "n",
        "status": "failed",
        "progress": 100,
        "error": {"why": []},
        "seq": 7,
        "timestamp": TIME,
        "more": [1],
    }


@given(st.dictionaries(st.sampled_from([*FIXED_FIELDS, "type", "a", "b"]), st.integers() | st.text('ab"\\é\n')))
def test_data_joins_the_payload_and_never_replaces_a_fixed_field(data: dict[str, Any]) -> None:
    bare, joined = payload(RunEvent(type="flow_started")), payload(RunEvent(type="flow_started", data=data))
    assert {name: value for name, value in joined.items() if name in FIXED_FIELDS} == bare
    assert {name: value for name, value in joined.items() if name not in FIXED_FIELDS} == {
        name: value for name, value in data.items() if name not in FIXED_FIELDS
    }


def test_no_name_stands_twice_in_a_payload() -> None:
    data = {name: "mine" for name in FIXED_FIELDS} | {"own": 1}
    (start, end), _ = payload_pieces("acme", "f", "r", RunEvent(type="flow_failed", error="e", data=data), TIME)
    names: list[str] = []
    json.loads(start + "1" + end, object_pairs_hook=lambda pairs: names.extend(name for name, _ in pairs))
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (0, 0),
        (40, 40),
        (40.5, 40.5),
        (-1, 0),
        (100.1, 100),
        (math.inf, 100),
        (-math.inf, 0),
        (math.nan, 0),
        (10**400, 100),
    ],
)
def test_progress_is_a_percentage(progress: float, shown: float) -> None:
    assert clamp(progress) == shown
    assert payload(RunEvent(type="flow_progress", progress=progress))["progress"] == shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {"a": object()}),
        ("data", {None: 1}),
    ],
)
def test_what_json_cannot_say_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    event = RunEvent(type="flow_started", **{field: value})
    with pytest.raises(InvalidPayload) as refused:
        payload(event)
    assert refused.value.details["path"] == f"$.{field}"


def test_nesting_without_an_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidPayload):
        payload(RunEvent(type="flow_started", data=endless))
    assert payload(RunEvent(type="flow_failed", error=endless))["error"] == "{'again': {...}}"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("no such file: caf\udce9"), "ValueError: no such file: caf�"),
        ("\ud83d\ude00\ud83d", "😀�"),
        ({"\udce9": ["\udce9"]}, {"�": ["�"]}),
        (1j, "1j"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_an_error_is_always_said(error: Any, shown: Any) -> None:
    assert payload(RunEvent(type="flow_failed", error=error))["error"] == shown


def test_halves_of_characters_in_data_are_replaced() -> None:
    assert payload(RunEvent(type="flow_started", data={"caf\udce9": ["\ud800"]}))["caf�"] == ["�"]


@pytest.mark.parametrize("character", ["e", "é", "😀", '"', "\\", "\n", "\x01"])
@pytest.mark.parametrize("before", ["", "x", "xx", "xxx", "xxxx", "xxxxx"])
def test_an_error_over_64_kilobytes_is_cut_and_marked(character: str, before: str) -> None:
    error = before + character * 70_000
    told = payload(RunEvent(type="flow_failed", error=error))
    assert error.startswith(told["error"]) and told["truncated"] is True and told["originalLength"] == len(error)
    assert MAX_ERROR_BYTES - 6 <= len(msgspec.json.encode(told["error"])) <= MAX_ERROR_BYTES


def test_an_error_of_64_kilobytes_is_whole() -> None:
    told = payload(RunEvent(type="flow_failed", error="e" * (MAX_ERROR_BYTES - 2)))
    assert len(told["error"]) == MAX_ERROR_BYTES - 2 and "truncated" not in told and "originalLength" not in told


def test_a_large_object_keeps_what_fits() -> None:
    error = {"code": "E42", "stack": "x" * 70_000, "at": 7, "rest": list(range(50_000))}
    told = payload(RunEvent(type="node_failed", node_id="n", error=error, data={"truncated": "mine", "own": 1}))
    assert (told["error"]["code"], told["truncated"], told["own"]) == ("E42", True, 1)
    assert len(told["error"]["stack"]) > 65_000 and told["originalLength"] == len(msgspec.json.encode(error))
    several = payload(RunEvent(type="flow_failed", error=list(range(50_000))))
    assert several["error"].startswith("[0,1,2,") and several["truncated"]


def test_an_attempt_is_told_by_the_change_alone() -> None:
    (start, end), _ = payload_pieces(
        "acme", "f", "r", RunEvent(type="flow_started", attempt=2, data={"attempt": 7}), TIME
    )
    assert json.loads(start + '7,"attempt":3' + end)["attempt"] == 3 and (start + end).count("attempt") == 0
    for wrong in (0, -1, "2", 1.5, True):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"type": "flow_started", "attempt": wrong}, RunEvent)


@pytest.mark.parametrize(
    ("kind", "field", "good", "bad"),
    [
        ("flow_started", "name", "Ä b", ("", "a\n", "x" * 256, 7)),
        ("flow_queued", "tags", ["a", "b"], ("a", [""], ["a\t"], ["x" * 65], ["a"] * 11)),
        ("flow_started", "lease", 5, (4.9, 3601, "5", True)),
        ("flow_started", "parent", {"flowId": "a", "runId": "b"}, ({"flowId": "a"}, "a", {"flowId": "a", "runId": ""})),
        ("flow_started", "total", 0, (-1, 1.5, "1")),
        ("flow_waiting", "reason", "", ("x" * 1001, 7)),
        ("node_waiting", "until", "2026-01-01T00:00:00Z", ("soon", "", [1])),
    ],
)
def test_what_an_event_says_of_its_run(kind: str, field: str, good: Any, bad: tuple[Any, ...]) -> None:
    node = {"nodeId": "n"} if kind.startswith("node_") else {}
    told = msgspec.convert({"type": kind, field: good, **node}, RunEvent)
    assert payload(told)[field] in (good, "2026-01-01T00:00:00.000Z")
    for wrong in bad:
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert({"type": kind, field: wrong, **node}, RunEvent)
    with pytest.raises(msgspec.ValidationError, match=f"alone.*{field}"):
        msgspec.convert({"type": "flow_progress", "progress": 1, field: good}, RunEvent)


def test_answers_leave_out_what_is_not_there() -> None:
    assert json.loads(dumps(FlowSubscribed(flow_id="f"))) == {"success": True, "flowId": "f"}
    run = RunSnapshot(
        flow_id="f",
        run_id="r",
        status="started",
        attempt=1,
        progress=0,
        started_at=TIME,
        nodes={"n": NodeState(status="started", attempt=1, started_at=TIME)},
        seq=3,
    )
    assert json.loads(dumps(run)) == {
        "flowId": "f",
        "runId": "r",
        "status": "started",
        "attempt": 1,
        "progress": 0,
        "startedAt": TIME,
        "nodes": {"n": {"status": "started", "attempt": 1, "startedAt": TIME}},
        "seq": 3,
    }
