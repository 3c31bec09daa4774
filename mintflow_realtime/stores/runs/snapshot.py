"""A run's fields as Redis has them, made the snapshot that clients get."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mintflow_realtime.protocol.flows import LeftOut, NodeState, RunSnapshot
from mintflow_realtime.protocol.run_events import Parent
from mintflow_realtime.protocol.turns import Pause


def snapshot_of(
    flow_id: str, run_id: str, fields: dict[str, bytes], left_out: LeftOut, pause: Pause
) -> RunSnapshot | None:
    """Return a run's snapshot, None where there are no fields. An earlier version's has no `attempt`, which is 1."""

    def text(name: str) -> str | None:
        return fields[name].decode() if name in fields else None

    if not fields:
        return None
    nodes = {}
    for name, value in fields.items():
        if name.startswith("s:"):
            nodes[name[2:]] = NodeState(
                status=value.decode(),  # type: ignore[arg-type]
                attempt=int(fields.get("a:" + name[2:], b"1")),
                started_at=text("b:" + name[2:]),
                finished_at=text("f:" + name[2:]),
                error=Raw(fields["e:" + name[2:]]) if "e:" + name[2:] in fields else UNSET,
            )
            if len(nodes) % 256 == 0:
                pause()
    return RunSnapshot(
        flow_id=flow_id,
        run_id=run_id,
        status=fields["status"].decode(),  # type: ignore[arg-type]
        attempt=int(fields.get("attempt", b"1")),
        progress=msgspec.json.decode(fields["progress"]),
        started_at=fields["startedAt"].decode(),
        finished_at=text("finishedAt") or UNSET,
        error=Raw(fields["error"]) if "error" in fields else UNSET,
        nodes=nodes,
        truncated=left_out if left_out.nodes or left_out.errors else UNSET,
        seq=int(fields["seq"]),
        queued_at=text("queuedAt") or UNSET,
        name=text("name") or UNSET,
        tags=tags_of(text("tags")),
        lease=msgspec.json.decode(fields["lease"]) if "lease" in fields else UNSET,
        parent=parent_of(text("parent")),
        total=int(fields["total"]) if "total" in fields else UNSET,
        waiting=Raw(fields["waiting"]) if "waiting" in fields else UNSET,
        cancelling=Raw(fields["cancelling"]) if "cancelling" in fields else UNSET,
    )


def tags_of(text: str | None) -> list[str] | UnsetType:
    """Return tags as they are kept, one text with tabs between them."""
    return text.split("\t") if text else UNSET


def parent_of(text: str | None) -> Parent | UnsetType:
    """Return a parent as it is kept, one text with a tab between flow and run."""
    if not text:
        return UNSET
    flow_id, _, run_id = text.partition("\t")
    return Parent(flow_id=flow_id, run_id=run_id)
