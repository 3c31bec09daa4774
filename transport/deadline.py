"""One event-loop timer that may be armed, re-armed and cancelled; it costs no greenlet while it waits."""

from collections.abc import Callable
from typing import Any

from gevent import get_hub


class Deadline:
    """A timer that runs its callback in the hub: the callback must not block (spawn what does)."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: Any = None

    @property
    def armed(self) -> bool:
        return self._timer is not None

    def start(self, seconds: float, callback: Callable[[], object]) -> None:
        """Run `callback` once in `seconds`; an earlier arming is forgotten."""
        self.cancel()
        self._timer = get_hub().loop.timer(seconds)
        self._timer.start(self._fire, callback)

    def cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def _fire(self, callback: Callable[[], object]) -> None:
        self.cancel()
        callback()
