"""`append_many` and `publish_many`: plain dictionaries in either spelling, all or none, errors by number and field."""

import json
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, RealtimeError, TooLarge
from mintflow_realtime.protocol.logs import LogHistory
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from tests.house import House


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


def stored(house: House, tenant: str = "acme") -> list[dict[str, Any]]:
    page = house.logs.read(Principal.system(tenant), LogHistory(limit=1000))
    return [json.loads(bytes(record)) for record in page.logs]


def test_records_in_either_spelling(house: House) -> None:
    both = [
        {"message": "0", "level": "warn", "flow_id": "f", "run_id": "r", "node_id": "n", "metadata": {"a": []}},
        {"message": "0", "logLevel": "warn", "flowId": "f", "runId": "r", "nodeId": "n", "metadata": {"a": []}},
        {"message": "1"},
        {"message": "1", "level": "info", "flow_id": None, "metadata": None},
    ]
    published = house.logs.append_many("acme", both)
    assert [offset.rpartition("-")[2] for offset in published.offsets] == ["1", "2", "3", "4"]
    records = [
        {name: value for name, value in one.items() if name not in ("logId", "createdAt")} for one in stored(house)
    ]
    assert records[0] == records[1] and records[2] == records[3]
    assert records[0]["logLevel"] == "warn" and records[0]["nodeId"] == "n"
    assert records[2] == {"tenantId": "acme", "logLevel": "info", "message": "1", "metadata": {}}


def test_levels_of_logging_are_those_of_the_wire(house: House) -> None:
    levels = ["debug", "info", "warning", "warn", "error", "critical", "fatal"]
    house.logs.append_many("acme", ({"message": "m", "level": level} for level in levels))
    house.logs.append("acme", message="m", level="warning")
    found = [record["logLevel"] for record in stored(house)]
    assert found == ["debug", "info", "warn", "warn", "error", "error", "error", "warn"]


@pytest.mark.parametrize("number", [1, 25, 1000])
def test_as_many_as_over_http(house: House, number: int) -> None:
    published = house.logs.append_many("acme", [{"message": f"m{n}"} for n in range(number)])
    assert len(published.offsets) == number
    assert [record["message"] for record in stored(house)] == [f"m{n}" for n in range(number)]


@pytest.mark.parametrize(
    ("wrong", "path", "says"),
    [
        ({"message": 7}, "$[1].message", "Expected `str`, got `int`"),
        ({}, "$[1].message", "missing required field"),
        ({"message": "m", "level": [3]}, "$[1].logLevel", "got `array`"),
        ({"message": "m", "timestamp": "then"}, "$[1].timestamp", "ISO 8601"),
        ({"message": "m", "flow_id": "a\n"}, "$[1].flowId", "255 characters"),
        ({"message": "m", "metadata": [1]}, "$[1].metadata", "Expected `object"),
        ({"message": "m", "metadata": {"x": object()}}, "$[1].metadata", "Expected what JSON can say"),
        ({"message": "m", "colour": "red"}, "$[1].colour", "unknown field"),
        ({"message": "m", "level": "info", "logLevel": "info"}, "$[1].logLevel", "twice"),
        ("text", "$[1]", "Expected a dictionary, got str"),
        (None, "$[1]", "Expected a dictionary, got NoneType"),
    ],
)
def test_a_bad_record_is_named_by_number_and_field_and_nothing_is_stored(
    house: House, wrong: Any, path: str, says: str
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        house.logs.append_many("acme", [{"message": "good"}, wrong, {"message": "good"}])
    assert caught.value.details["path"] == path
    assert says in str(caught.value) and str(caught.value).endswith(f"(at {path})")
    assert stored(house) == []
    with pytest.raises(InvalidPayload) as caught:
        house.logs.append_many("acme", [wrong])
    assert caught.value.details["path"] == path.replace("1", "0")


@pytest.mark.parametrize("wrong", [[], "text", {"message": "m"}, None, 7, [{"message": "m"}] * 1001])
def test_what_is_no_list_of_one_to_a_thousand(house: House, wrong: Any) -> None:
    for call in (house.logs.append_many, lambda tenant, given: house.flows.publish_many(tenant, "f", "r", given)):
        with pytest.raises(InvalidPayload, match="Expected (a list|1 to 1000)"):
            call("acme", wrong)
    assert stored(house) == []


def test_what_is_too_large(house: House) -> None:
    with pytest.raises(TooLarge, match="A batch is at most"):
        house.logs.append_many("acme", [{"message": "x" * 60_000}] * 100)
    assert stored(house) == []


def test_a_repeat_with_the_same_key_stores_once(house: House) -> None:
    records = [{"message": str(n)} for n in range(30)]
    first = house.logs.append_many("acme", records, idempotency_key="k")
    again = house.logs.append_many("acme", records, idempotency_key="k")
    assert again.repeated and again.offsets == first.offsets and len(stored(house)) == 30
    with pytest.raises(Conflict):
        house.logs.append_many("acme", records[1:], idempotency_key="k")


EVENTS: list[dict[str, Any]] = [
    {"type": "flow_started", "data": {"trigger": "cron"}},
    {"type": "node_started", "node_id": "n1"},
    {"type": "node_completed", "nodeId": "n1"},
    {"type": "flow_progress", "progress": 50},
    {"type": "node_failed", "node_id": "n2", "error": "broken"},
    {"type": "flow_failed", "error": {"reason": "broken"}},
]


def test_events_of_a_run(house: House) -> None:
    published = house.flows.publish_many("acme", "f", "r", EVENTS, idempotency_key="k")
    assert len(published.offsets) == len(EVENTS)
    run = house.flows.read(Principal.system("acme"), "f", "r").run
    assert (run.status, run.progress, run.seq) == ("failed", 50, len(EVENTS))
    assert {name: node.status for name, node in run.nodes.items()} == {"n1": "completed", "n2": "failed"}
    assert house.flows.publish_many("acme", "f", "r", EVENTS, idempotency_key="k").repeated


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"type": "flow_exploded"}, "$[1].type"),
        ({}, "$[1].type"),
        ({"type": "node_started"}, "$[1]"),
        ({"type": "node_started", "node_id": "n\n"}, "$[1].nodeId"),
        ({"type": "flow_progress", "progress": "40"}, "$[1].progress"),
        ({"type": "flow_progress", "progress": True}, "$[1].progress"),
        ({"type": "flow_started", "data": [1]}, "$[1].data"),
        ({"type": "flow_started", "data": {"x": object()}}, "$[1].data"),
        ({"type": "flow_started", "tenant": "other"}, "$[1].tenant"),
    ],
)
def test_a_bad_event_is_named_by_number_and_field_and_none_is_published(house: House, wrong: Any, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        house.flows.publish_many("acme", "f", "r", [EVENTS[0], wrong])
    assert caught.value.details["path"] == path
    with pytest.raises(RealtimeError, match="no such run"):
        house.flows.read(Principal.system("acme"), "f", "r")


@pytest.mark.parametrize("ids", [("a b", "f", "r"), ("acme", "", "r"), ("acme", "f", None)])
def test_bad_ids_of_a_batch(house: House, ids: tuple[Any, Any, Any]) -> None:
    with pytest.raises(InvalidPayload):
        house.flows.publish_many(*ids, EVENTS)
