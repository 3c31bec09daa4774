"""The load: a Redis, two hosts of two workers, publishers at three doors, clients in three tenants; and its end."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mintflow_realtime.emitter import Emitter
from tests.cluster.oracle.asking import ask_why
from tests.cluster.oracle.checker import check
from tests.cluster.oracle.clients import Clients
from tests.cluster.oracle.faults import Fault, Faults, Kind, plan
from tests.cluster.oracle.host import Host, levels
from tests.cluster.oracle.ledger import Draft, Ledger, read_histories, read_misanswered, read_publishes
from tests.cluster.oracle.publishers import BOARD, PATIENCE, ROOMS, WORKSPACES, python_door
from tests.cluster.oracle.records import OK, History, Publish, Violation
from tests.servers import ROOT, RedisServer, stopping, until

TENANTS = ("acme", "bolt", "coil")
NAMESPACES = ("/logs", "/flows", WORKSPACES, BOARD)
WORKERS = 2
CLIENTS = 24
# Events a second: of each tenant at each of two doors, and of each worker.
DOOR_RATE, WORKER_RATE = 8.0, 10.0
# Nodes leave a channel so many seconds after its last client.
LINGER = 30
SETTINGS = {
    "SOCKET_AUTH_REQUIRED": "true",
    # So that a connection that ended without a word is found in the time between two faults.
    "SOCKET_PING_INTERVAL": "5",
    "SOCKET_PING_TIMEOUT": "4",
}


@dataclass(slots=True)
class Outcome:
    """All that is known after a run."""

    directory: Path
    seed: int
    faults: list[Fault]
    forgot: list[float]
    began: float
    recovers: bool = True
    ended: float = 0.0
    publishes: list[Publish] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    excused: list[Violation] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def histories(self) -> Iterator[History]:
        return read_histories(self.directory)

    def save(self) -> None:
        """Write down what else a later look at the directory needs."""
        known = {name: getattr(self, name) for name in ("seed", "forgot", "recovers", "began", "ended", "complaints")}
        faults = [asdict(fault) for fault in self.faults]
        (self.directory / "run.json").write_text(json.dumps({**known, "faults": faults}, indent=1))

    @classmethod
    def load(cls, directory: Path) -> "Outcome":
        """Return what a kept directory tells, judged anew."""
        known = json.loads((directory / "run.json").read_text())
        return cls(**{**known, "directory": directory, "faults": [Fault(**fault) for fault in known["faults"]]}).judge()

    def judge(self) -> "Outcome":
        self.publishes = read_publishes(self.directory)
        broke = [fault.at for fault in self.faults if fault.kind.startswith(("Redis", "worker", "master", "two"))]
        self.violations = check(
            self.publishes, self.histories, self.forgot, broke=broke, recovers=self.recovers, excused=self.excused
        )
        return self


@contextmanager
def directory() -> Iterator[Path]:
    """Yield a directory for what everyone writes down, kept where ORACLE_KEEP says so."""
    keep = os.environ.get("ORACLE_KEEP")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="mf-oracle-", dir=keep))
    try:
        yield path
    finally:
        if keep:
            print(f"kept in {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)


def run(where: Path, kinds: Sequence[Kind], seed: int) -> Outcome:
    """Run the whole load with these faults, and judge it."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        redis = RedisServer()
        stack.enter_context(stopping(redis))
        env = {
            **SETTINGS,
            "REDIS_URL": redis.url,
            # Its publishers share the tests' own modules.
            "PYTHONPATH": str(ROOT),
            "ORACLE_DIR": str(where),
            "ORACLE_TENANTS": ",".join(TENANTS),
            "ORACLE_RATE": str(WORKER_RATE),
        }
        hosts = [Host(workers=WORKERS, application="tests.cluster.oracle.app:application", **env) for _ in range(2)]
        stack.enter_context(stopping(*hosts))
        for host in hosts:
            host.wait_ready()
        before = [level for host in hosts for level in levels(host)]
        urls = [host.url for host in hosts]
        clients = Clients(
            where,
            urls,
            TENANTS,
            NAMESPACES,
            CLIENTS,
            seed,
            recover=True,
            transports=(["websocket"], ["polling"], ["websocket"], None),
        )
        stack.enter_context(stopping(clients))
        assert clients.wait_online(30), "not all clients came online"
        publishers = [_process(where, "emitter", redis.url), _process(where, "http", *urls)]
        stack.callback(_end_all, publishers)
        (where / "go").touch()
        faults = Faults(redis, hosts, clients, chance)
        outcome = Outcome(where, seed, faults.done, faults.forgot, time.monotonic())
        time.sleep(2)
        for kind in plan(kinds, chance):
            faults.inject(kind)
            outcome.save()
            time.sleep(chance.uniform(0.4 * kind.pause, 1.6 * kind.pause))
        outcome.complaints += _settle(where, hosts, clients, publishers, redis.url)
        outcome.ended = time.monotonic()
        contradictions, said = ask_why(where, redis.url, chance, max(faults.forgot, default=0.0))
        outcome.complaints += contradictions
        print(f"asked why: {dict(said)}")
        clients.end()
        outcome.complaints += _worse(hosts, before)
        outcome.complaints += _kept(redis, patient=len(kinds) and kinds[0].times > 1)
        for host in hosts:
            shutil.copy(host.output, where / f"{host.port}.out")
        outcome.save()
    return outcome.judge()


def _process(where: Path, kind: str, *urls: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.cluster.oracle.publishers", kind, str(where), ",".join(TENANTS)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.Popen([*command, str(DOOR_RATE), *urls], cwd=ROOT, env=env)


def _end_all(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(5)


def _settle(
    where: Path, hosts: Sequence[Host], clients: Clients, publishers: Sequence[Any], redis_url: str
) -> list[str]:
    """Let publishers finish and clients come back, then publish to all once more: what that overtook is lost."""
    complaints = []
    (where / "stop").touch()
    for publisher in publishers:
        if publisher.wait(PATIENCE + 10):
            complaints.append(f"a publisher failed: {publisher.args[3]}")
    # A reload whose new workers are slow to come would close connections while all is being compared.
    try:
        until(lambda: all(len(host.workers()) == WORKERS for host in hosts), 40)
    except AssertionError:
        complaints.append(f"workers are missing or left over: {[host.workers() for host in hosts]}")
    if not clients.wait_online(30):
        complaints.append(f"not all clients came back: {clients.ask('status')}")
    # The workers' own publishers have no end that can be seen; each looks many times a second.
    time.sleep(1)
    ledger = Ledger(where, "end")
    with Emitter(redis_url) as emitter:
        door = python_door(emitter)
        places = [(namespace, "") for namespace in NAMESPACES if namespace != WORKSPACES]
        places += [(WORKSPACES, room) for room in ROOMS]
        for number, (tenant, (namespace, room)) in enumerate(itertools.product(TENANTS, places)):
            draft = Draft(f"end.{number}", tenant, namespace, room, "end", number)
            ledger.trying(draft)
            ledger.ended(draft, OK, door(draft))
    ledger.close()
    if not clients.wait_ends(len(NAMESPACES), 15):
        complaints.append(f"not all clients heard the end: {clients.ask('status')}")
    return complaints + read_misanswered(where)


def _kept(redis: RedisServer, *, patient: bool) -> list[str]:
    """Return what Redis would keep for ever; and, for those who wait, which channels nodes still hear."""
    found = []
    with redis.client() as client:
        endless = [key for key in client.scan_iter(count=1000) if client.pttl(key) == -1]
        if endless:
            # A node that asks what it may do makes keys, and gives them an end right after.
            time.sleep(2)
        found += [f"a key without an end: {key!r}" for key in endless if client.pttl(key) == -1]
        if patient:
            mine = [f"{{{tenant}}}".encode() for tenant in TENANTS]

            def heard() -> list[bytes]:
                return [name for name in client.pubsub_channels() if any(tenant in name for tenant in mine)]

            try:
                until(lambda: not heard(), LINGER + 10)
            except AssertionError:
                found.append(f"channels without clients: {heard()}")
    return found


def _worse(hosts: Sequence[Host], before: Sequence[dict[str, Any]]) -> list[str]:
    """Return what has not come back to its level, now that nobody is connected."""
    greenlets, descriptors = (max(level[name] for level in before) for name in ("greenlets", "descriptors"))
    memory = max(level["resident"] for level in before)
    found: list[str] = []

    def calm() -> bool:
        found.clear()
        for host in hosts:
            host.wait_ready()
            for level in levels(host):
                if "leftovers" not in level:
                    found.append(f"worker {level['pid']} of {host.port} does not answer")
                    continue
                left = {name: count for name, count in level["leftovers"].items() if count}
                if level["greenlets"] > greenlets + 2:
                    left["greenlets"] = level["greenlets"]
                if level["descriptors"] > descriptors + 2:
                    left["descriptors"] = level["descriptors"]
                if level["resident"] > memory + 40e6:
                    left["resident"] = level["resident"]
                if left:
                    found.append(f"worker {level['pid']} of {host.port} still has {left} {level['standing']}")
        return not found

    try:
        until(calm, 30)
    except AssertionError:
        pass
    return found
