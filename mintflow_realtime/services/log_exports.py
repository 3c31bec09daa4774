"""Exports of log records: all that match, oldest first, in lines of JSON."""

from collections import Counter
from collections.abc import Callable, Iterator

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import InvalidPayload, RateLimited
from mintflow_realtime.protocol.logs import ExportLogs
from mintflow_realtime.protocol.readings import readings
from mintflow_realtime.stores.logs.query import LogQuery, is_cursor
from mintflow_realtime.stores.logs.store import LogStore

# At once, in this process: each holds a slice of 128 KB and a greenlet for as long as its reader takes.
MOST = 32
MOST_OF_TENANT = 4


class LogExport:
    """One export: iterate over it once, then close it, whatever happened."""

    def __init__(self, slices: Iterator[list[bytes]], ended: Callable[[], None]) -> None:
        """Call `ended` once, when it is closed or forgotten."""
        self._slices = slices
        self._ended: Callable[[], None] | None = ended
        self._first: list[bytes] | None = None
        try:
            self._first = self._next()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines, some 128 KB at most at a time. Raises Unavailable where they can't be read to the end."""
        records, self._first = self._first, None
        while records is not None:
            if records:
                yield b"\n".join(records) + b"\n"
            records = self._next()

    def close(self) -> None:
        """End the export."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    # Whose answer was given up before anybody iterated over it.
    __del__ = close

    def _next(self) -> list[bytes] | None:
        # Others read between two slices.
        with readings:
            return next(self._slices, None)


class LogExports:
    """Begins exports; a few at once."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._running: Counter[str] = Counter()

    def begin(self, principal: Principal, command: ExportLogs) -> LogExport:
        """Return the export of what matches as of now, its first slice read.

        Raises Forbidden without `logs:read`, InvalidPayload, RateLimited while 4 of the tenant are under way (32 of
        all tenants), Unavailable.
        """
        principal.require("logs:read")
        query, tenant = LogQuery.of(command), principal.tenant
        if command.after is not None and not is_cursor(command.after):
            raise InvalidPayload("Expected the id of a record", "$.after")
        if self._running[tenant] >= MOST_OF_TENANT or self._running.total() >= MOST:
            raise RateLimited("Too many exports are under way")
        self._running[tenant] += 1
        return LogExport(self._store.scan(tenant, query, command.after), lambda: self._end(tenant))

    def _end(self, tenant: str) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
