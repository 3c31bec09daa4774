"""A Redis Cluster as one door: each call goes to the master of its key's slot, and again only where it was not run.

redis-py's own cluster client repeats what may have been run, and reads the slots for seconds; this one does neither.
"""

import os
import random
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Arg, Script
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.outage import REFUSES

Address = tuple[str, int]

# Errors after which a call goes on mean that nothing was run; the whole call ends within the promised 2 s all the same,
# since its last step, a second at most, begins before this.
REDIRECT_SECONDS = 0.9
AGAIN_SECONDS = 0.05
# Reading the slots is one quick question; a node that is slow to answer it isn't waited for, another is asked.
SLOTS_TIMEOUT = 0.25
SLOTS_SECONDS = 0.5
SLOTS_PAUSE = 0.2
# The slot of `{-}`, which holds what belongs to no tenant, stands for the cluster where a command has no key.
_NO_TENANT = "{-}"

_clusters: "weakref.WeakSet[ClusterClient]" = weakref.WeakSet()


class ClusterClient:
    """Runs commands and scripts on a cluster; every failure to get an answer is `Unavailable`, within 2 s.

    `connect(address)` makes the client of one node. A node that doesn't answer costs the tenants of its slots alone.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        connect: Callable[[Address], "redis.Redis"],
        wait_replicas: int = 0,
        clock: Callable[[], float] = time.monotonic,
        *,
        called: str = "",
    ) -> None:
        self.seeds = list(seeds)
        self.connect = connect
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._called = called
        self._nodes: dict[Address, RedisClient] = {}
        # Ranges of slots as (first, last, master), by their first; and single slots that moved since that was read.
        self._ranges: list[tuple[int, int, Address]] = []
        self._moved: dict[int, Address] = {}
        self._stale = True
        self._read_at = -SLOTS_PAUSE
        self._reading = threading.Lock()
        _clusters.add(self)

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run `script` where the slot of its keys is; they all have one tenant, so one slot."""
        return self._ask(keys[0], lambda node, asking: node.run(script, keys, args, asking=asking))

    def command(self, *args: Arg) -> Any:
        """Send one command to where the slot of its first argument is, and return its reply."""
        key = args[1] if len(args) > 1 else _NO_TENANT
        return self._ask(key, lambda node, asking: node.command(*args, asking=asking))

    @property
    def _place(self) -> str:
        seeds = ",".join(f"{host}:{port}" for host, port in self.seeds)
        return f"The Redis Cluster at {seeds}" + (f" ({self._called})" if self._called else "")

    def owner(self, key: Arg) -> Address | None:
        """Return which master has the slot of a key or channel, as far as is known; None where none has."""
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        if slot in self._moved:
            return self._moved[slot]
        place = bisect_right(self._ranges, slot, key=lambda one: one[0]) - 1
        if place < 0 or slot > self._ranges[place][1]:
            return None
        return self._ranges[place][2]

    def refresh(self) -> None:
        """Read anew which master has which slots, unless that was just done; what can't be read stays as it was."""
        with self._reading:
            if self._clock() - self._read_at < SLOTS_PAUSE:
                return
            known = list({address for *_, address in self._ranges} | set(self._moved.values()))
            random.shuffle(known)
            deadline = self._clock() + SLOTS_SECONDS
            for address in dict.fromkeys([*known, *self.seeds]):
                ranges = self._slots_by(address)
                if ranges:
                    self._ranges, self._moved, self._stale = ranges, {}, False
                    self._forget_nodes()
                    break
                if self._clock() > deadline:
                    break
            self._read_at = self._clock()

    def close(self) -> None:
        """Close every connection to every node."""
        for node in list(self._nodes.values()):
            node.close()

    def _ask(self, key: Arg, ask: Callable[[RedisClient, bool], Any]) -> Any:
        deadline = self._clock() + REDIRECT_SECONDS
        if self._stale:
            self.refresh()
        address, asking = self.owner(key), False
        while True:
            if address is None:
                self._stale = True
                sentence = "No node of the cluster is known to serve this at the moment"
                raise Unavailable(sentence, detail=f"{self._place} does not answer, or none of its nodes serves this.")
            try:
                return ask(self._node(address), asking)
            except MovedError as moved:
                # An empty host is that of the node which says so.
                address, asking = (moved.host or address[0], moved.port), False
                self._moved[moved.slot_id] = address
                self._stale = True
            except AskError as other:
                address, asking = (other.host or address[0], other.port), True
            except TryAgainError:
                # Some of the keys have moved and some have not.
                time.sleep(AGAIN_SECONDS)
                address, asking = self.owner(key), False
            except ClusterDownError as error:
                self._stale = True
                raise Unavailable(REFUSES, detail=f"{self._place} refuses this at the moment: {error}") from error
            except Unavailable:
                self._stale = True
                raise
            if self._clock() > deadline:
                raise Unavailable("The cluster moves this tenant's slot at the moment; nothing was done")

    def _node(self, address: Address) -> RedisClient:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = RedisClient(
                self.connect(address),
                self._wait_replicas,
                called=self._called,
                again=partial(self.connect, address),
                in_cluster=True,
            )
        return node

    def _forget_nodes(self) -> None:
        masters = {address for *_, address in self._ranges}
        for address in [one for one in list(self._nodes) if one not in masters]:
            self._nodes.pop(address).close_idle()

    def _slots_by(self, address: Address) -> list[tuple[int, int, Address]]:
        client = self.connect(address)
        connection: Any = client.connection_pool.make_connection()
        connection.socket_timeout = connection.socket_connect_timeout = SLOTS_TIMEOUT
        try:
            connection.connect()
            connection.send_command("CLUSTER", "SLOTS")
            reply = connection.read_response()
        except (RedisError, OSError):
            return []
        finally:
            connection.disconnect()
            client.close()
        # [first, last, [host, port, …] of the master, its replicas]; a host that the node doesn't know is its own.
        return sorted(
            (first, last, (master[0].decode() if master[0] else address[0], int(master[1])))
            for first, last, master, *_ in reply
        )


def _after_fork() -> None:
    for cluster in list(_clusters):
        # Another thread may have held it; the clients of the nodes see to themselves.
        cluster._reading = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
