"""What one connection has not taken yet: bounded in bytes, and what a full one means is up to each message."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import pairwise
from time import monotonic

from mintflow_realtime.metrics.series import DROPS
from mintflow_realtime.transport.engine_io.message import ANSWER, DROP_OLDEST, LATEST_ONLY, MERGE, Message

# Frames that wait are sent together, up to this many bytes at a time.
SEND_BYTES = 65_536
# The share of the limit that is left in use where something may go.
ROOM = 0.75
# Everything that waits is looked through at most once for this share of it that came or went: otherwise one who stays
# slow would cost that a message.
STIRRED = 0.25
# Runs of dropped messages that are told apart.
MAX_GAPS = 64

Merge = Callable[[str, str], str | None]
"""Makes one packet's text of two consecutive ones of a stream; None where that can't be."""


class Outbox:
    """Messages in their order, of at most `limit` bytes together; one is always let into an empty outbox."""

    __slots__ = (
        "_limit",
        "_waiting",
        "_latest",
        "_number",
        "_stirred",
        "_rest",
        "_owed",
        "_taken_owed",
        "size",
        "dropped",
        "gaps",
        "_open_gaps",
        "began",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._waiting: OrderedDict[int, Message] = OrderedDict()
        # Of each key of the policy `latest_only`, the number of its last message.
        self._latest: dict[str, int] = {}
        # How many came or went since all of them were looked through.
        self._stirred = 0
        # What the kernel left of bytes that were sent: nothing can go before it.
        self._rest: bytes | memoryview = b""
        # Bytes of answers among what waits, and among what was taken last: they are held against nobody.
        self._owed = self._taken_owed = 0
        self.size = 0
        self.dropped: Counter[str] = Counter()
        """How many messages the policy `drop_oldest` has cost this client, by key, until `told`."""
        self.gaps: list[tuple[str, str, str]] = []
        """The same by the messages' marks: key, the first and the last of a run; until somebody takes the list."""
        # Of each key, which run goes on: nothing was taken since.
        self._open_gaps: dict[str, int] = {}
        self.began = monotonic()
        """Since when something waits."""

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._rest

    @property
    def share(self) -> float:
        """The share of the limit that is in use."""
        return self.size / self._limit

    @property
    def messages(self) -> int:
        """How many messages wait, one that was sent in part among them."""
        return len(self._waiting) + bool(self._rest)

    def put(self, message: Message, merge: Merge | None = None) -> bool:
        """Take a message, at the cost of others where the policy says so; False where this client is too slow."""
        if message.slow.policy != ANSWER and not self._fits(message) and not self._make_room(message, merge):
            # The policy `drop_oldest` never ends a connection: the newest is the one that is lost here.
            return message.slow.policy == DROP_OLDEST and self._drop(message)
        self.put_last(message)
        return True

    def put_last(self, message: Message) -> None:
        """Take a message whatever waits already: one of a few bytes, at the end of all."""
        self._waiting[self._number] = message
        if message.slow.policy == LATEST_ONLY:
            self._latest[message.slow.key] = self._number
        elif message.slow.policy == ANSWER:
            self._owed += message.size
        self._number += 1
        self._stirred += 1
        self.size += message.size

    def first_marks(self) -> dict[str, str]:
        """Return, by key, the mark of the first message that waits and has one."""
        found: dict[str, str] = {}
        for message in self._waiting.values():
            if message.mark:
                found.setdefault(message.slow.key, message.mark)
        return found

    def take_gaps(self) -> list[tuple[str, str, str]]:
        """Return `gaps`, and begin anew."""
        gaps, self.gaps, self._open_gaps = self.gaps, [], {}
        return gaps

    def peek(self) -> Message | None:
        """Return the next message without taking it; None when nothing waits."""
        return next(iter(self._waiting.values()), None)

    def take(self) -> Message | None:
        """Return the next message; None when nothing waits."""
        if not self._waiting:
            return None
        self._stirred += 1
        # Further runs than are told apart belong to the last.
        if self._open_gaps and len(self.gaps) < MAX_GAPS:
            self._open_gaps = {}
        return self._remove(next(iter(self._waiting)))

    def take_bytes(self) -> bytes | memoryview:
        """Return the next bytes of a WebSocket: the rest of some that were sent in part, else whole frames."""
        rest, self._rest = self._rest, b""
        owed = self._owed
        if rest:
            self.size -= len(rest)
            self._owed -= min(self._taken_owed, len(rest))
            self._taken_owed = owed - self._owed
            return rest
        taken: list[bytes] = []
        size = 0
        while self._waiting and size < SEND_BYTES:
            message = self.take()
            assert message is not None
            taken.append(message.frame)
            size += message.size
        self._taken_owed = owed - self._owed
        return b"".join(taken) if len(taken) > 1 else taken[0] if taken else b""

    def keep(self, rest: bytes | memoryview, of: Message | None = None) -> None:
        """Keep the rest of bytes that the kernel took in part: those taken last, or of a message that didn't wait."""
        if of is not None:
            self._taken_owed = of.size if of.slow.policy == ANSWER else 0
        self._rest = rest
        self._taken_owed = min(self._taken_owed, len(rest))
        self._owed += self._taken_owed
        self.size += len(rest)

    def told(self) -> Counter[str]:
        """Return what was dropped since the last time."""
        dropped, self.dropped = self.dropped, Counter()
        return dropped

    def _fits(self, message: Message) -> bool:
        return self.empty or self.size - self._owed + message.size <= self._limit

    def _make_room(self, message: Message, merge: Merge | None) -> bool:
        """Let go of what may go, where it can be, at no loss first."""
        older = self._latest.get(message.slow.key) if message.slow.policy == LATEST_ONLY else None
        if older is not None:
            self._remove(older)
            DROPS.add(LATEST_ONLY)
        if not self._fits(message):
            if self._stirred >= STIRRED * len(self._waiting):
                self._stirred = 0
                self._look_through(message, merge)
            else:
                self._drop_from_front(message)
        return self._fits(message)

    def _look_through(self, message: Message, merge: Merge | None) -> None:
        """Keep the last of each key alone, join what belongs together, and drop the oldest, as far as it takes."""
        for number, waiting in list(self._waiting.items()):
            if waiting.slow.policy == LATEST_ONLY and self._latest.get(waiting.slow.key) != number:
                self._remove(number)
                DROPS.add(LATEST_ONLY)
        while merge is not None and self._excess(message) > 0 and self._join_pairs(merge):
            pass
        for number, waiting in list(self._waiting.items()):
            if self._excess(message) <= 0:
                return
            if waiting.slow.policy == DROP_OLDEST:
                self._drop(self._remove(number))

    def _join_pairs(self, merge: Merge) -> bool:
        """Join each message with the next of its stream: half of them. False where that hardly gives room any more.

        Joining all to the first, one after the other, would copy the whole stream for each.
        """
        before, joined = self.size, -1
        for (number, message), (after, following) in pairwise(list(self._waiting.items())):
            if number == joined or message.slow.policy != MERGE or message.slow != following.slow:
                continue
            text = merge(message.text, following.text)
            if text is not None:
                self._remove(number)
                self.size -= following.size
                self._waiting[after] = Message(text, slow=following.slow)
                self.size += self._waiting[after].size
                joined = after
        return before - self.size > self._limit / 100

    def _drop_from_front(self, message: Message) -> None:
        while self._waiting and not self._fits(message):
            oldest = next(iter(self._waiting))
            if self._waiting[oldest].slow.policy != DROP_OLDEST:
                return
            self._drop(self._remove(oldest))

    def _excess(self, message: Message) -> float:
        """Return how many bytes must go before `ROOM` is reached."""
        return self.size - self._owed + message.size - self._limit * ROOM

    def _drop(self, message: Message) -> bool:
        DROPS.add(DROP_OLDEST)
        key = message.slow.key
        self.dropped[key] += 1
        if message.mark:
            place = self._open_gaps.get(key)
            if place is not None:
                self.gaps[place] = (key, self.gaps[place][1], message.mark)
            elif len(self.gaps) < MAX_GAPS:
                self._open_gaps[key] = len(self.gaps)
                self.gaps.append((key, message.mark, message.mark))
        return True

    def _remove(self, number: int) -> Message:
        message = self._waiting.pop(number)
        self.size -= message.size
        if message.slow.policy == LATEST_ONLY and self._latest.get(message.slow.key) == number:
            del self._latest[message.slow.key]
        elif message.slow.policy == ANSWER:
            self._owed -= message.size
        return message
