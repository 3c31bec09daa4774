"""What a run remembers, on both versions of Redis: its state, its events, their order and their bounds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores.runs
from fanout.publisher import Caps, Publisher
from protocol.envelope import Event, Header, event_pieces
from protocol.flows import EVENT_TYPES, RunEvent, payload_pieces
from protocol.scripts import Keys
from protocol.times import iso
from protocol.wire_json import dumps
from stores.client import RedisClient, connect
from stores.runs import RunStore
from tests.redis_fixture import OLDEST, PrivateRedis


@pytest.fixture(scope="module", params=[None, OLDEST], ids=["installed", "6.2"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    found = PrivateRedis(request.param)
    yield found
    found.stop()


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

    def tell(self, *events: RunEvent, flow: str = "f", run: str = "r", tenant: str = "acme") -> list[int]:
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
            self.store.change(tenant, flow, run, written),
        )
        return [int(text) for (text,) in published.inserts]

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
        "progress": 0,
        "startedAt": iso(1_001_000),
        "nodes": {},
        "seq": 1,
    }
    assert runs.tell(event("node_started", "n"), event("flow_progress", progress=40.5)) == [2, 3]
    assert runs.tell(event("node_failed", "n", error={"why": []})) == [4]
    shown = runs.shown()
    assert shown["progress"] == 40.5 and shown["seq"] == 4
    failed = {"status": "failed", "startedAt": iso(1_002_000), "finishedAt": iso(1_004_000), "error": {"why": []}}
    assert shown["nodes"] == {"n": failed}
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
    assert runs.shown()["nodes"] == {"n": {"status": "completed", "finishedAt": iso(1_001_000)}}


@pytest.mark.parametrize("last", ["flow_completed", "flow_failed"])
def test_an_end_is_final_whatever_arrives_later(runs: Runs, last: Any) -> None:
    runs.tell(event("flow_progress", progress=30), event(last, error="first" if last == "flow_failed" else None))
    before = {name: value for name, value in runs.shown().items() if name != "seq"}
    runs.tell(event("flow_started"), event("flow_progress", progress=5))
    runs.tell(event("flow_failed", error="late"), event("flow_completed"))
    assert {name: value for name, value in runs.shown().items() if name != "seq"} == before
    assert runs.shown()["seq"] == 6 and len(runs.events(0) or []) == 6


def test_a_nodes_end_is_final_too(runs: Runs) -> None:
    runs.tell(event("node_failed", "n", error="first"), event("node_started", "n"), event("node_completed", "n"))
    assert runs.shown()["nodes"]["n"] == {"status": "failed", "finishedAt": iso(1_001_000), "error": "first"}


def test_nodes_beyond_the_bound_have_events_and_no_place_in_the_snapshot(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.runs, "MAX_NODES", 3)
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
    monkeypatch.setattr(stores.runs, "MAX_EVENTS", 3)
    runs.tell(*(event("flow_progress", progress=number) for number in range(6)))
    assert runs.events(2) is None and runs.events(0) is None
    assert [seq for _, seq in runs.events(3) or []] == [4, 5, 6]


def test_kept_events_are_capped_in_bytes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.runs, "MAX_EVENT_BYTES", 3000)
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
    assert runs.events(0) is None and [seq for _, seq in runs.events(2) or []] == [3, 4]


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
    assert len(own) == 3 and all(50_000 < runs.runner.command("PTTL", key) <= 60_000 for key in own)


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


class Model:
    """A run as its events make it, in Python."""

    def __init__(self) -> None:
        self.status, self.progress, self.error = "started", 0, None
        self.nodes: dict[str, str] = {}

    def take(self, told: RunEvent) -> None:
        final = self.status != "started"
        if told.progress is not None and not final:
            self.progress = told.progress
        if told.node_id and told.type.startswith("node_"):
            if self.nodes.get(told.node_id) not in ("completed", "failed"):
                self.nodes[told.node_id] = told.status
        elif told.type in ("flow_completed", "flow_failed") and not final:
            self.status, self.error = told.status, told.error
            if told.type == "flow_completed":
                self.progress = 100


EVENTS = st.builds(
    RunEvent,
    type=st.sampled_from(EVENT_TYPES),
    node_id=st.sampled_from(["n1", "n2"]),
    progress=st.integers(0, 100),
    error=st.none() | st.just("e"),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_snapshot_is_what_its_events_make_of_it(runs: Runs, batches: list[list[RunEvent]]) -> None:
    runs.runner.command("FLUSHALL")
    model, count = Model(), 0
    for batch in batches:
        assert runs.tell(*batch) == list(range(count + 1, count + len(batch) + 1))
        count += len(batch)
        for told in batch:
            model.take(told)
        shown = runs.shown()
        assert (shown["status"], shown["progress"], shown.get("error")) == (model.status, model.progress, model.error)
        assert {name: node["status"] for name, node in shown["nodes"].items()} == model.nodes
        assert runs.events(0) == [(told.type, seq) for seq, told in enumerate(sum(batches, [])[:count], 1)]
