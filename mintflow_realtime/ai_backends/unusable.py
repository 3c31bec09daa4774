"""Stands where a backend is configured that can't be loaded: each request is told why, and the rest serves."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

from mintflow_realtime.ai_backends.base import Completion, Piece, Question
from mintflow_realtime.protocol.ai import AiUnavailable


class UnusableBackend:
    """Raises AiUnavailable with `reason`."""

    def __init__(self, reason: str, default_model: str) -> None:
        self._reason = reason
        self.default_model = default_model

    def complete(self, question: Question) -> Completion:
        """Raise AiUnavailable."""
        raise AiUnavailable(self._reason)

    def stream(self, question: Question) -> AbstractContextManager[Iterator[Piece]]:
        """Raise AiUnavailable."""
        raise AiUnavailable(self._reason)

    def close(self) -> None:
        """Close nothing."""
