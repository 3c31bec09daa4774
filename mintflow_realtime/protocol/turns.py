"""Turns: long work is done in slices, one slice at a time in the whole process, and everybody else goes between two.

Knows no event loop. Where gevent has patched `threading` and `time`, whoever waits here lets the loop run.
"""

import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mintflow_realtime.protocol.waiting_line import wait_in

# One slice: what others wait for at most because of work that is done here, if its steps are short.
SLICE_SECONDS = 0.002
# Between two slices. A timer, since the loop runs many callbacks in a row before it looks at its sockets.
REST_SECONDS = 0.0005

# Collections of young objects before the older ones are looked through, while there is long work.
NEVER = 2**30

Pause = Callable[[], None]
"""What long work calls after each short step: returns at once, or when it is this work's turn again."""


def at_once() -> None:
    """Be a pause for work that is not to be interrupted."""


class Turns:
    """Gives slices to those who have long work, in the order in which they ask; `work` is one piece of it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[threading.Lock] = deque()
        self._busy = False
        self._calm = 0
        self._thresholds = gc.get_threshold()

    def __len__(self) -> int:
        """How many wait for a slice."""
        return len(self._waiting)

    @contextmanager
    def work(self) -> Iterator[Pause]:
        """Wait for a slice, and give the pause that lets others have theirs."""
        held = False
        until = 0.0

        def take() -> None:
            nonlocal held, until
            self._take()
            held, until = True, self._clock() + SLICE_SECONDS

        def pause() -> None:
            nonlocal held, until
            if self._clock() < until:
                return
            if not self._waiting:
                time.sleep(REST_SECONDS)
            if self._waiting:
                held = False
                self._give()
                take()
            until = self._clock() + SLICE_SECONDS

        try:
            take()
            yield pause
            if self._clock() > until - SLICE_SECONDS / 2:
                # What follows, such as sending it, may be long as well.
                time.sleep(REST_SECONDS)
        finally:
            # Not where it was ended while it waited.
            if held:
                self._give()

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Keep Python's cycle collector from what is old: it looks through 300,000 lists for a tenth of a second."""
        self._calm += 1
        if self._calm == 1:
            self._thresholds = gc.get_threshold()
            gc.set_threshold(self._thresholds[0], NEVER, NEVER)
        try:
            yield
        finally:
            self._calm -= 1
            if not self._calm:
                gc.set_threshold(*self._thresholds)

    def _take(self) -> None:
        if not self._busy:
            self._busy = True
            return
        wait_in(self._waiting, threading.Lock(), self._give)
        try:
            time.sleep(REST_SECONDS)
        except BaseException:
            self._give()
            raise

    def _give(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._busy = False


turns = Turns()
"""Those of this process."""
