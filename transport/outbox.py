"""What one connection has not taken yet: bounded in bytes, and what a full one means is up to each message."""

from collections import Counter, deque
from collections.abc import Callable

from transport.outgoing import DROP_OLDEST, LATEST_ONLY, MERGE, Outgoing, Slow

# Frames that wait are sent together, up to this many bytes at a time.
SEND_BYTES = 65_536
# The share of the limit that is left in use where something may go.
ROOM = 0.75

Merge = Callable[[str, str], str | None]
"""Makes one packet's text of two consecutive ones of a stream; None where that can't be."""


class Outbox:
    """Messages in their order, of at most `limit` bytes together; one is always let into an empty outbox."""

    __slots__ = ("_limit", "_waiting", "_stuck", "_rest", "size", "dropped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Outgoing] = deque()
        # What the kernel left of bytes that were sent: nothing can go before it.
        self._rest: bytes | memoryview = b""
        # Room was looked for and there was none; nothing has left since.
        self._stuck = False
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
        if not self.empty and self.size + message.size > self._limit and not self._make_room(message, merge):
            # The policy `drop_oldest` never ends a connection: the newest is the one that is lost here.
            return message.slow.policy == DROP_OLDEST and self._drop(message)
        self._waiting.append(message)
        self.size += message.size
        return True

    def take(self) -> Outgoing | None:
        """Return the next message; None when nothing waits."""
        if not self._waiting:
            return None
        self._stuck = False
        message = self._waiting.popleft()
        self.size -= message.size
        return message

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

    def _make_room(self, message: Outgoing, merge: Merge | None) -> bool:
        """Let go of what may go. Down to `ROOM`: who stays slow must not cost a scan a message."""
        if self._stuck:
            return False
        self._keep_latest(message.slow if message.slow.policy == LATEST_ONLY else None)
        self._merge(merge)
        self._drop_oldest(round(self.size + message.size - self._limit * ROOM))
        self._stuck = not self.empty and self.size + message.size > self._limit
        return not self._stuck

    def _keep_latest(self, coming: Slow | None) -> None:
        """Keep the last message of each key alone, and none of the key that a newer one is coming for."""
        seen = set() if coming is None else {coming.key}
        kept: deque[Outgoing] = deque()
        for message in reversed(self._waiting):
            if message.slow.policy == LATEST_ONLY:
                if message.slow.key in seen:
                    continue
                seen.add(message.slow.key)
            kept.appendleft(message)
        self._replace(kept)

    def _merge(self, merge: Merge | None) -> None:
        """Join consecutive messages of one stream."""
        if merge is None:
            return
        kept: deque[Outgoing] = deque()
        for message in self._waiting:
            last = kept[-1] if kept else None
            if last is not None and message.slow.policy == MERGE and last.slow == message.slow:
                text = merge(last.text, message.text)
                if text is not None:
                    kept[-1] = Outgoing(text, slow=last.slow)
                    continue
            kept.append(message)
        self._replace(kept)

    def _drop_oldest(self, excess: int) -> None:
        kept: deque[Outgoing] = deque()
        for message in self._waiting:
            if excess > 0 and message.slow.policy == DROP_OLDEST:
                excess -= message.size
                self._drop(message)
            else:
                kept.append(message)
        self._replace(kept)

    def _drop(self, message: Outgoing) -> bool:
        self.dropped[message.slow.key] += 1
        return True

    def _replace(self, kept: "deque[Outgoing]") -> None:
        if len(kept) != len(self._waiting):
            self._waiting = kept
            self.size = sum(message.size for message in kept) + len(self._rest)
