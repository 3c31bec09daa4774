"""What is told of runs that are elsewhere, while Redis is away and afterwards."""

from collections.abc import Iterator

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.runs import ListRuns
from mintflow_realtime.services.run_scopes import outbox as module
from mintflow_realtime.services.run_scopes.keeper import keeper
from mintflow_realtime.services.run_scopes.outbox import Outbox
from tests.redis_fixture import PrivateRedis
from tests.servers import until

WHO = Principal.system("acme")
QUEUED, FAILED = RunEvent(type="flow_queued"), RunEvent(type="flow_failed")


@pytest.fixture
def emit(private_redis: PrivateRedis) -> Iterator[Emitter]:
    with Emitter(private_redis.url) as found:
        yield found
    until(lambda: keeper.look() or not keeper._kept)


def status(emit: Emitter, run: str) -> tuple[str, int]:
    shown = emit.flows.read(WHO, "f", run).run
    return shown.status, shown.attempt


def test_what_is_impossible_is_let_go_and_the_next_is_told(emit: Emitter) -> None:
    outbox = Outbox(emit.flows, "acme")
    emit.flows.started("acme", "f", "r")
    outbox.tell("f", "r", QUEUED)
    outbox.tell("f", "", QUEUED)
    outbox.tell("f", "r", FAILED)
    assert status(emit, "r") == ("failed", 1)
    outbox.tell("f", "r", QUEUED)
    assert status(emit, "r") == ("queued", 2)


def test_what_waits_is_told_when_redis_is_back_and_begins_no_run_again(
    emit: Emitter, private_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    outbox = Outbox(emit.flows, "acme")
    private_redis.kill()
    for run in ("too old", "r", "new", "failed"):
        outbox.tell("f", run, FAILED if run == "failed" else QUEUED)
    private_redis.start()
    with Emitter(private_redis.url) as worker:
        worker.flows.publish_many("acme", "f", "r", [{"type": "flow_started"}, {"type": "flow_completed"}])
    until(lambda: not outbox.keep())
    assert [status(emit, run) for run in ("r", "new", "failed")] == [("completed", 1), ("queued", 1), ("failed", 1)]
    assert len(emit.flows.runs(WHO, ListRuns()).runs) == 3, "the oldest was let go"


def test_a_child_of_a_fork_has_nothing_to_tell(emit: Emitter, private_redis: PrivateRedis) -> None:
    outbox = Outbox(emit.flows, "acme")
    private_redis.pause()
    outbox.tell("f", "r", QUEUED)
    outbox.forked()
    private_redis.resume()
    assert outbox.keep() is False
