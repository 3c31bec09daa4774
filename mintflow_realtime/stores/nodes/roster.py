"""Who was connected to a node, in 20 bytes a line that outlive it: so it is known whom its end left without an answer.

Lines name nobody, they are only found again by who knows whom to look for.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Iterable

import msgspec

# Hashes of who and of its sid, and milliseconds since 1970 with a last bit that tells coming from going.
_LINE = struct.Struct(">8s4sQ")
LINE_BYTES = _LINE.size
# What is written at once; Redis joins shorter pieces.
PIECE_BYTES = 1024 * LINE_BYTES
# Together 8 MB, 55 clients that come and go in each second of an hour.
MAX_PIECES = 400
# What waits while Redis is away; beyond it the oldest lines are lost.
MAX_WAITING = 100_000


class Roster:
    """Lines that wait to be written."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=MAX_WAITING)

    def note(self, tenant: str, namespace: str, user_id: str, sid: str, at: float, *, came: bool) -> None:
        """Note that a client came, or went, at `at` (milliseconds since 1970). Some 3 µs."""
        line = _LINE.pack(_who(tenant, namespace, user_id), _hash(sid.encode(), 4), int(at) << 1 | came)
        self._lines.append(line)

    def take(self) -> bytes:
        """Return the next lines, a piece at most; b"" without any."""
        count = min(len(self._lines), PIECE_BYTES // LINE_BYTES)
        return b"".join(self._lines.popleft() for _ in range(count))

    def give_back(self, piece: bytes) -> None:
        """Take back what could not be written, as far as there is room."""
        lines = [piece[at : at + LINE_BYTES] for at in range(0, len(piece), LINE_BYTES)]
        room = MAX_WAITING - len(self._lines)
        self._lines.extendleft(reversed(lines[-room:] if room else []))


def was_there(pieces: Iterable[bytes], tenant: str, namespace: str, user_id: str, at: float) -> bool:
    """Tell whether any client of a user's was connected at `at` (milliseconds since 1970), by a node's lines."""
    who, last = _who(tenant, namespace, user_id), dict[bytes, tuple[int, int]]()
    for piece in pieces:
        for found, sid, moment in _LINE.iter_unpack(piece[: len(piece) - len(piece) % LINE_BYTES]):
            # Lines stand in the order of what happened, which may all be of one millisecond.
            if found == who and last.get(sid, (0, 0))[0] <= moment >> 1 <= at:
                last[sid] = (moment >> 1, moment & 1)
    return any(came for _, came in last.values())


def _who(tenant: str, namespace: str, user_id: str) -> bytes:
    return _hash(msgspec.json.encode((tenant, namespace, user_id)), 8)


def _hash(text: bytes, size: int) -> bytes:
    return hashlib.blake2b(text, digest_size=size, usedforsecurity=False).digest()
