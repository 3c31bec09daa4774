"""One event-loop timer for all deadlines of all connections, on the monotonic clock, in steps of `STEP` seconds."""

import heapq
import logging
import math
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import get_hub

STEP = 0.05

logger = logging.getLogger(__name__)


class Timer:
    """What a `TimerWheel` calls when its time comes. It may be set, set again and cancelled any number of times."""

    __slots__ = ("_fire", "_slot")

    def __init__(self, fire: Callable[[], object]) -> None:
        """`fire` runs in the hub and must not block."""
        self._fire = fire
        self._slot: set[Timer] | None = None

    @property
    def armed(self) -> bool:
        return self._slot is not None


NEVER = Timer(lambda: None)
"""What an ended connection has instead of its own timer, which would keep it until Python's cycle collector comes."""


class TimerWheel:
    """Timers by the step in which they fire. It costs nothing while none is set."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._slots: dict[int, set[Timer]] = {}
        self._order: list[int] = []
        self._loop_timer: Any = None

    def set(self, timer: Timer, seconds: float, *, early: bool = False) -> None:
        """Let `timer` fire once: at most a step after `seconds`, or with `early` at most a step before."""
        self.cancel(timer)
        steps = (self._clock() + seconds) / STEP
        step = math.floor(steps) if early else math.ceil(steps)
        slot = self._slots.get(step)
        if slot is None:
            slot = self._slots[step] = set()
            heapq.heappush(self._order, step)
            if self._order[0] == step:
                self._schedule()
        slot.add(timer)
        timer._slot = slot

    def cancel(self, timer: Timer) -> None:
        """Let `timer` not fire, if it was to."""
        slot, timer._slot = timer._slot, None
        if slot is not None:
            slot.discard(timer)

    def close(self) -> None:
        """Cancel all timers."""
        for timers in self._slots.values():
            for timer in timers:
                timer._slot = None
        self._slots.clear()
        self._order.clear()
        self._schedule()

    def _schedule(self) -> None:
        """Let the event loop wake us for the earliest step, or not at all."""
        loop_timer, self._loop_timer = self._loop_timer, None
        if loop_timer is not None:
            loop_timer.stop()
            loop_timer.close()
        if self._order:
            self._loop_timer = get_hub().loop.timer(max(0.0, self._order[0] * STEP - self._clock()))
            self._loop_timer.start(self._advance)

    def _advance(self) -> None:
        """Fire what is due."""
        now = self._clock() / STEP
        due = []
        while self._order and self._order[0] <= now:
            due.append(self._slots.pop(heapq.heappop(self._order)))
        for slot in due:
            for timer in tuple(slot):
                # Not what one that fired before it has cancelled or set again.
                if timer._slot is slot:
                    timer._slot = None
                    self._fire(timer)
        self._schedule()

    def _fire(self, timer: Timer) -> None:
        try:
            timer._fire()
        except Exception:
            logger.exception("A timer's callback failed")
