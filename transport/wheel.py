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


class Alarm:
    """What a `Wheel` calls when its time comes. It may be set, set again and cancelled as often as one likes."""

    __slots__ = ("_ring", "_place")

    def __init__(self, ring: Callable[[], object]) -> None:
        """`ring` runs in the hub and must not block."""
        self._ring = ring
        self._place: set[Alarm] | None = None

    @property
    def armed(self) -> bool:
        return self._place is not None


NEVER = Alarm(lambda: None)
"""What an ended connection has instead of its own alarm, which would keep it until Python's cycle collector comes."""


class Wheel:
    """Alarms by the step in which they ring. It costs nothing while none is set."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._steps: dict[int, set[Alarm]] = {}
        self._order: list[int] = []
        self._timer: Any = None

    def set(self, alarm: Alarm, seconds: float, *, early: bool = False) -> None:
        """Let `alarm` ring once: at most a step after `seconds`, or with `early` at most a step before."""
        self.cancel(alarm)
        steps = (self._clock() + seconds) / STEP
        step = math.floor(steps) if early else math.ceil(steps)
        place = self._steps.get(step)
        if place is None:
            place = self._steps[step] = set()
            heapq.heappush(self._order, step)
            if self._order[0] == step:
                self._wind()
        place.add(alarm)
        alarm._place = place

    def cancel(self, alarm: Alarm) -> None:
        """Let `alarm` not ring, if it was to."""
        place, alarm._place = alarm._place, None
        if place is not None:
            place.discard(alarm)

    def close(self) -> None:
        """Forget all alarms."""
        for alarms in self._steps.values():
            for alarm in alarms:
                alarm._place = None
        self._steps.clear()
        self._order.clear()
        self._wind()

    def _wind(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()
        if self._order:
            self._timer = get_hub().loop.timer(max(0.0, self._order[0] * STEP - self._clock()))
            self._timer.start(self._turn)

    def _turn(self) -> None:
        now = self._clock() / STEP
        due = []
        while self._order and self._order[0] <= now:
            due.append(self._steps.pop(heapq.heappop(self._order)))
        for place in due:
            for alarm in tuple(place):
                # Not what one that rang before it has cancelled or set again.
                if alarm._place is place:
                    alarm._place = None
                    self._ring(alarm)
        self._wind()

    def _ring(self, alarm: Alarm) -> None:
        try:
            alarm._ring()
        except Exception:
            logger.exception("A deadline could not be kept")
