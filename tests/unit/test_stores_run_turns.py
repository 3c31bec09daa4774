"""Every event in every state, as docs/flows.md has it; what a run is called; and runs of the version before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.errors import Conflict, NotFound
from mintflow_realtime.protocol.run_events import EVENT_TYPES, STATUSES, Parent, RunEvent
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.runs.store import _brief
from tests.turns import TURNS
from tests.unit.test_stores_runs import Runs, event

GO = {"flow_progress": {"progress": 1}}
# How a run, or a node, comes into each state.
WAYS = {
    "none": (),
    "queued": ("queued",),
    "started": ("started",),
    "waiting": ("waiting",),
    "completed": ("started", "completed"),
    "failed": ("started", "failed"),
    "skipped": ("skipped",),
    "cancelled": ("started", "cancelled"),
    "lost": ("started", "lost"),
}
EACH = [(kind, before, after) for kind, row in TURNS.items() for before, after in row.items()]


@pytest.fixture
def runs(runner: RedisClient, keys: Keys) -> Runs:
    return Runs(runner, keys)


def test_the_page_has_every_event_and_every_state() -> None:
    assert set(TURNS) == set(EVENT_TYPES)
    assert set(TURNS["flow_started"]) == {"none", *STATUSES}
    assert set(TURNS["node_started"]) == {"none", *STATUSES, "skipped"} - {"queued", "lost"}


@pytest.mark.parametrize(("kind", "before", "after"), EACH)
def test_every_event_in_every_state(runs: Runs, kind: Any, before: str, after: str) -> None:
    subject = kind.partition("_")[0]
    node = "n" if subject == "node" else None
    # What it is tried on goes on for long, and its list and lease stay as they are where it is refused.
    for step in WAYS[before]:
        runs.tell(
            event(f"{subject}_{step}", node, **({"lease": 60} if step in ("queued", "started") and not node else {}))
        )
    told = event(kind, node, **GO.get(kind, {}))
    untouched = {key: runs.runner.command("DUMP", key) for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:*")}
    if after == "–":
        with pytest.raises(Conflict) as refused:
            runs.tell(told, taken_up=True)
        assert refused.value.texts == (kind.encode(), before.encode()) and before in str(refused.value)
        assert {
            key: runs.runner.command("DUMP", key) for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:*")
        } == untouched
        return
    runs.tell(told, taken_up=True)
    shown = runs.shown() if subject == "flow" else runs.shown()["nodes"]["n"]
    assert shown["status"] == {"=": before}.get(after, after.removeprefix("next: "))
    assert shown["attempt"] == (2 if after.startswith("next") else 1)
    assert ("finishedAt" in shown) == (shown["status"] in ("completed", "failed", "cancelled", "skipped", "lost"))


@pytest.mark.parametrize(
    "batch",
    [
        ("flow_started", "flow_waiting", "flow_completed", "flow_waiting"),
        ("flow_started", "node_skipped", "node_completed", "node_waiting"),
        ("node_failed", "flow_lost", "flow_lost"),
    ],
)
def test_a_batch_with_an_impossible_event_does_nothing(runs: Runs, batch: tuple[Any, ...]) -> None:
    events = [event(kind, "n") for kind in batch]
    runs.tell(*events[:-1])
    for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:*"):
        runs.runner.command("DEL", key)
    with pytest.raises(Conflict):
        runs.tell(*events)
    assert runs.runner.command("KEYS", f"{runs.keys.prefix}:*") == []


def test_a_next_attempt_in_a_batch_begins_its_nodes_anew(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("node_skipped", "n"), event("flow_completed"))
    runs.tell(event("flow_started"), event("node_completed", "n"), event("flow_cancelled"))
    assert runs.shown()["nodes"]["n"]["status"] == "completed" and runs.shown()["attempt"] == 2


@pytest.mark.parametrize("before", ["queued", "lost"])
@pytest.mark.parametrize("kind", ["flow_progress", "node_started", "node_failed"])
def test_who_lets_a_run_go_on_says_so_to_everybody(runs: Runs, before: Any, kind: Any) -> None:
    runs.tell(*(event(f"flow_{step}") for step in WAYS[before]))
    told = event(kind, "n", **GO.get(kind, {}))
    with pytest.raises(NotFound) as refused:
        runs.tell(told)
    assert refused.value.texts == (b"1",) and runs.shown()["status"] == before
    runs.tell(event("flow_started", attempt=1), told, taken_up=True)
    assert (runs.shown()["status"], runs.shown()["attempt"]) == ("started", 1)


def test_a_large_batch_is_checked_as_a_whole_and_then_refuses_nothing(runs: Runs) -> None:
    events = [*(event("node_skipped", f"n{number}") for number in range(30)), event("flow_lost")]
    written = [(one, "t", ("{", "}"), "") for one in events]
    runs.store.check("acme", "f", "r", written)
    runs.tell(event("flow_completed"))
    with pytest.raises(Conflict):
        runs.store.check("acme", "f", "r", written)
    runs.tell(*events)
    assert (runs.shown()["status"], len(runs.shown()["nodes"]), runs.shown()["seq"]) == ("completed", 30, 32)


def test_what_a_run_is_called(runs: Runs) -> None:
    parent = Parent(flow_id="a b", run_id="c/d")
    told = {"name": "Ärger", "tags": ["x", "y z"], "lease": 7.5, "parent": parent, "total": 0}
    runs.tell(event("flow_queued", **told), event("flow_started", total=9))
    shown = runs.shown()
    assert (shown["name"], shown["tags"], shown["lease"], shown["total"]) == ("Ärger", ["x", "y z"], 7.5, 9)
    assert shown["parent"] == {"flowId": "a b", "runId": "c/d"}
    assert shown["queuedAt"] < shown["startedAt"]
    runs.tell(event("flow_completed"), event("flow_started", tags=["z"]))
    shown = runs.shown()
    assert (shown["name"], shown["tags"], shown["total"], "lease" in shown) == ("Ärger", ["z"], 9, False)


def test_what_a_run_waits_for_and_who_wants_it_cancelled(runs: Runs) -> None:
    runs.tell(
        event("flow_waiting", reason="approval", until=1_700_000_000_000), event("flow_cancelling", reason="late")
    )
    shown = runs.shown()
    assert shown["waiting"] == {"reason": "approval", "until": "2023-11-14T22:13:20.000Z"}
    assert shown["cancelling"]["reason"] == "late" and shown["status"] == "waiting"
    runs.tell(event("flow_started"))
    assert "waiting" not in runs.shown() and "cancelling" in runs.shown()
    runs.tell(event("flow_cancelled"))
    assert "cancelling" not in runs.shown()


def test_events_carry_their_attempt(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("flow_failed"), event("flow_started"), event("flow_cancelling"))
    runs.tell(event("node_failed", "n"), event("node_started", "n"), event("flow_progress", progress=1, attempt=1))
    kept = [json.loads(bytes(raw)) for raw in runs.read(0).events]
    assert [one["attempt"] for one in kept] == [1, 1, 2, 2, 1, 2, 1]
    assert kept[3]["status"] == "started" and kept[3]["type"] == "flow_cancelling"


def test_a_run_that_was_lost_and_goes_on_has_no_end(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("node_started", "n"), event("flow_lost", error="gone"))
    assert runs.shown()["error"] == "gone" and "finishedAt" in runs.shown()
    runs.tell(event("flow_progress", progress=7), taken_up=True)
    shown = runs.shown()
    assert shown["status"] == "started" and shown["nodes"]["n"]["status"] == "started"
    assert "error" not in shown and "finishedAt" not in shown


def test_a_run_of_the_version_before_goes_on(runs: Runs) -> None:
    """It has neither `attempt`, nor a row, nor what an event adds now."""
    key, time = runs.store._run_key("acme", "f", "r"), "2026-01-01T00:00:00.000Z"
    runs.runner.command("HSET", key, "seq", 2, "status", "started", "startedAt", time, "progress", "30", "bytes", "9")
    runs.runner.command("HSET", key, "s:n", "started", "b:n", time, "nodes", 1)
    assert (runs.shown()["attempt"], runs.shown()["nodes"]["n"]["attempt"]) == (1, 1)
    assert runs.tell(event("node_completed", "n")) == [3]
    assert (runs.shown()["startedAt"], runs.shown()["progress"], runs.shown()["attempt"]) == (time, 30, 1)
    assert runs.runner.command("ZCARD", runs.keys.of("acme", "runs")) == 1


@given(st.text() | st.lists(st.text(max_size=300), max_size=5) | st.dictionaries(st.text(), st.integers()))
def test_an_error_in_a_list_is_short_and_json(error: Any) -> None:
    text = json.dumps(error)
    brief = _brief(text)
    assert len(brief.encode()) <= 512 and json.loads(brief) is not None
    assert brief == text or len(text) > 512


def test_a_lease_is_that_of_an_event() -> None:
    for field, value in (("lease", 4), ("lease", 3601), ("until", "x")):
        with pytest.raises(ValueError, match=field):
            RunEvent(type="flow_waiting" if field == "until" else "flow_started", **{field: value})
    with pytest.raises(ValueError, match="name"):
        RunEvent(type="flow_progress", progress=1, name="x")
