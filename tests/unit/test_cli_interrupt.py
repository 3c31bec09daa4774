"""Ctrl-C ends `tail` and `watch` even where Python loses the exception, and where closing would wait for ever."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from mintflow_realtime.cli import tail, watch
from mintflow_realtime.cli.group import commands
from mintflow_realtime.cli.sources.base import Away

TOO_OFTEN = 6


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Hear SIGINT, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class _Source:
    """Both kinds of source; Ctrl-C is pressed within the third call, which takes `seconds` after that."""

    def __init__(self, seconds: float = 0.0, dropped: bool = False) -> None:
        self.seconds, self.dropped = seconds, dropped
        self.calls = 0
        self.lock = threading.Lock()

    def _call(self) -> None:
        self.calls += 1
        assert self.calls < TOO_OFTEN, "goes on after Ctrl-C"
        if self.calls == 3:
            self.lock.acquire()
            # What a weak reference's callback or a `__del__` does to an exception.
            with contextlib.suppress(KeyboardInterrupt) if self.dropped else contextlib.nullcontext():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(self.seconds)
            # Reached where nothing was raised through here.
            self.lock.release()

    def page(self, _criteria: dict[str, Any]) -> tuple[list[Any], None]:
        self._call()
        return [], None

    def wait(self, _seconds: float) -> None:
        self._call()

    def changed(self, _seconds: float) -> set[Any]:
        self._call()
        return set()

    def close(self) -> None:
        assert self.lock.acquire(timeout=0), "closed while its lock was held"


@pytest.mark.parametrize(
    ("seconds", "dropped"), [(0.0, False), (60.0, False), (60.0, True)], ids=["at its end", "within", "dropped"]
)
@pytest.mark.parametrize("command", ["tail", "watch"])
def test_ctrl_c_ends_what_follows(monkeypatch: pytest.MonkeyPatch, command: str, seconds: float, dropped: bool) -> None:
    source = _Source(seconds, dropped)
    monkeypatch.setattr(tail, "log_source", lambda *_: source)
    monkeypatch.setattr(watch, "run_source", lambda *_: source)
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(commands, [command, "-t", "acme"], prog_name="mintflow")
    assert (result.exit_code, source.calls) == (130, 4 if command == "tail" and (dropped or not seconds) else 3), (
        result.output
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_who_ignores_ctrl_c_goes_on_ignoring_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _Source()

    def page(_criteria: dict[str, Any]) -> tuple[list[Any], None]:
        source.calls += 1
        os.kill(os.getpid(), signal.SIGINT)
        raise Away("enough")

    monkeypatch.setattr(source, "page", page)
    monkeypatch.setattr(tail, "log_source", lambda *_: source)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = CliRunner().invoke(commands, ["tail", "-t", "acme"], prog_name="mintflow")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 1 and "Enough." in result.output
