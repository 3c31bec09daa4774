"""Commands that run under `mintflow exec`, and what was told of them."""

import json
import subprocess
import sys
from typing import Any

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.logs import FilterLogs
from mintflow_realtime.protocol.wire_json import dumps, loads
from mintflow_realtime.settings.publisher import PublisherSettings
from tests.command import Running, environment
from tests.servers import ROOT

EXEC = [sys.executable, "-m", "mintflow_realtime.cli", "exec"]


class Told:
    """What a tenant was told."""

    def __init__(self, settings: dict[str, str], tenant: str) -> None:
        self.settings, self.who = settings, Principal.system(tenant)
        self.emit = Emitter(settings=PublisherSettings.from_env(settings))

    def exec(self, run_id: str, *args: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*EXEC, "--flow", "f", "--run", run_id, "--tenant", self.who.tenant, *args],
            input=stdin,
            capture_output=True,
            timeout=60,
            cwd=ROOT,
            env=environment(**self.settings),
        )

    def running(self, run_id: str, *args: str) -> Running:
        return Running("exec", "-f", "f", "-r", run_id, "-t", self.who.tenant, *args, **self.settings)

    def run(self, run_id: str) -> Any:
        """Return a run's snapshot as the wire has it, {} where there is none."""
        try:
            return loads(dumps(self.emit.flows.read(self.who, "f", run_id).run))
        except NotFound:
            return {}

    def end(self, run_id: str) -> tuple[str, str | None]:
        """Return a run's status and error."""
        found = self.run(run_id)
        return found["status"], found.get("error")

    def records(self, run_id: str) -> list[dict[str, Any]]:
        page = self.emit.logs.read(self.who, FilterLogs(run_id=run_id, limit=1000))
        return [json.loads(bytes(text)) for text in page.logs]


def sh(text: str) -> tuple[str, ...]:
    return "--", "sh", "-c", text
