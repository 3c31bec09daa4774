"""`mintflow watch`: lines where it is piped on, bars in a terminal, and an exit code that tells how a run ended."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.publisher import PublisherSettings
from tests.command import Running, environment, hear_ctrl_c, run
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, stopping, token, until


@pytest.fixture
def settings(shared_redis: PrivateRedis) -> dict[str, str]:
    return {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "watched"}


@pytest.fixture
def emitter(settings: dict[str, str]) -> Iterator[Emitter]:
    with Emitter(settings=PublisherSettings.from_env(settings)) as made:
        yield made


def _told(watch: Running) -> list[str]:
    """Return what the lines say, without their times."""
    return [line.split("  ", 1)[1] for line in watch.lines]


def _publish_run(emitter: Emitter, tenant: str, watch: Running, run_id: str = "r-1") -> None:
    """Publish a run step by step, each one when the one before is seen."""
    flows, place = emitter.flows, (tenant, "invoices", run_id)
    flows.started(*place)
    watch.wait_for(f"invoices/{run_id}  started")
    flows.node_started(*place, "parse")
    watch.wait_for("parse  started")
    flows.progress(*place, 40)
    watch.wait_for("40 %")
    flows.node_failed(*place, "parse", "disk full")
    watch.wait_for("parse  failed")


def test_lines_of_one_run_until_it_completes(settings: dict[str, str], emitter: Emitter) -> None:
    watch = Running("watch", "r-1", "--tenant", "lines", **settings)
    with stopping(watch):
        watch.wait_for("There is no run r-1 yet")
        _publish_run(emitter, "lines", watch)
        emitter.flows.started("lines", "invoices", "another")
        emitter.flows.completed("lines", "invoices", "r-1")
        assert watch.process.wait(20) == 0
    told = _told(watch)
    assert told[:3] == ["invoices/r-1  started", "invoices/r-1  parse  started", "invoices/r-1  40 %"]
    assert re.fullmatch(r"invoices/r-1  parse  failed after [0-9.]+ s: disk full", told[3])
    assert re.fullmatch(r"invoices/r-1  completed after [0-9.]+ s", told[4]) and len(told) == 5


def test_a_run_that_fails_ends_with_1(settings: dict[str, str], emitter: Emitter) -> None:
    emitter.flows.started("fails", "f", "r")
    emitter.flows.failed("fails", "f", "r", {"code": 7})
    done = run("watch", "r", "-t", "fails", **settings)
    assert done.returncode == 1
    assert re.search(r'f/r  failed after [0-9.]+ s: \{"code": 7\}', done.stdout)
    assert "\x1b" not in done.stdout


def test_all_runs(settings: dict[str, str], emitter: Emitter) -> None:
    watch = Running("watch", "-t", "all", **settings)
    with stopping(watch):
        _publish_run(emitter, "all", watch)
        emitter.flows.started("all", "nightly", "r-2")
        watch.wait_for("nightly/r-2  started")
        emitter.flows.failed("all", "nightly", "r-2", "no disk")
        watch.wait_for(r"nightly/r-2  failed after [0-9.]+ s: no disk")
        assert watch.stop() == 130


def test_a_run_over_a_restart_of_its_server(settings: dict[str, str], emitter: Emitter) -> None:
    node = Node(**settings, DRAIN_SECONDS="0.2", SOCKET_AUTH_REQUIRED="true").wait_ready()
    watch = Running("watch", "r-1", "--url", node.url, "--token", token())
    with stopping(node, watch):
        watch.wait_for("There is no run r-1 yet")
        _publish_run(emitter, "acme", watch)
        node.process.send_signal(signal.SIGTERM)
        node.process.wait(30)
        watch.wait_for("Waiting")
        emitter.flows.node_completed("acme", "invoices", "r-1", "send")
        emitter.flows.progress("acme", "invoices", "r-1", 80)
        node.process = node._start()
        node.wait_ready()
        watch.wait_for("It is back")
        watch.wait_for("80 %")
        watch.wait_for("send  completed")
        emitter.flows.completed("acme", "invoices", "r-1")
        assert watch.process.wait(20) == 0


def test_runs_that_start_as_a_server_tells(settings: dict[str, str], emitter: Emitter) -> None:
    node = Node(**settings, SOCKET_AUTH_REQUIRED="true").wait_ready()
    watch = Running("watch", "--url", node.url, "--token", token(tenants=["told"]))
    with stopping(node, watch):
        number = 0

        def seen() -> bool:
            nonlocal number
            number += 1
            emitter.flows.started("told", "first", f"r-{number}")
            return "first/" in watch.text

        until(seen, 30, "watch hears of runs")
        _publish_run(emitter, "told", watch, "last")
        assert watch.stop() == 130


class Terminal:
    """A command in a terminal of its own, 80 columns wide."""

    def __init__(self, *args: str, **env: str) -> None:
        master, slave = pty.openpty()
        self._master = master
        self.bytes = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mintflow_realtime.cli", *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=environment(TERM="xterm-256color", COLUMNS="80", LINES="24", **env),
            preexec_fn=hear_ctrl_c,
        )
        os.close(slave)

    def wait_for(self, pattern: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern!r} in {self.text[-2000:]!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.bytes += os.read(self._master, 65_536)

    @property
    def text(self) -> str:
        return self.bytes.decode("utf-8", "replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                while select.select([self._master], [], [], 5)[0]:
                    self.bytes += os.read(self._master, 65_536)
            except OSError:
                pass  # the terminal's other end is closed
            self.process.wait(20)
        os.close(self._master)


def test_bars_in_a_terminal(settings: dict[str, str], emitter: Emitter) -> None:
    emitter.flows.started("bars", "invoices", "r-1")
    emitter.flows.node_started("bars", "invoices", "r-1", "parse")
    terminal = Terminal("watch", "r-1", "-t", "bars", **settings)
    with stopping(terminal):
        terminal.wait_for("░{24}.*  0 %  running")
        emitter.flows.progress("bars", "invoices", "r-1", 50)
        terminal.wait_for("█{12}░{12}.* 50 %  running")
        terminal.wait_for("parse +running")
        emitter.flows.node_started("bars", "invoices", "r-1", "x" * 120)
        terminal.wait_for("x{20,}…")
    assert "\x1b[36m" in terminal.text
    assert terminal.text.rstrip().endswith("\x1b[?25h"), "the cursor is given back"
    assert terminal.process.returncode == 130


def test_no_colours_where_they_are_not_wanted(settings: dict[str, str], emitter: Emitter) -> None:
    emitter.logs.append("plain", message="hello", level="error")
    for env, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        terminal = Terminal("tail", "-t", "plain", **settings, **env)
        with stopping(terminal):
            terminal.wait_for("hello")
        assert ("\x1b[" in terminal.text) is coloured
