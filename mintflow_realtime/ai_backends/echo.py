"""Gives the prompt back in pieces at a set pace: for demos, tests and measurements, without an AI service."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mintflow_realtime.ai_backends.base import Completion, Piece, Question
from mintflow_realtime.protocol.ai import Usage

PACE_SECONDS = 0.05
# A word with the space after it.
_pieces = re.compile(r"\s{0,8}\S{1,32}\s{0,8}|\s{1,32}")


class EchoBackend:
    """Waits `pace_seconds` before each word."""

    default_model = "echo"

    def __init__(self, pace_seconds: float = PACE_SECONDS) -> None:
        self._pace = pace_seconds

    def complete(self, question: Question) -> Completion:
        """Return the prompt, after the time of one piece."""
        time.sleep(self._pace)
        text = question.messages[-1].content
        return Completion(text, question.model, _usage(len(_cut(text))), "stop")

    @contextmanager
    def stream(self, question: Question) -> Iterator[Iterator[Piece]]:
        """Return the prompt's words."""
        yield self._paced(_cut(question.messages[-1].content))

    def close(self) -> None:
        """Close nothing."""

    def _paced(self, texts: list[str]) -> Iterator[Piece]:
        for text in texts:
            time.sleep(self._pace)
            yield Piece(text)
        yield Piece(usage=_usage(len(texts)), finish_reason="stop")


def _cut(text: str) -> list[str]:
    return _pieces.findall(text)


def _usage(pieces: int) -> Usage:
    return Usage(prompt_tokens=pieces, completion_tokens=pieces, total_tokens=2 * pieces)
