"""A Celery project on real processes, whose tasks are runs: its worker, and who sends tasks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.logs import FilterLogs
from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH, ROOT, until

WHO = Principal.system("acme")
LOGGERS = ("project", "f")
MODULE = "tests.integration.apps.followed"


class Project:
    """A worker, and a process that sends tasks."""

    def __init__(self, folder: Path, broker: PrivateRedis, events: PrivateRedis, *options: str, **env: str) -> None:
        self.events, self.folder = events, folder
        self.emit = Emitter(events.url)
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHON_PATH,
            "BROKER": f"redis+socket://{broker.path}",
            "EVENTS": events.url,
            **env,
        }
        always = ("--without-mingle", "--without-gossip", "--loglevel", "info")
        self.worker = self._begin("-m", "celery", "--app", MODULE, "worker", *options, *always, output="worker")
        self._sender = self._begin("-m", MODULE, output="sender")

    def wait_ready(self) -> "Project":
        until(lambda: " ready." in self.said() or self.worker.poll() is not None, 60, "the worker is ready")
        assert self.worker.poll() is None, self.said()
        assert self._sender.stdout is not None and self._sender.stdout.readline() == b"ready\n"
        return self

    def _begin(self, *command: str, output: str) -> "subprocess.Popen[bytes]":
        with open(self.folder / output, "wb") as err:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=err if output == "worker" else subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.folder / "worker").read_text()

    def send(self, expression: str) -> Any:
        """Evaluate something in the project's module."""
        assert self._sender.stdin is not None and self._sender.stdout is not None
        self._sender.stdin.write(f"{expression}\n".encode())
        self._sender.stdin.flush()
        return json.loads(self._sender.stdout.readline())

    def run(self, flow: str, run: str) -> Any:
        with contextlib.suppress(NotFound):
            return self.emit.flows.read(WHO, flow, run, 0).run

    def ended(self, flow: str, run: str, status: str) -> Any:
        def there() -> Any:
            found = self.run(flow, run)
            return found if found is not None and found.status == status else None

        try:
            return until(there, 30)
        except AssertionError:
            raise AssertionError(f"{self.run(flow, run)}\n{self.said()}") from None

    def told(self, flow: str, run: str) -> list[tuple[str, int]]:
        events = [json.loads(bytes(raw)) for raw in self.emit.flows.read(WHO, flow, run, 0).events or []]
        return [(one["type"], one["attempt"]) for one in events]

    def records(self, flow: str, run: str) -> list[tuple[str, str | None]]:
        """Return what the project itself has logged in a run, and in which node."""
        logs = map(json.loads, map(bytes, self.emit.logs.read(WHO, FilterLogs(flow_id=flow, run_id=run)).logs))
        return sorted((log["message"], log.get("nodeId")) for log in logs if log["metadata"]["logger"] in LOGGERS)

    def stop(self) -> None:
        for process in (self._sender, self.worker):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self.emit.close()
