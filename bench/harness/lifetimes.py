"""Stopping what a bench has started, whatever happens."""

import contextlib
from collections.abc import Iterator
from typing import Protocol, TypeVar


class _Stoppable(Protocol):
    def stop(self) -> None: ...


Stoppable = TypeVar("Stoppable", bound=_Stoppable)


@contextlib.contextmanager
def stopping(one: Stoppable) -> Iterator[Stoppable]:
    """Stop `one` at the end."""
    try:
        yield one
    finally:
        one.stop()
