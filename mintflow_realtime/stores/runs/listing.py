"""The tenant's list of runs: pages by any combination of criteria, looked for in slices that hold nobody up."""

from pathlib import Path

import msgspec
from msgspec import UNSET, Raw

from mintflow_realtime.protocol.run_events import Parent
from mintflow_realtime.protocol.runs import ListRuns, RunList, RunRow
from mintflow_realtime.protocol.scripts import Arg, Keys, Runner, Script
from mintflow_realtime.protocol.times import milliseconds_of
from mintflow_realtime.stores.runs.leases import leases_key
from mintflow_realtime.stores.runs.snapshot import parent_of, tags_of

# Rows that one script looks at, and that one command does: some 2 µs each, so that neither holds anybody up.
SLICE = 1000
MOST_LOOKED_AT = 4000
ANSWER_BYTES = 512 * 1024

_folder = Path(__file__).parent
_list = Script((_folder / "index.lua").read_text() + (_folder / "list.lua").read_text())


class RunIndex:
    """The list of a tenant's runs. `life_seconds` and `max_runs` are the bounds of what it holds."""

    def __init__(self, redis: Runner, keys: Keys, life_seconds: float, max_runs: int = 10_000) -> None:
        self._redis = redis
        self._keys = keys
        self._life_ms = round(life_seconds * 1000)
        self._max_runs = max_runs

    def page(self, tenant: str, query: ListRuns, head_key: str) -> RunList:
        """Return a page, newest first, as of the event log's number at `head_key`. Raises Unavailable."""
        keys = [self._keys.of(tenant, name) for name in ("runs", "run-rows", "run-order")]
        keys += [leases_key(self._keys, tenant), head_key]
        last = "+inf" if query.to is None else str(milliseconds_of(query.to) * 1000 + 999)
        highest = last if query.before is None or int(query.before) > float(last) else "(" + query.before
        lowest = "-inf" if query.from_ is None else str(milliseconds_of(query.from_) * 1000)
        rows: list[RunRow] = []
        as_of, looked, room = "", 0, ANSWER_BYTES
        while True:
            args: list[Arg] = [highest, lowest, query.limit - len(rows), room, SLICE, self._life_ms]
            args += [self._keys.of(tenant, "run", ""), self._max_runs, *_criteria(query)]
            epoch, number, following, count, *found = self._redis.run(_list, keys, args)
            # Of the first slice: events from there on hold for the whole page.
            as_of = as_of or (f"{epoch.decode()}-{number.decode()}" if epoch else "")
            rows += [_row(text.decode()) for text in found]
            room, looked, highest = room - sum(map(len, found)), looked + count, "(" + following.decode()
            full = len(rows) == query.limit or (following and count < SLICE)
            if not following or full or looked >= MOST_LOOKED_AT:
                cursor = following.decode() or UNSET
                return RunList(runs=rows, next_cursor=cursor, as_of=as_of or UNSET)


def _criteria(query: ListRuns) -> list[Arg]:
    statuses = [query.status] if isinstance(query.status, str) else query.status or []
    criteria: list[Arg] = ["" if query.text is None else query.text.casefold(), len(statuses)]
    criteria += [f"\ns:{status}\n" for status in statuses]
    if query.tag is not None:
        # Between tabs, of which no other line has two.
        criteria.append(f"\t{query.tag}\t")
    if query.flow_id is not None:
        criteria.append(f"\nf:{query.flow_id}\n")
    if isinstance(query.parent, Parent):
        criteria.append(f"\nu:{query.parent.flow_id}\t{query.parent.run_id}\n")
    elif query.parent is not None:
        criteria.append("\nu:{}\t{}\n".format(*query.parent.split("/")))
    return criteria


def _row(text: str) -> RunRow:
    field = {line[0]: line[2:] for line in text.split("\n")[1:-1]}
    return RunRow(
        flow_id=field["f"],
        run_id=field["r"],
        status=field["s"],
        attempt=int(field["a"]),
        progress=msgspec.json.decode(field["p"]),
        started_at=field["b"],
        seq=int(field["n"]),
        finished_at=field["d"] or UNSET,
        name=field["N"] or UNSET,
        tags=tags_of(field["t"].strip("\t")),
        parent=parent_of(field["u"]),
        total=int(field["T"]) if field["T"] else UNSET,
        error=Raw(field["e"].encode()) if field["e"] else UNSET,
    )
