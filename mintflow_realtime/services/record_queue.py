"""Records that a logging handler hands over: a bounded queue, and one daemon thread that publishes them in batches."""

import atexit
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

BATCH = 100
# How long a record may wait for others; and at the end of the process, for Redis.
WAIT_SECONDS = 0.1
LAST_SECONDS = 2.0
# Redis is away: how long until the next try.
AGAIN_SECONDS = 0.5
MOST = 10_000
# Of all that waits, in characters: what is long must not take the memory that many short ones would.
MOST_CHARACTERS = 32_000_000

# Publishes a batch, how many were dropped before it, and the key of this batch; returns whether it is done with.
Publish = Callable[[Sequence[Any], int, str], bool]
_queues: "WeakSet[RecordQueue]" = WeakSet()


class RecordQueue:
    """A queue that never blocks who fills it: beyond `most`, or 32 MB, what is new is dropped and counted.

    A child of a fork begins with an empty one: what was queued is its parent's to publish.
    """

    def __init__(self, publish: Publish, most: int = MOST) -> None:
        self._publish, self._most = publish, most
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)
        atexit.register(self.flush)
        _queues.add(self)

    def _begin_anew(self) -> None:
        # A deque's own operations are atomic, so that no lock of the parent's can be held here for ever.
        self._records: deque[tuple[Any, int]] = deque()
        self._characters = 0
        self._publishing = threading.Lock()
        self._starting = threading.Lock()
        self._counting = threading.Lock()
        self._dropped, self._runs, self._closed = 0, False, False
        # What is being published: it stays one batch with one key, however often it is tried.
        self._batch: tuple[list[Any], int, str] | None = None

    def put(self, record: Any, characters: int = 0) -> None:
        """Hand over a record of so many characters."""
        if len(self._records) >= self._most or self._characters >= MOST_CHARACTERS:
            with self._counting:
                self._dropped += 1
            if not self._runs:
                self._start()
            return
        with self._counting:
            self._characters += characters
        self._records.append((record, characters))
        if not self._runs:
            self._start()

    def flush(self, seconds: float = LAST_SECONDS) -> bool:
        """Publish what is queued, for at most so many seconds; return whether nothing is left."""
        deadline = time.monotonic() + seconds
        while self._has_more() and time.monotonic() < deadline:
            if not self._step():
                time.sleep(min(AGAIN_SECONDS / 5, max(0.0, deadline - time.monotonic())))
        return not self._has_more()

    def close(self) -> None:
        """Publish what is queued, and end the thread."""
        self.flush()
        self._closed = True
        atexit.unregister(self.flush)

    def _start(self) -> None:
        with self._starting:
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._go, args=(os.getpid(),), name="mintflow-log", daemon=True).start()

    def _go(self, process: int) -> None:
        # Where gevent has patched threads, they go on in the child of a fork too.
        while os.getpid() == process and not self._closed:
            time.sleep(WAIT_SECONDS)
            while self._has_more():
                if os.getpid() != process:
                    return
                if not self._step():
                    time.sleep(AGAIN_SECONDS)

    def _has_more(self) -> bool:
        return bool(self._batch or self._records or self._dropped)

    def _step(self) -> bool:
        with self._publishing:
            if self._batch is None:
                with self._counting:
                    dropped, self._dropped = self._dropped, 0
                count = min(BATCH, len(self._records))
                taken = [self._records.popleft() for _ in range(count)]
                with self._counting:
                    self._characters -= sum(characters for _, characters in taken)
                self._batch = ([record for record, _ in taken], dropped, secrets.token_hex(8))
            if not self._publish(*self._batch):
                return False
            self._batch = None
            return True


def flush_all() -> None:
    """Publish what is queued anywhere, for at most 2 s each: for processes that end without Python's own ways."""
    for queue in list(_queues):
        queue.flush()
