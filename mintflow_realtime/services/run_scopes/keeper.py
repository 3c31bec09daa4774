"""One daemon thread a process that renews the leases of its runs, and tells what could not be told when it happened."""

import atexit
import logging
import os
import threading
import time
from typing import Protocol

LOOK_SECONDS = 0.5
# At the end of the process, for what is still to be told.
LAST_SECONDS = 2.0

_log = logging.getLogger("mintflow.runs")


class Kept(Protocol):
    """What the keeper looks after."""

    def keep(self) -> bool:
        """Renew the lease where it is time, and tell what waits; return whether there is more to do later."""
        ...

    def forked(self) -> None:
        """Let go, in a child of a fork, of locks that a thread of the parent may have held."""
        ...


class Keeper:
    """Looks after runs twice a second while there are any; a child of a fork has none of its parent's."""

    def __init__(self) -> None:
        self._begin_anew()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self.tell_the_last)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Kept] = []
        self._running = False

    def _forked(self) -> None:
        kept = self._kept
        self._begin_anew()
        for one in kept:
            one.forked()

    def add(self, one: Kept) -> None:
        """Look after a run from now on."""
        with self._lock:
            self._kept.append(one)
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._go, args=(os.getpid(),), name="mintflow-runs", daemon=True).start()

    def look(self) -> None:
        """Look after each run once; those that need no more are let go."""
        with self._lock:
            kept = list(self._kept)
        done = [one for one in kept if not self._keep(one)]
        with self._lock:
            self._kept = [one for one in self._kept if one not in done]

    def tell_the_last(self) -> None:
        """Try for 2 s to tell what waits; runs that go on end by their leases."""
        deadline = time.monotonic() + LAST_SECONDS
        while self._kept and time.monotonic() < deadline:
            self.look()
            time.sleep(LOOK_SECONDS / 5)

    def _keep(self, one: Kept) -> bool:
        try:
            return one.keep()
        except Exception:
            # Whatever it is, it must not end the leases of the others.
            _log.exception("a run can't be looked after")
            return False

    def _go(self, process: int) -> None:
        # Where gevent has patched threads, they go on in the child of a fork too.
        while os.getpid() == process:
            with self._lock:
                if not self._kept:
                    self._running = False
                    return
            self.look()
            time.sleep(LOOK_SECONDS)


keeper = Keeper()
