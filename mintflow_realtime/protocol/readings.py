"""Readings of what may be long: a few at once, and one for all who ask for the same while it has not begun.

Knows no event loop. Where gevent has patched `threading`, whoever waits here lets the loop run.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from mintflow_realtime.protocol.waiting_line import wait_in

# Redis reads one at a time, and gives each a second for its answer: of hundreds that are asked for in one moment, the
# last would have waited longer than that.
READINGS = 4

Found = TypeVar("Found")


class _Reading:
    """One reading for all who wait for it."""

    def __init__(self) -> None:
        self.waiting: list[threading.Lock] = []
        self.found: Any = None
        self.error: BaseException | None = None


class Readings:
    """Lets so many read at once; others wait, in order."""

    def __init__(self, most: int = READINGS) -> None:
        self._free = most
        self._waiting: deque[threading.Lock] = deque()
        self._next: dict[Hashable, _Reading] = {}

    def shared(self, key: Hashable, read: Callable[[], Found]) -> Found:
        """Return what `read` returns, which begins after this call does; whoever asks until then has the same."""
        reading = self._next.get(key)
        if reading is not None:
            turn = threading.Lock()
            turn.acquire()
            reading.waiting.append(turn)
            turn.acquire()
            if reading.error is not None:
                raise reading.error
            shared: Found = reading.found
            return shared
        reading = self._next[key] = _Reading()
        try:
            with self:
                del self._next[key]
                found = reading.found = read()
                return found
        except BaseException as error:
            # Who was ended while it waited doesn't end the others with it.
            reading.error = error if isinstance(error, Exception) else RuntimeError("The reading was ended")
            raise
        finally:
            if self._next.get(key) is reading:
                del self._next[key]
            for turn in reading.waiting:
                turn.release()

    def __enter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        wait_in(self._waiting, threading.Lock(), self.__exit__)

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._free += 1


readings = Readings()
"""Those of this process: of histories, states and runs."""
