"""The logging handler: records of the run and node they are of, in batches, bounded, over outages and forks."""

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.errors import InvalidPayload
from mintflow_realtime.log_handler import MintflowHandler
from mintflow_realtime.protocol.logs import LogHistory
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import dumps, loads
from mintflow_realtime.services.record_queue import MOST_CHARACTERS
from tests.redis_fixture import PrivateRedis
from tests.servers import RedisServer, stopping

WHO = Principal.system("acme")


@pytest.fixture
def emit(shared_redis: PrivateRedis, keys: Keys) -> Iterator[Emitter]:
    with Emitter(shared_redis.url, config={"MINTFLOW_REDIS_PREFIX": keys.prefix}) as found:
        yield found


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("of.a.job")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def records(emit: Emitter) -> list[dict[str, Any]]:
    page = emit.logs.read(WHO, LogHistory(limit=1000))
    return list(loads(dumps(page))["logs"])


def test_a_record_is_of_the_run_and_node_that_it_happens_in(emit: Emitter, log: logging.Logger) -> None:
    handler = MintflowHandler(emit.logs, "acme", flow_id="else")
    log.addHandler(handler)
    log.info("before %d", 1)
    with emit.run("acme", "f", "r", lease=None) as run:
        log.warning("in the run")
        with run.node("n"):
            log.debug("in the node")
            try:
                raise ValueError("why")
            except ValueError:
                log.exception("failed")
        log.critical("elsewhere", extra={"flow_id": "g", "run_id": "r2"})
    handler.flush()
    found = [
        (one["message"].splitlines()[0], one["logLevel"], one.get("flowId"), one.get("runId"), one.get("nodeId"))
        for one in records(emit)
    ]
    assert found == [
        ("before 1", "info", "else", None, None),
        ("in the run", "warn", "f", "r", None),
        ("in the node", "debug", "f", "r", "n"),
        ("failed", "error", "f", "r", "n"),
        ("elsewhere", "error", "g", "r2", None),
    ]
    assert "ValueError: why" in records(emit)[3]["message"] and records(emit)[0]["metadata"]["logger"] == "of.a.job"
    assert all("timestamp" in one for one in records(emit))


def test_many_records_from_threads_come_all_and_in_each_one_s_order(emit: Emitter, log: logging.Logger) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    log.addHandler(handler)

    def work(name: int) -> None:
        for number in range(120):
            log.info("%d %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert handler._queue.flush(20)
    said = [tuple(map(int, one["message"].split())) for one in records(emit)]
    assert len(said) == 480
    for name in range(4):
        assert [number for of, number in said if of == name] == list(range(120))


def test_while_redis_is_away_nothing_is_lost_below_the_bound_and_what_is_dropped_is_told(log: logging.Logger) -> None:
    server = RedisServer()
    with stopping(server), Emitter(server.url) as emit:
        handler = MintflowHandler(emit.logs, "acme", most=50)
        log.addHandler(handler)
        server.stop()
        for number in range(300):
            log.info("%d", number)
        server.start()
        assert handler._queue.flush(20)
        said = [one["message"] for one in records(emit)]
        numbers = [int(text) for text in said if text.isdecimal()]
        assert numbers == sorted(set(numbers)) and numbers[:50] == list(range(50))
        dropped = [one for one in records(emit) if not one["message"].isdecimal()]
        assert sum(one["metadata"]["dropped"] for one in dropped) == 300 - len(numbers)
        assert {one["logLevel"] for one in dropped} == {"warn"}
        log.removeHandler(handler)
        handler.close()


def test_what_waits_is_bounded_in_characters_too(emit: Emitter, log: logging.Logger) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    log.addHandler(handler)
    with handler._queue._publishing:
        for _ in range(100):
            log.info("x" * 1_000_000)
        assert len(handler._queue._records) == MOST_CHARACTERS // 1_000_000
    assert handler._queue.flush(20) and handler._queue._characters == 0
    *_, last = records(emit)
    assert last["metadata"] == {"dropped": 100 - MOST_CHARACTERS // 1_000_000}


def test_one_record_that_is_refused_costs_no_other(emit: Emitter, log: logging.Logger) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    log.addHandler(handler)
    log.info("one")
    log.info("two", extra={"run_id": "not an\nid"})
    for _ in range(80):
        log.info("x" * 70_000)
    log.info("three")
    assert handler._queue.flush(20)
    said = [one["message"][:5] for one in emit_pages(emit)]
    assert said.count("xxxxx") == 80 and {"one", "three"} <= set(said) and "two" not in said


def emit_pages(emit: Emitter) -> list[dict[str, Any]]:
    found, before = [], None
    while True:
        page = loads(dumps(emit.logs.read(WHO, LogHistory(limit=1000, before=before))))
        found += page["logs"]
        before = page.get("nextCursor")
        if before is None:
            return found


def test_what_the_project_logs_itself_is_left_out(emit: Emitter) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    own = logging.getLogger("mintflow.redis")
    handler.handle(own.makeRecord("mintflow.redis", logging.WARNING, "", 0, "away", (), None))
    handler.close()
    assert records(emit) == []


def test_a_record_that_can_not_be_formatted_raises_nothing(
    emit: Emitter, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    handler.handle(log.makeRecord(log.name, logging.INFO, "", 0, "%d", ("no number",), None))
    handler.close()
    assert "--- Logging error ---" in capsys.readouterr().err


def test_structlog_s_events(emit: Emitter) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    event = {"event": "42 read", "rows": 42, "by": ("a",), "timestamp": "t"}
    with emit.run("acme", "f", "r", lease=None):
        assert handler.structlog(None, "warning", event) is event
    handler.close()
    (record,) = records(emit)
    assert (record["message"], record["logLevel"], record["runId"]) == ("42 read", "warn", "r")
    assert record["metadata"] == {"rows": 42, "by": "('a',)"}


def test_a_child_of_a_fork_publishes_its_own_alone(emit: Emitter, log: logging.Logger) -> None:
    handler = MintflowHandler(emit.logs, "acme")
    log.addHandler(handler)
    log.info("of the parent")
    child = os.fork()
    if child == 0:
        try:
            log.info("of the child")
            handler.flush()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    handler.flush()
    assert sorted(one["message"] for one in records(emit)) == ["of the child", "of the parent"]


def test_a_tenant_that_is_none_is_refused(emit: Emitter) -> None:
    with pytest.raises(InvalidPayload):
        MintflowHandler(emit.logs, "a b")
