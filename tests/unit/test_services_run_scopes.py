"""Runs as blocks of code: what is told of them, that a job never fails for it, and who wants one cancelled."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.errors import InvalidPayload, RunCancelled
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.run_scopes import scopes
from mintflow_realtime.services.run_scopes.keeper import keeper
from tests.redis_fixture import PrivateRedis
from tests.servers import RedisServer, stopping, until

WHO = Principal.system("acme")


@pytest.fixture
def emit(shared_redis: PrivateRedis, keys: Keys) -> Iterator[Emitter]:
    with Emitter(shared_redis.url, config={"MINTFLOW_REDIS_PREFIX": keys.prefix}) as found:
        yield found
    assert keeper._kept == []


def kept(emit: Emitter, run: str = "r") -> list[dict[str, Any]]:
    return [json.loads(bytes(raw)) for raw in emit.flows.read(WHO, "f", run, 0).events or []]


def told(emit: Emitter, run: str = "r") -> list[tuple[str, str | None]]:
    return [(one["type"], one.get("nodeId")) for one in kept(emit, run)]


def settled() -> None:
    """Let the keeper let go of what has ended, as it does within half a second."""
    until(lambda: keeper.look() or not keeper._kept)


def test_a_run_and_its_nodes_are_told(emit: Emitter) -> None:
    with emit.run("acme", "f", "r", name="nightly", tags=["a"], total=2) as run:
        with run.node("n"):
            run.progress(40, rows=7)
            assert scopes.current.get() == (run, "n")
        assert scopes.current.get() == (run, None) and run.attempt == 1
    assert scopes.current.get() is None
    assert told(emit) == [
        ("flow_started", None),
        ("node_started", "n"),
        ("flow_progress", None),
        ("node_completed", "n"),
        ("flow_completed", None),
    ]
    shown = emit.flows.read(WHO, "f", "r").run
    assert (shown.name, shown.tags, shown.lease, shown.status) == ("nightly", ["a"], 30, "completed")
    assert kept(emit)[2]["rows"] == 7
    settled()


def test_an_exception_goes_on_unchanged_and_is_told(emit: Emitter) -> None:
    error = ValueError("broken é")
    with pytest.raises(ValueError, match="broken") as caught:
        with emit.run("acme", "f", "r") as run, run.node("n"):
            raise error
    assert caught.value is error
    events = kept(emit)
    assert [one["type"] for one in events][-2:] == ["node_failed", "flow_failed"]
    assert (events[-1]["error"]["type"], events[-1]["error"]["message"]) == ("ValueError", "broken é")
    assert "raise error" in events[-1]["error"]["traceback"]
    settled()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(0), "completed"),
        (SystemExit(3), "failed"),
        (KeyboardInterrupt(), "cancelled"),
        (RunCancelled("x"), "cancelled"),
    ],
)
def test_ends_that_are_no_failures(emit: Emitter, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)):
        with emit.run("acme", "f", "r"):
            raise error
    assert emit.flows.read(WHO, "f", "r").run.status == status
    settled()


def test_functions_are_runs_and_nodes(emit: Emitter) -> None:
    runs: list[str] = []

    @emit.run("acme", "f", lease=None)
    def job(number: int) -> int:
        """Do it."""
        found = scopes.current.get()
        assert found is not None
        runs.append(found[0].run_id)
        return found[0].node("n")(lambda: number + 1)()

    assert (job(1), job(2), job.__doc__) == (2, 3, "Do it.") and len(set(runs)) == 2
    for run in runs:
        assert [kind for kind, _ in told(emit, run)] == [
            "flow_started",
            "node_started",
            "node_completed",
            "flow_completed",
        ]
    settled()


def test_a_next_attempt_is_not_changed_by_the_one_before(emit: Emitter) -> None:
    with emit.run("acme", "f", "r") as first:
        emit.flows.failed("acme", "f", "r", "taken for dead")
        with emit.run("acme", "f", "r") as second:
            first.progress(90)
        assert (first.attempt, second.attempt) == (1, 2)
        assert emit.flows.read(WHO, "f", "r").run.status == "completed"
    shown = emit.flows.read(WHO, "f", "r").run
    assert (shown.attempt, shown.status) == (2, "completed")
    settled()


def test_a_cancel_is_raised_where_the_job_asks(emit: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "ASK_SECONDS", 0)
    with pytest.raises(RunCancelled, match="enough"):
        with emit.run("acme", "f", "r") as run:
            run.check()
            emit.flows.cancel("acme", "f", "r", "enough")
            run.progress(1)
    shown = emit.flows.read(WHO, "f", "r").run
    assert shown.status == "cancelled" and kept(emit)[-1]["reason"] == "enough"
    # It has taken it: no engine of the flow does, and nobody is told that none did.
    assert emit.flows.control.take(WHO, "f") == []
    settled()


def test_signals_come_to_the_run(emit: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "ASK_SECONDS", 0)
    with emit.run("acme", "f", "r") as run:
        assert list(run.signals(0)) == []
        emit.flows.signal("acme", "f", "r", "go", {"n": 1})
        assert [(one.name, one.data) for one in run.signals(0.2)] == [("go", {"n": 1})]
    with pytest.raises(RunCancelled):
        with emit.run("acme", "f", "r2") as run:
            emit.flows.cancel("acme", "f", "r2")
            list(run.signals(30))
    settled()


def test_a_thread_renews_the_lease(emit: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    with emit.run("acme", "f", "r", lease=5) as run:
        run._asked_at -= 2
        before = run._asked_at
        until(lambda: run._asked_at > before, 5)
    settled()


def test_from_threads_at_once(emit: Emitter) -> None:
    with emit.run("acme", "f", "r") as run:

        def work(number: int) -> None:
            with run.node(f"n{number}"):
                run.progress(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    nodes = emit.flows.read(WHO, "f", "r").run.nodes
    assert len(nodes) == 8 and {node.status for node in nodes.values()} == {"completed"}
    settled()


def test_a_job_goes_on_while_redis_is_away_and_all_is_told_later_in_order() -> None:
    server = RedisServer()
    with stopping(server):
        with Emitter(server.url) as emit:
            server.stop()
            with emit.run("acme", "f", "r") as run:
                with run.node("n"):
                    run.progress(10)
                assert list(run.signals(0)) == []
            assert len(run._waiting) == 5
            server.start()
            until(lambda: not run._waiting, 20)
            assert [kind for kind, _ in told(emit)] == [
                "flow_started",
                "node_started",
                "flow_progress",
                "node_completed",
                "flow_completed",
            ]
            settled()


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "MOST_WAITING", 5)
    with Emitter("redis://127.0.0.1:1/0") as emit:
        run = emit.run("acme", "f", "r", lease=None)
        with run:
            for number in range(20):
                run.progress(number)
        assert [event.type for event, _ in run._waiting] == ["flow_started", *["flow_progress"] * 3, "flow_completed"]
        with keeper._lock:
            keeper._kept.remove(run)


@pytest.mark.parametrize(
    "wrong",
    [{"lease": 4}, {"tags": ["x"] * 11}, {"name": ""}, {"tenant": "a b"}, {"flow_id": ""}, {"run_id": "a\n"}],
)
def test_what_is_wrong_is_said_before_the_job_begins(emit: Emitter, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        emit.run(**{"tenant": "acme", "flow_id": "f", "run_id": "r", **wrong})


def test_a_child_of_a_fork_leaves_its_parents_runs_alone(emit: Emitter) -> None:
    with emit.run("acme", "f", "r"):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with emit.run("acme", "f", "child") as run:
                    run.progress(5)
                    status = 0 if keeper._kept == [run] else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [kind for kind, _ in told(emit)] == ["flow_started", "flow_completed"]
    assert emit.flows.read(WHO, "f", "child").run.status == "completed"
    settled()


def test_a_child_of_a_fork_goes_on_with_a_run_that_a_thread_of_its_parent_was_telling_of(emit: Emitter) -> None:
    held, free = threading.Event(), threading.Event()
    with emit.run("acme", "f", "r") as run:

        def telling() -> None:
            with run._order, run._lock:
                held.set()
                free.wait(30)

        thread = threading.Thread(target=telling)
        thread.start()
        held.wait(10)
        child = os.fork()
        if child == 0:
            # A hang is ended by the alarm, whose default is the end of the process.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            run.progress(5)
            os._exit(0)
        try:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            free.set()
            thread.join()
    assert [kind for kind, _ in told(emit)] == ["flow_started", "flow_progress", "flow_completed"]
    settled()


def test_no_thread_is_left_once_nothing_runs(emit: Emitter) -> None:
    with emit.run("acme", "f", "r"):
        assert any(thread.name == "mintflow-runs" for thread in threading.enumerate())
    until(lambda: not any(thread.name == "mintflow-runs" for thread in threading.enumerate()), 5)
