"""What a run found, as a table by kind of fault. What happened belongs to the last fault that had begun."""

from bisect import bisect_right
from collections import Counter, defaultdict

from tests.cluster.oracle.model import Outcome
from tests.cluster.oracle.records import DISORDERED, LEAKED, LOST, OK, TWICE

BEFORE = "(none yet)"
COLUMNS = (
    "fault",
    "times",
    "acknowledged",
    "lost",
    "twice",
    "out of order",
    "across tenants",
    "other",
    "resyncs",
    "missed and told",
    "recovered",
    "anew",
    "longest silence",
)


def tally(outcome: Outcome) -> dict[str, Counter[str]]:
    """Count by kind of fault; `silence` is in milliseconds, of the client that heard nothing for longest."""
    begins = [fault.at for fault in outcome.faults]

    def kind(at: float) -> str:
        place = bisect_right(begins, at)
        return outcome.faults[place - 1].kind if place else BEFORE

    found: dict[str, Counter[str]] = defaultdict(Counter)
    for fault in outcome.faults:
        found[fault.kind]["times"] += 1
    for publish in outcome.publishes:
        found[kind(publish.ended)]["acknowledged" if publish.outcome == OK else publish.outcome] += 1
    for violation in outcome.violations:
        known = violation.kind in (LOST, TWICE, DISORDERED, LEAKED)
        found[kind(violation.at)][violation.kind if known else "other"] += 1
    for missed in outcome.excused:
        found[kind(missed.at)]["missed and told"] += 1
    heard: dict[str, list[float]] = defaultdict(list)
    for history in outcome.histories():
        met = False
        for seen in history.seen:
            if seen.kind == "event":
                heard[history.client].append(seen.at)
            elif seen.kind == "resync":
                found[kind(seen.at)]["resyncs"] += 1
            elif seen.kind == "connect":
                if met:
                    found[kind(seen.at)]["recovered" if seen.value == "recovered" else "anew"] += 1
                met = True
    for times in heard.values():
        times.sort()
        for last, following in zip(times, times[1:], strict=False):
            if following <= outcome.ended:
                counts = found[kind((last + following) / 2)]
                counts["silence"] = max(counts["silence"], round((following - last) * 1000))
    return found


def table(outcome: Outcome) -> str:
    """Return the table, its sums, and each violation below (the first 40)."""
    counts = tally(outcome)
    rows = [COLUMNS]
    sums: Counter[str] = Counter()
    for kind, of in counts.items():
        rows.append(_row(kind, of))
        silence = max(sums["silence"], of["silence"])
        sums += of
        sums["silence"] = silence
    rows.append(_row("all", sums))
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *cells)))
    lines += ["", f"seed {outcome.seed}, {outcome.ended - outcome.began:.0f} s"]
    lines += [f"unknown {sums['unknown']}, failed {sums['failed']}"]
    lines += outcome.complaints
    lines += [f"{fault.at:.3f} {fault.kind} {' '.join(fault.told)}" for fault in outcome.faults if outcome.violations]
    lines += [str(violation) for violation in outcome.violations[:40]]
    if len(outcome.violations) > 40:
        lines.append(f"and {len(outcome.violations) - 40} more")
    return "\n".join(lines)


def _row(kind: str, of: Counter[str]) -> tuple[str, ...]:
    return (kind, *(str(of[name]) for name in COLUMNS[1:-1]), f"{of['silence'] / 1000:.1f} s")
