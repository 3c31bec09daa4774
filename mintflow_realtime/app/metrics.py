"""What a node counts, handed over once a second; and the page of all workers of its host."""

import logging
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.metrics import series
from mintflow_realtime.metrics.exposition import render
from mintflow_realtime.metrics.slots import Slot
from mintflow_realtime.transport.engine_io.server import EngineServer

HAND_OVER_SECONDS = 1.0
LAG_SECONDS = 0.25

_PAGE_BYTES = resource.getpagesize()
_log = logging.getLogger("mintflow.metrics")


class NodeMetrics:
    """Hands over what this process counts to `directory`, from `start` to `close`, and reads what all have there."""

    def __init__(self, directory: str, engine: EngineServer, channels: Channels, version: str) -> None:
        self._directory, self._engine, self._channels = directory, engine, channels
        self._slot: Slot | None = None
        self._loops: list[gevent.Greenlet[..., None]] = []
        self._began = time.time()
        self._due = 0.0
        series.BUILD_INFO.set(1, version, platform.python_version(), gevent.__version__)

    def start(self) -> None:
        """Begin to hand over."""
        try:
            self._slot = Slot(self._directory)
        except OSError as error:
            _log.warning("This worker is not in /metrics: %s", error)
            return
        self.hand_over()
        self._due = time.monotonic() + LAG_SECONDS
        self._loops = [
            start_loop("the hand-over of metrics", self.hand_over, HAND_OVER_SECONDS),
            start_loop("the look at the loop's lag", self._measure_lag, self._wait),
        ]

    def close(self) -> None:
        """Be in no page any more."""
        gevent.killall(self._loops)
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.close()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page of all workers and its content type; this worker's numbers are those of now."""
        self.hand_over()
        if not monkey.is_module_patched("socket"):
            return render(self._directory, accept)
        # A page of many workers takes milliseconds, which the loop has better use for.
        page: tuple[bytes, str] = gevent.get_hub().threadpool.apply(render, (self._directory, accept))
        return page

    def hand_over(self) -> None:
        """Leave what was counted so far, and how things stand now, where the page is made of."""
        if self._slot is not None:
            self._look()
            self._slot.write(series.ALL)

    def _look(self) -> None:
        engine, used = self._engine, resource.getrusage(resource.RUSAGE_SELF)
        waiting = [engine.sockets[sid].outbox for sid in engine.sockets.keys() - engine.direct.keys()]
        sizes = [outbox.size for outbox in waiting if outbox is not None]
        series.SESSIONS.set(len(engine.sockets))
        series.OUTBOXES.set(len(sizes))
        series.OUTBOX_BYTES.set(sum(sizes))
        series.PROBE_AGE.set(self._channels.probe_age)
        series.CHANNELS.set(len(self._channels))
        series.GREENLETS.set(len(engine.greenlets), "handlers")
        series.GREENLETS.set(len(engine.disconnect_greenlets), "disconnects")
        series.DRAINING.set(int(engine.draining))
        series.MAX_CONNECTIONS.set(engine.max_connections)
        series.STARTED.set(self._began)
        series.CPU_SECONDS.value = used.ru_utime + used.ru_stime
        series.MEMORY_BYTES.set(_resident_bytes(used))
        series.OPEN_FILES.set(_open_files())
        series.MAX_FILES.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        series.HANDED_OVER.set(time.time())

    def _measure_lag(self) -> None:
        series.LOOP_LAG.observe(max(0.0, time.monotonic() - self._due))

    def _wait(self) -> None:
        self._due = time.monotonic() + LAG_SECONDS
        gevent.sleep(LAG_SECONDS)


def _resident_bytes(used: "resource.struct_rusage") -> float:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return used.ru_maxrss * 1024  # the most that it was, where nothing tells what it is


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


Render = Callable[[str], tuple[bytes, str]]


def page_app(show: Render) -> Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]:
    """Return a WSGI application that shows the page at `/metrics`, and nothing else."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, page, content_type = "404 Not Found", b"Metrics are at /metrics\n", "text/plain; charset=utf-8"
        if environ["PATH_INFO"] == "/metrics" and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            status = "200 OK"
            page, content_type = show(environ.get("HTTP_ACCEPT", ""))
        headers = [("Content-Type", content_type), ("Content-Length", str(len(page))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    return app
