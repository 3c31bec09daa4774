"""The one door to fan-out: an event is in the log and announced when a publish returns, or nothing happened."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fanout.batches import Batches, Slice, cut
from protocol.envelope import MAX_BATCH_BYTES, MAX_EVENT_BYTES, Announcement, Event, Header, Offset, Published, decode
from protocol.errors import Conflict, InvalidPayload, NotFound, RealtimeError, TooLarge, Unavailable
from protocol.scripts import Arg, Change, Keys, Runner, Script
from protocol.times import now_ms
from protocol.wire_json import dumps

# The numbering outlives the window by far, so that a tenant's quiet month doesn't begin a new epoch.
HEAD_LIFE_MS = 30 * 24 * 3600 * 1000
IDEMPOTENCY_LIFE_MS = 10 * 60 * 1000
MAX_IDEMPOTENCY_KEY = 255
# How much of a log is read at once.
PAGE_BYTES = 256 * 1024

_template = Path(__file__).with_name("publish.lua").read_text()
_once = Path(__file__).with_name("publish_once.lua").read_text()
_page = Script.beside(__file__, "log_page.lua")
_nothing = "local function change(keys, args) return {} end"
_refusals: dict[str, type[RealtimeError]] = {kind.code: kind for kind in (Conflict, NotFound, TooLarge, Unavailable)}


@lru_cache(maxsize=64)
def _publishing(fragment: str) -> str:
    return _template.replace("-- CHANGE\n", fragment + "\n", 1)


@lru_cache(maxsize=64)
def _script(fragment: str) -> Script:
    return Script(_publishing(fragment) + _once, durable=True)


@dataclass(frozen=True, slots=True)
class Repeat:
    """An idempotency key, honoured for 10 minutes in its tenant, and the digest of the request that used it."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str | None, *request: Any) -> "Repeat | None":
        """Return the key for `request`, whatever JSON says of it; None without a key. Raises InvalidPayload."""
        if key is None:
            return None
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
            raise InvalidPayload(f"An idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} characters", "$.idempotencyKey")
        try:
            texts = (key, dumps(request))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidPayload(f"Expected what JSON can say: {error}") from None
        return cls(*(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts))


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of a tenant's events in one namespace is kept for those who missed some."""

    window_seconds: float = 600
    events: int = 10_000
    total_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a log as of one moment: its head, where the epoch before ended, events, and whether there are more."""

    head: Offset | None
    ended: Offset | None
    events: list[Announcement]
    more: bool


class Publisher:
    """Publishes for every door and every process: knows Redis, but no socket."""

    def __init__(self, redis: Runner, keys: Keys, caps: Caps, clock_ms: Callable[[], int] = now_ms) -> None:
        self._redis = redis
        self._keys = keys
        self._caps = caps
        self._clock_ms = clock_ms
        self.batches = Batches(redis, keys)
        """Publishes what is too large for one script, and finishes what other processes left undone."""

    def channel(self, tenant: str, namespace: str) -> str:
        """Return the Redis channel that announces a tenant's events in a namespace."""
        return self._keys.of(tenant, "channel", namespace)

    def head_key(self, tenant: str, namespace: str) -> str:
        """Return the key of the numbering: hash of `epoch`, `n` (the last number given), `run_id`, `ended`."""
        return self._keys.of(tenant, "head", namespace)

    def head(self, tenant: str, namespace: str) -> tuple[Offset | None, Offset | None]:
        """Return the last offset given, and where the epoch before it ended; None for none. Raises Unavailable."""
        epoch, number, old_epoch, old_number = self._redis.command(
            "HMGET", self.head_key(tenant, namespace), "epoch", "n", "ended", "ended_at"
        )
        head = None if epoch is None else Offset(epoch.decode(), int(number or 0))
        ended = None if old_epoch is None else Offset(old_epoch.decode(), int(old_number))
        return head, ended

    def page(self, tenant: str, namespace: str, first: int, last: int | None = None) -> Page:
        """Return what the log holds from number `first` on, up to `last` or its end: at most 256 KB, or one event.

        Raises Unavailable.
        """
        keys = [self.head_key(tenant, namespace), self._log_key(tenant, namespace)]
        args: list[Arg] = [max(1, first), "+" if last is None else last, PAGE_BYTES]
        epoch, number, old_epoch, old_number, more, *messages = self._redis.run(_page, keys, args)
        head = Offset(epoch.decode(), int(number)) if epoch else None
        ended = Offset(old_epoch.decode(), int(old_number)) if old_epoch else None
        return Page(head, ended, [decode(message) for message in messages], more == 1)

    def publish(
        self,
        tenant: str,
        namespace: str,
        events: Sequence[Event],
        change: Change | None = None,
        repeat: Repeat | None = None,
    ) -> Published:
        """Run `change`, number `events`, append and announce them in one step, or many in several (`Change.sliced`).

        `repeat` makes a second call with the same key the first one's answer. Raises Unavailable within 2 s (then the
        outcome is unknown: all or nothing), TooLarge, Conflict for a key that was used for another request, and
        what the change refuses, with the further texts that it gave in `texts`.
        """
        _check_sizes(events)
        change = change or Change(_nothing, (), [()] * len(events), sliced=True)
        digest = repeat.digest if repeat else ""
        record = self._keys.of(tenant, "idempotency", repeat.key if repeat else "-")
        keys = [self.head_key(tenant, namespace), self._log_key(tenant, namespace), record, *change.keys]
        common = self._common(tenant, namespace, digest)
        sizes = [event.size + _size(own) for event, own in zip(events, change.args, strict=True)]
        slices = []
        for first, end in cut(sizes) if change.sliced else [(0, len(events))]:
            own = _arguments(events[first:end], change.args[first:end], change.closing)
            # Each begins an epoch of its own, if it must.
            slices.append(Slice([common[0], secrets.token_hex(8), *common[1:], *own], sum(sizes[first:end])))
        if len(slices) == 1:
            return _published(self._redis.run(_script(change.lua), keys, slices[0].argv), events)
        answer = self.batches.publish(tenant, _publishing(change.lua), keys, slices, digest, IDEMPOTENCY_LIFE_MS)
        return _told(answer.offsets, answer.inserts, events, answer.repeated)

    def _common(self, tenant: str, namespace: str, digest: str) -> list[Arg]:
        """Return what `publish.lua` is told first, but for the epoch to begin."""
        return [
            self.channel(tenant, namespace),
            self._clock_ms(),
            round(self._caps.window_seconds * 1000),
            self._caps.events,
            self._caps.total_bytes,
            HEAD_LIFE_MS,
            digest,
            IDEMPOTENCY_LIFE_MS,
        ]

    def _log_key(self, tenant: str, namespace: str) -> str:
        return self._keys.of(tenant, "log", namespace)

    def announce_volatile(self, tenant: str, namespace: str, event: Event) -> None:
        """Announce an event that has no number and is in no log: who isn't connected has missed it."""
        _check_sizes([event])
        message = f"-\n{dumps(event.header)}\n{''.join(event.pieces)}"
        self._redis.command("PUBLISH", self.channel(tenant, namespace), message)


def plain_event(rooms: tuple[str, ...], name: str, payload: Any) -> Event:
    """Return an event whose payload needs nothing from a change. Raises TypeError for what JSON can't say."""
    return Event(Header(rooms), (dumps([name, payload]),))


def _check_sizes(events: Sequence[Event]) -> None:
    if not events:
        raise InvalidPayload("Expected at least one event")
    sizes = [event.size for event in events]
    if max(sizes) > MAX_EVENT_BYTES:
        raise TooLarge(f"An event is at most {MAX_EVENT_BYTES} bytes of JSON")
    if sum(sizes) > MAX_BATCH_BYTES:
        raise TooLarge(f"A batch is at most {MAX_BATCH_BYTES} bytes of JSON")


def _size(own: Sequence[Arg]) -> int:
    return sum(len(arg) for arg in own if isinstance(arg, (str, bytes)))


def _arguments(events: Sequence[Event], own: Sequence[Sequence[Arg]], closing: Sequence[Arg]) -> Iterator[Arg]:
    """Yield what `publish.lua` is told of events: their number, then each, and of the last what closes a script."""
    yield len(events)
    for number, (event, args) in enumerate(zip(events, own, strict=True), 1):
        if number == len(events):
            args = (*args, *closing)
        yield dumps(event.header)
        yield int(event.volatile) + int(event.stands_in)
        yield len(event.pieces)
        yield from event.pieces
        yield len(args)
        yield from args


def _published(reply: list[Any], events: Sequence[Event]) -> Published:
    status = reply[0].decode()
    if status == "refused":
        refusal = _refusals[reply[1].decode()](reply[2].decode())
        refusal.texts = tuple(reply[3])
        raise refusal
    offsets = [offset.decode() for offset in reply[1]]
    return _told(offsets, [[text.decode() for text in texts] for texts in reply[2]], events, status == "repeated")


def _told(
    offsets: Sequence[str], inserts: Sequence[Sequence[str]], events: Sequence[Event], repeated: bool
) -> Published:
    texts = tuple(event.filled(own) for event, own in zip(events, inserts, strict=True))
    return Published(tuple(offsets), tuple(map(tuple, inserts)), texts, repeated)
