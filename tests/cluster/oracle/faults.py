"""The faults, each one method; they are injected into a load that goes on."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from tests.cluster.oracle.clients import Clients
from tests.cluster.oracle.host import Host, sockets
from tests.servers import RedisServer


@dataclass(slots=True)
class Fault:
    """What happened from when to when, and to whom."""

    kind: str
    at: float
    until: float = 0.0
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a fault is injected in the long run, and how many seconds come after it on average."""

    name: str
    method: str
    times: int
    pause: float
    seconds: float = 0.0


LONG = (
    Kind("worker killed", "kill_worker", 20, 5),
    Kind("master killed", "kill_master", 20, 8),
    Kind("Redis killed, 1 s", "restart_redis", 20, 5, 1),
    Kind("Redis killed, 20 s", "restart_redis", 5, 8, 20),
    Kind("Redis stopped, 5 s", "stop_redis", 5, 6, 5),
    Kind("subscriptions cut", "cut_subscriptions", 20, 4),
    Kind("all flushed", "flush", 20, 5),
    Kind("reloaded (HUP)", "reload", 20, 8),
    Kind("clients cut", "cut_clients", 15, 5),
    Kind("clients cut again, 6 s", "cut_clients", 5, 8, 6),
    Kind("clients stalled, 1-4 s", "stall_clients", 15, 5, 4),
    Kind("clients stalled, 5-12 s", "stall_clients", 5, 6, 12),
    Kind("two at once", "two_at_once", 20, 7),
)
# Once each.
SHORT = tuple(
    Kind(kind.name.replace("20 s", "5 s"), kind.method, 1, kind.pause * 0.6, min(kind.seconds, 6)) for kind in LONG
)
# What two_at_once draws from.
PAIRED = ("kill_worker", "kill_master", "restart_redis", "cut_subscriptions", "reload", "cut_clients", "stall_clients")


def plan(kinds: Sequence[Kind], chance: random.Random) -> list[Kind]:
    """Return all faults in random order."""
    whole = [kind for kind in kinds for _ in range(kind.times)]
    chance.shuffle(whole)
    return whole


class Faults:
    """Injects faults, one after the other, and remembers them."""

    def __init__(self, server: RedisServer, hosts: Sequence[Host], clients: Clients, chance: random.Random) -> None:
        self._redis, self._hosts, self._clients, self._chance = server, hosts, clients, chance
        self.done: list[Fault] = []
        # When Redis lost everything.
        self.forgot: list[float] = []

    def inject(self, kind: Kind) -> Fault:
        """Let one fault happen; return when it is over, its consequences aside."""
        fault = Fault(kind.name, time.monotonic())
        self.done.append(fault)
        getattr(self, kind.method)(fault, kind.seconds)
        fault.until = time.monotonic()
        return fault

    def _some_clients(self) -> list[int]:
        return self._chance.sample(range(self._clients.count), self._chance.randint(1, self._clients.count // 2))

    def kill_worker(self, fault: Fault, _: float) -> None:
        workers = self._chance.choice(self._hosts).workers()
        # Mostly the one that has most to lose: left to chance, nearly all connections go to one worker.
        self._kill(fault, max(workers, key=sockets) if self._chance.random() < 0.7 else self._chance.choice(workers))

    def kill_busiest(self, fault: Fault, _: float) -> None:
        self._kill(fault, max((pid for host in self._hosts for pid in host.workers()), key=sockets))

    def _kill(self, fault: Fault, pid: int) -> None:
        fault.told.append(f"worker {pid} with {sockets(pid)} sockets")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill_master(self, fault: Fault, _: float) -> None:
        host = self._chance.choice(self._hosts)
        fault.told.append(f"master {host.process.pid} of {host.port}")
        host.process.send_signal(signal.SIGKILL)

    def reload(self, fault: Fault, _: float) -> None:
        host = self._chance.choice(self._hosts)
        fault.told.append(f"master {host.process.pid} of {host.port}")
        host.process.send_signal(signal.SIGHUP)

    def restart_redis(self, fault: Fault, seconds: float) -> None:
        self._redis.stop(signal.SIGKILL)
        time.sleep(seconds)
        self._redis.start()

    def stop_redis(self, fault: Fault, seconds: float) -> None:
        self._redis.send(signal.SIGSTOP)
        time.sleep(seconds)
        self._redis.send(signal.SIGCONT)

    def cut_subscriptions(self, fault: Fault, _: float) -> None:
        with suppress(redis.RedisError), self._redis.client() as client:
            fault.told.append(f"{client.execute_command('CLIENT', 'KILL', 'TYPE', 'pubsub')} connections")

    def flush(self, fault: Fault, _: float) -> None:
        with self._redis.client() as client:
            client.flushall()
        self.forgot.append(time.monotonic())

    def cut_clients(self, fault: Fault, seconds: float) -> None:
        """Cut off some clients, and, with `seconds`, cut also the connections that they make meanwhile."""
        places, half = self._some_clients(), self._chance.random() < 0.5
        fault.told.append(f"{places}{' half' if half else ''}")
        self._clients.ask("cut", clients=places, half=half, ms=round(seconds * 1000))
        time.sleep(seconds)

    def stall_clients(self, fault: Fault, seconds: float) -> None:
        places, lasting = self._some_clients(), self._chance.uniform(5 if seconds > 4 else 1, seconds or 4)
        fault.told.append(f"{places} for {lasting:.1f} s")
        self._clients.ask("stall", clients=places, ms=round(lasting * 1000))
        time.sleep(lasting)

    def two_at_once(self, fault: Fault, _: float) -> None:
        methods = self._chance.sample(PAIRED, 2)
        apart = self._chance.uniform(0, 0.3)

        def act(method: str) -> None:
            fault.told.append(method)
            act_on: Callable[[Fault, float], None] = getattr(self, method)
            act_on(fault, 1.0 if method == "restart_redis" else 0.0)

        other = threading.Thread(target=act, args=(methods[0],))
        other.start()
        time.sleep(apart)
        act(methods[1])
        other.join()
