"""The list of runs, on both versions of Redis: criteria, pages, as of which event, and what leaves it."""

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mintflow_realtime.protocol.run_events import Parent
from mintflow_realtime.protocol.runs import ListRuns, RunList
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs import listing
from mintflow_realtime.stores.runs.store import RunStore
from tests.redis_fixture import PrivateRedis
from tests.servers import until
from tests.unit.test_stores_runs import Runs, event


@pytest.fixture
def runs(server: PrivateRedis, keys: Keys) -> Iterator[Runs]:
    client = RedisClient(connect(server.url))
    client.command("FLUSHALL")
    yield Runs(client, keys)
    client.close()


def page(runs: Runs, **criteria: Any) -> RunList:
    if "from_" in criteria:
        criteria["from"] = criteria.pop("from_")
    query = msgspec.convert(criteria, ListRuns)
    return runs.store.index.page("acme", query, runs.publisher.head_key("acme", "/flows"))


def ids(runs: Runs, **criteria: Any) -> list[str]:
    """Return the run ids of all pages."""
    found = page(runs, **criteria)
    names = [row.run_id for row in found.runs]
    while found.next_cursor is not msgspec.UNSET:
        found = page(runs, **{**criteria, "before": found.next_cursor})
        names += [row.run_id for row in found.runs]
    return names


def redis_ms(runs: Runs) -> int:
    seconds, micros = runs.runner.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def test_a_row_is_the_snapshot_without_its_nodes(runs: Runs) -> None:
    parent = Parent(flow_id="p q", run_id="1")
    runs.tell(event("flow_queued", name="Nächtlich", tags=["a b", "c"], total=7, parent=parent), flow="f 1", run="r/1")
    runs.tell(event("flow_started"), event("node_failed", "n", error="x"), flow="f 1", run="r/1")
    runs.tell(event("flow_progress", progress=12.5), flow="f 1", run="r/1")
    for _ in range(2):
        (row,) = json.loads(dumps(page(runs).runs))
        shown = json.loads(dumps(runs.read(flow="f 1", run="r/1").run))
        assert row == {name: value for name, value in shown.items() if name not in ("nodes", "queuedAt")}
        runs.tell(event("flow_failed", error={"why": []}), flow="f 1", run="r/1")
    assert row["error"] == {"why": []} and "finishedAt" in row


def test_newest_first_in_pages(runs: Runs) -> None:
    for number in range(25):
        runs.tell(event("flow_started"), run=f"r{number}")
    first = page(runs, limit=10)
    assert [row.run_id for row in first.runs] == [f"r{number}" for number in range(24, 14, -1)]
    runs.tell(event("flow_started"), run="new")
    second = page(runs, limit=10, before=first.next_cursor)
    assert [row.run_id for row in second.runs] == [f"r{number}" for number in range(14, 4, -1)]
    assert ids(runs, limit=3)[1:] == [f"r{number}" for number in range(24, -1, -1)]
    assert ids(runs, limit=26)[0] == "new" and page(runs, limit=27).next_cursor is msgspec.UNSET
    # One that begins again is the newest.
    runs.tell(event("flow_failed"), event("flow_started"), run="r3")
    assert ids(runs)[:2] == ["r3", "new"] and len(ids(runs)) == 26


def test_it_is_as_of_the_last_event(runs: Runs) -> None:
    assert page(runs) == RunList(runs=[])
    for number in range(3):
        runs.tell(event("flow_started"), run=f"r{number}")
        head, _ = runs.publisher.head("acme", "/flows")
        assert page(runs).as_of == str(head) == str(head)


FLOWS, STATES = ("f", "f2", "f\\n"), ("queued", "started", "completed", "failed", "waiting", "cancelled", "lost")
TAGS = ("a", 'x"a', "started", "N", "a b", "á")


@pytest.mark.parametrize("slice_size", [3, 2000])
def test_any_combination_of_criteria(runs: Runs, monkeypatch: pytest.MonkeyPatch, slice_size: int) -> None:
    monkeypatch.setattr(listing, "SLICE", slice_size)
    chance, made = random.Random(7), []
    for number in range(60):
        flow, state = chance.choice(FLOWS), chance.choice(STATES)
        tags, name = chance.sample(TAGS, chance.randrange(3)), chance.choice((None, "Nightly ÄRGER", "f2"))
        parent = chance.choice((None, Parent(flow_id="p", run_id="1"), Parent(flow_id="p", run_id="2")))
        first = event("flow_queued", tags=tags or None, name=name, parent=parent)
        runs.tell(first, *([event(f"flow_{state}")] if state != "queued" else []), flow=flow, run=f"r{number}")
        made.append((f"r{number}", flow, state, tags, name, parent))
    for _ in range(60):
        flow, state = chance.choice((None, *FLOWS)), chance.choice((None, ["lost", "failed"], *STATES))
        tag, text = chance.choice((None, *TAGS, "b")), chance.choice((None, "ärger", "R1", "F2", "started", "s:"))
        parent = chance.choice((None, None, "p/1", {"flowId": "p", "runId": "2"}))
        given = {"flowId": flow, "status": state, "tag": tag, "text": text, "parent": parent}
        wanted = [
            run
            for run, of_flow, of_state, tags, name, of_parent in reversed(made)
            if (flow is None or of_flow == flow)
            and (state is None or of_state == state or of_state in state)
            and (tag is None or tag in tags)
            and (text is None or any(text.casefold() in one.casefold() for one in (of_flow, run, name or "")))
            and (parent is None or (of_parent and of_parent.run_id == ("1" if parent == "p/1" else "2")))
        ]
        criteria = {name: value for name, value in given.items() if value is not None}
        assert ids(runs, **criteria, limit=chance.choice((1, 7, 200))) == wanted, criteria


def test_by_the_time_of_their_start(runs: Runs) -> None:
    runs.tell(event("flow_started"), run="r")
    now = now_ms()
    assert ids(runs, from_=iso(now - 60_000), to=iso(now + 60_000)) == ["r"]
    assert ids(runs, from_=iso(now + 60_000)) == ids(runs, to=iso(now - 60_000)) == []
    assert ids(runs, to="2026-01-01T00:00:00Z", before="9999999999999999") == []


@pytest.mark.parametrize(
    ("criteria", "field"),
    [
        ({"status": "running"}, "status"),
        ({"status": []}, "status"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"text": ""}, "text"),
        ({"text": "x" * 256}, "text"),
        ({"tag": "x" * 65}, "tag"),
        ({"parent": "p"}, "parent"),
        ({"parent": "p/1/2"}, "parent"),
        ({"from": "2026-01-01"}, "from"),
        ({"to": "tomorrow"}, "to"),
        ({"before": "x"}, "before"),
        ({"before": "1" * 17}, "before"),
        ({"nodeId": "n"}, "nodeId"),
    ],
)
def test_bad_criteria_are_named(criteria: dict[str, Any], field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(criteria, ListRuns)


def bounded(runs: Runs, most: int, life: float = 60) -> None:
    runs.store = RunStore(runs.runner, runs.keys, life, most)


def test_the_oldest_that_ended_go_first(runs: Runs) -> None:
    bounded(runs, 3)
    for name in ("goes on", "ended 2", "ended 1"):
        runs.tell(event("flow_started"), run=name)
    runs.tell(event("flow_completed"), run="ended 1")
    runs.tell(event("flow_lost"), run="ended 2")
    runs.tell(event("flow_started"), run="new 1")
    assert ids(runs) == ["new 1", "ended 2", "goes on"]
    # It is gone with all that was kept of it.
    assert runs.read(run="ended 1").run is None and runs.read(0, run="ended 1").events is None
    runs.tell(event("flow_started"), run="new 2")
    assert ids(runs) == ["new 2", "new 1", "goes on"]
    runs.tell(event("flow_progress", progress=1), run="goes on")
    runs.tell(event("flow_started"), run="new 3")
    assert ids(runs) == ["new 3", "new 2", "goes on"]
    assert runs.runner.command("HLEN", runs.keys.of("acme", "run-rows")) == 3


def test_a_run_that_left_and_says_something_is_there_again(runs: Runs) -> None:
    bounded(runs, 1)
    runs.tell(event("flow_started", lease=60), run="a")
    runs.tell(event("flow_started", lease=60), run="b")
    began = redis_ms(runs)
    assert ids(runs) == ["b"] and runs.runner.command("ZCARD", runs.keys.of("acme", "run-leases")) == 1
    # Of two that said something in the same millisecond, either may go.
    until(lambda: redis_ms(runs) > began)
    assert runs.tell(event("flow_progress", progress=1), run="a") == [1]
    assert ids(runs) == ["a"]


def test_runs_whose_life_is_over_leave_the_list(runs: Runs) -> None:
    bounded(runs, 10, 60)
    for name in ("silent", "ended", "there"):
        runs.tell(event("flow_started"), run=name)
    runs.tell(event("flow_completed"), run="ended")
    order = runs.keys.of("acme", "run-order")
    for name in ("silent", "ended"):
        score = float(runs.runner.command("ZSCORE", order, f"f\n{name}"))
        runs.runner.command("ZADD", order, f"{score - 61_000:.0f}", f"f\n{name}")
    assert ids(runs) == ["there"]
    assert runs.runner.command("HLEN", runs.keys.of("acme", "run-rows")) == 1


def test_a_page_is_bounded_in_bytes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ANSWER_BYTES", 5000)
    for number in range(30):
        runs.tell(event("flow_started", name="n" * 200), run=f"r{number}")
    first = page(runs, limit=200)
    assert 5 < len(first.runs) < 20 and len(ids(runs, limit=200)) == 30


def test_a_command_looks_at_so_many_rows_and_no_more(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SLICE", 2)
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 4)
    for number in range(10):
        runs.tell(event("flow_started"), run=f"r{number}")
    found = page(runs, text="r0")
    assert found.runs == [] and found.next_cursor is not msgspec.UNSET
    assert ids(runs, text="r0") == ["r0"]
