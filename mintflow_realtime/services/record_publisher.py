"""Batches of a queue of records as the tenant's: in one piece where they can be, else one by one."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from mintflow_realtime.services.logs import Logs

_log = logging.getLogger("mintflow.log_handler")


class RecordPublisher:
    """What a `RecordQueue` publishes by. Its records are dictionaries as `Logs.append` takes them."""

    def __init__(self, logs: Logs, tenant: str, of: Mapping[str, str | None]) -> None:
        """`of`: flow_id, run_id and node_id of the record that says how many were dropped."""
        self._logs, self._tenant, self._of = logs, tenant, of

    def __call__(self, batch: Sequence[dict[str, Any]], dropped: int, key: str) -> bool:
        """Publish a batch; return False while Redis is away. What is refused is logged and let go."""
        records = list(batch)
        if dropped:
            told = f"{dropped} records were dropped: they came faster than they could be published"
            records.append({"message": told, "level": "warning", "metadata": {"dropped": dropped}, **self._of})
        try:
            self._logs.append_many(self._tenant, records, idempotency_key=key)
        except Unavailable:
            return False
        except RealtimeError:
            return self._one_by_one(records, key)
        return True

    def _one_by_one(self, records: Sequence[dict[str, Any]], key: str) -> bool:
        """Publish a batch of which a record is refused, or that is too large as a whole."""
        for number, record in enumerate(records):
            try:
                self._logs.append(self._tenant, **record, idempotency_key=f"{key}-{number}")
            except Unavailable:
                return False
            except RealtimeError as error:
                _log.warning("a record was refused: %s", error)
        return True
