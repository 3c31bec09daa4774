"""What one connection has not taken yet: bounded in bytes, and what a full one means is up to each message."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import pairwise

from transport.outgoing import DROP_OLDEST, LATEST_ONLY, MERGE, Outgoing

# Frames that wait are sent together, up to this many bytes at a time.
SEND_BYTES = 65_536
# The share of the limit that is left in use where something may go.
ROOM = 0.75
# Everything that waits is looked through at most once for this share of it that came or went: otherwise one who stays
# slow would cost that a message.
STIRRED = 0.25

Merge = Callable[[str, str], str | None]
"""Makes one packet's text of two consecutive ones of a stream; None where that can't be."""


class Outbox:
    """Messages in their order, of at most `limit` bytes together; one is always let into an empty outbox."""

    __slots__ = ("_limit", "_waiting", "_latest", "_number", "_stirred", "_rest", "size", "dropped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 0
        self._waiting: OrderedDict[int, Outgoing] = OrderedDict()
        # Of each key of the policy `latest_only`, the number of its last message.
        self._latest: dict[str, int] = {}
        # How many came or went since all of them were looked through.
        self._stirred = 0
        # What the kernel left of bytes that were sent: nothing can go before it.
        self._rest: bytes | memoryview = b""
        self.size = 0
        self.dropped: Counter[str] = Counter()
        """How many messages the policy `drop_oldest` has cost this client, by key, until `told`."""

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._rest

    @property
    def share(self) -> float:
        """The share of the limit that is in use."""
        return self.size / self._limit

    def put(self, message: Outgoing, merge: Merge | None = None) -> bool:
        """Take a message, at the cost of others where the policy says so; False where this client is too slow."""
        if not self._fits(message) and not self._make_room(message, merge):
            # The policy `drop_oldest` never ends a connection: the newest is the one that is lost here.
            return message.slow.policy == DROP_OLDEST and self._drop(message)
        self.put_last(message)
        return True

    def put_last(self, message: Outgoing) -> None:
        """Take a message whatever waits already: one of a few bytes, at the end of all."""
        self._waiting[self._number] = message
        if message.slow.policy == LATEST_ONLY:
            self._latest[message.slow.key] = self._number
        self._number += 1
        self._stirred += 1
        self.size += message.size

    def peek(self) -> Outgoing | None:
        """Return the next message without taking it; None when nothing waits."""
        return next(iter(self._waiting.values()), None)

    def take(self) -> Outgoing | None:
        """Return the next message; None when nothing waits."""
        if not self._waiting:
            return None
        self._stirred += 1
        return self._remove(next(iter(self._waiting)))

    def take_bytes(self) -> bytes | memoryview:
        """Return the next bytes of a WebSocket: the rest of some that were sent in part, else whole frames."""
        rest, self._rest = self._rest, b""
        if rest:
            self.size -= len(rest)
            return rest
        taken: list[bytes] = []
        size = 0
        while self._waiting and size < SEND_BYTES:
            message = self.take()
            assert message is not None
            taken.append(message.frame)
            size += message.size
        return b"".join(taken) if len(taken) > 1 else taken[0] if taken else b""

    def keep(self, rest: bytes | memoryview) -> None:
        """Keep the rest of bytes that the kernel took in part."""
        self._rest = rest
        self.size += len(rest)

    def told(self) -> Counter[str]:
        """Return what was dropped since the last time."""
        dropped, self.dropped = self.dropped, Counter()
        return dropped

    def _fits(self, message: Outgoing) -> bool:
        return self.empty or self.size + message.size <= self._limit

    def _make_room(self, message: Outgoing, merge: Merge | None) -> bool:
        """Let go of what may go, where it can be, at no loss first."""
        older = self._latest.get(message.slow.key) if message.slow.policy == LATEST_ONLY else None
        if older is not None:
            self._remove(older)
        if not self._fits(message):
            if self._stirred >= STIRRED * len(self._waiting):
                self._stirred = 0
                self._look_through(message, merge)
            else:
                self._drop_from_front(message)
        return self._fits(message)

    def _look_through(self, message: Outgoing, merge: Merge | None) -> None:
        """Keep the last of each key alone, join what belongs together, and drop the oldest, as far as it takes."""
        for number, waiting in list(self._waiting.items()):
            if waiting.slow.policy == LATEST_ONLY and self._latest.get(waiting.slow.key) != number:
                self._remove(number)
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
                self._waiting[after] = Outgoing(text, slow=following.slow)
                self.size += self._waiting[after].size
                joined = after
        return before - self.size > self._limit / 100

    def _drop_from_front(self, message: Outgoing) -> None:
        while self._waiting and not self._fits(message):
            oldest = next(iter(self._waiting))
            if self._waiting[oldest].slow.policy != DROP_OLDEST:
                return
            self._drop(self._remove(oldest))

    def _excess(self, message: Outgoing) -> float:
        """Return how many bytes must go before `ROOM` is reached."""
        return self.size + message.size - self._limit * ROOM

    def _drop(self, message: Outgoing) -> bool:
        self.dropped[message.slow.key] += 1
        return True

    def _remove(self, number: int) -> Outgoing:
        message = self._waiting.pop(number)
        self.size -= message.size
        if message.slow.policy == LATEST_ONLY and self._latest.get(message.slow.key) == number:
            del self._latest[message.slow.key]
        return message
