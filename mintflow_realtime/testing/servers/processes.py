"""Processes, directories and ports that end with the test process: by `stop`, at its exit, or by the guard."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mintflow_realtime.testing.servers import guard

# Connections that may wait to be accepted, as with gunicorn.
BACKLOG = 2048
# How long the end of a process that was killed may take.
KILLED_SECONDS = 10.0


class _Guard:
    """This process's guard, started with the first thing that it is to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def tell(self, line: str) -> None:
        with self._lock:
            if self._owner != os.getpid():
                # A fork has a guard of its own: what its parent started is not its to end.
                self._start()
            assert self._process is not None and self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def _start(self) -> None:
        self._owner = os.getpid()
        # Without site-packages it starts in a third of the time.
        command = [sys.executable, "-I", "-S", guard.__file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        atexit.register(self._end, self._process, self._owner)

    @staticmethod
    def _end(process: "subprocess.Popen[str]", owner: int) -> None:
        if os.getpid() == owner and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(KILLED_SECONDS)


_guard = _Guard()


class Process:
    """A program in a process group of its own, whose output goes to the end of the file `output`."""

    def __init__(
        self, command: Sequence[str], output: Path, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
    ) -> None:
        with open(output, "ab") as out:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is sent to the terminal's foreground group, and must not reach it
            )
        self.pid = self._popen.pid
        _guard.tell(f"+group {self.pid}")

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._popen.poll()

    def send(self, number: int) -> None:
        """Send a signal to this process, not to its group."""
        self._popen.send_signal(number)

    def end(self, number: int, seconds: float) -> None:
        """Send `number`, wait at most `seconds`, then kill the whole group. May be called again."""
        if self._popen.poll() is None:
            # One that is stopped takes no signal but these two.
            self._popen.send_signal(signal.SIGCONT)
            self._popen.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(KILLED_SECONDS)
        _guard.tell(f"-group {self.pid}")


def make_directory() -> Path:
    """Return a new directory, which `remove_directory` removes: its path is short, for the UNIX sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="mintflow-"))
    _guard.tell(f"+directory {path}")
    return path


def remove_directory(path: Path) -> None:
    """Remove a directory of `make_directory`, and what is in it."""
    shutil.rmtree(path, ignore_errors=True)
    _guard.tell(f"-directory {path}")


class Port:
    """A TCP port of 127.0.0.1 that nobody else can get until `close`, whether something listens on it or not."""

    def __init__(self) -> None:
        # Bound and never listening: it keeps the port, and connections are refused while no server runs.
        self._keeper = _bound(0)
        self.number = int(self._keeper.getsockname()[1])

    def listen(self) -> socket.socket:
        """Return a socket that listens on the port, for a server to inherit."""
        listener = _bound(self.number)
        listener.listen(BACKLOG)
        return listener

    def close(self) -> None:
        """Give the port up."""
        self._keeper.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    # Two sockets of one user may share a port that way. For port 0 the kernel still picks one that nobody has.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
