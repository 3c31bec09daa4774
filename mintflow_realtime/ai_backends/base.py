"""What a backend is asked and what it gives. It raises from `protocol.errors`, and knows nothing of users or Redis.

A backend works in the greenlet that calls it, which may be killed at any moment: whatever it opened is closed then.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from mintflow_realtime.protocol.ai import Usage


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked: the conversation so far, the prompt last."""

    model: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer: text, exactly as it came, why it ended, what it cost; or nothing: a sign of life."""

    text: str = ""
    usage: Usage | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    text: str
    model: str
    usage: Usage | None = None
    finish_reason: str | None = None


class Backend(Protocol):
    """An AI service. `default_model` is '' where a request must name one."""

    @property
    def default_model(self) -> str: ...

    def complete(self, question: Question) -> Completion:
        """Return the whole answer.

        Raises AiUnavailable, RateLimited, TooLarge, InvalidPayload, NotFound, Unavailable.
        """
        ...

    def stream(self, question: Question) -> AbstractContextManager[Iterator[Piece]]:
        """Return the answer piece by piece; to leave the context closes the connection. Raises as `complete` does.

        Whatever arrives becomes a piece, if an empty one: who waits takes silence for the end.
        """
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...
