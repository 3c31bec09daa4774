"""Stopping what a bench has started, whatever happens."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Protocol, TypeVar


class _Stoppable(Protocol):
    def stop(self) -> None: ...


Stoppable = TypeVar("Stoppable", bound=_Stoppable)


def stop_on_sigterm() -> None:
    """Let SIGTERM end this process as an error does, through everything that stops what was started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextlib.contextmanager
def stopping(one: Stoppable) -> Iterator[Stoppable]:
    """Stop `one` at the end."""
    try:
        yield one
    finally:
        one.stop()
