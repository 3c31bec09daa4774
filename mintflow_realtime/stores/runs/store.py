"""What /flows remembers: each run's state, and its last events for those who come later. A day after the last event."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET, Raw

from mintflow_realtime.protocol.cutting import cut_text
from mintflow_realtime.protocol.errors import Conflict, NotFound
from mintflow_realtime.protocol.flows import Beaten, LeftOut, RunSnapshot
from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.run_events import RunEvent, clamp
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.protocol.wire_json import dumps, encode
from mintflow_realtime.stores.runs.control import ControlStore, unclaimed_key
from mintflow_realtime.stores.runs.leases import LeaseStore, leases_key
from mintflow_realtime.stores.runs.listing import RunIndex
from mintflow_realtime.stores.runs.snapshot import snapshot_of

MAX_EVENTS = 1000
MAX_EVENT_BYTES = 4_000_000
# Nodes beyond these still have events; only the snapshot leaves them out.
MAX_NODES = 5000
# What one answer carries of a run and of its events together.
ANSWER_BYTES = 512 * 1024

# Of an error, in a list of runs.
BRIEF_BYTES = 512
# Behind the arguments of the last event of a script; no text of anybody's is like it.
_LAST = "\x01last"
# What one script applies, if it may refuse; more are applied in slices, which may not.
STRICT_EVENTS = 25
STRICT_BYTES = 64 * 1024


def _lua(*names: str) -> str:
    return "".join(Path(__file__).with_name(f"{name}.lua").read_text() for name in names)


# A function of its own, so that no local of it shadows one of the script that it becomes part of.
_change = f"local change = (function()\n{_lua('turns', 'index', 'change')}return change\nend)()\n"
_ask = _change + _lua("ask")
_unclaimed = _change + _lua("unclaimed")
_check = Script(_lua("turns", "check"))
_beat = Script(_lua("turns", "index", "beat"), durable=True)
_read = Script.beside(__file__, "read.lua")

Written = tuple[RunEvent, str, tuple[str, str], str]
"""An event, its time, its payload around the gap, and its error as JSON text."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as read: its snapshot (None where there is none), events asked for, and the event log's number then.

    `next_since` is from where on there are more events; None where these are all.
    """

    run: RunSnapshot | None
    events: list[Raw] | None
    head: int
    next_since: int | None = None


class RunStore:
    """Runs by tenant, flow and run id. `life_seconds` counts from a run's last event; `max_runs` are a tenant's."""

    def __init__(self, redis: Runner, keys: Keys, life_seconds: float, max_runs: int = 10_000) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = round(life_seconds * 1000)
        self._max_runs = max_runs
        self.leases = LeaseStore(redis, keys)
        self.control = ControlStore(redis, keys, life_seconds)
        self.index = RunIndex(redis, keys, life_seconds, max_runs)

    def change(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        events: Sequence[Written],
        *,
        taken_up: bool = False,
        only_expired: bool = False,
    ) -> Change:
        """Return the change of each event; it gives one text an event: what its payload lacks.

        Where `is_strict` says so of the events, it refuses what is impossible: Conflict with the event and the status;
        or NotFound with the attempt, where a run that was queued or lost goes on and nobody was told (`taken_up`: they
        are). Else `check` is to be asked first. `only_expired` refuses where the run's lease goes on.
        """
        path = f"{encode_id(flow_id)}/{encode_id(run_id)}"
        search = f"{flow_id}\x01{run_id}".casefold()
        args: list[list[Arg]] = [
            [
                event.type,
                _node_of(event),
                timestamp,
                "" if event.progress is None else dumps(clamp(event.progress)),
                error,
                flow_id,
                run_id,
                self._life_ms,
                MAX_EVENTS,
                MAX_EVENT_BYTES,
                MAX_NODES,
                *payload,
                event.attempt or "",
                path,
                self._keys.of(tenant, "run", ""),
                self._max_runs,
                search,
                _brief(error),
                _context(event, timestamp),
                "expired" if only_expired else "",
                *_own(event),
            ]
            for event, timestamp, payload, error in events
        ]
        strict = is_strict(events)
        if strict:
            args[0] += _plan(events, taken_up)
        return Change(_change, self._keys_of(tenant, flow_id, run_id), args, (_LAST,), sliced=not strict)

    def ask(
        self, tenant: str, flow_id: str, run_id: str, written: Written, control_id: str, kind: str, asked: str
    ) -> Change:
        """Return the change of an event that asks something of a run's engine, which gets it by the flow's stream.

        It refuses what `change` does, with `not_found` where there is no such run, and `too_large` where the engine
        takes nothing.
        """
        plain = self.change(tenant, flow_id, run_id, [written], taken_up=True)
        keys = [*plain.keys, *self.control.keys_of(tenant, flow_id)]
        return Change(_ask, keys, [[*plain.args[0], _LAST, *self.control.args(control_id, kind, run_id, asked)]])

    def unclaimed(self, tenant: str, flow_id: str, run_id: str, written: Written, kind: str, control_id: str) -> Change:
        """Return the change of an event that says that nobody took what was asked; `conflict` where somebody has."""
        plain = self.change(tenant, flow_id, run_id, [written], taken_up=True)
        keys = [*plain.keys, unclaimed_key(self._keys, tenant)]
        return Change(_unclaimed, keys, [[*plain.args[0], _LAST, f"{flow_id}\n{run_id}\n{kind}\n{control_id}"]])

    def check(self, tenant: str, flow_id: str, run_id: str, events: Sequence[Written]) -> None:
        """Raise Conflict where events can't follow on what a run is, NotFound as `change` refuses, Unavailable."""
        refused = self._redis.run(_check, [self._run_key(tenant, flow_id, run_id)], _plan(events, False))
        if refused:
            error = (Conflict if refused[0] == b"conflict" else NotFound)(refused[1].decode())
            error.texts = tuple(refused[2])
            raise error

    def beat(self, tenant: str, flow_id: str, run_id: str) -> Beaten | None:
        """Renew a run's lease and life without an event; None where there is no such run. Raises Unavailable."""
        keys = self._keys_of(tenant, flow_id, run_id)
        found = self._redis.run(_beat, keys, [f"{flow_id}\n{run_id}", self._life_ms])
        if not found:
            return None
        status, attempt, cancelling = found
        return Beaten(status=status.decode(), attempt=int(attempt), cancelling=Raw(cancelling) if cancelling else UNSET)

    def flow_of(self, tenant: str, run_id: str) -> str | None:
        """Return the flow that last had an event of this run."""
        flow_id = self._redis.command("GET", self._pointer(tenant, run_id))
        return None if flow_id is None else flow_id.decode()

    def read(self, tenant: str, flow_id: str, run_id: str, head_key: str, since: int | None = None) -> RunState:
        """Return a run and, with `since`, its events after it where all are held: 512 KB of both at most.

        `head_key` is the key of the event log's numbering: read in the same step, so that nothing falls between.
        """
        key = self._run_key(tenant, flow_id, run_id)
        head, fields, events, more, *left_out = self._redis.run(
            _read, [key, key + ":events", head_key], ["" if since is None else since, ANSWER_BYTES]
        )
        found = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
        with turns.work() as pause:
            run = snapshot_of(flow_id, run_id, found, LeftOut(nodes=left_out[0], errors=left_out[1]), pause)
        return RunState(
            run,
            None if events is None else [Raw(text) for text in events],
            int(head),
            (since or 0) + len(events) if more == b"1" else None,
        )

    def _keys_of(self, tenant: str, flow_id: str, run_id: str) -> list[str]:
        run = self._run_key(tenant, flow_id, run_id)
        listed = [self._keys.of(tenant, name) for name in ("runs", "run-rows", "run-order")]
        return [run, run + ":events", self._pointer(tenant, run_id), *listed, leases_key(self._keys, tenant)]

    def _run_key(self, tenant: str, flow_id: str, run_id: str) -> str:
        # What is encoded holds no ":" nor "/", so no two runs share a key.
        return self._keys.of(tenant, "run", f"{encode_id(flow_id)}/{encode_id(run_id)}")

    def _pointer(self, tenant: str, run_id: str) -> str:
        return self._keys.of(tenant, "run-flow", encode_id(run_id))


def is_strict(events: Sequence[Written]) -> bool:
    """Tell whether one script applies all these events, so that it may refuse them."""
    return len(events) <= STRICT_EVENTS and sum(len(part) for one in events for part in one[2]) <= STRICT_BYTES


def _plan(events: Sequence[Written], taken_up: bool) -> list[Arg]:
    plan: list[Arg] = ["1" if taken_up else ""]
    for event, *_ in events:
        plan += (event.type, _node_of(event), event.attempt or "")
    return plan


def _node_of(event: RunEvent) -> str:
    return event.node_id or "" if event.type.startswith("node_") else ""


def _own(event: RunEvent) -> list[Arg]:
    """Return what an event says of the run itself: how many texts, then names and values."""
    own: list[Arg] = []
    if event.name is not None:
        own += ("name", event.name, "search", event.name.casefold())
    if event.tags is not None:
        own += ("tags", "\t".join(event.tags))
    if event.lease is not None:
        own += ("lease", dumps(event.lease))
    if event.parent is not None:
        own += ("parent", f"{event.parent.flow_id}\t{event.parent.run_id}")
    if event.total is not None:
        own += ("total", event.total)
    return [len(own), *own]


def _context(event: RunEvent, timestamp: str) -> str:
    """Return what a run waits for, or why it is to be cancelled, as JSON text; "" for other events."""
    told = {"reason": event.reason} if event.reason is not None else {}
    if event.type == "flow_cancelling":
        return dumps({**told, "at": timestamp})
    if event.type == "flow_waiting":
        return dumps({**told, "until": event.until} if event.until is not None else told)
    return ""


def _brief(error: str) -> str:
    """Return an error as a list of runs shows it: whole where it is short, else its beginning."""
    if len(error) <= BRIEF_BYTES:
        return error
    return cut_text(error.encode() if error.startswith('"') else encode(error[:BRIEF_BYTES]), BRIEF_BYTES).decode()
