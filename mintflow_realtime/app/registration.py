"""What a node writes of itself into Redis, every other second: that it is there, and how it is."""

import os
import platform
import resource
import time
from collections.abc import Callable

import msgspec

from mintflow_realtime.protocol.nodes import NodeInfo
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.stores.nodes.store import NodeStore

REGISTER_SECONDS = 2.0


class Registration:
    """Registers a node. `received` counts events so far, `connections` those that are open, `draining` tells it."""

    def __init__(
        self,
        store: NodeStore,
        node: str,
        version: str,
        connections: Callable[[], int],
        received: Callable[[], int],
        draining: Callable[[], bool],
    ) -> None:
        self._store, self._node, self._version = store, node, version
        self._connections, self._received, self._draining = connections, received, draining
        self._since = iso(now_ms())
        self._before = self._counts()
        self._latency = 0.0

    def tick(self) -> None:
        """Write it. Raises Unavailable."""
        facts = msgspec.json.encode(self.facts())
        began = time.perf_counter()
        self._store.register(self._node, facts)
        self._latency = time.perf_counter() - began

    def end(self) -> None:
        """Say that this node has ended. Raises Unavailable."""
        self._store.register(self._node, msgspec.json.encode(self.facts()), 0)

    def facts(self) -> NodeInfo:
        """Return what there is to say: rates are of the time since it was last asked for."""
        before, self._before = self._before, self._counts()
        seconds, processor, received = (now - then for now, then in zip(self._before, before, strict=True))
        seconds = max(seconds, 1e-3)
        return NodeInfo(
            node_id=self._node,
            host=platform.node(),
            pid=os.getpid(),
            version=self._version,
            since=self._since,
            connections=self._connections(),
            cpu_percent=round(100 * processor / seconds, 1),
            memory_bytes=_resident(),
            events_per_second=round(received / seconds, 1),
            redis_latency_ms=round(self._latency * 1000, 2),
            draining=self._draining(),
        )

    def _counts(self) -> tuple[float, float, int]:
        return time.monotonic(), time.process_time(), self._received()


def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Not Linux: the most that it ever was.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
