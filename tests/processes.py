"""One server process with a log of its own: any command, on a free port, stopped by its process id."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import requests

from tests.servers import PYTHON_PATH, free_port, until


class Served:
    """Runs `python {command}`; `{port}` in it is the port, `{data}` in `env` a directory. `under`: what runs it."""

    def __init__(self, *command: str, cwd: Path | None = None, under: Sequence[str] = (), **env: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mf-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = self.directory / "out"
        self.data = self.directory / "data"
        base = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": PYTHON_PATH,
            "PYTHONUNBUFFERED": "1",
            "WEB_CONCURRENCY": "1",
        }
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                [*under, sys.executable, *(part.replace("{port}", str(self.port)) for part in command)],
                cwd=cwd or self.directory,
                env=base | {name: value.replace("{data}", str(self.data)) for name, value in env.items()},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def ready(self, path: str = "/healthz", seconds: float = 40.0) -> "Served":
        """Wait until `path` answers 200."""

        def answers() -> bool:
            assert self.process.poll() is None, self.text()
            with contextlib.suppress(requests.RequestException):
                return requests.get(self.url + path, timeout=5).status_code == 200
            return False

        until(answers, seconds, "the server answers")
        return self

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def ended(self, seconds: float = 30.0) -> int:
        """Wait until the process has ended by itself; return its code."""
        return self.process.wait(seconds)

    def terminate(self, seconds: float = 30.0) -> float:
        """Stop it as a supervisor does; return how many seconds that took. Raises TimeoutExpired."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds)
        return time.monotonic() - began

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)
