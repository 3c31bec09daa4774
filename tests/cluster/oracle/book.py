"""All publishes of a run together: which happened, and in which order they are numbered."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.cluster.oracle.records import FAILED, MISNUMBERED, OK, UNKNOWN, History, Publish, Violation

Position = tuple[int, int]


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


def numbered(book: Book, histories: Iterable[History]) -> list[Violation]:
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
