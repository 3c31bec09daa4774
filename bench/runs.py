"""What a list of runs costs: `python -m bench.runs`. CPU of Redis and of this process for pages of 50 of 10,000."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.runs import ListRuns
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs.store import RunStore

RUNS = 10_000
ROUNDS = 20
MOST_MS = 20.0
QUERIES: dict[str, dict[str, Any]] = {
    "newest": {},
    "of a flow": {"flowId": "flow-7"},
    "failed": {"status": "failed"},
    "by a rare tag": {"tag": "rare"},
    "by a text that none has": {"text": "nowhere"},
    "all criteria": {"flowId": "flow-7", "status": "completed", "tag": "nightly", "text": "run"},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                time.sleep(0.01)
            measure(RedisClient(connect(f"unix://{path}")), server.pid)
        finally:
            server.terminate()
            server.wait()


def measure(redis: RedisClient, pid: int) -> None:
    keys = Keys("bench")
    flows = Flows(Publisher(redis, keys, Caps()), RunStore(redis, keys, 3600, RUNS))
    before = cpu(pid)
    for number in range(RUNS):
        tags = ["nightly", "team a"] + (["rare"] if number % 1000 == 0 else [])
        places = ("acme", f"flow-{number % 50}", f"run-{number}")
        flows.started(*places, name=f"Import of {number}", tags=tags, total=10)
        if number % 10:
            flows.completed(*places) if number % 10 > 1 else flows.failed(*places, "out of memory")
    print(f"an event of a run: {(cpu(pid) - before) / 1.9 / RUNS * 1000:.0f} µs of Redis")
    who, worst = Principal.system("acme"), 0.0
    for name, criteria in QUERIES.items():
        query = msgspec.convert({**criteria, "limit": 50}, ListRuns)
        ours, theirs, count = [], [], 0
        for _ in range(ROUNDS):
            begins, began = cpu(pid), time.process_time()
            page = flows.runs(who, query)
            dumps(page)
            ours.append((time.process_time() - began) * 1000)
            theirs.append(cpu(pid) - begins)
            count = len(page.runs)
        both = statistics.median(ours) + statistics.median(theirs)
        worst = max(worst, both)
        print(
            f"{name}: {count} rows, {statistics.median(theirs):.1f} ms of Redis, {statistics.median(ours):.1f} ms here"
        )
    print(f"{'ok' if worst < MOST_MS else 'too much'}: {worst:.1f} ms at most, of {MOST_MS:.0f}")


def cpu(pid: int) -> float:
    """Return the CPU that a process has taken, all its threads, in milliseconds."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


if __name__ == "__main__":
    main()
