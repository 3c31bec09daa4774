"""The runs that `watch` knows of, those that go on first; old ones that have ended are forgotten."""

from dataclasses import dataclass
from datetime import datetime

from mintflow_realtime.cli.sources.base import Run

ENDED = frozenset({"completed", "failed", "cancelled", "lost"})
# How long a run that has ended stays to be seen, and how many are kept at all.
STAY_SECONDS = 60.0
MAX_RUNS = 1000


@dataclass(slots=True)
class Row:
    """A run as it was read last, and when."""

    run: Run
    seen_at: float

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more is expected of it."""
        return self.run["status"] in ENDED

    def seconds(self, now: float) -> float:
        """Return how long it has been running, or ran."""
        return lasted(self.run, now)


class RunBoard:
    """What is known of runs, by flow and run."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}

    def put(self, run: Run, now: float) -> None:
        """Take in a snapshot."""
        place = (str(run["flowId"]), str(run["runId"]))
        self._rows.pop(place, None)
        self._rows[place] = Row(run, now)
        while len(self._rows) > MAX_RUNS:
            ended = next((key for key, row in self._rows.items() if row.has_ended), next(iter(self._rows)))
            del self._rows[ended]

    def has(self, run_id: str) -> bool:
        """Tell whether a run of this id is known."""
        return any(place[1] == run_id for place in self._rows)

    def ended(self, run_id: str) -> str:
        """Return the status in which a run has ended, '' while it goes on."""
        for (_, name), row in self._rows.items():
            if name == run_id and row.has_ended:
                return str(row.run["status"])
        return ""

    def rows(self, now: float) -> list[Row]:
        """Return those to be shown: what goes on by its start, then what has ended within a minute, the last first."""
        active = sorted(
            (row for row in self._rows.values() if not row.has_ended), key=lambda row: str(row.run["startedAt"])
        )
        ended = [row for row in self._rows.values() if row.has_ended and _end(row.run) > now - STAY_SECONDS]
        return active + sorted(ended, key=lambda row: -_end(row.run))

    def all(self) -> list[Row]:
        """Return all runs, as they came."""
        return list(self._rows.values())


def lasted(one: Run, now: float) -> float:
    """Return the seconds from the start of a run or node to its end, or to now."""
    begin = moment(one.get("startedAt"))
    end = moment(one.get("finishedAt")) or now
    return max(0.0, end - begin) if begin else 0.0


def moment(text: object) -> float:
    """Return an ISO time in unix seconds, 0 where there is none."""
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0


def _end(run: Run) -> float:
    return moment(run.get("finishedAt")) or moment(run.get("startedAt"))
