"""Any server that speaks the chat-completions protocol, through the official SDK, imported only where it is configured.

The SDK's own retries are off: a 429 is tried once more, after the time that it names, and nothing else is.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import mktime_tz, parsedate_tz
from typing import Any, TypeVar

import httpx2
import msgspec
import openai

from ai_backends.base import Completion, Piece, Question
from ai_backends.openai_errors import errors_named
from protocol.ai import Usage, whole_characters
from protocol.errors import TooLarge, Unavailable

CONNECT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 20.0
# A streamed chunk carries some 300 bytes around a token of four: enough for an answer of 800 KB.
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_CONNECTIONS = 256
MAX_IDLE = 32

_log = logging.getLogger("mintflow.ai")
Result = TypeVar("Result")


class OpenAIBackend:
    """Asks `base_url` (None: OpenAI itself) with `api_key` (None for servers that want none).

    `piece_seconds` is the longest silence within a stream, `total_seconds` that before a whole answer.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        default_model: str = "",
        system_prompt: str = "",
        piece_seconds: float = 60.0,
        total_seconds: float = 600.0,
    ) -> None:
        self.default_model = default_model
        self._system_prompt = system_prompt
        # Newer models of OpenAI's own refuse the old name; other servers may not know the new one.
        self._max_tokens = "max_completion_tokens" if base_url is None else "max_tokens"
        self._total = httpx2.Timeout(total_seconds, connect=CONNECT_SECONDS)
        piece = httpx2.Timeout(piece_seconds, connect=CONNECT_SECONDS)
        self._client = openai.OpenAI(
            # The SDK refuses to begin without a key, and reads the environment where it gets none.
            api_key=api_key or "none",
            base_url=base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=piece,
            http_client=httpx2.Client(
                timeout=piece,
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE),
                # What is not compressed can't be more than its bytes.
                headers={"Accept-Encoding": "identity"},
                event_hooks={"response": [_bound]},
                follow_redirects=False,
            ),
        )

    def complete(self, question: Question) -> Completion:
        """Return the whole answer. Raises as `Backend` says."""
        with errors_named():
            raw = _once_more(
                lambda: self._client.chat.completions.with_raw_response.create(
                    **self._asked(question), timeout=self._total
                )
            )
            answer = _answer.decode(raw.content)
        text = answer.choices[0].message.content if answer.choices else None
        if text is None:
            raise Unavailable("The AI service gave no text")
        return Completion(text, answer.model or question.model, _usage(answer.usage))

    @contextmanager
    def stream(self, question: Question) -> Iterator[Iterator[Piece]]:
        """Return the answer as it comes. Raises as `Backend` says, also while it is read."""
        with errors_named():
            stream = _once_more(
                lambda: self._client.chat.completions.create(
                    **self._asked(question), stream=True, stream_options={"include_usage": True}
                )
            )
        try:
            yield _read(stream)
        finally:
            stream.response.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _asked(self, question: Question) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in question.messages]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        asked: dict[str, Any] = {"model": question.model, "messages": messages}
        if question.temperature is not None:
            asked["temperature"] = question.temperature
        if question.max_tokens is not None:
            asked[self._max_tokens] = question.max_tokens
        return asked


def _read(stream: Any) -> Iterator[Piece]:
    half, finished = "", False
    with errors_named():
        for part in stream:
            usage = _usage(getattr(part, "usage", None))
            choices = getattr(part, "choices", None) or ()
            if choices:
                delta = choices[0].delta
                content = getattr(delta, "content", None) or ""
                if not isinstance(content, str):
                    raise Unavailable("The AI service sent what can't be read")
                text, half = whole_characters(content, half)
                finished = finished or choices[0].finish_reason is not None
                if text:
                    yield Piece(text)
            if usage is not None:
                yield Piece(usage=usage)
    if not finished:
        # A connection that closes without a length looks like a proper end.
        raise Unavailable("The AI service ended its answer before it was finished")
    if half:
        yield Piece("\ufffd")


def _once_more(ask: Callable[[], Result]) -> Result:
    try:
        return ask()
    except openai.RateLimitError as error:
        wait = _retry_after(error.response.headers)
        error.response.close()
        if wait is None or wait > LONGEST_WAIT_SECONDS or error.code == "insufficient_quota":
            raise
    _log.info("the AI service is busy; trying once more in %.1f s", wait)
    time.sleep(wait)
    return ask()


def _retry_after(headers: Any) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as such or as a date (RFC 9110, 10.2.3)."""
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_tz(text)
        return None if moment is None else max(0.0, mktime_tz(moment) - time.time())
    except (ValueError, OverflowError):
        return None


def _bound(response: httpx2.Response) -> None:
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.SyncByteStream):
    """A body of at most 64 MB, however it is read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = MAX_BODY_BYTES
        for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise TooLarge("The AI service sent too much")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Text


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: _Counts | None = None


_answer = msgspec.json.Decoder(_Answer)


def _usage(counts: Any) -> Usage | None:
    prompt, completion, total = (getattr(counts, f"{name}_tokens", None) for name in ("prompt", "completion", "total"))
    if not (isinstance(prompt, int) and isinstance(completion, int) and isinstance(total, int)):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
