"""A real proxy with its folder of deploy/ before two hosts: free ports, a directory of its own, ended by process id."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from tests.ports import free_port
from tests.servers import ROOT, until

UNPACKED = ROOT / ".make" / "debian"
# The hosts' heartbeats and all timeouts of half a minute and more are divided by this, so that idling takes seconds.
SCALE = 5
PING_INTERVAL, PING_TIMEOUT, TIMEOUT = 25 // SCALE, 20 // SCALE, 60 // SCALE


def installed(name: str) -> str:
    """Return the path of a program; without it a test is skipped, but fails in CI."""
    folders = [os.environ["PATH"], "/usr/sbin", "/usr/local/sbin", str(Path(sys.executable).parent)]
    unpacked = [str(UNPACKED / "usr" / "sbin"), str(UNPACKED / "usr" / "bin")]
    found = shutil.which(name, path=":".join([*folders, *unpacked]))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing: run `make setup`")
        pytest.skip(f"{name} is missing: run `make setup`")
    return found


def prefix(binary: str) -> Path:
    """Return the folder that stands for `/` where Debian's package was only unpacked."""
    return UNPACKED if binary.startswith(str(UNPACKED)) else Path("/")


def libraries(binary: str) -> Path:
    """Return the folder of shared libraries of what a program came with."""
    return next((prefix(binary) / "usr" / "lib").glob("*-linux-gnu*"))


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in listed.read_text().split()]
    return found


class Proxy:
    """One proxy. A subclass names its program and files, and says how it is begun and reloaded."""

    program: ClassVar[str]
    # In deploy/, and what the copy is called.
    shipped: ClassVar[dict[str, str]]

    def __init__(self, first: int, second: int) -> None:
        """Begin before the hosts on these ports, whose HOST_ID is 1 and 2."""
        self.binary = installed(self.program)
        self.hosts = (first, second)
        self.port, self.admin = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Short: Varnish and Apache make UNIX sockets in it.
        self.directory = Path(tempfile.mkdtemp(prefix="mf-proxy-"))
        self.configure()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def replacements(self) -> dict[str, str]:
        """Return what differs from what is shipped: addresses, paths, and timeouts divided by SCALE."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def reload(self) -> None:
        """Make the running proxy read its configuration, which has changed, again."""
        raise NotImplementedError

    def configure(self) -> None:
        texts = {name: (ROOT / "deploy" / path).read_text() for path, name in self.shipped.items()}
        for written, ours in self.replacements().items():
            assert any(written in text for text in texts.values()), f"none of {list(self.shipped)} has {written!r}"
            texts = {name: text.replace(written, ours) for name, text in texts.items()}
        for name, text in texts.items():
            (self.directory / name).write_text(text)

    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.directory), "PATH": os.environ["PATH"]}
        return own | ({"LD_LIBRARY_PATH": str(libraries(self.binary))} if prefix(self.binary) == UNPACKED else {})

    def run(self, *command: str) -> None:
        """Run a command of the proxy's to its end."""
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment(), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        with open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self.environment(),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        until(self.answers, 30, f"{self.program} answers")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.written()
        with contextlib.suppress(requests.RequestException):
            # Where both hosts are away it says so itself.
            return requests.get(self.url + "/healthz", timeout=5).status_code != 404
        return False

    def change(self, name: str, added: str) -> None:
        """Add to a file of its own."""
        with open(self.directory / name, "a") as file:
            file.write(added)

    def kill(self) -> None:
        """End it and its workers without a word."""
        for pid in family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        until(self._is_free, 10, "the port is free")

    def _is_free(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return False
        return True

    def written(self) -> str:
        """Return all that it wrote, logs among it, but for its configuration."""
        own = set(self.shipped.values())
        files = [path for path in self.directory.rglob("*") if path.is_file() and path.name not in own]
        return "\n".join(path.read_text(errors="replace") for path in files if path.stat().st_size < 50_000_000)

    def stop(self) -> None:
        if self.process.poll() is None:
            workers = family(self.process.pid)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
            for pid in workers[1:]:
                # A worker may wait for its clients, for as long as they stay.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def source_bound(address: str) -> Any:
    """Return a session whose requests come from another address of the loopback."""
    from requests.adapters import HTTPAdapter

    class Bound(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, source_address=(address, 0), **options)

    session = requests.Session()
    session.mount("http://", Bound())
    return session
