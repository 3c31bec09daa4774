"""Tasks of Celery as runs, with a real prefork worker and a broker apart from the Redis of events."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mintflow_realtime.protocol.runs import ListRuns
from tests.celery_project import WHO, Project
from tests.redis_fixture import PrivateRedis
from tests.servers import stopping, until


@pytest.fixture(scope="module")
def redises() -> Iterator[tuple[PrivateRedis, PrivateRedis]]:
    broker, events = PrivateRedis(), PrivateRedis()
    with stopping(broker, events):
        yield broker, events


@pytest.fixture(scope="module")
def project(redises: tuple[PrivateRedis, PrivateRedis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("celery"), *redises, "--pool", "prefork", "--concurrency", "2")
    with stopping(project):
        yield project.wait_ready()


def test_a_task_is_queued_started_and_completed(project: Project) -> None:
    run = project.send("add.delay(1, 2).id")
    shown = project.ended("f.add", run, "completed")
    assert (shown.attempt, shown.lease) == (1, 5)
    assert project.told("f.add", run) == [("flow_queued", 1), ("flow_started", 1), ("flow_completed", 1)]


def test_a_failure_has_its_text_and_traceback(project: Project) -> None:
    run = project.send("fail.delay().id")
    error = json.loads(bytes(project.ended("f.fail", run, "failed").error))
    assert (error["type"], error["message"]) == ("ValueError", "broken é")
    assert 'raise ValueError("broken é")' in error["traceback"]
    assert [name for name, _ in project.told("f.fail", run)] == ["flow_queued", "flow_started", "flow_failed"]


def test_a_retry_is_the_next_attempt_of_the_same_run(project: Project) -> None:
    run = project.send("flaky.apply_async((0.3,)).id")
    assert project.ended("f.flaky", run, "completed").attempt == 3
    assert project.told("f.flaky", run) == [
        ("flow_queued", 1),
        ("flow_started", 1),
        ("flow_failed", 1),
        ("flow_queued", 2),
        ("flow_started", 2),
        ("flow_failed", 2),
        ("flow_queued", 3),
        ("flow_started", 3),
        ("flow_completed", 3),
    ]


def test_attempts_that_follow_at_once_are_told_as_well(project: Project) -> None:
    """The next may begin before it is told that the one before has failed."""
    runs = project.send("[flaky.apply_async((0,)).id for _ in range(6)]")
    for run in runs:
        assert project.ended("f.flaky", run, "completed").attempt == 3
        ends = [("flow_started", 1), ("flow_failed", 1), ("flow_started", 2), ("flow_failed", 2), ("flow_completed", 3)]
        assert set(ends) <= set(project.told("f.flaky", run))


def test_a_task_that_is_revoked_before_it_starts_is_cancelled(project: Project) -> None:
    run = project.send("add.apply_async((1, 2), countdown=3).id")
    project.send(f"app.control.revoke('{run}')")
    project.ended("f.add", run, "cancelled")
    assert project.told("f.add", run) == [("flow_queued", 1), ("flow_cancelled", 1)]


def test_who_cancels_a_queued_run_revokes_its_task(project: Project) -> None:
    run = project.send("add.apply_async((1, 2), countdown=4).id")
    project.emit.flows.cancel("acme", "f.add", run, "not needed")
    project.ended("f.add", run, "cancelled")
    events = [json.loads(bytes(raw)) for raw in project.emit.flows.read(WHO, "f.add", run, 0).events or []]
    assert [(one["type"], one.get("reason")) for one in events] == [
        ("flow_queued", None),
        ("flow_cancelling", "not needed"),
        ("flow_cancelled", "not needed"),
    ]
    assert project.emit.flows.control.take_of_run("acme", "f.add", run) == []


def test_who_cancels_a_run_that_asks_ends_it(project: Project) -> None:
    run = project.send("until_cancelled.delay().id")
    project.ended("f.until_cancelled", run, "started")
    project.emit.flows.cancel("acme", "f.until_cancelled", run, "enough")
    project.ended("f.until_cancelled", run, "cancelled")
    assert project.told("f.until_cancelled", run)[-1] == ("flow_cancelled", 1)
    until(lambda: project.emit.flows.control.take_of_run("acme", "f.until_cancelled", run) == [])


def test_a_signal_is_left_to_the_task(project: Project) -> None:
    run = project.send("asks.delay().id")
    project.ended("f.asks", run, "started")
    project.emit.flows.signal("acme", "f.asks", run, "approve", {"by": "Ann"})
    project.ended("f.asks", run, "completed")
    assert project.send(f"app.AsyncResult('{run}').get(20)") == {"by": "Ann"}


def test_tasks_at_the_same_time_log_each_to_its_own_run(project: Project) -> None:
    runs = project.send("[meets.delay(name).id for name in ('ann', 'bob')]")
    for run, name in zip(runs, ("ann", "bob"), strict=True):
        shown = project.ended("f.meets", run, "completed")
        assert shown.nodes["table"].status == "completed"
        until(lambda run=run: len(project.records("f.meets", run)) == 2)
        assert project.records("f.meets", run) == [(f"{name} goes", None), (f"{name} is here", "table")]


def test_a_task_of_a_task_has_a_parent_and_flows_may_be_called_otherwise(project: Project) -> None:
    run = project.send("mapped.delay().id")
    project.ended("invoices", run, "completed")
    child = project.send(f"app.AsyncResult('{run}').get(20)")
    shown = project.ended("f.add", child, "completed")
    assert (shown.parent.flow_id, shown.parent.run_id) == ("invoices", run)
    unseen = project.send("unseen.delay().id")
    project.send(f"app.AsyncResult('{unseen}').get(20)")
    assert project.run("f.unseen", unseen) is None


def test_tasks_of_a_chord_are_runs_with_the_tag_of_their_group(project: Project) -> None:
    body = project.send("chord(group(add.s(n, 1) for n in range(3)), total.s())().id")
    assert project.send(f"app.AsyncResult('{body}').get(20)") == 6
    shown = project.ended("f.total", body, "completed")
    header = project.emit.flows.read(WHO, "f.add", shown.parent.run_id).run
    assert shown.parent.flow_id == "f.add" and header.tags[0].startswith("group:")
    found = project.emit.flows.runs(WHO, ListRuns(tag=header.tags[0])).runs
    flows = ["f.add", "f.add", "f.add", "f.total"]
    assert sorted((row.flow_id, row.status) for row in found) == [(flow, "completed") for flow in flows]


def test_an_outage_fails_no_task_and_is_told_later(project: Project) -> None:
    project.events.pause()
    try:
        run = project.send("add.delay(3, 4).id")
        assert project.send(f"app.AsyncResult('{run}').get(20)") == 7
    finally:
        project.events.resume()
    project.ended("f.add", run, "completed")
    assert [name for name, _ in project.told("f.add", run)][-1] == "flow_completed"


def test_a_child_that_is_killed_has_failed_its_task(project: Project) -> None:
    run = project.send("dies.delay().id")
    error = json.loads(bytes(project.ended("f.dies", run, "failed").error))
    assert error["type"] == "WorkerLostError" and "SIGKILL" in error["message"]


def test_a_task_that_is_terminated_is_cancelled(project: Project) -> None:
    run = project.send("forever.delay().id")
    project.ended("f.forever", run, "started")
    project.send(f"app.control.revoke('{run}', terminate=True)")
    project.ended("f.forever", run, "cancelled")


def test_an_attempt_has_one_end_however_it_ends(project: Project) -> None:
    ends = {"f.too_slow": "TimeLimitExceeded", "f.exits": "WorkerLostError", "f.rejects": "Reject"}
    runs = {flow: project.send(f"app.send_task('{flow}').id") for flow in ends}
    again = project.send("dies_once.delay().id")
    for flow, run in runs.items():
        error = json.loads(bytes(project.ended(flow, run, "failed").error))
        assert error["type"] == ends[flow]
    project.ended("f.dies_once", again, "completed")
    names = ["flow_queued", "flow_started", "flow_failed"]
    assert project.told("f.dies_once", again) == [
        *((name, 1) for name in names),
        ("flow_started", 2),
        ("flow_completed", 2),
    ]
    until(lambda: "Task handler raised error: TimeLimitExceeded" in project.said(), 20)
    for flow, run in runs.items():
        assert [name for name, _ in project.told(flow, run)] == names, flow


def test_a_worker_with_options(tmp_path: Path) -> None:
    """Who cancels ends the process; a child that ends after each task loses none of its records; a dead worker's run is
    lost by its lease."""
    redis = PrivateRedis()
    with stopping(redis):
        project = Project(tmp_path, redis, redis, "--concurrency", "1", "--max-tasks-per-child", "1", TERMINATE="1")
        with stopping(project):
            run = project.wait_ready().send("forever.delay().id")
            project.ended("f.forever", run, "started")
            project.emit.flows.cancel("acme", "f.forever", run, "too long")
            project.ended("f.forever", run, "cancelled")
            events = [json.loads(bytes(raw)) for raw in project.emit.flows.read(WHO, "f.forever", run, 0).events or []]
            assert events[-1]["reason"] == "too long"
            run = project.send("total.delay([1, 2]).id")
            project.ended("f.total", run, "completed")
            until(lambda: len(project.records("f.total", run)) == 1)
            run = project.send("forever.delay().id")
            project.ended("f.forever", run, "started")
            os.killpg(project.worker.pid, signal.SIGKILL)

            def lost() -> bool:
                project.emit.flows.tick()
                return bool(project.run("f.forever", run).status == "lost")

            until(lost, 20)
