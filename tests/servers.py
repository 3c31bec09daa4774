"""Real servers for tests: Redis and gunicorn, on ports and in directories of their own, stopped by process id."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import redis
import requests

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
# Of what is in .venv for tests alone, python-socketio and redis-py load these wherever they find them, a fifth of a
# server's start. A server has no more here than an installation of it has.
PYTHON_PATH = f"{ROOT / 'tests' / 'uninstalled'}{os.pathsep}{ROOT}"
SECRET = "Zq7-vN2_kL9xR4tW8pB3mJ6hD1sF5gYc"
API_KEY = "k3y-Hn4_vR8wQ2zX6tB9mL1pJ7sD5fGc"
OTHER_KEY = "k3y-Yw7_bC3nM8vK2xL9qR4tP6hJ1sDf"


def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Return the first true value of `condition`; raise AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)


def token(user: str = "ann", tenants: list[str] | None = None, **claims: Any) -> str:
    """Return a JWT of an hour for `user`; claims set to None are left out."""
    now = int(time.time())
    body = {"userId": user, "tenants": tenants or ["acme"], "exp": now + 3600, "iat": now, **claims}
    return jwt.encode({name: value for name, value in body.items() if value is not None}, SECRET, "HS256")


class RedisServer:
    """A redis-server with an append-only file; `kill`, `pause`, `start` again keep port, directory and data."""

    def __init__(self, binary: str | None = None) -> None:
        found = binary or shutil.which("redis-server")
        if found is None:
            if os.environ.get("CI"):
                raise AssertionError("redis-server is missing")
            import pytest

            pytest.skip("redis-server is missing")
        self.binary, self.port = found, free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-redis-"))
        self.options = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, "appendonly": "yes", "save": ""}
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [self.binary] + [part for name, value in self.options.items() for part in (f"--{name}", str(value))]
        with open(self.directory / "redis.out", "ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        with self.client() as client:
            until(lambda: _pings(client), 10, "Redis answers")

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, socket_timeout=5, retry=None)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None


def _pings(client: "redis.Redis") -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


class Node:
    """gunicorn with this project's own configuration and some workers; `env` adds settings.

    Coverage doubles what Python costs, a start of 2 s of CPU first of all: so only those servers are `measured` that
    many tests use.
    """

    def __init__(
        self, *, workers: int = 1, application: str = "server:application", measured: bool = False, **env: str
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Not pytest's tmp_path: a UNIX socket's path has at most 107 bytes.
        self.directory = directory = Path(tempfile.mkdtemp(prefix="mf-"))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": str(workers),
            "DATA_DIR": str(directory / "data"),
            "JWT_SECRET": SECRET,
            "API_KEYS": f"{API_KEY}:acme,{OTHER_KEY}:other",
            "PYTHONPATH": PYTHON_PATH,
            **{name: value for name, value in os.environ.items() if measured and name.startswith("COVERAGE")},
            **env,
        }
        self.application = application
        self.output = directory / "gunicorn.out"
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), self.application]
        with open(self.output, "ab") as out:
            return subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=out, stderr=out, start_new_session=True)

    def wait_ready(self, seconds: float = 30.0) -> "Node":
        def ready() -> bool:
            assert self.process.poll() is None, self.text()
            with contextlib.suppress(requests.RequestException):
                return requests.get(self.url + "/readyz", timeout=3).status_code == 200
            return False

        until(ready, seconds, "the node is ready")
        return self

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    @contextlib.contextmanager
    def accepting_only(self, place: int) -> Iterator[None]:
        """Pause all workers but one for a moment, so that it alone accepts: left to chance, nearly all go to one."""
        workers = sorted(self.workers())
        others = [pid for pid in workers if pid != workers[place % len(workers)]]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(25)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def stopping(*servers: Any) -> Iterator[None]:
    """Stop `servers` at the end, last first."""
    try:
        yield
    finally:
        for server in reversed(servers):
            server.stop()


def run_js(script: str, *args: str, seconds: float = 60.0) -> str:
    """Run `tests/js/{script}` with node and return what it printed; raise AssertionError where it failed."""
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules" / "socket.io-client").is_dir():
        if os.environ.get("CI"):
            raise AssertionError("node or socket.io-client is missing: run `make setup`")
        import pytest

        pytest.skip("node or socket.io-client is missing: run `make setup`")
    done = subprocess.run(
        [node, str(ROOT / "tests" / "js" / script), *args], cwd=ROOT, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
