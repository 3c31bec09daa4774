"""What was published held against what each client saw: pure functions of both, black-box.

Times are seconds of CLOCK_MONOTONIC, one clock for every process of a machine.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

# A client that is told `resync` must be told at once: so long may it have believed what it had.
GRACE = 2.0

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"

# What can be wrong.
LOST = "lost"  # acknowledged, and an entitled client neither got it nor was told
TWICE = "twice"  # the same event again in one session, recoveries included
DISORDERED = "out of order"
LEAKED = "across tenants"
PHANTOM = "phantom"  # published by nobody, or known to have failed
EARLY = "early"  # before the CONNECT of a connection that was not recovered
MISNUMBERED = "misnumbered"  # offsets that contradict each other, or the order in which publishes happened
ANEW = "not recovered"  # though it asked to be, and its session was not lost with all of Redis
STRANDED = "stranded"  # refused for good, or not connected at the end


@dataclass(frozen=True, slots=True)
class Publish:
    """One publish as its publisher knows it. `room` is "" for a whole tenant, else what a client subscribes to."""

    id: str
    tenant: str
    namespace: str
    room: str
    publisher: str
    sequence: int
    begun: float
    outcome: str
    ended: float
    offset: str | None = None
    attempts: int = 1
    batch: str = ""
    """What it was published together with, whole or not at all."""


class Seen(NamedTuple):
    """One thing that happened to a client in one namespace.

    kind     value
    connect  "recovered" or "fresh"
    joined   the room whose subscription was answered
    event    its id; with `tenant` (as it says itself) and `offset` (None where it has none)
    resync   the reason
    lost     the reason of a disconnection; the client tries again
    refused  the reason; it doesn't
    """

    at: float
    kind: str
    value: str = ""
    tenant: str = ""
    offset: str | None = None


@dataclass(slots=True)
class History:
    """What one client saw in one namespace, in order."""

    client: str
    tenant: str
    namespace: str
    seen: Sequence[Seen]


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    at: float
    client: str
    namespace: str
    event: str
    told: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.kind}: client {self.client} {self.namespace} {self.event} ({self.told})"


Position = tuple[int, int]
K = TypeVar("K", Position, int)


class Numbering:
    """The order of one tenant's events in one namespace: by epoch, then by number."""

    def __init__(self) -> None:
        self.offsets: dict[str, str] = {}
        self._epochs: dict[str, float] = {}
        self._rank: dict[str, int] = {}

    def add(self, event: str, offset: str, at: float) -> bool:
        """Learn an event's offset, known at `at`; False where another one is known."""
        known = self.offsets.setdefault(event, offset)
        epoch = offset.rpartition("-")[0]
        self._epochs[epoch] = min(at, self._epochs.get(epoch, at))
        self._rank = {}
        return known == offset

    def position(self, event: str) -> Position | None:
        """Return where an event stands; None where nobody knows."""
        offset = self.offsets.get(event)
        return None if offset is None else self.place(offset)

    def place(self, offset: str) -> Position:
        if not self._rank:
            ranked = sorted(self._epochs, key=self._epochs.__getitem__)
            self._rank = {epoch: rank for rank, epoch in enumerate(ranked)}
        epoch, _, number = offset.rpartition("-")
        return self._rank.get(epoch, len(self._rank)), int(number)


@dataclass(slots=True)
class Book:
    """All publishes, and the numbering of each channel."""

    publishes: dict[str, Publish]
    numbering: dict[tuple[str, str], Numbering] = field(default_factory=lambda: defaultdict(Numbering))
    # Unknown ones that some client saw: they happened.
    happened: set[str] = field(default_factory=set)
    by_channel: dict[tuple[str, str], list[Publish]] = field(default_factory=lambda: defaultdict(list))
    excused: list[Violation] = field(default_factory=list)

    def counts(self, publish: Publish) -> bool:
        return publish.outcome == OK or publish.id in self.happened


def check(
    publishes: Iterable[Publish],
    histories: Callable[[], Iterable[History]],
    forgot: Sequence[float] = (),
    *,
    recovers: bool = False,
    excused: list[Violation] | None = None,
) -> list[Violation]:
    """Return all that is wrong. `histories` is read twice. `forgot`: when Redis lost everything. `recovers`: clients
    asked for recovery, and never stay away for longer than its window. `excused` takes what was missed and told.

    Where Redis forgot an idempotency key between two attempts, the second one is another publish: such an event may
    come twice, with another offset. Nothing else may.
    """
    book = Book({publish.id: publish for publish in publishes})
    found = _number(book, histories())
    for history in histories():
        found += _judge(book, history, forgot)
        if recovers:
            found += _anew(history, forgot)
    if excused is not None:
        excused += book.excused
    return sorted(found, key=lambda violation: violation.at)


def _number(book: Book, histories: Iterable[History]) -> list[Violation]:
    found = []
    for publish in book.publishes.values():
        channel = publish.tenant, publish.namespace
        book.by_channel[channel].append(publish)
        if publish.outcome == OK and publish.offset is not None:
            book.numbering[channel].add(publish.id, publish.offset, publish.ended)
    for history in histories:
        for seen in history.seen:
            publish = book.publishes.get(seen.value) if seen.kind == "event" else None
            if publish is None or publish.outcome == FAILED:
                continue
            if publish.outcome == UNKNOWN:
                book.happened.add(publish.id)
            if publish.offset is None and seen.offset is not None:
                book.numbering[publish.tenant, publish.namespace].add(publish.id, seen.offset, seen.at)
    seen_batches = {book.publishes[event].batch for event in book.happened} - {""}
    book.happened |= {publish.id for publish in book.publishes.values() if publish.batch in seen_batches}
    for channel, published in book.by_channel.items():
        found += _misnumbered(book.numbering[channel], [p for p in published if p.outcome == OK])
    return found


def _misnumbered(numbering: Numbering, published: Sequence[Publish]) -> list[Violation]:
    """What was acknowledged before another publish began has a lower number, and no two have the same."""
    found = []
    numbered = [(p, place) for p in published if (place := numbering.position(p.id)) is not None]
    given: dict[Position, str] = {}
    by_end = sorted(numbered, key=lambda pair: pair[0].ended)
    ends, highest = [], []
    for publish, place in by_end:
        if given.setdefault(place, publish.id) != publish.id:
            found.append(_of_publish(publish, f"{publish.offset} is also {given[place]}"))
        ends.append(publish.ended)
        highest.append(max(place, highest[-1]) if highest else place)
    for publish, place in numbered:
        # The first attempt may have been the one that happened, so only what had ended before it counts.
        before = bisect_right(ends, publish.begun)
        if before and highest[before - 1] >= place and publish.attempts == 1:
            found.append(_of_publish(publish, f"{publish.offset}, though higher numbers were given before"))
    return found


def _of_publish(publish: Publish, told: str) -> Violation:
    return Violation(MISNUMBERED, publish.ended, "-", publish.namespace, publish.id, told)


@dataclass(slots=True)
class _Stay:
    """A client's right to a room's events: from when it knew that it had joined."""

    room: str
    since: float
    until: float = float("inf")
    first: Position | None = None


def _judge(book: Book, history: History, forgot: Sequence[float]) -> list[Violation]:
    numbering = book.numbering[history.tenant, history.namespace]
    found: list[Violation] = []

    def add(kind: str, seen: Seen, told: str) -> None:
        found.append(Violation(kind, seen.at, history.client, history.namespace, seen.value, told))

    received: dict[str, tuple[float, str | None]] = {}
    in_session: dict[str, str | None] = {}
    stays: list[_Stay] = []
    resyncs: list[float] = []
    last: tuple[Position, str] | None = None
    last_of: dict[str, int] = {}
    online, waiting = False, []
    for seen in history.seen:
        if seen.kind == "connect":
            online = True
            if seen.value != "recovered":
                # Rooms and what was told in them end with the session.
                in_session, last, last_of = {}, None, {}
                for stay in stays:
                    if stay.room:
                        stay.until = min(stay.until, seen.at)
                for early in waiting:
                    add(EARLY, early, "before CONNECT")
                if not any(stay.room == "" for stay in stays):
                    stays.append(_Stay("", seen.at))
            waiting = []
        elif seen.kind == "joined":
            stays.append(_Stay(seen.value, seen.at))
        elif seen.kind == "resync":
            resyncs.append(seen.at)
        elif seen.kind == "lost":
            online = False
        elif seen.kind == "refused":
            add(STRANDED, seen, seen.value)
        elif seen.kind == "event":
            publish = book.publishes.get(seen.value)
            if seen.tenant != history.tenant or (publish is not None and publish.tenant != history.tenant):
                add(LEAKED, seen, f"of {seen.tenant}, to {history.tenant}")
                continue
            if publish is None or publish.outcome == FAILED or publish.namespace != history.namespace:
                add(PHANTOM, seen, "published by nobody" if publish is None else publish.outcome)
                continue
            if not online:
                waiting.append(seen)
            position = numbering.position(seen.value)
            known = numbering.offsets.get(seen.value)
            again = seen.offset is not None and seen.offset != known and _repeatable(publish, forgot)
            if seen.offset is not None and seen.offset != known and not again:
                add(MISNUMBERED, seen, f"{seen.offset} here, {known} there")
            if seen.value in in_session:
                differs = seen.offset is None or seen.offset != in_session[seen.value]
                if not (differs and _repeatable(publish, forgot)):
                    add(TWICE, seen, f"first at {received[seen.value][0]:.3f}")
                continue
            in_session[seen.value] = seen.offset
            received.setdefault(seen.value, (seen.at, seen.offset))
            if position is not None and not again:
                if last is not None and position < last[0]:
                    add(DISORDERED, seen, f"{known} after {numbering.offsets[last[1]]}")
                else:
                    last = position, seen.value
                for stay in stays:
                    if stay.first is None and stay.room == publish.room and stay.until > seen.at:
                        stay.first = position
            if publish.sequence < last_of.get(publish.publisher, -1) and position is None:
                add(DISORDERED, seen, f"{publish.sequence} after {last_of[publish.publisher]} of {publish.publisher}")
            last_of[publish.publisher] = max(publish.sequence, last_of.get(publish.publisher, -1))
    if not online:
        found.append(Violation(STRANDED, float("inf"), history.client, history.namespace, "-", "never came back"))
    return found + _missing(book, history, numbering, stays, received, resyncs)


def _anew(history: History, forgot: Sequence[float]) -> list[Violation]:
    found = []
    before: float | None = None
    for seen in history.seen:
        if seen.kind != "connect":
            continue
        if seen.value != "recovered" and before is not None and not any(before < at < seen.at for at in forgot):
            told = f"connected before at {before:.3f}"
            found.append(Violation(ANEW, seen.at, history.client, history.namespace, "-", told))
        before = seen.at
    return found


def _repeatable(publish: Publish, forgot: Sequence[float]) -> bool:
    return publish.attempts > 1 and any(publish.begun < at < publish.ended for at in forgot)


def _missing(
    book: Book,
    history: History,
    numbering: Numbering,
    stays: Sequence[_Stay],
    received: dict[str, tuple[float, str | None]],
    resyncs: Sequence[float],
) -> list[Violation]:
    by_room: dict[str, list[_Stay]] = defaultdict(list)
    for stay in stays:
        by_room[stay.room].append(stay)
    seen_later = _SeenLater(book, numbering, received) if resyncs else None
    found = []
    for publish in book.by_channel[history.tenant, history.namespace]:
        if publish.id in received or not book.counts(publish):
            continue
        position = numbering.position(publish.id)
        if not any(_entitled(publish, position, stay) for stay in by_room[publish.room]):
            continue
        if seen_later is not None:
            # Told after it began, and not much later than the client could have seen that it is missing.
            told = resyncs[bisect_right(resyncs, publish.begun) :]
            if told and told[0] <= seen_later(publish, position) + GRACE:
                book.excused.append(_lost(publish, history))
                continue
        found.append(_lost(publish, history))
    return found


def _lost(publish: Publish, history: History) -> Violation:
    told = f"{publish.offset or publish.outcome} of {publish.publisher}, room {publish.room or 'tenant'}"
    return Violation(LOST, publish.ended, history.client, history.namespace, publish.id, told)


def _entitled(publish: Publish, position: Position | None, stay: _Stay) -> bool:
    if publish.begun >= stay.until:
        return False
    return publish.begun >= stay.since or (position is not None and stay.first is not None and position > stay.first)


class _SeenLater:
    """When a client first had an event that stands behind another one."""

    def __init__(self, book: Book, numbering: Numbering, received: dict[str, tuple[float, str | None]]) -> None:
        numbered: list[tuple[Position, float]] = []
        of: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for event, (at, _) in received.items():
            publish = book.publishes[event]
            position = numbering.position(event)
            if position is not None:
                numbered.append((position, at))
            of[publish.publisher].append((publish.sequence, at))
        self._numbered = _earliest(numbered)
        self._of = {publisher: _earliest(pairs) for publisher, pairs in of.items()}

    def __call__(self, publish: Publish, position: Position | None) -> float:
        if position is not None:
            return _after(self._numbered, position)
        return _after(self._of.get(publish.publisher, ([], [])), publish.sequence)


def _earliest(pairs: list[tuple[K, float]]) -> tuple[list[K], list[float]]:
    pairs.sort()
    earliest = [at for _, at in pairs]
    for place in range(len(earliest) - 2, -1, -1):
        earliest[place] = min(earliest[place], earliest[place + 1])
    return [key for key, _ in pairs], earliest


def _after(table: tuple[list[K], list[float]], key: K) -> float:
    keys, earliest = table
    place = bisect_right(keys, key)
    return earliest[place] if place < len(keys) else float("inf")
