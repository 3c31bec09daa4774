"""Lives of runs on real servers: what is impossible is refused at every door, and who dies is told to be lost, once."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH, ROOT, Node, stopping, until
from tests.tenants import Tenant

FLOWS = "/flows"


ENGINE = """
import sys, time
from mintflow_realtime import Emitter
emit = Emitter(sys.argv[1], config={"MINTFLOW_REDIS_PREFIX": "two"})
emit.flows.started(sys.argv[2], "f", "r", lease=5, name="nightly")
print("started", flush=True)
time.sleep(600)
"""


def test_an_engine_that_is_killed_is_told_to_be_lost_once_over_all_workers(
    shared_redis: PrivateRedis, two_workers: Node
) -> None:
    tenant = Tenant(two_workers)
    with stopping(tenant):
        client = tenant.plain(FLOWS)
        engine = subprocess.Popen(
            [sys.executable, "-c", ENGINE, shared_redis.url, tenant.name],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH},
            stdout=subprocess.PIPE,
        )
        try:
            assert engine.stdout is not None and engine.stdout.readline() == b"started\n"
            began = time.monotonic()
        finally:
            os.kill(engine.pid, signal.SIGKILL)
            engine.wait()
            assert engine.stdout is not None
            engine.stdout.close()
        lost = client.told(FLOWS, "flow_lost", seconds=20)
        assert time.monotonic() - began >= 4.5
        assert (lost["status"], lost["attempt"], lost["seq"]) == ("lost", 1, 2)
        assert tenant.http("GET", "/flows/f/runs/r").json()["run"]["status"] == "lost"
        # It comes back by a beat, and everybody is told.
        answer = tenant.http("POST", "/flows/f/runs/r/beat")
        assert (answer.status_code, answer.json()) == (200, {"status": "started", "attempt": 1})
        again = client.told(FLOWS, "flow_started")
        if again["seq"] == 1:
            again = client.told(FLOWS, "flow_started")
        assert (again["seq"], again["attempt"]) == (3, 1)
        tenant.run("f", "r", {"type": "flow_completed"})
        client.told(FLOWS, "flow_completed")
        assert [name for name, _ in client.events(FLOWS)] == []


def test_what_is_impossible_is_a_conflict_with_both_states(tenant: Tenant) -> None:
    tenant.run("f", "r", {"type": "flow_started"}, {"type": "flow_completed"})
    before = tenant.http("GET", "/flows/f/runs/r?since=0").json()
    for events in ([{"type": "flow_cancelled"}], [{"type": "flow_progress", "progress": 1}, {"type": "flow_waiting"}]):
        answer = tenant.http("POST", "/flows/f/runs/r/events", events)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["retryable"]) == (409, "conflict", False)
        assert (error["event"], error["status"]) == (events[-1]["type"], "completed")
    assert tenant.http("GET", "/flows/f/runs/r?since=0").json() == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "flow_started", "lease": 4}, "$.lease"),
    ({"type": "flow_started", "lease": 3601}, "$.lease"),
    ({"type": "flow_started", "lease": "5"}, "$.lease"),
    ({"type": "flow_progress", "progress": 1, "lease": 5}, "$.lease"),
    ({"type": "flow_started", "tags": ["x"] * 11}, "$.tags"),
    ({"type": "flow_started", "tags": ["a\n"]}, "$.tags[0]"),
    ({"type": "flow_started", "parent": {"flowId": "f"}}, "$.parent.runId"),
    ({"type": "flow_waiting", "until": "tomorrow"}, "$.until"),
    ({"type": "flow_resumed"}, "$.type"),
]


def test_what_a_run_can_not_say_is_refused_with_its_path(tenant: Tenant) -> None:
    for event, path in WRONG:
        answer = tenant.http("POST", "/flows/f/runs/r/events", event)
        assert (answer.status_code, answer.json()["error"].get("path")) == (422, path), (event, answer.text)
    assert tenant.http("GET", "/flows/f/runs/r").status_code == 404
    assert tenant.http("POST", "/flows/f/runs/r/beat").status_code == 404


def test_a_life_is_shown_and_told(tenant: Tenant) -> None:
    client = tenant.plain(FLOWS)
    tenant.run(
        "f", "r", {"type": "flow_queued", "name": "nightly", "tags": ["a"], "parent": {"flowId": "p", "runId": "1"}}
    )
    tenant.run("f", "r", {"type": "node_started", "nodeId": "n"})
    tenant.run(
        "f", "r", {"type": "node_waiting", "nodeId": "n", "reason": "input"}, {"type": "flow_waiting", "until": 0}
    )
    run = tenant.http("GET", "/flows/f/runs/r").json()["run"]
    assert (run["status"], run["name"], run["tags"], run["parent"]) == (
        "waiting",
        "nightly",
        ["a"],
        {"flowId": "p", "runId": "1"},
    )
    assert run["waiting"] == {"until": "1970-01-01T00:00:00.000Z"} and run["nodes"]["n"]["status"] == "waiting"
    tenant.run("f", "r", {"type": "flow_cancelled", "reason": "no more"})
    kinds = ("queued", "started", "waiting", "cancelled")
    told = [client.told(FLOWS, f"flow_{kind}") for kind in kinds]
    assert [payload["status"] for payload in told] == [*kinds]
    assert [payload["seq"] for payload in told] == [1, 2, 5, 6]
    assert told[0]["name"] == "nightly" and told[3]["reason"] == "no more"


def test_a_list_that_was_read_is_kept_up_to_date_by_the_tenants_events(tenant: Tenant) -> None:
    """As examples/runs.html does it, while others publish: what is kept and what is read anew are the same."""
    client, stop = tenant.plain(FLOWS), threading.Event()

    def publish() -> None:
        for number in range(60):
            tenant.run("f", f"r{number % 20}", {"type": "flow_started"})
            kind = ("flow_completed", "flow_waiting", "flow_cancelled", "flow_lost")[number % 4]
            tenant.run("f", f"r{number % 20}", {"type": "flow_progress", "progress": 1}, {"type": kind})
        stop.set()

    thread = threading.Thread(target=publish)
    thread.start()
    listed = client.call(FLOWS, "list_runs", {"limit": 200})["data"]
    rows = {run["runId"]: run for run in listed["runs"]}
    thread.join(60)
    assert stop.is_set()
    now = tenant.http("GET", "/runs?limit=200").json()
    states = {run["runId"]: (run["status"], run["attempt"]) for run in now["runs"]}
    assert len(states) == 20

    def kept() -> dict[str, tuple[str, int]]:
        for name, payload in client.events(FLOWS):
            before = rows.get(payload["runId"], {"seq": 0})
            if name != "list_runs" and payload["seq"] > before["seq"]:
                rows[payload["runId"]] = payload
        return {run: (row["status"], row["attempt"]) for run, row in rows.items()}

    # The last events may still be on their way.
    until(lambda: kept() == states, what=f"the same as {states}")


def test_the_list_over_http(tenant: Tenant) -> None:
    for number in range(5):
        parent = {"flowId": "p", "runId": str(number)}
        tenant.run("f", f"r{number}", {"type": "flow_started", "tags": ["a,b"], "parent": parent})
    tenant.run("f", "r1", {"type": "flow_failed", "error": "x"})
    first = tenant.http("GET", "/runs?flowId=f&limit=3").json()
    assert [run["runId"] for run in first["runs"]] == ["r4", "r3", "r2"] and "-" in first["asOf"]
    rest = tenant.http("GET", f"/runs?flowId=f&before={first['nextCursor']}").json()
    assert [run["runId"] for run in rest["runs"]] == ["r1", "r0"] and "nextCursor" not in rest
    assert rest["runs"][0]["error"] == "x"
    for query, found in (
        ("status=failed,lost", ["r1"]),
        ("status=failed&status=started&limit=1", ["r4"]),
        ("parent=p/3", ["r3"]),
        ("text=R2", ["r2"]),
        ("tag=a", []),
        ("tag=a%2Cb&from=2000-01-01T00:00:00Z&limit=2", ["r4", "r3"]),
    ):
        assert [run["runId"] for run in tenant.http("GET", f"/runs?{query}").json()["runs"]] == found, query
    for query in ("status=running", "limit=0", "before=x", "from=now", "text=", "node=1"):
        answer = tenant.http("GET", f"/runs?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_payload"), query


def test_word_back_reaches_an_engine_of_another_language(tenant: Tenant) -> None:
    tenant.run("f%201", "r%2F1", {"type": "flow_started"})
    client, path = tenant.plain(FLOWS), "/flows/f%201/runs/r%2F1"
    assert tenant.http("GET", "/flows/f%201/control").json() == {"control": []}
    answer = tenant.http("POST", f"{path}/cancel", {"reason": "late"})
    assert (answer.status_code, answer.json()) == (202, {"flowId": "f 1", "runId": "r/1", "status": "started"})
    assert client.told(FLOWS, "flow_cancelling")["reason"] == "late"
    (asked,) = tenant.http("GET", "/flows/f%201/control?wait=10&consumer=a").json()["control"]
    assert (asked["kind"], asked["runId"], asked["reason"], asked["by"]) == ("cancel", "r/1", "late", "ann")
    got: list[Any] = []

    def wait() -> None:
        query = f"wait=10&consumer=a&done={asked['place']}"
        got.extend(tenant.http("GET", f"/flows/f%201/control?{query}").json()["control"])

    thread = threading.Thread(target=wait)
    thread.start()
    signalled = client.call(FLOWS, "signal_run", {"flowId": "f 1", "runId": "r/1", "name": "go", "data": [1]})
    thread.join(20)
    assert [(one["kind"], one["name"], one["data"]) for one in got] == [("signal", "go", [1])]
    assert signalled["data"]["signalId"] == got[0]["controlId"]
    tenant.run("f%201", "r%2F1", {"type": "flow_cancelled"})
    for what, body in (("cancel", None), ("signals", {"name": "go"})):
        answer = tenant.http("POST", f"{path}/{what}", body)
        assert (answer.status_code, answer.json()["error"]["status"]) == (409, "cancelled")
    for bad, body in (("cancel", {"why": 1}), ("signals", {}), ("signals", {"name": "x", "flowId": "f"})):
        assert tenant.http("POST", f"{path}/{bad}", body).status_code == 422
    for query in ("wait=26", "wait=x", "what=1"):
        assert tenant.http("GET", f"/flows/f/control?{query}").status_code == 400
