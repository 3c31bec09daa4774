"""Several redis-servers of a test's own that belong together: a master with a replica and sentinels, or a cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.ports import free_member_port
from tests.redis_fixture import installed
from tests.servers import until


class Member:
    """One redis-server, without a file; `stop` kills it."""

    def __init__(self, *options: str, sentinel: str | None = None) -> None:
        self.port = free_member_port()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-member-"))
        self._command = [installed()]
        if sentinel is not None:
            (self.directory / "sentinel.conf").write_text(sentinel)
            self._command += [str(self.directory / "sentinel.conf"), "--sentinel"]
        else:
            self._command += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", *options]
        self._command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        self.client = redis.Redis(port=self.port, socket_timeout=5, retry=None, protocol=2)
        self.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(self._command, stdout=out, stderr=out)
        until(self.answers, 10, "a redis-server answers")

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def ask(self, *args: Any) -> Any:
        return self.client.execute_command(*args)

    def told(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.info(section)
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        self.client.close()
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Pair:
    """A master and its replica, with `sentinels` that replace a master which is silent for a second."""

    def __init__(self, sentinels: int = 0) -> None:
        self.members: list[Member] = []
        self.sentinels: list[Member] = []
        try:
            self.master = self._add()
            self.replica = self._add("--replicaof", "127.0.0.1", str(self.master.port))
            until(lambda: self.replica.told("replication").get("master_link_status") == "up", 10)
            # Until then WAIT doesn't count it.
            until(lambda: [one["state"] for one in self.replicas_of(self.master)] == ["online"], 20)
            for _ in range(sentinels):
                text = (
                    f"sentinel monitor flows 127.0.0.1 {self.master.port} {sentinels // 2 + 1}\n"
                    "sentinel down-after-milliseconds flows 1000\nsentinel failover-timeout flows 4000\n"
                )
                self.sentinels.append(Member(sentinel=text))
            until(lambda: all(self._is_ready(one, sentinels) for one in self.sentinels), 20)
        except BaseException:
            self.stop()
            raise

    def _add(self, *options: str) -> Member:
        self.members.append(Member(*options))
        return self.members[-1]

    @staticmethod
    def replicas_of(member: Member) -> list[Any]:
        replication = member.told("replication")
        return [value for name, value in replication.items() if name.startswith("slave") and isinstance(value, dict)]

    @staticmethod
    def _is_ready(sentinel: Member, sentinels: int) -> bool:
        (state,) = sentinel.client.sentinel_masters().values()
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == sentinels - 1)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(one.place for one in self.sentinels)}/0/flows"

    def stop(self) -> None:
        for member in [*self.sentinels, *self.members]:
            member.stop()


# As docs/redis.md advises; a shorter timeout would take a busy machine for a dead one.
_CLUSTER = (
    *("--cluster-enabled", "yes"),
    *("--cluster-node-timeout", "2000"),
    *("--cluster-require-full-coverage", "no"),
)


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        try:
            for _ in range(6):
                self.members.append(Member(*_CLUSTER))
            places = [member.place for member in self.members]
            self.cli("--cluster", "create", *places, "--cluster-replicas", "1", "--cluster-yes")
            until(lambda: all(self._is_ready(member) for member in self.members), 20, "the cluster is ready")
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _is_ready(member: Member) -> bool:
        replication = member.told("replication")
        follows = replication["role"] == "master" or replication["master_link_status"] == "up"
        return b"cluster_state:ok" in member.ask("CLUSTER", "INFO") and follows

    def cli(self, *args: str) -> str:
        tool = shutil.which("redis-cli", path=f"{Path(installed()).parent}:{os.environ['PATH']}")
        assert tool is not None, "redis-cli is missing"
        done = subprocess.run([tool, *args], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(member.place for member in self.members[:3])}"

    def masters(self) -> list[Member]:
        return [
            one for one in self.members if one.process.poll() is None and one.told("replication")["role"] == "master"
        ]

    def owner(self, tenant: str) -> Member:
        """Return the master of a tenant's slot, as the masters themselves see it."""
        slot = key_slot(tenant.encode())
        for member in self.masters():
            for first, last, master, *_ in member.ask("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(one for one in self.members if one.port == master[1])
        raise AssertionError(f"nobody has slot {slot}")

    def replica_of(self, master: Member) -> Member:
        for member in self.members:
            replication = member.told("replication")
            if replication["role"] == "slave" and replication["master_port"] == master.port:
                return member
        raise AssertionError("no replica")

    def id_of(self, member: Member) -> str:
        return str(member.ask("CLUSTER", "MYID").decode())

    def tenants(self) -> list[str]:
        """Return a tenant for each master, in the order of `masters`."""
        found: dict[int, str] = {}
        for number in range(1000):
            name = f"t{number}"
            found.setdefault(self.owner(name).port, name)
            if len(found) == 3:
                break
        return [found[master.port] for master in self.masters()]

    def stop(self) -> None:
        for member in self.members:
            member.stop()


@contextlib.contextmanager
def paused(*members: Member) -> Iterator[None]:
    """Stop the processes for a while, as a machine that hangs."""
    for member in members:
        member.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            member.send(signal.SIGCONT)
