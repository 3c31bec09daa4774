"""Logs and runs read from Redis itself: needs no server, no token, and outlives restarts of all servers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.cli.sources.base import LOOK_SECONDS, Away, Record, Run, RunId
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.envelope import Offset
from mintflow_realtime.protocol.errors import NotFound, Unavailable
from mintflow_realtime.protocol.logs import FilterLogs
from mintflow_realtime.protocol.wire_json import loads
from mintflow_realtime.settings.settings import PublisherSettings

FLOWS = "/flows"


class RedisLogs:
    """Log records of a tenant, page by page."""

    def __init__(self, settings: PublisherSettings, tenant: str) -> None:
        self._emitter = Emitter(settings=settings)
        self._principal = Principal.system(tenant)

    def page(self, criteria: dict[str, Any]) -> tuple[list[Record], str | None]:
        with _away():
            found = self._emitter.logs.read(self._principal, msgspec.convert(criteria, FilterLogs))
        return [loads(bytes(text)) for text in found.logs], found.next_cursor or None

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, LOOK_SECONDS))

    def close(self) -> None:
        self._emitter.close()


class RedisRuns:
    """Runs of a tenant: the event log tells which have changed, the store how they are."""

    def __init__(self, settings: PublisherSettings, tenant: str) -> None:
        self._emitter = Emitter(settings=settings)
        self._tenant = tenant
        self._principal = Principal.system(tenant)
        self._position = Offset("", 0)

    def changed(self, seconds: float) -> set[RunId]:
        deadline = time.monotonic() + seconds
        while True:
            runs = self._new()
            left = deadline - time.monotonic()
            if runs or left <= 0:
                return runs
            time.sleep(min(left, LOOK_SECONDS))

    def _new(self) -> set[RunId]:
        runs: set[RunId] = set()
        while True:
            with _away():
                page = self._emitter.publisher.page(self._tenant, FLOWS, self._position.number + 1)
            if page.head and page.head.epoch != self._position.epoch:
                # Another numbering, or the first look: whatever it holds may be news.
                first_look = self._position == Offset("", 0)
                self._position = Offset(page.head.epoch, 0)
                if not first_look:
                    continue
            for event in page.events:
                payload = loads(event.arguments)[1]
                runs.add((payload["flowId"], payload["runId"]))
                if event.offset:
                    self._position = event.offset
            if not page.more:
                return runs

    def read(self, run: RunId) -> Run | None:
        flow_id, run_id = run
        with _away():
            try:
                flow_id = flow_id or self._emitter.flows.flow_of(self._principal, run_id)
                if flow_id is None:
                    return None
                found = self._emitter.flows.read(self._principal, flow_id, run_id)
            except NotFound:
                return None
        shown: Run = loads(msgspec.json.encode(found.run))
        return shown

    def close(self) -> None:
        self._emitter.close()


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        raise Away(str(error)) from error
