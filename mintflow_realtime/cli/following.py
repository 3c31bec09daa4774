"""Follows logs by asking for what is newer than the last record seen: nothing is lost or repeated by a restart."""

from typing import Any

from mintflow_realtime.cli.sources.base import LogSource, Record
from mintflow_realtime.protocol.times import iso

Position = tuple[int, int]
PAGE = 1000
# What may have gathered while the source was away; the rest is told to be skipped.
MAX_RECORDS = 50_000


class Follower:
    """The records of `criteria` (`filter_logs`' fields), each once, in the order in which they were appended.

    A record's id is its time in milliseconds and its number, and both only grow; after a Redis that has lost its
    numbers, the time still does.
    """

    def __init__(self, source: LogSource, criteria: dict[str, Any]) -> None:
        self._source = source
        self._criteria = criteria
        self._position: Position = (0, 0)
        self.skipped = False

    def begin(self, history: int) -> list[Record]:
        """Return the last `history` records, and follow from here. Raises Away."""
        self._position = self._newest()
        found: list[Record] = []
        before: str | None = None
        while len(found) < history:
            page, before = self._page(min(PAGE, history - len(found)), before)
            found[:0] = page
            if before is None:
                break
        return self._pass(found)

    def new(self) -> list[Record]:
        """Return what has been appended since the last call; `skipped` tells of a gap. Raises Away."""
        self.skipped = False
        newest = self._newest()
        if newest <= self._position:
            return []
        found: list[Record] = []
        before: str | None = None
        while True:
            page, before = self._page(PAGE, before, iso(self._position[0]))
            found[:0] = [record for record in page if position_of(record["logId"]) > self._position]
            if before is None or position_of(before) <= self._position:
                break
            if len(found) > MAX_RECORDS:
                self.skipped = True
                break
        self._position = newest
        return self._pass(found)

    def wait(self, seconds: float) -> None:
        """Wait until there may be something new. Raises Away."""
        self._source.wait(seconds)

    def _newest(self) -> Position:
        records, _ = self._source.page({"limit": 1})
        return position_of(records[-1]["logId"]) if records else (0, 0)

    def _page(self, limit: int, before: str | None, since: str | None = None) -> tuple[list[Record], str | None]:
        more = {"limit": limit, "before": before, "from": since}
        return self._source.page(self._criteria | {name: value for name, value in more.items() if value is not None})

    def _pass(self, records: list[Record]) -> list[Record]:
        if records:
            self._position = max(self._position, position_of(records[-1]["logId"]))
        return records


def position_of(log_id: str) -> Position:
    """Return time in milliseconds and number of a log id or cursor."""
    milliseconds, _, number = log_id.partition("-")
    return int(milliseconds), int(number)
