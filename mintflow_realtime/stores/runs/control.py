"""What is asked of engines: a durable stream for each flow, read by a consumer group, each message by one process."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.runs import Control
from mintflow_realtime.protocol.scripts import Arg, Keys, Runner, Script

# What may wait for the engines of one flow, and what one process takes at once.
MOST = 1000
AT_ONCE = 10
# Nobody took it: told to everybody.
UNCLAIMED_MS = 30_000
# Who took it and hasn't said that it is done is dead: another takes it over.
DEAD_MS = 60_000

_take = Script.beside(__file__, "take.lua")
_take_of_run = Script.beside(__file__, "take_of_run.lua")
_done = Script.beside(__file__, "done.lua")
_asked = msgspec.json.Decoder(dict[str, Any])
_is_place = re.compile(r"\d{1,20}-\d{1,20}").fullmatch


class ControlStore:
    """What is asked of the runs of a flow. `life_seconds` is how long it waits for somebody to take it."""

    def __init__(self, redis: Runner, keys: Keys, life_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = round(life_seconds * 1000)

    def keys_of(self, tenant: str, flow_id: str) -> list[str]:
        """Return the keys of a flow's stream, and of what nobody has taken yet."""
        return [self._keys.of(tenant, "run-control", encode_id(flow_id)), unclaimed_key(self._keys, tenant)]

    def args(self, control_id: str, kind: str, run_id: str, asked: str) -> list[Arg]:
        """Return what `ask.lua` is told behind the arguments of a change."""
        return [UNCLAIMED_MS, MOST, control_id, kind, run_id, self._life_ms, asked]

    def take(self, tenant: str, flow_id: str, consumer: str) -> list[Control]:
        """Take up to 10 messages of a flow's runs for one process; others get them where it isn't `done` in a minute.

        Raises Unavailable.
        """
        keys = self.keys_of(tenant, flow_id)
        return _read(flow_id, self._redis.run(_take, keys, [consumer, DEAD_MS, AT_ONCE, flow_id]))

    def take_of_run(self, tenant: str, flow_id: str, run_id: str, kind: str = "", most: int = AT_ONCE) -> list[Control]:
        """Take messages of one run, for the process that it runs in; they are done with that. Raises Unavailable."""
        keys = self.keys_of(tenant, flow_id)
        return _read(flow_id, self._redis.run(_take_of_run, keys, [flow_id, run_id, kind, most]))

    def take_of_flow(self, tenant: str, flow_id: str, kind: str) -> list[Control]:
        """Take up to 10 messages of one kind, of any run of a flow; they are done with that. Raises Unavailable."""
        return self.take_of_run(tenant, flow_id, "", kind)

    def flows_asked(self, tenant: str, kind: str) -> set[str]:
        """Return the flows of whose runs something of a kind is asked since 30 s, and nobody has taken it.

        Raises Unavailable.
        """
        key = unclaimed_key(self._keys, tenant)
        found = self._redis.command("ZRANGEBYSCORE", key, "-inf", "+inf", "LIMIT", 0, MOST)
        asked = [member.decode().split("\n") for member in found]
        return {flow_id for flow_id, _, its_kind, _ in asked if its_kind == kind}

    def done(self, tenant: str, flow_id: str, places: Sequence[str]) -> None:
        """Note that messages are done with, by their `place`; what isn't one is left alone. Raises Unavailable."""
        known = [place for place in places if _is_place(place)]
        if known:
            self._redis.run(_done, self.keys_of(tenant, flow_id)[:1], known)


def unclaimed_key(keys: Keys, tenant: str) -> str:
    """Return the key of what nobody has taken: a sorted set of `flow\\nrun\\nkind\\nid` by when that is told (ms)."""
    return keys.of(tenant, "run-unclaimed")


def _read(flow_id: str, entries: Sequence[Any]) -> list[Control]:
    found = []
    for place, flat in entries:
        fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        found.append(
            Control(
                control_id=fields[b"id"].decode(),
                kind=fields[b"kind"].decode(),
                flow_id=flow_id,
                run_id=fields[b"run"].decode(),
                place=place.decode(),
                **_asked.decode(fields[b"asked"]),
            )
        )
    return found
