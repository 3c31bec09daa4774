"""What one connection has asked for and not been answered yet: in order, bounded, one greenlet while there is work."""

from collections import deque
from collections.abc import Callable

from transport.crew import Crew

MAX_WAITING = 256


class Inbox:
    """Runs work in the order in which it was put. Work must not raise. `emptied` is called when all of it is done."""

    __slots__ = ("_crew", "_waiting", "_working", "_closed", "_emptied")

    def __init__(self, crew: Crew, emptied: Callable[[], object]) -> None:
        self._crew = crew
        self._waiting: deque[Callable[[], None]] = deque()
        self._working = False
        self._closed = False
        self._emptied = emptied

    def put(self, work: Callable[[], None]) -> bool:
        """Take work, or return False where the inbox is full or closed."""
        if self._closed or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(work)
        if not self._working:
            self._working = True
            self._crew.run(self._run)
        return True

    def close(self) -> None:
        """Forget what waits: nobody is left to answer."""
        self._closed = True
        self._waiting.clear()

    def _run(self) -> None:
        try:
            while self._waiting:
                self._waiting.popleft()()
        finally:
            self._working = False
            if not self._closed:
                self._emptied()
