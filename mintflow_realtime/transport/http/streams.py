"""The event streams of one server, for those who count and end them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mintflow_realtime.transport.http.event_stream import EventStream
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel


class Streams:
    """Makes streams of detached sockets; `limit` is what may wait for one, in bytes."""

    def __init__(self, poller: Poller, timers: TimerWheel, limit: int) -> None:
        self._poller, self._timers, self._limit = poller, timers, limit
        self._open: set[EventStream] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[EventStream]:
        return iter(tuple(self._open))

    def make(
        self,
        sock: Any,
        chunked: bool,
        *,
        quiet: Callable[[], bytes],
        missed: Callable[[int], bytes],
        ended: Callable[[], object],
    ) -> EventStream:
        """Return a stream on `sock`; the other arguments are EventStream's."""
        cell: list[EventStream] = []
        over = partial(self._over, cell, ended)
        stream = EventStream(
            sock, self._poller, self._timers, self._limit, chunked, quiet=quiet, missed=missed, ended=over
        )
        cell.append(stream)
        self._open.add(stream)
        return stream

    def _over(self, cell: list[EventStream], ended: Callable[[], object]) -> None:
        self._open.discard(cell.pop())
        ended()
