"""Watches over AI requests: cancellations from other nodes, clients that stay away, nodes that are gone.

Each node asks Redis again and again, one script a tenant, instead of being told: a message may be missed.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.fanout.rooms import ai_room
from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.services.ai.events import NAMESPACE, failed
from mintflow_realtime.services.ai.limits import Limits, Spawn, Stopped, Task
from mintflow_realtime.services.ai.run import Run
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.stores.ai.store import AiStore, RequestKey, Standing

# How soon a cancellation from another node is seen.
TICK_SECONDS = 0.4
# Requests that only are followed here, and requests of nodes that are gone, are looked at every fourth second.
TICKS_A_ROUND = 10
# How long a client stays in the room of an ended request: the terminal event may still be on its way.
LINGER_SECONDS = 10.0
MAX_ORPHANS = 50
# Nobody is absent before the next round could have noted him.
SOONEST_SECONDS = 1.0

_log = logging.getLogger("mintflow.ai")
_rare = RareLog(_log)
One = TypeVar("One")
Other = TypeVar("Other")


class AiWatch:
    """One node's watch over its own requests (`runs`), over those that its clients follow, and over orphans."""

    def __init__(
        self,
        publisher: Publisher,
        store: AiStore,
        rooms: Feeds,
        runs: dict[RequestKey, Run],
        limits: Limits,
        clock_ms: Callable[[], int],
    ) -> None:
        self._publisher, self._store, self._rooms = publisher, store, rooms
        self._runs, self._limits, self._clock_ms = runs, limits, clock_ms
        self._followers: dict[RequestKey, set[str]] = {}
        self._followed: dict[str, set[RequestKey]] = {}
        self._over: dict[RequestKey, float] = {}
        self._ticks = 0
        # A client that is here must be noted well within the time that requests are kept for those who aren't.
        self._ticks_a_round = max(1, min(TICKS_A_ROUND, int(limits.absent_seconds / TICK_SECONDS / 3)))
        self._task: Task | None = None
        self._clients: dict[str, set[str]] = {}

    def came(self, tenant: str, sid: str) -> None:
        """Note a client of a tenant, whose orphans are looked for as long as one is here."""
        self._clients.setdefault(tenant, set()).add(sid)

    def follow(self, sid: str, key: RequestKey) -> None:
        """Note that a client here follows a request; it is in the request's room."""
        self._followers.setdefault(key, set()).add(sid)
        self._followed.setdefault(sid, set()).add(key)
        self._over.pop(key, None)

    def unfollow(self, sid: str, key: RequestKey) -> None:
        """Forget that a client follows a request."""
        _remove(self._followers, key, sid)
        _remove(self._followed, sid, key)
        if key not in self._followers:
            self._over.pop(key, None)

    def followed_by(self, sid: str) -> set[RequestKey]:
        """Return the requests that a client here follows."""
        return self._followed.get(sid, set())

    def gone(self, tenant: str, sid: str) -> None:
        """Forget a client."""
        here = self._clients.get(tenant, set())
        here.discard(sid)
        if not here:
            self._clients.pop(tenant, None)
        for key in tuple(self._followed.get(sid, ())):
            self.unfollow(sid, key)

    def begin(self, spawn: Spawn) -> None:
        """Watch from now on."""
        self._task = spawn(self._go_on)

    def end(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.kill(block=False)

    def tick(self) -> None:
        """Look once."""
        self._ticks += 1
        full = self._ticks % self._ticks_a_round == 0
        wanted = set(self._runs) | set(self._followers) if full else set(self._runs)
        by_tenant: dict[str, list[RequestKey]] = {}
        for key in wanted:
            by_tenant.setdefault(key.tenant, []).append(key)
        for tenant, keys in by_tenant.items():
            self._look(tenant, keys, full)
        if full:
            self._leave_ended()
            for tenant in tuple(self._clients):
                self._end_orphans(tenant)

    def _go_on(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            try:
                self.tick()
            except Exception as error:
                _rare.warning("a look at AI requests failed", error=error)

    def _look(self, tenant: str, keys: list[RequestKey], full: bool) -> None:
        runs = [self._runs.get(key) for key in keys]
        asked = [
            (key, run.owner if run else "", full and key in self._followers)
            for key, run in zip(keys, runs, strict=True)
        ]
        try:
            standings = self._store.watch(tenant, asked)
        except Unavailable:
            return
        for key, run, standing in zip(keys, runs, standings, strict=True):
            if run is not None:
                self._judge(run, standing)
            elif standing.status != "running":
                self._over.setdefault(key, time.monotonic())

    def _judge(self, run: Run, standing: Standing) -> None:
        if standing.status != "running":
            run.stop(Stopped(Unavailable("The request was lost here; try again")))
        elif standing.cancelled or standing.absent_ms > max(self._limits.absent_seconds, SOONEST_SECONDS) * 1000:
            run.stop(Stopped())

    def _leave_ended(self) -> None:
        now = time.monotonic()
        for key in [key for key, since in self._over.items() if now - since > LINGER_SECONDS]:
            for sid in tuple(self._followers.get(key, ())):
                self._rooms.leave(sid, NAMESPACE, ai_room(*key))
                self.unfollow(sid, key)

    def _end_orphans(self, tenant: str) -> None:
        try:
            for key in self._store.orphans(tenant, MAX_ORPHANS):
                self._end_orphan(key)
        except Unavailable:
            return  # the next round looks again

    def _end_orphan(self, key: RequestKey) -> None:
        error = Unavailable("The server that ran this request is gone; try again")
        ending, event = failed(key, self._store.streamed(key), error, iso(self._clock_ms()))
        try:
            self._publisher.publish(key.tenant, NAMESPACE, [event], self._store.end(key, "", ending))
        except Unavailable:
            raise
        except RealtimeError:
            return  # another node was first, or it is alive after all
        _log.info("ended a request of a node that is gone", extra={"tenant": key.tenant})


def _remove(table: dict[One, set[Other]], one: One, other: Other) -> None:
    members = table.get(one, set())
    members.discard(other)
    if not members:
        table.pop(one, None)
