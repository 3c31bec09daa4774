"""Stock JavaScript clients in a process of their own, and what each of them saw: nothing twice, no silent gap."""

import json
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.servers import ROOT, token, until

# What a follower must have heard of before a number may be missing.
BREAKS = frozenset({"resync", "lost", "connected"})


class Crowd:
    """`clients` stock clients with default options, following one flow over `urls` in turn."""

    def __init__(self, clients: int, flow: str, *urls: str, auth: dict[str, Any] | None = None) -> None:
        node = shutil.which("node")
        assert node is not None, "node is missing"
        self.clients = clients
        self.seen: list[list[tuple[str, Any]]] = [[] for _ in range(clients)]
        self.process = subprocess.Popen(
            [
                node,
                str(ROOT / "tests" / "js" / "crowd.mjs"),
                str(clients),
                flow,
                json.dumps(auth or {"token": token("crowd")}),
                *urls,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            client, what, value = json.loads(line)
            self.seen[client].append((what, value))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def counts(self) -> Counter[str]:
        """Return how often anything happened to anyone."""
        return Counter(what for seen in self.seen for what, _ in list(seen))

    def wait(self, what: str, times: int = 1, seconds: float = 15.0, clients: Iterable[int] | None = None) -> None:
        """Wait until it has happened to each client so many times."""
        places = range(self.clients) if clients is None else list(clients)

        def happened() -> bool:
            return all(self.times(place, what) >= times for place in places)

        until(happened, seconds, f"{times} x {what} for each; {[self.times(place, what) for place in places]}")

    def times(self, client: int, what: str) -> int:
        return sum(name == what for name, _ in list(self.seen[client]))

    def payloads(self, client: int, event: str) -> list[Any]:
        return [value for name, value in list(self.seen[client]) if name == event]

    def online(self) -> bool:
        """Tell whether each client's latest word is a subscription that holds."""

        def last(seen: list[tuple[str, Any]]) -> str | None:
            return next((what for what, _ in reversed(seen) if what in ("subscribed", "connected", "lost")), None)

        return all(last(list(seen)) == "subscribed" for seen in self.seen)

    def faults(self, numbers_of: str = "n") -> list[str]:
        """Return every duplicate, wrong order and silent gap in the events' own numbers (`payload[numbers_of]`)."""
        found = []
        for client, seen in enumerate(self.seen):
            last, told = None, True
            for what, value in list(seen):
                if what in BREAKS:
                    told = True
                elif isinstance(value, dict) and numbers_of in value:
                    number = value[numbers_of]
                    if last is not None and number <= last:
                        found.append(f"client {client}: {number} after {last}")
                    elif last is not None and number != last + 1 and not told:
                        found.append(f"client {client}: {number} after {last}, and no word of it")
                    last, told = number, False
        return found
