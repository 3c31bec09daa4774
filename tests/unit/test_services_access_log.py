"""The access log's bounds, its batches, and what is written where."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mintflow_realtime.app.json_logs import JsonFormatter, write_lines
from mintflow_realtime.services.access_log import COUNT_SECONDS, LOGGER, AccessLog
from mintflow_realtime.transport.http.access_lines import without_secrets


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What our own handler writes, as if nothing else had been configured."""
    logger, stream = logging.getLogger("mintflow"), io.StringIO()
    before = logger.handlers, logger.level, logger.propagate
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    yield stream
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_the_same_by_either_way(written: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    fields = {"sid": "s", "user": "änn\n", "tenant": None, "reason": "x" * 1000, "duration": 1.5}
    AccessLog(write_lines).note("closed", **fields)  # type: ignore[arg-type]
    AccessLog().note("closed", **fields)  # type: ignore[arg-type]
    fast, slow = lines(written)
    assert fast.pop("time") and slow.pop("time")
    assert fast == slow
    assert fast == {
        "level": "info",
        "logger": "mintflow.access",
        "message": "closed",
        "sid": "s",
        "user": "änn\n",
        "reason": "x" * 300,
        "duration": 1.5,
    }


def test_half_a_surrogate_pair_is_written(written: io.StringIO) -> None:
    log = AccessLog(write_lines)
    log.note("refused", reason="caf\udce9")
    assert len(lines(written)) == 1


def test_handlers_of_ones_own_get_records(written: io.StringIO) -> None:
    records: list[logging.LogRecord] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    own = Own()
    LOGGER.addHandler(own)
    try:
        AccessLog(write_lines).note("connected", user="ann")
    finally:
        LOGGER.removeHandler(own)
    assert [record.__dict__["user"] for record in records] == ["ann"] and len(lines(written)) == 1


def test_batches_wait_until_they_are_written(written: io.StringIO) -> None:
    log = AccessLog(write_lines)
    log.begin()
    log.note("connected", user="ann")
    log.note("closed", user="ann")
    assert lines(written) == []
    log.write()
    assert [line["message"] for line in lines(written)] == ["connected", "closed"]
    log.write()
    assert len(lines(written)) == 2


def test_what_comes_too_fast_is_counted(written: io.StringIO) -> None:
    clock = Clock()
    log = AccessLog(write_lines, clock)
    log.begin()
    for _ in range(500):
        log.note("refused", code="authentication_failed")
    log.note("connected", user="ann")
    clock.now += 1
    for _ in range(500):
        log.note("refused", code="authentication_failed")
    log.write()
    assert [line["message"] for line in lines(written)].count("refused") == 110
    assert lines(written)[-11]["message"] == "connected", "one kind leaves the others alone"
    clock.now += COUNT_SECONDS
    log.write()
    assert lines(written)[-1]["message"] == "890 more refused, which came too fast for a line each"
    clock.now += COUNT_SECONDS
    log.write()
    assert len(lines(written)) == 112


def test_a_higher_level_writes_nothing(written: io.StringIO) -> None:
    logging.getLogger("mintflow").setLevel(logging.WARNING)
    log = AccessLog(write_lines)
    log.note("connected", user="ann")
    log.begin()
    log.note("connected", user="ann")
    log.write()
    assert written.getvalue() == ""


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("token=x", "token=***"),
        ("a=1&token=x&b=2", "a=1&token=***&b=2"),
        ("ticket=x&access_token=y", "ticket=***&access_token=***"),
        ("Token=x&%74oken=y&t%6Fken=z&+token=v", "Token=***&%74oken=***&t%6Fken=***&+token=***"),
        ("token=a=b=c", "token=***"),
        ("token=&token", "token=&token"),
        ("tokens=x&mytoken=y", "tokens=x&mytoken=y"),
    ],
)
def test_tokens_in_queries(query: str, shown: str) -> None:
    assert without_secrets(query) == shown
