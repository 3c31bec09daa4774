"""The clients of the load: stock JavaScript ones in one process, told what to suffer through its standard input."""

import json
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.oracle.publishers import ROOMS
from tests.servers import ROOT, token, until


class Clients:
    """`count` clients over `tenants` in turn, each on all `namespaces` over one connection."""

    def __init__(
        self,
        directory: Path,
        urls: Sequence[str],
        tenants: Sequence[str],
        namespaces: Sequence[str],
        count: int,
        seed: int,
        *,
        recover: bool,
        transports: Sequence[list[str] | None],
    ) -> None:
        node = shutil.which("node")
        assert node is not None, "node is missing"
        self.count, self.namespaces = count, namespaces
        wanted = {
            "directory": str(directory),
            "seed": seed,
            "urls": [*urls],
            "recover": recover,
            "namespaces": [*namespaces],
            "clients": [
                {
                    "name": f"{place:02}",
                    "tenant": (tenant := tenants[place % len(tenants)]),
                    "token": token(f"user-{place}", [tenant]),
                    "transports": transports[place // len(tenants) % len(transports)],
                    "room": ROOMS[place // len(tenants) % len(ROOMS)],
                }
                for place in range(count)
            ],
        }
        self.process = subprocess.Popen(
            [node, str(ROOT / "tests" / "js" / "oracle.mjs"), json.dumps(wanted)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Faults that come together are injected by two threads.
        self._lock = threading.Lock()
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, do: str, **more: Any) -> Any:
        """Give a command and return its answer."""
        assert self.process.stdin is not None
        with self._lock:
            self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self.process.stdin.flush()
            return json.loads(self._line())

    def wait_online(self, seconds: float) -> bool:
        """Wait until each is connected in each namespace; return whether they are."""

        def all_online() -> bool:
            status = self.ask("status")
            return bool(status["online"] == status["of"])

        return _within(all_online, seconds)

    def wait_ends(self, each: int, seconds: float) -> bool:
        """Wait until each has had so many events that end the load; return whether all have."""
        return _within(lambda: self.ask("status")["ends"] >= each * self.count, seconds)

    def end(self) -> None:
        """Disconnect all; what they saw is in their files afterwards."""
        self.ask("end")
        self.process.wait(10)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _within(condition: Any, seconds: float) -> bool:
    try:
        until(condition, seconds)
    except AssertionError:
        return False
    return True
