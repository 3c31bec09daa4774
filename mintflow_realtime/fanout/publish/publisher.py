"""The one door to fan-out: an event is in the log and announced when a publish returns, or nothing happened."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from mintflow_realtime import tracing
from mintflow_realtime.fanout.publish.batches import Batches, Kept, Slice, cut
from mintflow_realtime.fanout.publish.repeat import MAX_IDEMPOTENCY_KEY as MAX_IDEMPOTENCY_KEY
from mintflow_realtime.fanout.publish.repeat import Repeat as Repeat
from mintflow_realtime.metrics.series import PUBLISH_SECONDS, PUBLISHED_EVENTS, PUBLISHES
from mintflow_realtime.protocol.envelope import (
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    Announcement,
    Event,
    Header,
    Offset,
    Published,
    decode,
)
from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, NotFound, RealtimeError, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.times import now_ms
from mintflow_realtime.protocol.wire_json import dumps

# The numbering outlives the window by far, so that a tenant's quiet month doesn't begin a new epoch.
HEAD_LIFE_MS = 30 * 24 * 3600 * 1000
IDEMPOTENCY_LIFE_MS = 10 * 60 * 1000
# How much of a log is read at once.
PAGE_BYTES = 256 * 1024

_template = Path(__file__).with_name("publish.lua").read_text()
_once = Path(__file__).with_name("publish_once.lua").read_text()
_page = Script.beside(__file__, "log_page.lua")
_nothing = "local function change(keys, args) return {} end"
_never = "local function change(keys, args) return nil, 'not_found', 'This was not done before' end"
_refusals: dict[str, type[RealtimeError]] = {kind.code: kind for kind in (Conflict, NotFound, TooLarge, Unavailable)}


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of a tenant's events in one namespace is kept for those who missed some."""

    window_seconds: float = 600
    events: int = 10_000
    total_bytes: int = 64 * 1024 * 1024


@lru_cache(maxsize=64)
def _publishing(fragment: str, caps: Caps) -> str:
    # What never changes is no argument: each costs Redis some 0.1 µs a publish.
    named = {
        "WINDOW": round(caps.window_seconds * 1000),
        "MOST_EVENTS": caps.events,
        "MOST_BYTES": caps.total_bytes,
        "HEAD_LIFE": HEAD_LIFE_MS,
        "RECORD_LIFE": IDEMPOTENCY_LIFE_MS,
    }
    constants = f"local {', '.join(named)} = {', '.join(map(str, named.values()))}\n"
    return _template.replace("-- CAPS\n", constants, 1).replace("-- CHANGE\n", fragment + "\n", 1)


@lru_cache(maxsize=64)
def _script(fragment: str, caps: Caps = Caps()) -> Script:
    return Script(_publishing(fragment, caps) + _once, durable=True, told_run=True)


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
        epoch, number, old_epoch, old_number, more, upto, mark, *messages = self._redis.run(_page, keys, args)
        if upto:
            after = messages[-1].partition(b"\n")[0].rpartition(b"-")[2]
            for _, fields in self._redis.command("XRANGE", keys[1], b"(%b" % after, upto):
                messages.append(fields[b"m"] if isinstance(fields, dict) else fields[1])
            if not messages[-1].startswith(mark + b"\n"):
                raise Unavailable("The log was lost meanwhile")
        head = Offset(epoch.decode(), int(number)) if epoch else None
        ended = Offset(old_epoch.decode(), int(old_number)) if old_epoch else None
        return Page(head, ended, [decode(message) for message in messages], more == 1)

    def event(self, tenant: str, namespace: str, offset: Offset) -> tuple[Announcement, float] | None:
        """Return an event and when it was numbered, by its publisher's clock in milliseconds since 1970.

        None where its log doesn't hold it, or another under its number. Raises Unavailable.
        """
        key, number = self._log_key(tenant, namespace), offset.number
        for _, fields in self._redis.command("XRANGE", key, number, number) if number else ():
            kept = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
            announcement = decode(kept[b"m"])
            if announcement.offset == offset:
                return announcement, float(kept[b"t"])
        return None

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
        began, outcome = monotonic(), "internal"
        try:
            with tracing.publishing(namespace, len(events)):
                published = self._publish(tenant, namespace, events, change, repeat)
            outcome = "repeated" if published.repeated else "ok"
            if not published.repeated:
                PUBLISHED_EVENTS.add(namespace, by=len(events))
            return published
        except RealtimeError as error:
            outcome = error.code
            raise
        finally:
            PUBLISHES.add(namespace, outcome)
            PUBLISH_SECONDS.observe(monotonic() - began, namespace)

    def _publish(
        self, tenant: str, namespace: str, events: Sequence[Event], change: Change | None, repeat: Repeat | None
    ) -> Published:
        _check_sizes(events)
        change = change or Change(_nothing, (), [()] * len(events), sliced=True)
        digest = repeat.digest if repeat else ""
        record = self._keys.of(tenant, "idempotency", repeat.record if repeat else "-")
        earlier = [self._keys.of(tenant, "idempotency", repeat.earlier)] if repeat else []
        keys = [self.head_key(tenant, namespace), self._log_key(tenant, namespace), record, *change.keys]
        now = self._clock_ms()
        channel = self.channel(tenant, namespace)
        sizes = [event.size + _size(own) for event, own in zip(events, change.args, strict=True)]
        slices = []
        for first, end in cut(sizes) if change.sliced else [(0, len(events))]:
            own = _arguments(events[first:end], change.args[first:end], change.closing, now)
            # Each begins an epoch of its own, if it must.
            slices.append(Slice([channel, secrets.token_hex(8), now, digest, *own], sum(sizes[first:end])))
        if len(slices) == 1:
            return _published(
                self._redis.run(_script(change.lua, self._caps), [*keys, *earlier], slices[0].argv), events
            )
        kept = Kept(digest, IDEMPOTENCY_LIFE_MS, earlier[0] if earlier else record)
        answer = self.batches.publish(tenant, _publishing(change.lua, self._caps), keys, slices, kept)
        return _told(answer.offsets, answer.inserts, events, answer.repeated)

    def published_before(
        self, tenant: str, namespace: str, events: Sequence[Event], repeat: Repeat | None
    ) -> Published | None:
        """Return what an earlier call with the same key published of `events`; None where there was none.

        Raises Conflict for a key that was used for another request, Unavailable.
        """
        if repeat is None:
            return None
        try:
            return self._publish(tenant, namespace, events, Change(_never, (), [()] * len(events)), repeat)
        except NotFound:
            return None

    def _log_key(self, tenant: str, namespace: str) -> str:
        return self._keys.of(tenant, "log", namespace)

    def announce_volatile(self, tenant: str, namespace: str, event: Event) -> None:
        """Announce an event that has no number and is in no log: who isn't connected has missed it."""
        _check_sizes([event])
        with tracing.publishing(namespace, 1):
            message = f"-\n{_dated(event, self._clock_ms())}\n{''.join(event.pieces)}"
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


def _dated(event: Event, now: int) -> str:
    return dumps(msgspec.structs.replace(event.header, at=now, traceparent=tracing.traceparent()))


def _arguments(
    events: Sequence[Event], own: Sequence[Sequence[Arg]], closing: Sequence[Arg], now: int
) -> Iterator[Arg]:
    """Yield what `publish.lua` is told of events: their number, then each, and of the last what closes a script."""
    yield len(events)
    for number, (event, args) in enumerate(zip(events, own, strict=True), 1):
        if number == len(events):
            args = (*args, *closing)
        yield int(event.volatile) + int(event.stands_in)
        yield len(event.pieces)
        yield f"{_dated(event, now)}\n{event.pieces[0]}"
        yield from event.pieces[1:]
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
