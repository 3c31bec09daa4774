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

    __slots__ = ("_ring", "_step")

    def __init__(self, ring: Callable[[], object]) -> None:
        """`ring` runs in the hub and must not block."""
        self._ring = ring
        self._step: int | None = None

    @property
    def armed(self) -> bool:
        return self._step is not None


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
        alarm._step = step
        there = self._steps.get(step)
        if there is not None:
            there.add(alarm)
            return
        self._steps[step] = {alarm}
        heapq.heappush(self._order, step)
        if self._order[0] == step:
            self._wind()

    def cancel(self, alarm: Alarm) -> None:
        """Let `alarm` not ring, if it was to."""
        step, alarm._step = alarm._step, None
        if step is not None:
            self._steps[step].discard(alarm)

    def close(self) -> None:
        """Forget all alarms."""
        for alarms in self._steps.values():
            for alarm in alarms:
                alarm._step = None
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
        while self._order and self._order[0] <= now:
            # Set again while it rings, an alarm goes to another step.
            alarms = self._steps.pop(heapq.heappop(self._order))
            for alarm in alarms:
                alarm._step = None
            for alarm in alarms:
                try:
                    alarm._ring()
                except Exception:
                    logger.exception("A deadline could not be kept")
        self._wind()
