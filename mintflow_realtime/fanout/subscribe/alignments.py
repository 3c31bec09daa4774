"""What has to be read after a subscription was confirmed: a few channels at once, of however many were cut together."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import gevent

# So few that publishes, which use the same Redis, hardly wait; each is a command or two.
AT_ONCE = 8
AGAIN_SECONDS = 0.2

_log = logging.getLogger("mintflow.channels")

Asked = TypeVar("Asked")


class Alignments(Generic[Asked]):
    """Calls `align` with what is asked for until it returns True; greenlets live while there is work."""

    def __init__(self, align: Callable[[Asked], bool], at_once: int = AT_ONCE) -> None:
        self._align, self._at_once = align, at_once
        self._waiting: deque[Asked] = deque()
        self._workers: set[gevent.Greenlet[..., None]] = set()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def ask(self, what: Asked, *, first: bool = False) -> None:
        """Let `what` be aligned soon: `first`, where somebody waits for it."""
        if first:
            self._waiting.appendleft(what)
        else:
            self._waiting.append(what)
        if len(self._workers) < self._at_once:
            worker = gevent.spawn(self._work)
            self._workers.add(worker)
            worker.rawlink(self._workers.discard)

    def stop(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        gevent.killall(list(self._workers), block=False)

    def _work(self) -> None:
        while self._waiting:
            asked = self._waiting.popleft()
            try:
                done = self._align(asked)
            except Exception:
                _log.exception("a channel could not be aligned")
                done = False
            if not done:
                gevent.sleep(AGAIN_SECONDS)
                self._waiting.append(asked)
