"""Where the workers of a host leave what they count: a file each in one directory, which any of them reads.

A worker holds the lock of the lowest free slot for as long as it lives, however it ends; its number is the label
`worker`. So who has ended is counted no more, and the series stay as few as there are workers at once.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mintflow_realtime.metrics.counting import Series

MAX_SLOTS = 256
# gunicorn ends a worker that has been silent for 30 s. A child that one has forked may hold its lock for longer.
OLDEST_SECONDS = 60.0


class Snapshot(NamedTuple):
    """What one worker counted: by series, (labels, value) of each combination."""

    worker: str
    series: dict[str, list[tuple[tuple[str, ...], Any]]]


class Slot:
    """One worker's place in `directory`, which is made where it is missing. Raises OSError where there is none."""

    def __init__(self, directory: str) -> None:
        place = Path(directory)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(MAX_SLOTS):
            descriptor = os.open(place / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            if _try_lock(descriptor, fcntl.LOCK_EX):
                break
            os.close(descriptor)
        else:
            raise OSError(f"{directory} has no place for another worker")
        self.number = number
        self._descriptor: int | None = descriptor
        self._path, self._next = place / f"{number}.json", place / f"{number}.next"
        # What a worker before has left.
        self._path.unlink(missing_ok=True)

    def write(self, series: list[Series]) -> None:
        """Leave what was counted so far, in place of what was before; does nothing once it is closed."""
        if self._descriptor is None:
            return
        left = {"at": time.time(), "series": {one.name: one.snapshot() for one in series}}
        self._next.write_text(json.dumps(left))
        os.replace(self._next, self._path)

    def close(self) -> None:
        """Be counted no more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(descriptor)


def snapshots(directory: str) -> Iterator[Snapshot]:
    """Yield what each worker that lives has left. Files that can't be read are passed over."""
    place = Path(directory)
    for lock in sorted(place.glob("*.lock"), key=lambda path: path.name.zfill(8)):
        if not lock.stem.isdecimal() or not _is_locked(lock):
            continue
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            left = json.loads((place / f"{lock.stem}.json").read_text())
            if time.time() - left["at"] < OLDEST_SECONDS:
                series = {
                    name: [(tuple(labels), value) for labels, value in values]
                    for name, values in left["series"].items()
                }
                yield Snapshot(lock.stem, series)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
