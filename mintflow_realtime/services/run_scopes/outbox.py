"""Events of runs that begin or end in another process: told at once, or when Redis is back, in order."""

import logging
import os
import secrets
import threading
from collections import deque

from msgspec import UNSET, structs

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Conflict, Unavailable
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.run_scopes.keeper import keeper

# Events that wait for Redis to be back; beyond that, the oldest are let go.
MOST_WAITING = 1000

_log = logging.getLogger("mintflow.runs")


class Outbox:
    """Tells of a tenant's runs without ever failing who has something to tell. Safe in threads, and over a fork."""

    def __init__(self, flows: Flows, tenant: str) -> None:
        self._flows, self._who, self._is_kept = flows, Principal.system(tenant), False
        self.forked()
        os.register_at_fork(after_in_child=self.forked)

    def tell(self, flow_id: str, run_id: str, event: RunEvent) -> None:
        """Tell of a run. Where it is impossible by what others have told meanwhile, nothing is."""
        self._waiting.append((flow_id, run_id, event, secrets.token_hex(8)))
        self._flush()
        with self._lock:
            if not self._waiting or self._is_kept:
                return
            self._is_kept = True
        keeper.add(self)

    def keep(self) -> bool:
        """Tell what waits; the keeper's thread calls it."""
        self._flush()
        with self._lock:
            self._is_kept = bool(self._waiting)
            return self._is_kept

    def forked(self) -> None:
        """Begin anew in a child of a fork: what waits is its parent's to tell."""
        self._lock, self._order = threading.Lock(), threading.Lock()
        self._waiting: deque[tuple[str, str, RunEvent, str]] = deque(maxlen=MOST_WAITING)
        self._is_kept = False

    def _flush(self) -> None:
        with self._order:
            while self._waiting:
                one = flow_id, run_id, event, key = self._waiting[0]
                try:
                    self._flows.publish(self._who, flow_id, run_id, [event], key)
                except Unavailable:
                    self._put_off(one)
                    return
                except Conflict as error:
                    _log.debug("%s of run %s comes too late: %s", event.type, run_id, error)
                except Exception as error:
                    _log.warning("%s of run %s was refused: %s", event.type, run_id, error)
                self._take(one)

    def _put_off(self, one: tuple[str, str, RunEvent, str]) -> None:
        """Let the first one, that a run is queued, change nothing once the run has begun, or even ended."""
        flow_id, run_id, event, _ = one
        if event.type == "flow_queued" and event.attempt is UNSET and self._take(one):
            self._waiting.appendleft((flow_id, run_id, structs.replace(event, attempt=1), secrets.token_hex(8)))

    def _take(self, one: tuple[str, str, RunEvent, str]) -> bool:
        with self._lock:
            if self._waiting and self._waiting[0] is one:
                self._waiting.popleft()
                return True
            return False
