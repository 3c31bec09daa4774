"""What publishers and clients wrote down, one JSON array a line, written at once: a killed process loses none of it."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.cluster.oracle.records import FAILED, OK, UNKNOWN, History, Publish, Seen

_decode = msgspec.json.Decoder(list).decode


class Draft(NamedTuple):
    """What is about to be published, by whom, and to whom."""

    id: str
    tenant: str
    namespace: str
    room: str
    publisher: str
    sequence: int
    batch: str = ""

    @property
    def payload(self) -> dict[str, object]:
        return {"id": self.id, "tenant": self.tenant, "publisher": self.publisher, "sequence": self.sequence}


class Ledger:
    """One publisher's file: what it tried, and how each attempt ended."""

    def __init__(self, directory: Path, publisher: str) -> None:
        self._file = os.open(directory / f"{publisher}.published", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write(self, *line: object) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def trying(self, draft: Draft) -> None:
        self._write("try", time.monotonic(), *draft)

    def ended(self, draft: Draft, outcome: str, told: str) -> None:
        """Write how an attempt ended; `told` is the offset or the reason."""
        self._write(outcome, time.monotonic(), draft.id, told)

    def close(self) -> None:
        os.close(self._file)


def read_publishes(directory: Path) -> list[Publish]:
    """Return all publishes. An attempt whose end nobody wrote down is unknown, and one of those makes all so."""
    drafts: dict[str, Draft] = {}
    attempts: dict[str, list[tuple[float, str | None, float, str]]] = {}
    for path in sorted(directory.glob("*.published")):
        for what, at, event, *rest in lines(path):
            if what == "try":
                drafts[event] = Draft(event, *rest)
                attempts.setdefault(event, []).append((at, None, at, ""))
            else:
                begun, *_ = attempts[event][-1]
                attempts[event][-1] = begun, what, at, *rest
    return [_publish(draft, attempts[event]) for event, draft in drafts.items()]


def read_misanswered(directory: Path) -> list[str]:
    """Return what publishers through HTTP were told in place of 503."""
    paths = directory.glob("http-*.published")
    found = [line for path in paths for line in lines(path) if line[0] == UNKNOWN and line[3].startswith("500")]
    return [f"{at:.3f} {event} was answered {told}" for _, at, event, told in found]


def _publish(draft: Draft, attempts: list[tuple[float, str | None, float, str]]) -> Publish:
    outcomes = [outcome for _, outcome, _, _ in attempts]
    if OK in outcomes:
        # Nobody tries again after it.
        outcome, offset = OK, attempts[-1][3] or None
    else:
        outcome, offset = (FAILED if set(outcomes) == {FAILED} else UNKNOWN), None
    begun, ended = attempts[0][0], attempts[-1][2]
    return Publish(*draft[:-1], begun, outcome, ended, offset, len(attempts), draft.batch)


def lines(path: Path) -> Iterator[list[Any]]:
    """Yield a file's lines; the last one may be half written."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _decode(line)


def read_histories(directory: Path) -> Iterator[History]:
    """Yield what each client saw in each namespace. A file's name is `{client}~{tenant}.seen`."""
    for path in sorted(directory.glob("*.seen")):
        client, _, tenant = path.stem.partition("~")
        seen: dict[str, list[Seen]] = {}
        for at, namespace, kind, *rest in lines(path):
            seen.setdefault(namespace, []).append(Seen(at, kind, *rest))
        for namespace, entries in seen.items():
            yield History(client, tenant, namespace, entries)
