"""What was published held against what each client saw: pure functions of both, black-box.

Times are seconds of CLOCK_MONOTONIC, one clock for every process of a machine.
"""

from collections.abc import Callable, Iterable, Sequence

from tests.cluster.oracle.book import Book, Position, numbered
from tests.cluster.oracle.missing import Stay, missing
from tests.cluster.oracle.records import (
    ANEW,
    DISORDERED,
    EARLY,
    FAILED,
    LEAKED,
    MISNUMBERED,
    PHANTOM,
    STRANDED,
    TWICE,
    History,
    Publish,
    Seen,
    Violation,
)

# Seconds from a CONNECT to its session in Redis, on a busy machine.
SAVING = 0.3


def check(
    publishes: Iterable[Publish],
    histories: Callable[[], Iterable[History]],
    forgot: Sequence[float] = (),
    *,
    broke: Sequence[float] = (),
    recovers: bool = False,
    excused: list[Violation] | None = None,
) -> list[Violation]:
    """Return all that is wrong. `histories` is read twice. `forgot`: when Redis lost everything. `recovers`: clients
    asked for recovery, and never stay away for longer than its window. `excused` takes what was missed and told.

    `broke`: when a process or Redis was killed or stopped. A session is saved right behind its CONNECT: one that was
    begun in that moment may be unknown afterwards, which its client is told (`announce` in admission/recovery.py).

    Where Redis forgot an idempotency key between two attempts, the second one is another publish: such an event may
    come twice, with another offset. Nothing else may.
    """
    book = Book({publish.id: publish for publish in publishes})
    found = numbered(book, histories())
    for history in histories():
        found += _judge(book, history, forgot)
        if recovers:
            found += _anew(history, forgot, broke)
    if excused is not None:
        excused += book.excused
    return sorted(found, key=lambda violation: violation.at)


def _judge(book: Book, history: History, forgot: Sequence[float]) -> list[Violation]:
    numbering = book.numbering[history.tenant, history.namespace]
    found: list[Violation] = []

    def add(kind: str, seen: Seen, told: str) -> None:
        found.append(Violation(kind, seen.at, history.client, history.namespace, seen.value, told))

    received: dict[str, tuple[float, str | None]] = {}
    in_session: dict[str, str | None] = {}
    stays: list[Stay] = []
    resyncs: list[float] = []
    last: tuple[Position, str] | None = None
    last_of: dict[str, int] = {}
    online, waiting, away = False, [], 0.0
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
                    # The stock client hands on with any CONNECT what it kept of a replay that was cut, even where
                    # Redis lost everything meanwhile, the session with it.
                    if not any(away < at < early.at for at in forgot):
                        add(EARLY, early, "before CONNECT")
                if not any(stay.room == "" for stay in stays):
                    stays.append(Stay("", seen.at))
            waiting = []
        elif seen.kind == "joined":
            stays.append(Stay(seen.value, seen.at))
        elif seen.kind == "resync":
            resyncs.append(seen.at)
        elif seen.kind == "lost":
            online, away = False, seen.at
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
    return found + missing(book, history, numbering, stays, received, resyncs)


def _anew(history: History, forgot: Sequence[float], broke: Sequence[float]) -> list[Violation]:
    found = []
    before: float | None = None
    for seen in history.seen:
        if seen.kind != "connect":
            continue
        known = before is not None and not any(abs(at - before) < SAVING for at in broke)
        if seen.value != "recovered" and known and not any(before < at < seen.at for at in forgot):
            told = f"connected before at {before:.3f}"
            found.append(Violation(ANEW, seen.at, history.client, history.namespace, "-", told))
        before = seen.at
    return found


def _repeatable(publish: Publish, forgot: Sequence[float]) -> bool:
    return publish.attempts > 1 and any(publish.begun < at < publish.ended for at in forgot)
