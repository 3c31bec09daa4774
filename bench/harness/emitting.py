"""What a publish costs another process, and Redis: the remote control of `bench/servers/ours_emitter.py`."""

import os
import select
import subprocess

from bench.harness.checkouts import Checkout
from bench.harness.cost import cpu_seconds
from bench.harness.loader import ANSWER_SECONDS, LoadError
from bench.harness.processes import BENCH, Redis
from bench.harness.report import Figures

WAYS = {
    "event": "publish an event",
    "aging": "publish an event where one ages out",
    "run": "publish a run's event",
    "log": "publish a log record",
    "workspace": "update a workspace",
    "history": "log_history of 200",
    "filter": "filter_logs of 200",
    "page": "recovery page of 300",
    "read run": "read a run and its 1,000 events",
}
READING = {"history", "filter", "page", "read run"}
QUICK = "BENCH_QUICK" in os.environ
SLICE = 50 if QUICK else 300  # publishes: some 60 ms, so that others on the machine are beside every side alike
READS = 5 if QUICK else 30


class Emitting:
    """An `Emitter` of a checkout in a process of its own, and its Redis."""

    def __init__(self, redis: Redis, checkout: Checkout) -> None:
        self.redis = redis
        # -P: the script's own folder comes before no checkout's.
        command = [checkout.python, "-P", str(BENCH / "servers" / "ours_emitter.py")]
        self._process = subprocess.Popen(
            [*command, checkout.emitter_module, redis.url],
            cwd=checkout.root,
            env={"PATH": os.environ["PATH"], "HOME": str(redis.directory), "PYTHONPATH": str(checkout.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.figures: Figures = {}

    def publish(self, way: str) -> None:
        """Do a slice in one of WAYS; the figures are CPU for each, in µs. Raises LoadError."""
        before, count = self._cpu(), _slice(way)
        self._do(way)
        after = self._cpu()
        self.figures[f"{WAYS[way]}, µs"] = (after[0] - before[0]) / count * 1e6
        self.figures[f"{WAYS[way]}, Redis µs"] = (after[1] - before[1]) / count * 1e6

    def warm(self) -> None:
        """Do a slice in each of WAYS that is not counted, and have what ages out begin to."""
        for way in WAYS:
            self._do(way)
        for _ in range(10):
            self._do("aging")

    def _cpu(self) -> tuple[float, float]:
        return cpu_seconds(self._process.pid), cpu_seconds(self.redis.pid)

    def _do(self, way: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{way} {_slice(way)}\n".encode())
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise LoadError(f"{WAYS[way]} took more than {ANSWER_SECONDS:g} s")
        if not self._process.stdout.readline():
            raise LoadError(f"the process that publishes ended with {self._process.wait(5)}")

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait(5)
        self._process.stdout.close()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # what it was told last was never read


def _slice(way: str) -> int:
    return READS if way in READING else SLICE
