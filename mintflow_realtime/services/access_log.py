"""The access log, logger `mintflow.access`: who connected, left, was refused, called the API, revoked. Never a token.

A kind of line that comes too fast is counted instead of written: nobody fills a disk from outside.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["connected", "closed", "refused", "called", "revoked"]

LOGGER = logging.getLogger("mintflow.access")
# Lines a second, and how many at once, of one process.
_BOUNDS: dict[str, tuple[float, float]] = {
    "connected": (100, 2000),
    "closed": (100, 2000),
    "refused": (10, 100),
    "called": (100, 1000),
    "revoked": (10, 1000),
}
# How often it says how many lines there would have been.
COUNT_SECONDS = 10.0
_LONGEST_TEXT = 300

Line = tuple[float, str, dict[str, Any]]
"""When, in seconds since 1970, what, and of whom: what `extra` is to a logger."""


def add_fields(line: dict[str, Any], fields: dict[str, Any]) -> None:
    """Put into `line` what is shown of `fields`: nothing of what is None, the beginning of a long text."""
    for name, value in fields.items():
        if value is not None:
            line[name] = value if type(value) is not str or len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT]


def write_records(logger: logging.Logger, lines: list[Line]) -> None:
    """Give each line to whatever handlers `logger` has."""
    for created, message, fields in lines:
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, message, None, None)
        record.created = created
        add_fields(record.__dict__, fields)
        logger.handle(record)


class AccessLog:
    """Writes lines at once, or from `begin` on in batches, by whoever calls `write` some times a second."""

    def __init__(
        self,
        write: Callable[[logging.Logger, list[Line]], None] = write_records,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._clock = write, clock
        self._began = clock()
        # By kind: tokens left, when they were counted, lines that were left out.
        self._left = {kind: [burst, self._began, 0.0] for kind, (_, burst) in _BOUNDS.items()}
        self._waiting: list[Line] = []
        self._batches = False
        self._counted = self._began

    def begin(self) -> None:
        """Write in batches from now on."""
        self._batches = True

    def note(self, kind: Kind, **fields: Any) -> None:
        """Note that something of a `kind` happened. A field that is None is left out, a long text is cut."""
        if not LOGGER.isEnabledFor(logging.INFO) or not self._may(kind):
            return
        self._waiting.append((time.time(), kind, fields))
        if not self._batches:
            self.write()

    def write(self) -> None:
        """Write the lines that wait, and from time to time how many there would have been."""
        waiting, self._waiting = self._waiting, []
        now = self._clock()
        if now - self._counted >= COUNT_SECONDS:
            self._counted = now
            for kind, state in self._left.items():
                number, state[2] = round(state[2]), 0.0
                if number:
                    waiting.append((time.time(), f"{number} more {kind}, which came too fast for a line each", {}))
        if waiting:
            self._write(LOGGER, waiting)

    def _may(self, kind: str) -> bool:
        rate, burst = _BOUNDS[kind]
        state, now = self._left[kind], self._clock()
        state[0] = min(burst, state[0] + (now - state[1]) * rate)
        state[1] = now
        if state[0] < 1:
            state[2] += 1
            return False
        state[0] -= 1
        return True
