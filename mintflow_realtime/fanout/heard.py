"""When this node heard which event: 20 bytes each, the last million or so."""

import struct
import time
from collections import deque
from collections.abc import Callable
from zlib import crc32

from mintflow_realtime.protocol.envelope import Offset

MAX_BYTES = 24 * 1024 * 1024
BLOCK_BYTES = 3000 * 20
# Names of logs whose digest is remembered.
MAX_PLACES = 10_000

# Which log, its number there, unix seconds.
_entry = struct.Struct("<IQd")
_place = struct.Struct("<IQ")


class HeardTimes:
    """A ring of times. `clock` gives unix seconds."""

    def __init__(
        self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.time, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self._clock, self._block_bytes = clock, block_bytes
        self._block = bytearray()
        self._full: deque[bytes] = deque(maxlen=max(1, max_bytes // block_bytes - 1))
        self._places: dict[tuple[str, str], int] = {}

    def note(self, channel: str, offset: Offset) -> None:
        """Note that an event was just heard. Some 0.5 µs."""
        place = self._places.get((channel, offset[0]))
        self._block += _entry.pack(
            self._place(channel, offset[0]) if place is None else place, offset[1], self._clock()
        )
        if len(self._block) >= self._block_bytes:
            self._full.append(bytes(self._block))
            self._block = bytearray()

    def when(self, channel: str, offset: Offset) -> float | None:
        """Return when an event was heard, in milliseconds since 1970; None where it wasn't, or that is forgotten."""
        wanted = _place.pack(self._place(channel, offset.epoch), offset.number)
        blocks: list[bytes | bytearray] = [self._block, *reversed(self._full)]
        for block in blocks:
            at = block.rfind(wanted)
            while at >= 0:
                if at % _entry.size == 0:
                    seconds: float = _entry.unpack_from(block, at)[2]
                    return seconds * 1000
                at = block.rfind(wanted, 0, at + len(wanted) - 1)
        return None

    def _place(self, channel: str, epoch: str) -> int:
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        return self._places.setdefault((channel, epoch), crc32(f"{channel} {epoch}".encode()))
