"""How long an AI request may take, and how it is ended from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mintflow_realtime.protocol.errors import RealtimeError

TOTAL_SECONDS = 600.0


class Task(Protocol):
    """Work that was begun and can be ended at once: a greenlet."""

    def kill(self, *, block: bool) -> Any: ...


Spawn = Callable[[Callable[[], None]], Task]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: of silence, for a whole request, without a client, and that Redis may be away meanwhile."""

    piece_seconds: float = 300.0
    total_seconds: float = TOTAL_SECONDS
    absent_seconds: float = 600.0
    redis_seconds: float = 20.0

    @classmethod
    def of(cls, timeout_seconds: float, keep_seconds: float) -> "Limits":
        """Return the limits for AI_TIMEOUT and AI_KEEP: a request takes ten minutes, or twice the longest silence."""
        total = max(TOTAL_SECONDS, 2 * timeout_seconds)
        return cls(piece_seconds=timeout_seconds, total_seconds=total, absent_seconds=keep_seconds)


class Stopped(Exception):
    """The request was ended from outside. `error` is None for a cancellation."""

    def __init__(self, error: RealtimeError | None = None) -> None:
        super().__init__()
        self.error = error
