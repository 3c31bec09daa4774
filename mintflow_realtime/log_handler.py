"""Log records of Python's `logging` (and structlog) as the tenant's, of the run and node that the code runs in."""

import logging
from typing import Any

from mintflow_realtime.protocol.ids import check_tenant
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.services.record_publisher import RecordPublisher
from mintflow_realtime.services.record_queue import MOST, RecordQueue
from mintflow_realtime.services.run_scopes.scopes import current

Place = tuple[str | None, str | None, str | None]
"""Flow, run and node."""


class MintflowHandler(logging.Handler):
    """Publishes what is logged, in the background: `logging.root.addHandler(MintflowHandler(emit.logs, "acme"))`.

    A record belongs to the run and node that its code runs in (`emit.run`, `run.node`), else to `flow_id` and `run_id`;
    `extra={"flow_id": …, "run_id": …, "node_id": …}` goes before both. It never blocks and never raises: beyond `most`
    records, new ones are dropped, and a record says how many. What the project itself logs is left out.
    """

    def __init__(
        self,
        logs: Logs,
        tenant: str,
        level: int | str = logging.NOTSET,
        *,
        flow_id: str | None = None,
        run_id: str | None = None,
        most: int = MOST,
    ) -> None:
        super().__init__(level)
        self._place: Place = (flow_id, run_id, None)
        of = {"flow_id": flow_id, "run_id": run_id}
        self._queue = RecordQueue(RecordPublisher(logs, check_tenant(tenant, "$.tenant"), of), most)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        if record.name.startswith("mintflow."):
            return
        try:
            # The text is made here, since what it is made of may change.
            text = self.format(record)
            fields = _fields(text, record.levelname, record.created, {"logger": record.name}, self._of(record))
            self._queue.put(fields, len(text))
        except Exception:
            self.handleError(record)

    def structlog(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """Queue an event of structlog and return it unchanged: a processor, to stand before the one that renders."""
        metadata = {name: value for name, value in event.items() if name not in ("event", "level", "timestamp")}
        metadata = {
            name: value if isinstance(value, (str, int, float)) else repr(value) for name, value in metadata.items()
        }
        text, level = str(event.get("event", "")), str(event.get("level", method))
        self._queue.put(_fields(text, level, None, metadata, self._of(None)), len(text))
        return event

    def flush(self) -> None:
        """Publish what is queued, for at most 2 s."""
        self._queue.flush()

    def close(self) -> None:
        """Publish what is queued, for at most 2 s, and end the thread."""
        self._queue.close()
        super().close()

    def _of(self, record: logging.LogRecord | None) -> Place:
        within, place = current.get(), self._place
        if within is not None:
            place = (within[0].flow_id, within[0].run_id, within[1])
        if record is None or not (
            "run_id" in record.__dict__ or "flow_id" in record.__dict__ or "node_id" in record.__dict__
        ):
            return place
        given = record.__dict__
        return given.get("flow_id", place[0]), given.get("run_id", place[1]), given.get("node_id", place[2])


def _fields(
    text: str,
    level: str,
    created: float | None,
    metadata: dict[str, Any],
    place: Place,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"message": text, "level": level, "metadata": metadata}
    if created is not None:
        fields["timestamp"] = round(created * 1000)
    for name, value in zip(("flow_id", "run_id", "node_id"), place, strict=True):
        if value is not None:
            fields[name] = value
    return fields
