"""What the log store costs: `python bench/logs.py [--rewrites] [redis-server]` fills a tenant to its cap and times
each operation.

Publishing is the whole of it: stored, numbered, logged and announced. The server is its own, on a socket in a temporary
folder, its append-only file on. Rewriting of that file is off but with `--rewrites`: Redis forks for it, and the script
that comes next, whatever it does, copies the pages that it writes to. `median` and `longest` are of the scripts' CPU in
Redis's main thread. CPU is user and system time of this process and of the server, for one whole operation. All in ms.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.envelope import Event, Header, Published, event_pieces
from mintflow_realtime.protocol.logs import LEVELS, NewLog
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.scripts import Arg, Keys, Script
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.stores.logs.query import LogQuery
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs.store import RunStore

TENANT = "acme"
PRINCIPAL = Principal.system(TENANT)
RECORDS = 100_000
BATCH = 1_000


class Watched(RedisClient):
    """Notes what each script costs the server's main thread."""

    def __init__(self, client: "redis.Redis", server: int) -> None:
        super().__init__(client)
        self._schedule = Path(f"/proc/{server}/task/{server}/schedstat")
        self.spent: list[float] = []

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        before = self._milliseconds()
        reply = super().run(script, keys, args, asking=asking)
        self.spent.append(self._milliseconds() - before)
        return reply

    def _milliseconds(self) -> float:
        return int(self._schedule.read_text().split()[0]) / 1e6


class Bench:
    def __init__(self, folder: str, binary: str, rewrites: bool) -> None:
        path = f"{folder}/redis.sock"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder, "--daemonize", "no"]
        options += ["--appendonly", "yes"]
        if not rewrites:
            options += ["--auto-aof-rewrite-percentage", "0"]
        with open(f"{folder}/redis.log", "wb") as log:
            self.server = subprocess.Popen([binary, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.client = Watched(connect(f"unix://{path}"), self.server.pid)
        keys = Keys("bench")
        self.store = LogStore(self.client, keys, max_records=RECORDS)
        self.publisher = Publisher(self.client, keys, Caps())
        self.logs = Logs(self.publisher, self.store)
        self.flows = Flows(self.publisher, RunStore(self.client, keys, life_seconds=3600))
        self.random = random.Random(1)

    def record(self, run: str | None = None) -> NewLog:
        roll = self.random.random()
        flow = self.random.randrange(50)
        words = self.random.choice(
            ("Fetched %d rows from warehouse", "Retrying request, attempt %d", "Step done in %d ms")
        )
        return NewLog(
            log_level=LEVELS[0 if roll < 0.2 and flow % 2 else 1 if roll < 0.94 else 2 if roll < 0.99 else 3],
            message=words % self.random.randrange(10_000),
            # Half of all is one flow's, which makes a clear of 50,000.
            flow_id="flow-0" if run or flow % 2 == 0 else f"flow-{flow}",
            run_id=run or f"run-{self.random.randrange(500)}",
            node_id=f"node-{self.random.randrange(20)}",
            metadata={"attempt": 1, "durationMs": self.random.randrange(9999), "host": "worker-7", "tags": []},
        )

    def publish(self, records: list[NewLog]) -> Published:
        return self.logs.publish(PRINCIPAL, records)

    def server_seconds(self) -> float:
        fields = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, name: str, act: Callable[[], object], times: int = 20) -> None:
        if times > 1:
            act()
        self.client.spent.clear()
        before, server, wall = resource.getrusage(resource.RUSAGE_SELF), self.server_seconds(), time.perf_counter()
        for _ in range(times):
            result = act()
        elapsed = (time.perf_counter() - wall) / times * 1000
        after = resource.getrusage(resource.RUSAGE_SELF)
        ours = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times * 1000
        theirs = (self.server_seconds() - server) / times * 1000
        spent = sorted(self.client.spent)
        scripts = len(spent) / times
        print(
            f"{name:34} {ours:8.2f} {theirs:8.2f} {ours + theirs:8.2f} {elapsed:8.2f} {scripts:8.1f}"
            f" {spent[len(spent) // 2]:8.2f} {spent[-1]:8.2f}  {result}",
            flush=True,
        )

    def page(self, name: str, **criteria: object) -> None:
        def act() -> str:
            page = self.store.page(TENANT, LogQuery(**criteria))  # type: ignore[arg-type]
            return f"{len(page.records)} records{', more' if page.next_cursor else ''}"

        self.measure(name, act)

    def append(self, count: int, times: int, run: str | None = None) -> None:
        batches = iter([[self.record(run) for _ in range(count)] for _ in range(times + 1)])
        self.measure(
            f"publish {count:,}{' of one run' if run else ''}",
            lambda: f"{len(self.publish(next(batches)).offsets)} stored",
            times,
        )

    def run_events(self, count: int, times: int) -> None:
        events = [RunEvent(type="flow_progress", progress=50, data={"rows": number}) for number in range(count)]
        self.measure(
            f"publish {count:,} events of a run",
            lambda: f"{len(self.flows.publish(PRINCIPAL, 'flow-1', 'run-1', events).offsets)} stored",
            times,
        )

    def clear(self) -> str:
        """Clear half of all, without the purge that the service lets follow."""
        change = self.store.clear_change(TENANT, flow_id="flow-0")
        done = self.publisher.publish(
            TENANT, "/logs", [Event(Header(()), event_pieces("clear_logs", ("", "")))], change
        )
        return f"{done.inserts[0][0]} cleared"

    def run(self) -> None:
        started = time.perf_counter()
        moments = []
        for _ in range(RECORDS // BATCH):
            self.publish([self.record() for _ in range(BATCH)])
            moments.append(time.time_ns() // 1_000_000)
        facts = self.client.command("INFO")
        took = time.perf_counter() - started
        print(f"Redis {facts['redis_version']}: {RECORDS:,} records in {took:.1f} s, {facts['used_memory_human']}")
        names = ("python", "redis", "CPU", "wall", "scripts", "median", "longest")
        print(f"{'ms':34} " + " ".join(f"{name:>8}" for name in names))
        self.page("page of the tenant")
        self.page("page by flow", flow="flow-1")
        self.page("page by run", run="run-7")
        self.page("page by node", node="node-3")
        self.page("page by level (1 %)", levels=frozenset({"error"}))
        self.page("page by minLevel (90 %)", levels=frozenset({"info", "warn", "error"}))
        self.page("page by minLevel (6 %)", levels=frozenset({"warn", "error"}))
        self.page("page by time", from_ms=moments[20], to_ms=moments[60])
        self.page("page by flow, node", flow="flow-0", node="node-3")
        self.page("page by flow, level", flow="flow-1", levels=frozenset({"error"}))
        self.page("page by half and 10 %, disjoint", flow="flow-0", levels=frozenset({"debug"}))
        self.page("page by half, 1 %, run, time", flow="flow-0", run="run-7", to_ms=moments[60])
        self.page("page by node, level (sparse)", node="node-3", levels=frozenset({"error"}))
        self.page("page by flow, last page", flow="flow-0", before=f"{moments[1]}-900")
        self.page("page of 1,000", limit=1000)
        self.page("search, frequent", search="ATTEMPT 9")
        self.page("search, rare", search="attempt 9999")
        self.page("search, no match", search="nowhere to be found")
        self.page("search, no match, not ASCII", search="größe")
        self.append(1, 200)
        self.append(BATCH, 10)
        self.append(BATCH, 10, run="run-1001")
        self.store.purge(TENANT)
        self.measure("clear of 50,000", self.clear, 1)
        self.page("page of the tenant, before purge")
        self.append(1, 20)
        self.measure("purge of it", lambda: self.store.purge(TENANT), 1)
        self.page("page of the tenant, after purge")
        self.append(BATCH, 10)
        self.run_events(1, 100)
        self.run_events(BATCH, 10)
        for _ in range(20):
            self.publish([NewLog(log_level="info", message="a" * 60_000, run_id="long") for _ in range(20)])
        self.page("search of 24 MB, no match", run="long", search="nowhere to be found")
        self.page("search of 24 MB, hard", run="long", search="a" * 999 + "b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rewrites", action="store_true")
    parser.add_argument("binary", nargs="?", default="redis-server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder, options.binary, options.rewrites)
        try:
            bench.run()
        finally:
            bench.client.close()
            bench.server.terminate()
            bench.server.wait(10)


if __name__ == "__main__":
    main()
