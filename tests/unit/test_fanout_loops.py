"""A loop that a node lives by goes on, whatever it meets, and says so once a minute."""

import logging
from typing import Any

import gevent
import pytest
from redis.exceptions import NoPermissionError

from mintflow_realtime.fanout import loops
from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        NoPermissionError("no"),
        Unavailable("no"),
        gevent.Timeout(1),
        KeyboardInterrupt(),
        SystemExit(),
    ],
)
@pytest.mark.parametrize("where", ["step", "pause"])
def test_nothing_ends_it(error: BaseException, where: str, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    monkeypatch.setattr(loops, "AGAIN_SECONDS", 0.001)
    count = 0

    def failing(at: str) -> None:
        nonlocal count
        gevent.sleep(0.001)
        count += at == "step"
        if at == where and count < 5:
            raise error

    loop = start_loop("a loop", lambda: failing("step"), lambda: failing("pause"))
    with gevent.Timeout(10):
        while count < 10:
            gevent.sleep(0.001)
    loop.kill()
    assert loop.dead


def test_an_error_that_lasts_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    rare = RareLog(logging.getLogger("a"), lambda: now)
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            rare.warning("it fails")
            rare.warning("it fails otherwise", error=ValueError("x"))
        assert [record.message for record in caplog.records] == ["it fails", "it fails otherwise"]
        now = 61.0
        rare.warning("it fails")
    assert caplog.records[-1].message == "it fails (99 times more since the last time)"
    levels: list[Any] = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "ERROR", "WARNING"]


def test_what_is_remembered_of_lines_is_bounded() -> None:
    rare = RareLog(logging.getLogger("a"))
    for number in range(1000):
        rare.warning(f"line {number}")
    assert len(rare._said) <= 256
