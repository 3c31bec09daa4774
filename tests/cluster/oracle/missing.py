"""What a client was entitled to and did not get, nor was told of."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.cluster.oracle.book import Book, Numbering, Position
from tests.cluster.oracle.records import LOST, History, Publish, Violation

# A client that is told `resync` must be told at once: so long may it have believed what it had.
GRACE = 2.0

K = TypeVar("K", Position, int)


@dataclass(slots=True)
class Stay:
    """A client's right to a room's events: from when it knew that it had joined."""

    room: str
    since: float
    until: float = float("inf")
    first: Position | None = None


def missing(
    book: Book,
    history: History,
    numbering: Numbering,
    stays: Sequence[Stay],
    received: dict[str, tuple[float, str | None]],
    resyncs: Sequence[float],
) -> list[Violation]:
    by_room: dict[str, list[Stay]] = defaultdict(list)
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


def _entitled(publish: Publish, position: Position | None, stay: Stay) -> bool:
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
