"""One host: a gunicorn that is started again when its master dies, as systemd would, and what its workers hold."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import requests

from tests.servers import Node, until

# systemd waits for what is left of a service before it starts it again.
LEFT_SECONDS = 20.0


class Host(Node):
    """A `Node` under supervision. It runs without coverage: that alone would double the load."""

    def __init__(self, **options: Any) -> None:
        self._ending = threading.Event()
        self.restarts = 0
        super().__init__(**options)
        self._supervisor = threading.Thread(target=self._supervise)
        self._supervisor.start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self.env = {name: value for name, value in self.env.items() if not name.startswith("COVERAGE")}
        return super()._start()

    def workers(self) -> list[int]:
        """Return the workers' process ids, also while the master is started again."""

        def found() -> list[int]:
            try:
                return super(Host, self).workers()
            except OSError:
                return []

        return list(until(found, 30, "the host has workers"))

    def _supervise(self) -> None:
        while not self._ending.is_set():
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            if not self._ending.is_set():
                self._sweep(self.process.pid)
                self.restarts += 1
                self.process = self._start()

    def _sweep(self, group: int) -> None:
        """End what a dead master left: workers that still hold the port."""
        deadline = time.monotonic() + LEFT_SECONDS
        number = signal.SIGTERM
        for pid in members(group):
            _send(pid, number)
        while left := members(group):
            if time.monotonic() > deadline:
                for pid in left:
                    _send(pid, signal.SIGKILL)
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._ending.set()
        self._supervisor.join()
        super().stop(number)
        self._sweep(self.process.pid)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group, *_ = rest.split()
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sockets(pid: int) -> int:
    """Return how many sockets a process has open; none once it has ended."""
    try:
        return sum(os.readlink(link).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def levels(host: Node) -> list[dict[str, Any]]:
    """Return what each worker of a host holds; an empty one for a worker that doesn't answer."""
    found = []
    for place, pid in enumerate(sorted(host.workers())):
        with host.accepting_only(place):
            try:
                counts = requests.get(host.url + "/_counts", headers={"Connection": "close"}, timeout=3).json()
            except requests.RequestException:
                counts = {}
        if counts.get("pid") == pid:
            # The transport keeps some idle ones for the next piece of work.
            counts["greenlets"] = sum(place != "greenlet_pool.py:_live" for place in counts["standing"])
            found.append({**counts, "resident": resident(pid)})
        else:
            found.append({"pid": pid})
    return found
