"""What /flows remembers: each run's state, and its last events for those who come later. A day after the last event."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw

from protocol.flows import NodeState, RunEvent, RunSnapshot, clamp
from protocol.scripts import Arg, Change, Keys, Runner, Script
from protocol.wire_json import dumps

MAX_EVENTS = 1000
MAX_EVENT_BYTES = 4_000_000
# Nodes beyond these still have events; only the snapshot leaves them out.
MAX_NODES = 5000
# What one answer carries; a client that is further behind goes by the snapshot.
ANSWER_BYTES = 512 * 1024

_change = Path(__file__).with_name("runs_change.lua").read_text()
_read = Script.beside(__file__, "runs_read.lua")


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as read: its snapshot (None where there is none), events asked for, and the event log's number then."""

    run: RunSnapshot | None
    events: list[Raw] | None
    head: int


class RunStore:
    """Runs by tenant, flow and run id. `life_seconds` counts from a run's last event."""

    def __init__(self, redis: Runner, keys: Keys, life_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = round(life_seconds * 1000)

    def change(
        self,
        tenant: str,
        flow_id: str,
        run_id: str,
        events: Sequence[tuple[RunEvent, str, tuple[str, str], str]],
    ) -> Change:
        """Return the change of each event: (event, timestamp, payload around its seq, error as JSON text).

        It gives one text an event: its seq.
        """
        args: list[list[Arg]] = [
            [
                event.type,
                event.type.partition("_")[0],
                event.status,
                event.node_id or "",
                timestamp,
                "" if event.progress is None else dumps(clamp(event.progress)),
                error,
                flow_id,
                self._life_ms,
                MAX_EVENTS,
                MAX_EVENT_BYTES,
                MAX_NODES,
                *payload,
            ]
            for event, timestamp, payload, error in events
        ]
        run = self._run_key(tenant, flow_id, run_id)
        return Change(_change, [run, run + ":events", self._pointer(tenant, run_id)], args, sliced=True)

    def flow_of(self, tenant: str, run_id: str) -> str | None:
        """Return the flow that last had an event of this run."""
        flow_id = self._redis.command("GET", self._pointer(tenant, run_id))
        return None if flow_id is None else flow_id.decode()

    def read(self, tenant: str, flow_id: str, run_id: str, head_key: str, since: int | None = None) -> RunState:
        """Return a run and, with `since`, its events after it where all are held and fit into 512 KB.

        `head_key` is the key of the event log's numbering: read in the same step, so that nothing falls between.
        """
        key = self._run_key(tenant, flow_id, run_id)
        head, fields, events = self._redis.run(
            _read, [key, key + ":events", head_key], ["" if since is None else since, ANSWER_BYTES]
        )
        found = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
        return RunState(
            _snapshot(flow_id, run_id, found) if found else None,
            None if events is None else [Raw(text) for text in events],
            int(head),
        )

    def _run_key(self, tenant: str, flow_id: str, run_id: str) -> str:
        # Ids hold no ":" nor "/", so no two runs share a key.
        return self._keys.of(tenant, "run", f"{flow_id}/{run_id}")

    def _pointer(self, tenant: str, run_id: str) -> str:
        return self._keys.of(tenant, "run-flow", run_id)


def _snapshot(flow_id: str, run_id: str, fields: dict[str, bytes]) -> RunSnapshot:
    def text(name: str) -> str | None:
        return fields[name].decode() if name in fields else None

    nodes = {
        name[2:]: NodeState(
            status=value.decode(),  # type: ignore[arg-type]
            started_at=text("b:" + name[2:]),
            finished_at=text("f:" + name[2:]),
            error=Raw(fields["e:" + name[2:]]) if "e:" + name[2:] in fields else UNSET,
        )
        for name, value in fields.items()
        if name.startswith("s:")
    }
    return RunSnapshot(
        flow_id=flow_id,
        run_id=run_id,
        status=fields["status"].decode(),  # type: ignore[arg-type]
        progress=msgspec.json.decode(fields["progress"]),
        started_at=fields["startedAt"].decode(),
        finished_at=text("finishedAt") or UNSET,
        error=Raw(fields["error"]) if "error" in fields else UNSET,
        nodes=nodes,
        seq=int(fields["seq"]),
    )
