"""The namespace of both Python servers: a stock one, plainly written; `node.mjs` says the same in JavaScript."""

import gc
import time
from typing import Any

import gevent
import socketio

ROOM = "all"
TICK_SECONDS = 0.001


class BenchNamespace(socketio.Namespace):  # type: ignore[misc]
    """Every client is in one room; `local` emits skip the message queue, where there is one."""

    def __init__(self, namespace: str = "/bench") -> None:
        super().__init__(namespace)
        self._gauge: Gauge | None = None

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        self.enter_room(sid, ROOM)

    def on_ack(self, sid: str, text: str) -> str:
        return text

    def on_broadcast(self, sid: str, count: int, size: int, at: float, local: bool) -> None:
        payload = {"at": at, "data": "x" * size}
        for _ in range(count):
            self.emit("event", payload, to=ROOM, ignore_queue=local)

    def on_ignore(self, sid: str, text: str) -> None:
        pass

    def on_collect(self, sid: str) -> int:
        return gc.collect()

    def on_gauge(self, sid: str) -> dict[str, float]:
        if self._gauge is None:
            self._gauge = Gauge()
            gevent.spawn(self._gauge.run)
        return self._gauge.take()


class Gauge:
    """How long the loop was not free, in ms: by the clock, and by this thread's CPU time, without neighbours."""

    def __init__(self) -> None:
        self.late = self.busy = 0.0

    def run(self) -> None:
        while True:
            clock, cpu = time.perf_counter(), time.thread_time()
            gevent.sleep(TICK_SECONDS)
            self.late = max(self.late, time.perf_counter() - clock - TICK_SECONDS)
            self.busy = max(self.busy, time.thread_time() - cpu)

    def take(self) -> dict[str, float]:
        """Return the longest since the last call."""
        taken = {"late": self.late * 1000, "busy": self.busy * 1000}
        self.late = self.busy = 0.0
        return taken
