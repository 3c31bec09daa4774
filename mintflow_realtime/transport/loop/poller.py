"""One epoll for all detached connections, itself watched by gevent's event loop.

A loop's own watcher a connection would cost an object, a callback and a crossing into Python each; here one call
takes all that are ready.
"""

import logging
import select
from typing import Any, Protocol

from gevent import get_hub, monkey

READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP  # told whether asked for or not

# Of one turn of the event loop, before its other watchers get theirs.
MOST_READY = 128

logger = logging.getLogger(__name__)


class Ready(Protocol):
    """What is registered. `ready` runs in the hub and must not block; `broken` ends what failed in it."""

    def ready(self, events: int) -> None: ...

    def broken(self) -> None: ...


class Poller:
    """Tells registered connections what they are ready for. Made and used in one process, after the fork."""

    def __init__(self) -> None:
        self._epoll: Any = None
        self._watcher: Any = None
        self._registered: dict[int, Ready] = {}

    def __len__(self) -> int:
        return len(self._registered)

    def add(self, descriptor: int, owner: Ready, events: int = READ) -> None:
        """Tell `owner` when `descriptor` is ready for `events`, until `remove`, which comes before closing it."""
        self._opened().register(descriptor, events)
        self._registered[descriptor] = owner

    def change(self, descriptor: int, events: int) -> None:
        """Tell of other events from now on."""
        self._opened().modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Tell nothing more, if anything was told."""
        if self._registered.pop(descriptor, None) is not None:
            self._opened().unregister(descriptor)

    def close(self) -> None:
        """Stop watching; registered connections are their owners' to close."""
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            self._watcher.stop()
            self._watcher.close()
            epoll.close()
        self._registered.clear()

    def _opened(self) -> Any:
        if self._epoll is None:
            self._epoll = _epoll()
            self._watcher = get_hub().loop.io(self._epoll.fileno(), 1)
            self._watcher.start(self._turn)
        return self._epoll

    def _turn(self) -> None:
        if self._epoll is None:
            return
        for descriptor, events in self._epoll.poll(0, MOST_READY):
            owner = self._registered.get(descriptor)
            if owner is None:
                continue
            try:
                owner.ready(events)
            except Exception:
                logger.exception("A connection failed")
                owner.broken()


def _epoll() -> Any:
    # gevent takes `epoll` out of the module that it patches; here it is asked with a timeout of 0 only.
    return (getattr(select, "epoll", None) or monkey.get_original("select", "epoll"))()
