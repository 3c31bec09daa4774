"""Batches too large for one script, which would hold up everybody else: published slice by slice, and yet whole.

All slices are laid down first, and with the last one the batch is to be published, whatever becomes of who laid it
down: each slice is one script that anybody can run, and that runs once. `finish_abandoned` is for those whose publisher
did not come to the end. What others publish meanwhile comes between two slices.
"""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from mintflow_realtime.protocol.errors import Conflict, Unavailable
from mintflow_realtime.protocol.scripts import Arg, Keys, Runner, Script

SLICE_EVENTS = 25
SLICE_BYTES = 64 * 1024
# After this long no further slice is begun: with a second for the last answer, a publish takes 2 s.
PATIENCE_SECONDS = 0.8
# Whoever laid a batch down has given up by then.
ABANDONED_MS = 3_000
# What is laid down in part is gone then.
PART_MS = 60_000
# One that no node was there to finish for a day is lost; one that is done is kept for whoever wants the answer.
LIFE_MS = 24 * 3600 * 1000
DONE_MS = 60_000
_AT_ONCE = 10

_log = logging.getLogger("mintflow.batches")
_stage = Script.beside(__file__, "batch_stage.lua")
_noted = Script.beside(__file__, "batch_noted.lua")
_due = Script.beside(__file__, "batch_due.lua")
_drop = Script.beside(__file__, "batch_drop.lua")
# A write that changes nothing, so that whoever waits for it to reach replicas waits for the first call's writes too.
_again = Script(
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'digest', ARGV[1]) end", durable=True
)
_slice = Path(__file__).with_name("publish_slice.lua").read_text()


class Slice(NamedTuple):
    """The argv of `publish.lua` for some events, and its size in bytes."""

    argv: list[Arg]
    size: int


class Kept(NamedTuple):
    """What is remembered of a request: its digest ('' for nothing), for how long (ms), and an earlier record's key."""

    digest: str
    life: int
    earlier: str


class Answer(NamedTuple):
    """The offsets of all events, their inserts, and whether an earlier call with the same key gave them."""

    offsets: list[str]
    inserts: list[list[str]]
    repeated: bool


class Batches:
    """Lays batches down, and finishes those that lie there."""

    def __init__(self, redis: Runner, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._under_way = keys.shared("batches")

    def publish(self, tenant: str, lua: str, keys: Sequence[str], slices: Sequence[Slice], kept: Kept) -> Answer:
        """Publish all slices or none. `lua` defines `publish`, with `keys`, of which the third is `kept`'s record.

        Raises Unavailable within 2 s: then it was not laid down, or will be published whole; Conflict.
        """
        deadline = self._clock() + PATIENCE_SECONDS
        batch = self._keys.of(tenant, "batch", secrets.token_hex(8))
        self._redis.run(_noted, [self._under_way], [batch, LIFE_MS])
        fields: list[Arg] = ["lua", lua + _slice, "keys", _packed([*keys, batch]), "of", len(slices)]
        size, repeated = 0, False
        for number, one in enumerate(slices):
            if self._clock() > deadline:
                raise Unavailable("Redis is too slow for this batch at the moment; nothing was published")
            fields += [f"s{number}", _packed(one.argv)]
            size += one.size
            last = number == len(slices) - 1
            if not last and size < SLICE_BYTES:
                continue
            args: list[Arg] = [PART_MS, LIFE_MS, int(last), kept.digest if last else "", kept.life]
            status, *more = self._redis.run(_stage, [batch, keys[2], kept.earlier], [*args, *fields])
            fields, size = [], 0
            if status == b"gone":
                raise Unavailable("Redis was too slow for this batch; nothing was published")
            if status != b"ok":
                self._forget(batch)
            if status == b"conflict":
                raise Conflict("This Idempotency-Key was used for another request")
            if status == b"repeated":
                self._redis.run(_again, [keys[2]], [kept.digest])
                _, offsets, inserts = msgspec.msgpack.decode(more[0])
                return Answer(offsets, inserts, True)
            if status == b"pending":
                batch, repeated = more[0].decode(), True
        offsets, inserts = self._finish(batch, deadline)
        self._forget(batch)
        return Answer(offsets, inserts, repeated)

    def finish_abandoned(self, after_ms: int = ABANDONED_MS) -> int:
        """Publish what is left of batches whose publishers died or gave up; return how many. Raises Unavailable."""
        due = self._redis.run(_due, [self._under_way], [after_ms, _AT_ONCE])
        finished = 0
        for batch in (key.decode() for key in due):
            try:
                self._finish(batch, self._clock() + ABANDONED_MS / 1000)
                finished += 1
            except Gone:
                # It was never to be published, or Redis has lost it; unless it was laid down this moment.
                if not self._redis.run(_drop, [batch], []):
                    continue
            except Unavailable:
                raise
            except Exception:
                _log.exception("a batch can't be published further: %s", batch)
            self._forget(batch)
        return finished

    def _finish(self, batch: str, deadline: float) -> tuple[list[str], list[list[str]]]:
        lua, keys, count, following = self._redis.command("HMGET", batch, "lua", "keys", "of", "next")
        if following is None:
            raise Gone("Redis has lost this batch; whether some of it was published is unknown")
        names, number, end = msgspec.msgpack.decode(keys, type=list[str]), int(following), int(count)
        script = Script(lua.decode(), told_run=True)
        # Who waits until replicas have the last write, waits for all before it too.
        last = replace(script, durable=True)
        confirmed = False
        while not confirmed:
            if self._clock() > deadline:
                raise Unavailable("Redis is slow at the moment; the whole batch will be published soon")
            confirmed = number >= end - 1
            number = self._redis.run(last if confirmed else script, names, [min(number, end - 1), DONE_MS])
            if number < 0:
                raise Gone("Redis has lost this batch; whether some of it was published is unknown")
        parts = self._redis.command("HMGET", batch, *(f"r{number}" for number in range(end)))
        if None in parts:
            raise Gone("Redis has lost this batch; whether it was published is unknown")
        offsets: list[str] = []
        inserts: list[list[str]] = []
        for part in parts:
            own_offsets, own_inserts = msgspec.msgpack.decode(part)
            offsets += own_offsets
            inserts += own_inserts
        return offsets, inserts

    def _forget(self, batch: str) -> None:
        # Should it stay, whoever looks for abandoned ones finds it done.
        with suppress(Unavailable):
            self._redis.command("ZREM", self._under_way, batch)


class Gone(Unavailable):
    """There is no such batch to be published."""


def cut(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return where slices begin and end, for the sizes of events: at most 25 events and 64 KB, or one event."""
    bounds: list[tuple[int, int]] = []
    start = total = 0
    for number, size in enumerate(sizes):
        if number > start and (number - start == SLICE_EVENTS or total + size > SLICE_BYTES):
            bounds.append((start, number))
            start, total = number, 0
        total += size
    return [*bounds, (start, len(sizes))]


def _packed(values: Sequence[Arg]) -> bytes:
    # Lua is to find texts, as in ARGV; its msgpack knows no bytes.
    return msgspec.msgpack.encode([value.decode() if isinstance(value, bytes) else str(value) for value in values])
