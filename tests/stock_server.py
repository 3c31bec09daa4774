"""Stock python-socketio under gunicorn's gevent-websocket worker, one worker, on a free port."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from tests.ports import free_port
from tests.servers import ROOT, until
from tests.transport_servers import STOCK_WORKER


class Stock:
    """Serves `tests/integration/apps/stock.py`; `env` adds settings."""

    def __init__(self, **env: str) -> None:
        self.port = free_port()
        self.output = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "gunicorn", "--config", "/dev/null", "--no-control-socket", "-k", STOCK_WORKER]
        command += ["--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "1"]
        self.process = subprocess.Popen(
            [*command, "tests.integration.apps.stock:application"],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=self.output,
            stderr=self.output,
        )
        until(self._answers, 30, "the stock server answers")

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/", timeout=3).ok
        return False

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.output.close()
