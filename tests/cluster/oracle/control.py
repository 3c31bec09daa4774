"""The control: the stock stack under the same publishers, clients and faults. The checker must find what it loses."""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.cluster.oracle.clients import Clients
from tests.cluster.oracle.faults import Faults, Kind
from tests.cluster.oracle.host import Host
from tests.cluster.oracle.model import TENANTS, Outcome
from tests.cluster.oracle.publishers import BOARD
from tests.servers import ROOT, RedisServer, stopping, until

NAMESPACES = ("/logs", "/flows", BOARD)
STOCK_WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
CONTROL = (
    Kind("subscriptions cut", "cut_subscriptions", 1, 3),
    Kind("worker killed", "kill_busiest", 1, 3),
    Kind("clients cut", "cut_clients", 1, 3),
)


class StockHost(Host):
    """gunicorn as the libraries' documents say."""

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gunicorn", "--config", "/dev/null", "--no-control-socket", "--workers", "2"]
        command += ["--worker-class", STOCK_WORKER, "--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "1"]
        env = {name: value for name, value in self.env.items() if not name.startswith("COVERAGE")}
        with open(self.output, "ab") as out:
            return subprocess.Popen(
                [*command, self.application], cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
            )


def run_control(where: Path, kinds: Sequence[Kind], seed: int, count: int = 12) -> Outcome:
    """Run the stock stack with these faults, in this order, and judge it. Its clients use WebSocket alone, since
    several of its workers on one port break long-polling."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        redis = RedisServer()
        stack.enter_context(stopping(redis))
        env = {
            # Its publishers share the tests' own modules.
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis.url,
            "ORACLE_DIR": str(where),
            "ORACLE_TENANTS": ",".join(TENANTS),
            "ORACLE_RATE": "20",
        }
        host = StockHost(application="tests.cluster.oracle.stock_app:application", **env)
        stack.enter_context(stopping(host))
        until(lambda: host.text().count("Booting worker") == 2, 20, "the stock workers run")
        clients = Clients(
            where,
            [host.url],
            TENANTS,
            NAMESPACES,
            count,
            seed,
            recover=False,
            transports=(["websocket"],),
        )
        stack.enter_context(stopping(clients))
        assert clients.wait_online(30), "not all clients came online"
        (where / "go").touch()
        faults = Faults(redis, [host], clients, chance)
        outcome = Outcome(where, seed, faults.done, faults.forgot, time.monotonic(), recovers=False)
        time.sleep(1)
        for kind in kinds:
            faults.inject(kind)
            time.sleep(kind.pause)
        assert clients.wait_online(15), "not all clients came back"
        time.sleep(1)
        (where / "stop").touch()
        time.sleep(1)
        outcome.ended = time.monotonic()
        clients.end()
    return outcome.judge()
