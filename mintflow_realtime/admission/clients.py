"""The admitted clients of this node: who each sid acts as, what it may still spend, and when its token ends."""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mintflow_realtime.auth.policy import scope_of
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.recover.replay import Missed
from mintflow_realtime.fanout.session import Session as Recovery

# A client is told a minute before its token ends.
WARNING_SECONDS = 60.0
NO_SESSION: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class Client:
    """A sid in one namespace. `principal` changes only by `auth_refresh`, and then neither user nor tenant.

    `session` is the application's, as the handshake's cookie had it: to read, in the application's own namespaces.
    One that recovers has a `recovery`; while it connects, `shown` is the offset that it came with, `missed` what it has
    yet to be sent, and `resync` why it could not go on. `busy` is set while a command is at work.
    """

    sid: str
    connection: str
    namespace: str
    principal: Principal
    warned: bool = False
    # When `due` looks at it next; an entry of the heap with another time is a leftover.
    watched: float | None = None
    recovery: Recovery | None = None
    missed: Missed | None = None
    recovered: bool = False
    memo: str = ""
    resync: str = ""
    shown: str = ""
    busy: bool = False
    session: Mapping[str, Any] = field(default_factory=lambda: NO_SESSION, repr=False)

    def kept(self, memo: str) -> dict[str, str]:
        """Return what is kept of it with its session."""
        principal = self.principal
        return {
            "user": principal.user_id,
            "anonymous": "1" if principal.anonymous else "0",
            "scope": scope_of(principal.permissions, principal.admin),
            "memo": memo,
        }


# Who goes on above the limit for so long is refused, until it has rested.
PATIENCE_SECONDS = 20.0
REFUSED = -1.0


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` saved up. A rate of 0 spends nothing."""

    __slots__ = ("_rate", "_burst", "_tokens", "_at", "_clock", "_slowed", "_rested")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._tokens = rate, burst, float(burst)
        self._clock = clock
        self._at = clock()
        # Since when it has been slowed down; and how many tokens there are for one who has rested.
        self._slowed: float | None = None
        self._rested = max(1.0, min(rate / 4, burst / 2))

    def spend(self) -> float:
        """Take a token, and return the seconds until there is one; or REFUSED after it was so for long."""
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens > self._rested:
            self._slowed = None
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        if self._slowed is None:
            self._slowed = now
        elif now - self._slowed > PATIENCE_SECONDS:
            return REFUSED
        self._tokens -= 1
        return -self._tokens / self._rate


class Clients:
    """Finds clients by sid, by user and by expiry."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.time) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._by_place: dict[tuple[str, str], Client] = {}
        self._by_tenant: dict[str, dict[tuple[str, str], Client]] = {}
        self._by_connection: dict[str, tuple[Bucket, list[Client]]] = {}
        # (when to look, sid, namespace)
        self._ends: list[tuple[float, str, str]] = []

    def __len__(self) -> int:
        return len(self._by_place)

    def add(self, client: Client) -> None:
        """Take in a client that was admitted."""
        place = (client.namespace, client.sid)
        self._by_place[place] = client
        self._by_tenant.setdefault(client.principal.tenant, {})[place] = client
        if client.connection not in self._by_connection:
            self._by_connection[client.connection] = (Bucket(self._rate, self._burst), [])
        self._by_connection[client.connection][1].append(client)
        self._watch(client)

    def remove(self, sid: str, namespace: str) -> Client | None:
        """Forget a client; return it, or None where it isn't here."""
        client = self._by_place.pop((namespace, sid), None)
        if client is None:
            return None
        tenant = self._by_tenant[client.principal.tenant]
        del tenant[namespace, sid]
        if not tenant:
            del self._by_tenant[client.principal.tenant]
        siblings = self._by_connection[client.connection][1]
        siblings.remove(client)
        if not siblings:
            del self._by_connection[client.connection]
        return client

    def get(self, sid: str, namespace: str) -> Client | None:
        """Return the client of a sid."""
        return self._by_place.get((namespace, sid))

    def of_tenant(self, tenant: str) -> list[Client]:
        """Return a tenant's clients on this node."""
        return list(self._by_tenant.get(tenant, {}).values())

    def of_connection(self, connection: str) -> list[Client]:
        """Return the clients of one connection: one for each of its namespaces."""
        entry = self._by_connection.get(connection)
        return [] if entry is None else list(entry[1])

    def connections(self) -> Iterator[list[Client]]:
        """Yield the clients of each connection that is here now; others may come and go meanwhile."""
        for connection in tuple(self._by_connection):
            siblings = self.of_connection(connection)
            if siblings:
                yield siblings

    def spend(self, connection: str) -> float:
        """Spend one command of a connection; all its namespaces share the rate. Return as `Bucket.spend` does."""
        entry = self._by_connection.get(connection)
        return 0.0 if entry is None else entry[0].spend()

    def refresh(self, client: Client, principal: Principal) -> None:
        """Let a client go on under a newer token."""
        client.principal = principal
        client.warned = False
        self._watch(client)

    def due(self) -> Iterator[tuple[Client, bool]]:
        """Yield (client, ended) for tokens that end within a minute, once, and for those that have ended."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            at, sid, namespace = heapq.heappop(self._ends)
            client = self.get(sid, namespace)
            if client is None or client.watched != at:
                continue
            client.watched = None
            end = client.principal.expires_at
            if end is not None and end <= now:
                yield client, True
            elif end is not None:
                if end - WARNING_SECONDS <= now and not client.warned:
                    client.warned = True
                    yield client, False
                self._watch(client)

    def _watch(self, client: Client) -> None:
        end = client.principal.expires_at
        if end is None:
            return
        at = end if client.warned else end - WARNING_SECONDS
        if client.watched is not None and client.watched <= at:
            # `due` looks before that, and again.
            return
        client.watched = at
        heapq.heappush(self._ends, (at, client.sid, client.namespace))
        if len(self._ends) > 2 * len(self._by_place) + 1000:
            # Clients that come and go with tokens of a month would fill it.
            self._ends = [(one.watched, one.sid, one.namespace) for one in self._by_place.values() if one.watched]
            heapq.heapify(self._ends)
