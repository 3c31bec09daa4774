"""The life of this node's clients: what happened to each, one line of JSON after the other, bounded in bytes and age.

Lines name clients and places in logs, never what was said. A client's present state is not here but in the node's
tables, so that a line may be forgotten without making any answer wrong for what came after it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

LIFE_SECONDS = 3600.0
MAX_BYTES = 40 * 1024 * 1024
BLOCK_BYTES = 64 * 1024

# What a line tells: its second field. All begin with milliseconds since 1970 and this.
CONNECTED = (
    "c"  # sid, namespace, tenant, user, position, offset that it was replayed from or "", reason of resync or ""
)
ENTERED = "e"  # sid, namespace, room, position
LEFT = "l"  # sid, namespace, room, position, position when it was entered or ""
DROPPED = "d"  # sid, namespace, first and last offset of what its full outbox has cost it
PAUSED = "p"  # sid, namespace, since when something waited for its connection, until now (milliseconds since 1970)
# sid, namespace, position, reason, {room: position when it was entered or ""}, first offset not sent or "", last offset
# that it was told or "", when that was
CLOSED = "x"
REFUSED = "r"  # namespace, tenant, user, code
LOST = "y"  # tenant, namespace, reason that its clients were told as `resync`

_encode = msgspec.json.Encoder().encode


class Lives:
    """A ring of lines. `clock` gives unix seconds."""

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        seconds: float = LIFE_SECONDS,
        clock: Callable[[], float] = time.time,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._max_bytes, self._seconds, self._clock, self._block_bytes = max_bytes, seconds, clock, block_bytes
        self._blocks: deque[tuple[float, bytearray]] = deque([(clock(), bytearray())])
        self._size = 0
        # From when on nothing is missing, in unix seconds.
        self._complete_from = self._blocks[0][0]

    def note(self, *what: Any) -> None:
        """Write a line: one of the kinds above, then its fields. Some 2 µs."""
        began, block = self._blocks[-1]
        now = self._clock()
        block += _encode((round(now * 1000), *what))
        block += b"\n"
        if len(block) >= self._block_bytes:
            self._size += len(block)
            self._blocks.append((now, bytearray()))
            self._forget(now)

    def blocks(self) -> Iterator[bytes]:
        """Yield the lines, the oldest first, some at a time."""
        self._forget(self._clock())
        for _, block in tuple(self._blocks):
            yield bytes(block)

    @property
    def complete_from(self) -> float:
        """From when on nothing is missing, in milliseconds since 1970."""
        self._forget(self._clock())
        return self._complete_from * 1000

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return self._size + len(self._blocks[-1][1])

    def _forget(self, now: float) -> None:
        blocks = self._blocks
        while len(blocks) > 1 and (self._size > self._max_bytes or blocks[1][0] < now - self._seconds):
            self._size -= len(blocks.popleft()[1])
            self._complete_from = blocks[0][0]


def lines_with(block: bytes, text: bytes) -> Iterator[bytes]:
    """Yield each line of a block that has `text` in it, once."""
    at = block.find(text)
    while at >= 0:
        begin = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at)
        if end < 0:
            end = len(block)
        yield block[begin:end]
        at = block.find(text, end)
