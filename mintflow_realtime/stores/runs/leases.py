"""Which tenants have runs with leases, and when a node has to look at them: shared by all nodes and publishers."""

from typing import NamedTuple

from mintflow_realtime.protocol.scripts import Keys, Runner, Script
from mintflow_realtime.stores.runs.control import unclaimed_key

# Tenants that are looked at by one call, and their runs.
TENANTS_AT_ONCE = 50
RUNS_AT_ONCE = 100
# A publish has happened by then, or will not: within 2 s, and some more for clocks that aren't there.
PUBLISH_MS = 5_000
# Every note and every look lets it begin anew.
LIFE_MS = 7 * 24 * 3600 * 1000

_note = Script.beside(__file__, "lease_note.lua")
_look = Script.beside(__file__, "lease_look.lua")
_settle = Script.beside(__file__, "lease_settle.lua")
_expired = Script.beside(__file__, "expired.lua")


class Expired(NamedTuple):
    """Runs whose leases are over, as (flow, run); what was asked and nobody has taken, as (flow, run, kind, id).

    `next_ms` is when the next of either is due, "" for none.
    """

    runs: list[tuple[str, str]]
    unclaimed: list[tuple[str, str, str, str]]
    next_ms: str

    def __bool__(self) -> bool:
        return bool(self.runs or self.unclaimed)


class LeaseStore:
    """When leases end. A tenant is noted before it has a lease, so that no crash in between leaves one unseen."""

    def __init__(self, redis: Runner, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._shared = [keys.shared("lease-tenants"), keys.shared("lease-noted")]

    def note(self, tenant: str, lease_seconds: float) -> None:
        """Let nodes look at a tenant, in time for a lease that begins within the next publish. Raises Unavailable."""
        self._redis.run(_note, self._shared, [tenant, round(lease_seconds * 1000), LIFE_MS])

    def look(self) -> list[tuple[str, str]]:
        """Return tenants to be looked at now, each with the note for `settle`. Raises Unavailable."""
        found = [text.decode() for text in self._redis.run(_look, self._shared, [TENANTS_AT_ONCE])]
        return list(zip(found[::2], found[1::2], strict=True))

    def expired(self, tenant: str) -> Expired:
        """Return runs of a tenant whose leases are over, and what nobody has taken; at most 100 of each.

        Raises Unavailable.
        """
        due, following = [], []
        for key in (leases_key(self._keys, tenant), unclaimed_key(self._keys, tenant)):
            when, *members = self._redis.run(_expired, [key], [RUNS_AT_ONCE])
            following += [float(when)] if when else []
            due.append([tuple(member.decode().split("\n")) for member in members])
        return Expired(due[0], due[1], f"{min(following):.0f}" if following else "")

    def settle(self, tenant: str, noted: str, next_ms: str) -> None:
        """Say when to look at a tenant next. Raises Unavailable."""
        self._redis.run(_settle, self._shared, [tenant, noted, next_ms, LIFE_MS, PUBLISH_MS])


def leases_key(keys: Keys, tenant: str) -> str:
    """Return the key of a tenant's leases: a sorted set of runs by when each ends, in milliseconds since 1970."""
    return keys.of(tenant, "run-leases")
