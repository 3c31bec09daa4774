"""The admitted clients of this node: who each sid acts as, what it may still spend, and when its token ends."""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from auth.policy import scope_of
from auth.principal import Principal
from fanout.recovery import Missed
from fanout.sessions import Session

# A client is told a minute before its token ends.
WARNING_SECONDS = 60.0


@dataclass(slots=True)
class Client:
    """A sid in one namespace. `principal` changes only by `auth_refresh`, and then neither user nor tenant.

    One that recovers has a `session`; while it connects, `shown` is the offset that it came with, `missed` what it has
    yet to be sent, and `resync` why it could not go on. `busy` is set while a command is at work.
    """

    sid: str
    connection: str
    namespace: str
    principal: Principal
    warned: bool = False
    # When `due` looks at it next; an entry of the heap with another time is a leftover.
    watched: float | None = None
    session: Session | None = None
    missed: Missed | None = None
    recovered: bool = False
    memo: str = ""
    resync: str = ""
    shown: str = ""
    busy: bool = False

    def kept(self, memo: str) -> dict[str, str]:
        """Return what is kept of it with its session."""
        principal = self.principal
        return {
            "user": principal.user_id,
            "anonymous": "1" if principal.anonymous else "0",
            "scope": scope_of(principal.permissions, principal.admin),
            "memo": memo,
        }


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` saved up. A rate of 0 spends nothing."""

    __slots__ = ("_rate", "_burst", "_tokens", "_at", "_clock")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._tokens = rate, burst, float(burst)
        self._clock = clock
        self._at = clock()

    def spend(self) -> bool:
        """Take a token, or return False where none is left."""
        if self._rate <= 0:
            return True
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


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

    def spend(self, client: Client) -> bool:
        """Spend one command of the client's connection; all its namespaces share the rate."""
        entry = self._by_connection.get(client.connection)
        return entry is None or entry[0].spend()

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
