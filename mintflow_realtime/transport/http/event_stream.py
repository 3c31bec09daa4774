"""One open answer of server-sent events on a socket of its own: no greenlet waits for it, and what waits is bounded."""

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mintflow_realtime.transport.loop.poller import BROKEN, READ, WRITE, Poller
from mintflow_realtime.transport.loop.timer_wheel import NEVER, Timer, TimerWheel

# Proxies and clients take a longer silence for the end.
QUIET_SECONDS = 15.0
# Who takes nothing of what waits for so many of these is gone.
PATIENCE = 4
# From the last event to the end of the connection, for what waits.
LINGER_SECONDS = 1.0
SEND_BYTES = 65_536
# The share of the limit below which a reader is told what it has missed, and sent more of what it asked for.
ROOM = 0.5


class EventStream:
    """Sends events (their text whole, as bytes) until its client has gone, or it is finished or aborted.

    All of it runs in the hub or wherever it is called, and never blocks.
    """

    __slots__ = (
        "_sock",
        "_descriptor",
        "_poller",
        "_timers",
        "_limit",
        "_chunked",
        "_waiting",
        "_rest",
        "_size",
        "_writing",
        "_timer",
        "_life",
        "_stuck",
        "_dropped",
        "_finishing",
        "_quiet",
        "_missed",
        "_ended",
    )

    def __init__(
        self,
        sock: Any,
        poller: Poller,
        timers: TimerWheel,
        limit: int,
        chunked: bool,
        *,
        quiet: Callable[[], bytes],
        missed: Callable[[int], bytes],
        ended: Callable[[], object],
    ) -> None:
        """Take over `sock`, the kernel's own and non-blocking, whose client has been sent the answer's head.

        `quiet` gives what is sent after 15 s without an event, `missed` what tells of events that a slow client lost;
        `ended` is called once, when the connection has ended.
        """
        self._sock, self._descriptor = sock, sock.fileno()
        self._poller, self._timers = poller, timers
        self._limit, self._chunked = limit, chunked
        # Pieces, and whether they may be lost; none while the kernel takes everything.
        self._waiting: deque[tuple[bytes, bool]] | None = None
        self._rest: bytes | memoryview = b""
        self._size = self._stuck = self._dropped = 0
        self._writing = self._finishing = False
        self._timer, self._life = Timer(self._beat), NEVER
        self._quiet, self._missed, self._ended = quiet, missed, ended
        poller.add(self._descriptor, self)
        timers.set(self._timer, QUIET_SECONDS)

    @property
    def open(self) -> bool:
        """Tell whether events may be sent."""
        return self._descriptor >= 0 and not self._finishing

    @property
    def has_room(self) -> bool:
        """Tell whether its client has taken most of what it was sent."""
        return self._size < self._limit * ROOM

    def live_for(self, seconds: float) -> None:
        """Finish after so many seconds."""
        self._life = Timer(self.finish)
        self._timers.set(self._life, seconds)

    def send(self, event: bytes, may_be_lost: bool = False, asked: bool = False) -> None:
        """Send an event. Where its client takes too little, what may be lost is, the oldest first, or the connection
        ends; what was `asked` for is held against nobody.
        """
        if not self.open:
            return
        self._timers.set(self._timer, QUIET_SECONDS)
        piece = b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event
        if self._waiting is None:
            sent = self._try(piece)
            if sent < 0 or sent == len(piece):
                return
            self._waiting, self._rest = deque(), memoryview(piece)[sent:]
            self._size = len(self._rest)
            self._watch(True)
        elif asked or self._fits(piece) or self._makes_room(piece):
            self._put(piece, may_be_lost and not asked)
        elif may_be_lost:
            self._dropped += 1
        else:
            self.abort()

    def finish(self) -> None:
        """End the answer behind what waits, within a second."""
        if not self.open:
            return
        self._finishing = True
        self._timers.cancel(self._life)
        last = b"0\r\n\r\n" if self._chunked else b""
        if self._waiting is None and self._try(last) == len(last):
            self._close()
        elif self._descriptor >= 0:
            if self._waiting is None:
                self._waiting = deque()
                self._watch(True)
            self._put(last, False)
            self._timers.cancel(self._timer)
            self._timer = Timer(self.abort)
            self._timers.set(self._timer, LINGER_SECONDS)

    def abort(self) -> None:
        """End the connection now; its client sees that more was to come."""
        self._close()

    # What the poller says

    def ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if self._descriptor >= 0 and events & (READ | BROKEN):
            try:
                gone = not self._sock.recv(4096)
            except BlockingIOError:
                gone = bool(events & BROKEN)
            except OSError:
                gone = True
            if gone:
                self._close()

    def broken(self) -> None:
        self._close()

    def _try(self, piece: bytes | memoryview) -> int:
        """Return how much the kernel took; -1 where the connection has ended."""
        try:
            return int(self._sock.send(piece))
        except BlockingIOError:
            return 0
        except OSError:
            self._close()
            return -1

    def _fits(self, piece: bytes) -> bool:
        return self._size + len(piece) <= self._limit

    def _put(self, piece: bytes, may_be_lost: bool) -> None:
        assert self._waiting is not None
        self._waiting.append((piece, may_be_lost))
        self._size += len(piece)

    def _makes_room(self, piece: bytes) -> bool:
        """Let go of the oldest of what may be lost; what must not be stays in its place."""
        waiting, kept = self._waiting, []
        assert waiting is not None
        while waiting and not self._fits(piece):
            oldest, may_be_lost = waiting.popleft()
            if may_be_lost:
                self._size -= len(oldest)
                self._dropped += 1
            else:
                kept.append((oldest, may_be_lost))
        waiting.extendleft(reversed(kept))
        return self._fits(piece)

    def _write(self) -> None:
        while self._waiting is not None:
            piece = self._rest or self._take()
            if not piece:
                self._waiting = None
                self._watch(False)
                if self._finishing:
                    self._close()
                break
            sent = self._try(piece)
            if sent < 0:
                return
            self._size -= sent
            self._rest = memoryview(piece)[sent:] if sent < len(piece) else b""
            if sent:
                self._stuck = 0
            if self._rest:
                break
        if self._dropped and self.has_room and self.open:
            dropped, self._dropped = self._dropped, 0
            self.send(self._missed(dropped))

    def _take(self) -> bytes:
        taken, size = [], 0
        while self._waiting and size < SEND_BYTES:
            piece, _ = self._waiting.popleft()
            taken.append(piece)
            size += len(piece)
        return b"".join(taken)

    def _watch(self, writing: bool) -> None:
        if writing != self._writing and self._descriptor >= 0:
            self._writing = writing
            self._poller.change(self._descriptor, READ | WRITE if writing else READ)

    def _beat(self) -> None:
        self._timers.set(self._timer, QUIET_SECONDS)
        if self._waiting is None:
            self.send(self._quiet())
            return
        self._stuck += 1
        if self._stuck >= PATIENCE:
            self.abort()

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        self._poller.remove(self._descriptor)
        self._descriptor = -1
        self._timers.cancel(self._timer)
        self._timers.cancel(self._life)
        self._timer = self._life = NEVER
        self._waiting, self._rest = None, b""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._ended()
