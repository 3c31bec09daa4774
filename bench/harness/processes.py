"""Starting processes on free ports in directories of their own, and stopping them by their process id."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "bench"
START_SECONDS = 30.0
STOP_SECONDS = 25.0
SAID = 1000  # characters: an exception's last lines


def free_port() -> int:
    """Return a TCP port that nobody has and, until this process ends, nobody is given.

    A socket stays bound to it. One that sets SO_REUSEADDR, as servers do, may listen beside it.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port = int(listener.getsockname()[1])
    listener.detach()
    return port


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for `condition`. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Tell whether somebody accepts on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def answers(port: int) -> bool:
    """Tell whether an HTTP server on this machine answers, with whatever."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 ")
    except OSError:
        return False


class Process:
    """One process with its own directory, which holds what it prints; it works in, and imports from, `root`."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None, root: Path = ROOT) -> None:
        # A UNIX socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="mf-bench-"))
        self.output = self.directory / "out"
        base = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "PYTHONPATH": str(root)}
        base["DATA_DIR"] = str(self.directory / "data")
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                command, cwd=root, env={**base, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> list[int]:
        """Return the process ids of the children: of a gunicorn master, its workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def wait_for(self, port: int) -> None:
        """Wait until the process listens. Raises RuntimeError where it ended, TimeoutError where it doesn't."""
        self.wait_until(lambda: listens(port), f"port {port} is open")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it is as it is to be. Raises RuntimeError where it ended, TimeoutError where it doesn't come."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with {self.process.returncode}:\n{self.text()[-SAID:]}")
            return condition()

        until(ready, START_SECONDS, what)

    def text(self) -> str:
        """Return what the process has printed."""
        return self.output.read_text(errors="replace")

    def stop(self) -> None:
        """End the process and remove its directory."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis(Process):
    """A redis-server of the bench's own, which keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        found = shutil.which("redis-server")
        if found is None:
            raise RuntimeError("redis-server is missing: run `make redis`")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__([found, *options])
        try:
            self.wait_for(self.port)
        except BaseException:
            self.stop()
            raise


def gunicorn(*arguments: str, python: str = sys.executable) -> list[str]:
    """Return the command that starts gunicorn, with this Python by default."""
    return [python, "-m", "gunicorn", *arguments]
