"""What one connection has asked for and not been answered yet: in order, bounded, one greenlet while there is work."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from mintflow_realtime.transport.loop.greenlet_pool import GreenletPool
from mintflow_realtime.transport.loop.next_turn import next_turn

# With so many, nothing more is read until half of them are done.
MAX_WAITING = 64
# Of one client, before others get a turn.
A_TURN = 16


class Asker(Protocol):
    """Who asks: its reading can be paused, and it may have no room for an answer."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def room(self, then: Callable[[], None]) -> bool: ...


class Inbox:
    """Runs work in the order in which it was put. Work must not raise. `emptied` is called when all of it is done.

    Each piece waits until the one who asked has room for an answer.
    """

    __slots__ = ("_greenlets", "_asker", "_waiting", "_working", "_full", "_dear", "_closed", "_emptied")

    def __init__(self, pool: GreenletPool, asker: Asker, emptied: Callable[[], object]) -> None:
        self._greenlets = pool
        self._asker = asker
        self._waiting: deque[tuple[Callable[[], None], Callable[[], None] | None]] = deque()
        self._working = self._full = self._closed = False
        self._dear = 0
        self._emptied = emptied

    def put(self, work: Callable[[], None], let_go: Callable[[], None] | None = None) -> None:
        """Take work; pause the reading where enough waits. `let_go` frees what dear work holds, and is always called:
        of such there is one at a time, since nothing more is read meanwhile.
        """
        if self._closed:
            self._let_go_soon(let_go)
            return
        self._waiting.append((work, let_go))
        self._dear += let_go is not None
        if (self._dear or len(self._waiting) >= MAX_WAITING) and not self._full:
            self._full = True
            self._asker.pause()
        if not self._working:
            self._working = True
            self._greenlets.run(self._run)

    def close(self) -> None:
        """Forget what waits: nobody is left to answer."""
        self._closed = True
        held = [let_go for _, let_go in self._waiting if let_go is not None]
        self._waiting.clear()
        for let_go in held:
            self._let_go_soon(let_go)

    def _let_go_soon(self, let_go: Callable[[], None] | None) -> None:
        if let_go is not None:
            self._greenlets.run(let_go)

    def _run(self) -> None:
        waiting, room, again = self._waiting, self._asker.room, self._again
        try:
            done = 0
            while waiting:
                if done == A_TURN:
                    next_turn(again)
                    return
                if not room(again):
                    return
                work, let_go = waiting.popleft()
                try:
                    work()
                finally:
                    # It holds what is let go of.
                    del work
                    self._let_go_soon(let_go)
                self._dear -= let_go is not None
                done += 1
                if self._full and not self._dear and len(waiting) <= MAX_WAITING // 2:
                    self._full = False
                    self._asker.resume()
        except BaseException:
            self._working = False
            raise
        self._working = False
        if not self._closed:
            self._emptied()

    def _again(self) -> None:
        self._greenlets.run(self._run)
