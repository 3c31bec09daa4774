"""`/api/v1/logs`: publish, read, export and clear log records."""

from flask import Response

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.logs import ClearLogs, ExportLogs, FilterLogs, NewLog
from mintflow_realtime.routes.answers import Accepted, Deleted, answer
from mintflow_realtime.routes.body import Batches
from mintflow_realtime.routes.query import idempotency_key, read_query
from mintflow_realtime.routes.streaming import stream
from mintflow_realtime.services.logs import Logs

_records = Batches(NewLog)


class LogViews:
    """The views of /logs."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def publish(self, principal: Principal) -> Response:
        """Store one record, an array or lines of them: all or none."""
        key = idempotency_key()
        published = self._logs.publish(principal, _records.read(), key)
        return answer(Accepted(len(published.offsets), published.offsets), 202)

    def read(self, principal: Principal) -> Response:
        """Return a page of records, newest last; a missing `nextCursor` is the end."""
        return answer(self._logs.read(principal, read_query(FilterLogs, numbers=("limit",), lists=("logLevel",))))

    def export(self, principal: Principal) -> Response:
        """Return all records that match, oldest first, one a line."""
        export = self._logs.exports.begin(principal, read_query(ExportLogs, lists=("logLevel",)))
        return stream(export, "application/x-ndjson")

    def clear(self, principal: Principal) -> Response:
        """Delete the records of one flow, one run, or with one id."""
        return answer(
            Deleted(self._logs.clear(principal, read_query(ClearLogs), idempotency_key=idempotency_key()).deleted)
        )
