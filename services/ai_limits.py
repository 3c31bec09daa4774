"""How long an AI request may take, and how it is ended from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from protocol.errors import RealtimeError


class Task(Protocol):
    """Work that was begun and can be ended at once: a greenlet."""

    def kill(self, *, block: bool) -> Any: ...


Spawn = Callable[[Callable[[], None]], Task]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: between two pieces, for a whole request, without a client, and that Redis may be away meanwhile."""

    piece_seconds: float = 60.0
    total_seconds: float = 600.0
    absent_seconds: float = 60.0
    redis_seconds: float = 20.0


class Stopped(Exception):
    """The request was ended from outside. `error` is None for a cancellation."""

    def __init__(self, error: RealtimeError | None = None) -> None:
        super().__init__()
        self.error = error
