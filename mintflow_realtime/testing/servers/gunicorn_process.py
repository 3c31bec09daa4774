"""gunicorn with our worker on one application, in a directory where its workers tell how they are."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from mintflow_realtime.testing.servers.application import FAILED, WORKERS
from mintflow_realtime.testing.servers.processes import Port, Process

STOP_SECONDS = 10.0
POLL_SECONDS = 0.01
LOGGED_SECONDS = 3.0
# How much of the log an error shows.
TAIL_LINES = 40


class ServerError(RuntimeError):
    """The test server can't serve; the text is a sentence, then the end of the server's log."""


class GunicornProcess:
    """Serves `application`, a name, on `port`; `directory` has its log. It ends with this process."""

    def __init__(self, application: str, directory: Path, port: Port, environment: Mapping[str, str]) -> None:
        self._application, self._directory = application, directory
        load = f"mintflow_realtime.testing.servers.application:load({application!r}, {str(directory)!r})"
        with port.listen() as listener:
            command = [sys.executable, "-m", "gunicorn", "-c", "python:mintflow_realtime.app.gunicorn"]
            command += ["-b", f"fd://{listener.fileno()}", load]
            self._process = Process(command, directory / "log", environment, [listener.fileno()])

    @property
    def log(self) -> str:
        """What it has logged so far."""
        with suppress(FileNotFoundError):
            return (self._directory / "log").read_text(errors="replace")
        return ""

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that have loaded the application."""
        pids = []
        with suppress(FileNotFoundError):
            for path in (self._directory / WORKERS).iterdir():
                if path.name.isdigit():
                    pid = int(path.name)
                    if _lives(pid):
                        pids.append(pid)
                    else:
                        path.unlink(missing_ok=True)
        return sorted(pids)

    def reload(self) -> None:
        """Let it load the application anew."""
        self._process.send(signal.SIGHUP)

    def end(self, *, at_once: bool = False) -> None:
        """Stop it as an administrator does, and kill what is left; `at_once` where it may still be loading."""
        self._process.end(signal.SIGKILL if at_once else signal.SIGTERM, STOP_SECONDS)

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `done`. Raises ServerError: it ended, does not load its application, or did not `what` in time."""
        deadline = time.monotonic() + seconds
        failed = self._directory / FAILED
        while not done():
            code = self._process.code
            if failed.exists():
                pid, _, reason = failed.read_text(errors="replace").partition(" ")
                failed.unlink()
                self._await_end(int(pid))
                raise ServerError(f"The application {self._application} does not load: {reason}{self.tail()}")
            if code is not None:
                ended = f"The server of {self._application} ended with code {code}"
                raise ServerError(f"{ended}{self._reason()}{self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self._application} did not {what} within {seconds:g} s.{self.tail()}")
            time.sleep(POLL_SECONDS)

    def tail(self) -> str:
        """Return the end of the log, as errors show it."""
        lines = self.log.strip().splitlines()[-TAIL_LINES:]
        return "\nThe end of its log:\n" + "\n".join(lines) if lines else "\nIts log is empty."

    def _await_end(self, pid: int) -> None:
        """Wait for the end of a worker that failed: it logs the traceback before."""
        deadline = time.monotonic() + LOGGED_SECONDS
        while _lives(pid) and self._process.code is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _reason(self) -> str:
        """Return what our configuration said when it refused to start."""
        said = [line for line in self.log.splitlines() if line.startswith("mintflow: ")]
        return ": " + said[-1].removeprefix("mintflow: ") if said else "."


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
