"""Lines for the log that may be due many times a second, and are written once a minute."""

import logging
import time
from collections.abc import Callable

SECONDS = 60.0
# What is remembered; a server says fewer different things.
MOST = 256


class RareLog:
    """Writes each different line once in so many `seconds`, and how often it was due meanwhile."""

    def __init__(
        self, log: logging.Logger, clock: Callable[[], float] = time.monotonic, seconds: float = SECONDS
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def warning(self, line: str, *, error: BaseException | None = None) -> None:
        """Log a warning; with `error` its traceback, as an error of the program."""
        now = self._clock()
        at, missed = self._said.get(line, (now - self._seconds, 0))
        if now - at < self._seconds:
            self._said[line] = (at, missed + 1)
            return
        if len(self._said) >= MOST:
            self._said.clear()
        self._said[line] = (now, 0)
        level = logging.ERROR if error else logging.WARNING
        more = f" ({missed} times more since the last time)" if missed else ""
        self._log.log(level, "%s%s", line, more, exc_info=error)
