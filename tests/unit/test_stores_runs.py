"""What a run remembers, on both versions of Redis: its state, its events, their order and their bounds."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

import mintflow_realtime.stores.runs.store
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.envelope import Event, Header, event_pieces
from mintflow_realtime.protocol.errors import Conflict
from mintflow_realtime.protocol.run_events import EVENT_TYPES, RunEvent, payload_pieces
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs.store import ANSWER_BYTES, RunStore
from tests.redis_fixture import PrivateRedis
from tests.turns import TURNS


@pytest.fixture
def runner(server: PrivateRedis) -> Iterator[RedisClient]:
    client = RedisClient(connect(server.url))
    yield client
    client.close()


class Runs:
    """Runs of acme, changed through the publisher as the service does it."""

    def __init__(self, runner: RedisClient, keys: Keys, life_seconds: float = 60) -> None:
        self.runner, self.keys, self.now = runner, keys, 1_000_000
        self.store = RunStore(runner, keys, life_seconds)
        self.publisher = Publisher(runner, keys, Caps())

    def tell(self, *events: RunEvent, flow: str = "f", run: str = "r", tenant: str = "acme", **how: bool) -> list[int]:
        """Publish events a second apart in one batch; return their seqs."""
        written = []
        for event in events:
            self.now += 1000
            payload, error = payload_pieces(tenant, flow, run, event, iso(self.now))
            written.append((event, iso(self.now), payload, error))
        published = self.publisher.publish(
            tenant,
            "/flows",
            [Event(Header(("x:",)), event_pieces(event.type, payload)) for event, _, payload, _ in written],
            self.store.change(tenant, flow, run, written, **how),
        )
        return [int(text.partition(",")[0]) for (text,) in published.inserts]

    def read(self, since: int | None = None, flow: str = "f", run: str = "r", tenant: str = "acme") -> Any:
        return self.store.read(tenant, flow, run, self.publisher.head_key(tenant, "/flows"), since)

    def shown(self) -> Any:
        return json.loads(dumps(self.read().run))

    def events(self, since: int) -> list[tuple[str, int]] | None:
        events = self.read(since).events
        if events is None:
            return None
        return [(event["type"], event["seq"]) for event in (json.loads(bytes(raw)) for raw in events)]


@pytest.fixture
def runs(runner: RedisClient, keys: Keys) -> Runs:
    return Runs(runner, keys)


def event(kind: Any, node: str | None = None, **more: Any) -> RunEvent:
    return RunEvent(type=kind, node_id=node, **more)


def test_a_run_from_start_to_end(runs: Runs) -> None:
    assert runs.tell(event("flow_started")) == [1]
    assert runs.shown() == {
        "flowId": "f",
        "runId": "r",
        "status": "started",
        "attempt": 1,
        "progress": 0,
        "startedAt": iso(1_001_000),
        "nodes": {},
        "seq": 1,
    }
    assert runs.tell(event("node_started", "n"), event("flow_progress", progress=40.5)) == [2, 3]
    assert runs.tell(event("node_failed", "n", error={"why": []})) == [4]
    shown = runs.shown()
    assert shown["progress"] == 40.5 and shown["seq"] == 4
    failed = {"status": "failed", "attempt": 1, "startedAt": iso(1_002_000), "finishedAt": iso(1_004_000)}
    assert shown["nodes"] == {"n": {**failed, "error": {"why": []}}}
    runs.tell(event("flow_completed"))
    shown = runs.shown()
    assert (shown["status"], shown["progress"], shown["finishedAt"]) == ("completed", 100, iso(1_005_000))


def test_there_is_no_run_before_its_first_event(runs: Runs) -> None:
    state = runs.read(0)
    assert (state.run, state.events, state.head) == (None, None, 0)
    assert runs.store.flow_of("acme", "r") is None


def test_any_event_begins_a_run(runs: Runs) -> None:
    runs.tell(event("node_completed", "n"))
    assert runs.shown()["status"] == "started" and runs.shown()["startedAt"] == iso(1_001_000)
    assert runs.shown()["nodes"] == {"n": {"status": "completed", "attempt": 1, "finishedAt": iso(1_001_000)}}


@pytest.mark.parametrize("last", ["flow_completed", "flow_failed"])
def test_an_end_is_final_whatever_arrives_later(runs: Runs, last: Any) -> None:
    runs.tell(event("flow_progress", progress=30), event(last, error="first" if last == "flow_failed" else None))
    before = {name: value for name, value in runs.shown().items() if name != "seq"}
    runs.tell(event("flow_started", attempt=1), event("flow_progress", progress=5))
    runs.tell(event("flow_failed", error="late"), event("flow_completed"))
    assert {name: value for name, value in runs.shown().items() if name != "seq"} == before
    assert runs.shown()["seq"] == 6 and len(runs.events(0) or []) == 6


def test_a_nodes_end_is_final_too(runs: Runs) -> None:
    runs.tell(event("node_failed", "n", error="first"), event("node_started", "n", attempt=1))
    runs.tell(event("node_completed", "n"))
    assert runs.shown()["nodes"]["n"] == {
        "status": "failed",
        "attempt": 1,
        "finishedAt": iso(1_001_000),
        "error": "first",
    }


def test_a_step_that_is_tried_again_is_what_its_last_attempt_is(runs: Runs) -> None:
    runs.tell(event("node_started", "n"), event("node_failed", "n", error="first"), event("node_started", "n"))
    assert runs.shown()["nodes"]["n"] == {"status": "started", "attempt": 2, "startedAt": iso(1_003_000)}
    runs.tell(event("node_completed", "n"))
    assert runs.shown()["nodes"]["n"] == {
        "status": "completed",
        "attempt": 2,
        "startedAt": iso(1_003_000),
        "finishedAt": iso(1_004_000),
    }


@pytest.mark.parametrize("last", ["flow_completed", "flow_failed"])
def test_a_run_that_begins_again_is_the_next_attempt_and_its_nodes_begin_anew(runs: Runs, last: Any) -> None:
    runs.tell(event("flow_started"), event("node_failed", "n", error="x"), event("flow_progress", progress=50))
    runs.tell(event(last, error="x"), event("flow_started"))
    assert runs.shown() == {
        "flowId": "f",
        "runId": "r",
        "status": "started",
        "attempt": 2,
        "progress": 0,
        "startedAt": iso(1_005_000),
        "nodes": {},
        "seq": 5,
    }
    assert len(runs.events(0) or []) == 5
    runs.tell(event("node_completed", "n"), event("flow_completed"))
    shown = runs.shown()
    assert (shown["status"], shown["attempt"], shown["nodes"]["n"]["attempt"]) == ("completed", 2, 1)


def test_a_start_of_what_goes_on_begins_nothing(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("node_started", "n"), event("flow_started"), event("node_started", "n"))
    shown = runs.shown()
    assert (shown["attempt"], shown["startedAt"], shown["nodes"]["n"]["attempt"]) == (1, iso(1_001_000), 1)


def test_an_attempt_that_is_told_decides(runs: Runs) -> None:
    """What belongs to an attempt before changes nothing, whenever it comes; a later one begins with any event."""
    runs.tell(event("flow_started"), event("node_started", "n", attempt=3), event("node_failed", "n", attempt=2))
    assert runs.shown()["nodes"]["n"] == {"status": "started", "attempt": 3, "startedAt": iso(1_002_000)}
    runs.tell(event("node_failed", "n", attempt=4, error="e"), event("node_completed", "n", attempt=3))
    node = runs.shown()["nodes"]["n"]
    assert (node["status"], node["attempt"], node["error"]) == ("failed", 4, "e") and "startedAt" not in node
    runs.tell(event("flow_failed", attempt=2, error="e"), event("flow_completed", attempt=1))
    shown = runs.shown()
    assert (shown["status"], shown["attempt"], shown["nodes"]) == ("failed", 2, {})
    runs.tell(event("flow_started", attempt=2), event("flow_progress", progress=9, attempt=1))
    assert (runs.shown()["status"], runs.shown()["progress"]) == ("failed", 0)
    runs.tell(event("flow_progress", progress=9, attempt=5))
    shown = runs.shown()
    assert (shown["status"], shown["attempt"], shown["progress"]) == ("started", 5, 9) and "error" not in shown


def test_a_run_of_an_earlier_version_is_in_its_first_attempt(runs: Runs) -> None:
    runs.tell(event("node_failed", "n", error="x"), event("flow_failed", error="x"))
    key = runs.store._run_key("acme", "f", "r")
    runs.runner.command("HDEL", key, "attempt")
    assert (runs.shown()["attempt"], runs.shown()["nodes"]["n"]["attempt"]) == (1, 1)
    runs.tell(event("node_started", "n"))
    assert runs.shown()["nodes"]["n"]["attempt"] == 2
    runs.tell(event("flow_started"))
    assert runs.shown()["attempt"] == 2


def test_any_text_is_an_id(runs: Runs) -> None:
    ids = ["a/b", "a", "b", "a%2Fb", "~a%2Fb", "scheduled__2026-01-01T00:00:00+00:00", "{x}", "é" * 255, "é" * 254]
    for flow in ids:
        for run in ids:
            runs.tell(event("node_started", flow), flow=flow, run=run)
    for flow in ids:
        for run in ids:
            found = runs.read(flow=flow, run=run).run
            assert (found.flow_id, found.run_id, found.seq, list(found.nodes)) == (flow, run, 1, [flow])
            assert runs.store.flow_of("acme", run) == ids[-1]
    for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:{{acme}}:run*"):
        assert len(key) < 400 and key.count(b"{") == 1


def test_nodes_beyond_the_bound_have_events_and_no_place_in_the_snapshot(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.runs.store, "MAX_NODES", 3)
    runs.tell(*(event("node_started", f"n{number}") for number in range(5)))
    runs.tell(event("node_completed", "n1"), event("node_completed", "n4"))
    nodes = runs.shown()["nodes"]
    assert {name: node["status"] for name, node in nodes.items()} == {
        "n0": "started",
        "n1": "completed",
        "n2": "started",
    }
    assert len(runs.events(0) or []) == 7


def test_events_after_a_seq(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("node_started", "n"), event("flow_progress", progress=1))
    assert runs.read().events is None
    assert runs.events(0) == [("flow_started", 1), ("node_started", 2), ("flow_progress", 3)]
    assert runs.events(2) == [("flow_progress", 3)]
    assert runs.events(3) == runs.events(99) == runs.events(2**53) == []


def test_events_that_are_not_all_held_are_not_shown_at_all(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.runs.store, "MAX_EVENTS", 3)
    runs.tell(*(event("flow_progress", progress=number) for number in range(6)))
    assert runs.events(2) is None and runs.events(0) is None
    assert [seq for _, seq in runs.events(3) or []] == [4, 5, 6]


def test_kept_events_are_capped_in_bytes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.stores.runs.store, "MAX_EVENT_BYTES", 3000)
    for number in range(10):
        runs.tell(event("flow_progress", progress=number, data={"x": "y" * 800}))
    assert runs.events(5) is None
    held = [seq for seq in range(10) if runs.events(seq) is not None]
    assert held[0] in (6, 7) and held[-1] == 9
    runs.tell(event("flow_progress", progress=1, data={"x": "y" * 5000}))
    assert runs.shown()["seq"] == 11


def test_an_answer_is_at_most_half_a_megabyte(runs: Runs) -> None:
    for number in range(4):
        runs.tell(event("flow_progress", progress=number, data={"x": "y" * 200_000}))
    assert [seq for _, seq in runs.events(0) or []] == [1, 2] and runs.read(0).next_since == 2
    assert [seq for _, seq in runs.events(2) or []] == [3, 4] and runs.read(2).next_since is None


def test_more_events_than_one_slice_of_reading(runs: Runs) -> None:
    runs.tell(*(event("flow_progress", progress=1) for _ in range(350)))
    assert [seq for _, seq in runs.events(0) or []] == list(range(1, 351))


def test_the_publishers_own_type_does_not_hide_what_happened(runs: Runs) -> None:
    runs.tell(event("flow_started", data={"type": "mine", "more": []}))
    assert runs.events(0) == [("flow_started", 1)]


def test_data_comes_back_as_it_was(runs: Runs) -> None:
    data = {"a": [], "b": {}, "n": 9007199254740993, "é": '"\\\n\u0000'}
    runs.tell(event("flow_started", data=data, error=[]))
    (raw,) = runs.read(0).events
    assert json.loads(bytes(raw)).items() >= {**data, "error": []}.items()


def test_runs_of_the_same_id_in_two_flows_are_two(runs: Runs) -> None:
    runs.tell(event("flow_started"), flow="f1")
    runs.tell(event("flow_failed", error="x"), flow="f2")
    runs.tell(event("flow_failed"), flow="f1", tenant="other")
    assert runs.read(flow="f1").run.status == "started" and runs.read(flow="f2").run.status == "failed"
    assert runs.store.flow_of("acme", "r") == "f2" and runs.store.flow_of("other", "r") == "f1"


def test_the_head_is_read_in_the_same_step(runs: Runs) -> None:
    runs.tell(event("flow_started"))
    runs.tell(event("flow_started"), run="another")
    assert runs.read().head == 2 and runs.read(run="nothing").head == 2


def test_every_key_of_a_run_expires_with_it(runs: Runs) -> None:
    runs.tell(event("flow_started"), event("node_started", "n"))
    for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:*"):
        assert runs.runner.command("PTTL", key) > 0, key
    own = [key for key in runs.runner.command("KEYS", f"{runs.keys.prefix}:*run*")]
    assert len(own) == 6 and all(50_000 < runs.runner.command("PTTL", key) <= 60_000 for key in own)


def test_a_run_whose_life_is_over_begins_anew(runner: RedisClient, keys: Keys) -> None:
    runs = Runs(runner, keys, life_seconds=0.05)
    for _ in range(3):
        assert runs.tell(event("flow_started")) == [1]
        while runs.runner.command("EXISTS", runs.store._run_key("acme", "f", "r")):
            pass
        assert runs.read().run is None


def test_a_run_of_which_redis_lost_the_state_begins_anew(runs: Runs) -> None:
    """Without noeviction Redis may drop one key of a run and keep another; that must not end all its events."""
    runs.tell(event("flow_started"), event("node_started", "n"))
    runs.runner.command("DEL", runs.store._run_key("acme", "f", "r"))
    assert runs.tell(event("flow_started")) == [1]
    assert runs.events(0) == [("flow_started", 1)]


GOES_ON = ("queued", "started", "waiting")


class Model:
    """A run as its events make it, in Python; `take` tells whether an event is possible."""

    def __init__(self) -> None:
        self.attempt = 1
        self.status = ""
        self.begin("")

    def begin(self, status: str) -> None:
        self.status, self.progress, self.error = status, 0, None
        self.nodes: dict[str, tuple[str, int]] = {}

    def take(self, told: RunEvent) -> bool:
        if told.type.startswith("node_"):
            attempt, what = self.attempt, self.of("flow_progress", self.status, UNSET)
        else:
            attempt, what = self.of_attempt(told.type, self.status, self.attempt, told.attempt)
        if told.type.startswith("node_") and not self.take_node(told, self.status == ""):
            return False
        if what == "impossible":
            return False
        if what != "stale":
            self.turn(told, attempt, what)
        return True

    def turn(self, told: RunEvent, attempt: int, what: str) -> None:
        if attempt > self.attempt and self.status:
            self.begin("")
        before = self.status
        if self.status == "lost" and what != "lost":
            self.error = None
        self.attempt, self.status = attempt, what
        if told.progress is not None:
            self.progress = told.progress
        if what == "completed":
            self.progress = 100
        if what not in GOES_ON and before != what:
            self.error = told.error

    def take_node(self, told: RunEvent, anew: bool) -> bool:
        name = told.node_id or ""
        status, current = self.nodes.get(name, ("", 1))
        attempt, what = self.of_attempt(told.type, status, current, told.attempt)
        if what not in ("impossible", "stale"):
            self.nodes[name] = (what, attempt)
        return what != "impossible"

    def of_attempt(self, kind: str, status: str, current: int, told: Any) -> tuple[int, str]:
        if not status:
            return (told or 1), self.of(kind, "", told)
        if told is not UNSET and told < current:
            return current, "stale"
        if told is not UNSET and told > current:
            return told, self.of(kind, "", told)
        what = self.of(kind, status, told)
        if what == "next" and (told is UNSET or status == "lost"):
            return current + (told is UNSET), self.of(kind, "", told)
        return current, "stale" if what == "next" else what

    def of(self, kind: str, status: str, told: Any) -> str:
        """Return the status after an event, as docs/flows.md has it; "next" for the next attempt's."""
        shown = TURNS[kind][status or "none"]
        if shown.startswith("next"):
            return "next"
        return {"–": "impossible", "=": "stale"}.get(shown, shown)


EVENTS = st.builds(
    RunEvent,
    type=st.sampled_from(EVENT_TYPES),
    node_id=st.sampled_from(["n1", "n2"]),
    progress=st.integers(0, 100),
    error=st.none() | st.just("e"),
    attempt=st.just(UNSET) | st.integers(1, 3),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_snapshot_is_what_its_events_make_of_it(runs: Runs, batches: list[list[RunEvent]]) -> None:
    """A batch with an impossible event changes nothing at all."""
    runs.runner.command("FLUSHALL")
    model, taken = Model(), list[RunEvent]()
    for batch in batches:
        then = copy.deepcopy(model)
        if all([then.take(told) for told in batch]):
            assert runs.tell(*batch, taken_up=True) == list(range(len(taken) + 1, len(taken) + len(batch) + 1))
            model, taken = then, taken + batch
        else:
            with pytest.raises(Conflict):
                runs.tell(*batch, taken_up=True)
        if not taken:
            assert runs.read().run is None
            continue
        shown = runs.shown()
        assert (shown["status"], shown["progress"], shown.get("error")) == (model.status, model.progress, model.error)
        assert shown["attempt"] == model.attempt
        assert {name: (node["status"], node["attempt"]) for name, node in shown["nodes"].items()} == model.nodes
        assert runs.events(0) == [(told.type, seq) for seq, told in enumerate(taken, 1)]


def test_events_beyond_what_an_answer_carries_come_in_pages(runs: Runs) -> None:
    for first in range(0, 40, 10):
        runs.tell(*(event("flow_progress", progress=n, data={"x": "y" * 50_000}) for n in range(first, first + 10)))
    seqs, since, pages = [], 0, 0
    while since is not None:
        state = runs.read(since)
        assert sum(len(bytes(raw)) for raw in state.events) <= ANSWER_BYTES
        seqs += [json.loads(bytes(raw))["seq"] for raw in state.events]
        since, pages = state.next_since, pages + 1
    assert seqs == list(range(1, 41)) and pages == 4


def test_a_snapshot_is_bounded_and_says_what_it_leaves_out(runs: Runs) -> None:
    """What is under way or failed is shown before what is done, and errors last."""
    for first in range(0, 4000, 200):
        names = [f"{number}-" + "n" * 100 for number in range(first, first + 200)]
        runs.tell(*(event("node_completed" if n % 2 else "node_failed", name) for n, name in enumerate(names)))
    runs.tell(event("node_failed", "late", error="e" * 60_000))
    shown = runs.shown()
    assert len(json.dumps(shown)) < 1.1 * ANSWER_BYTES
    failed = [one for one in shown["nodes"].values() if one["status"] == "failed"]
    assert len(failed) == 2001 and shown["truncated"]["nodes"] == 4001 - len(shown["nodes"]) > 500
    assert len(json.dumps(json.loads(dumps(runs.read(0).run)))) < 0.6 * ANSWER_BYTES


def test_long_errors_are_left_out_before_nodes_are(runs: Runs) -> None:
    runs.tell(*(event("node_failed", f"n{number}", error="e" * 60_000) for number in range(20)))
    shown = runs.shown()
    assert len(shown["nodes"]) == 20 and len(json.dumps(shown)) < 1.1 * ANSWER_BYTES
    assert shown["truncated"] == {"nodes": 0, "errors": 20 - sum("error" in one for one in shown["nodes"].values())}
    assert shown["truncated"]["errors"] == 12
