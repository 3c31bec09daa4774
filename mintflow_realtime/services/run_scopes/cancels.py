"""One daemon thread of an engine that hears who wants its runs cancelled, of all its flows."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Set

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.services.runs.control import RunControl

LOOK_SECONDS = 1.0
# How often each flow is looked at for what has waited longer than 30 s, which no engine was there for.
OLD_SECONDS = 60.0
# Wishes that the engine can't be told at the moment.
MOST_WAITING = 1000

_log = logging.getLogger("mintflow.runs")


class Cancels:
    """Hears who wants runs of `flow_ids` cancelled and calls `cancel` with each run's id, again where that raises."""

    def __init__(
        self, control: RunControl, tenant: str, flow_ids: Callable[[], Set[str]], cancel: Callable[[str], None]
    ) -> None:
        self._control, self._tenant, self._flow_ids, self._cancel = control, tenant, flow_ids, cancel
        self._stopped = threading.Event()
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)
        self._old_at = 0.0

    def start(self) -> None:
        """Hear from now on, in a thread of this process."""
        threading.Thread(target=self._go, args=(os.getpid(),), name="mintflow-cancels", daemon=True).start()

    def stop(self) -> None:
        """Hear no more; what nobody has heard stays for another."""
        self._stopped.set()

    def look(self) -> None:
        """Hear once. Raises Unavailable."""
        old = time.monotonic() >= self._old_at
        for asked in self._control.take_cancels(self._tenant, self._flow_ids(), old=old):
            self._waiting.append(asked.run_id)
        if old:
            self._old_at = time.monotonic() + OLD_SECONDS
        while self._waiting:
            self._cancel(self._waiting[0])
            self._waiting.popleft()

    def _go(self, process: int) -> None:
        while os.getpid() == process and not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
            except Unavailable:
                # Afterwards, anything may have waited for long.
                self._old_at = 0.0
            except Exception as error:
                _log.warning("a task can't be revoked now: %s", error)
