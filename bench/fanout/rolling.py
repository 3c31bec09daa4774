"""A rolling restart under load: `kill -HUP` of gunicorn, and what clients that recover saw of it."""

import signal
import threading
import time

from bench.harness.lifetimes import stopping
from bench.harness.loader import Loader
from bench.harness.processes import Redis, until
from bench.harness.report import Figures
from bench.harness.servers import Ours
from mintflow_realtime.emitter import Emitter

CLIENTS = 100
RATE = 100
WORKERS = 2
BEFORE_SECONDS = 3.0
RESTART_SECONDS = 60.0
# The last of them may be told late, and wait 1.5 s and then 3 s before it is back.
AFTER_SECONDS = 8.0


class Publisher(threading.Thread):
    """Publishes numbered events at a steady rate, from a process that no restart touches."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(daemon=True)
        self._emitter = Emitter(redis_url)
        self._ended = threading.Event()
        self.published = 0

    def run(self) -> None:
        began = time.monotonic()
        with self._emitter as emit:
            while not self._ended.wait(max(0.0, began + self.published / RATE - time.monotonic())):
                emit.publish("default", "/feed", "event", {"number": self.published}, room="all")
                self.published += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()


def rolling() -> Figures:
    """Restart all workers under 100 events a second; return silences in ms, and what was lost."""
    with (
        stopping(Redis()) as redis,
        stopping(Ours(redis.url, "ours_feed", WORKERS)) as server,
        stopping(Loader()) as loader,
    ):
        loader.do("follow", port=server.port, count=CLIENTS, reconnects=True)
        publisher = Publisher(redis.url)
        publisher.start()
        with stopping(publisher):
            time.sleep(BEFORE_SECONDS)
            quiet = loader.do("silences")
            old = set(server.children())
            server.process.send_signal(signal.SIGHUP)
            until(lambda: _all_new(server, old), RESTART_SECONDS, "all workers are new")
            time.sleep(AFTER_SECONDS)
        seen = loader.do("silences", until=publisher.published)
        loader.do("unfollow")
    return {
        "restart: longest silence without it, ms": quiet["longest"],
        "restart: longest silence, ms": seen["longest"],
        "restart: longest silence of the median client, ms": seen["p50"],
        "restart: events lost": seen["lost"],
        "restart: events repeated": seen["repeated"],
        "restart: events out of order": seen["disordered"],
        "restart: reconnections": seen["joins"] - CLIENTS,
        "restart: recovered": seen["recovered"],
        "restart: failed attempts": seen["failures"],
    }


def _all_new(server: Ours, old: set[int]) -> bool:
    now = set(server.children())
    return len(now) == WORKERS and not now & old
