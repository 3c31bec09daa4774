"""Any server that speaks the chat-completions protocol, through the official SDK, imported only where it is configured.

The SDK's own retries are off: a 429 is tried once more, after the time that it names, and nothing else is.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import mktime_tz, parsedate_tz
from functools import partial
from typing import Any, TypeVar

import httpx2
import openai

from mintflow_realtime.ai_backends.base import Completion, Piece, Question
from mintflow_realtime.ai_backends.event_stream import read_events
from mintflow_realtime.ai_backends.openai_answers import read_choice, read_usage, read_whole
from mintflow_realtime.ai_backends.openai_errors import errors_named, unusable
from mintflow_realtime.ai_backends.refused_options import RefusedOptions, is_about_a_value, named_in, without
from mintflow_realtime.protocol.ai import AiUnavailable, whole_characters
from mintflow_realtime.protocol.errors import TooLarge, Unavailable

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

    `piece_seconds` is the longest silence within a stream, `total_seconds` that before a whole answer. What keeps the
    client from being made (a proxy that needs a package) is an AiUnavailable of each request.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        default_model: str = "",
        system_prompt: str = "",
        piece_seconds: float = 300.0,
        total_seconds: float = 600.0,
    ) -> None:
        self.default_model = default_model
        self._system_prompt = system_prompt
        # Newer models of OpenAI's own refuse the old name; other servers may not know the new one.
        self._max_tokens = "max_completion_tokens" if base_url is None else "max_tokens"
        self._total = httpx2.Timeout(total_seconds, connect=CONNECT_SECONDS)
        self._piece = httpx2.Timeout(piece_seconds, connect=CONNECT_SECONDS)
        # The SDK refuses to begin without a key, and reads the environment where it gets none.
        self._api_key = api_key or "none"
        self._base_url = base_url or "https://api.openai.com/v1"
        self._refused = RefusedOptions()
        self._made: openai.OpenAI | None = None
        self._making = threading.Lock()
        # Now, and the parts of the SDK that it imports at first use: that takes a tenth of a second, in which nobody
        # else would be served.
        with suppress(AiUnavailable):
            self._client().chat.completions.with_raw_response  # noqa: B018

    def complete(self, question: Question) -> Completion:
        """Return the whole answer. Raises as `Backend` says."""
        create = self._client().chat.completions.with_raw_response.create
        with errors_named():
            raw = self._ask(question, lambda asked: create(**asked, timeout=self._total), {})
            answer = json.loads(raw.content)
            piece, model = read_whole(answer), answer.get("model")
            named = model if isinstance(model, str) and model else question.model
            return Completion(piece.text, named, piece.usage, piece.finish_reason)

    @contextmanager
    def stream(self, question: Question) -> Iterator[Iterator[Piece]]:
        """Return the answer as it comes. Raises as `Backend` says, also while it is read."""
        create = self._client().chat.completions.create
        with errors_named():
            more = {"stream": True, "stream_options": {"include_usage": True}}
            response = self._ask(question, lambda asked: create(**asked), more).response
        try:
            yield _read(response)
        finally:
            response.close()

    def close(self) -> None:
        """Close all connections."""
        if self._made is not None:
            self._made.close()

    def _client(self) -> openai.OpenAI:
        with self._making:
            if self._made is None:
                try:
                    self._made = self._make()
                except Exception as error:
                    raise unusable(error) from None
            return self._made

    def _make(self) -> openai.OpenAI:
        return openai.OpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=self._piece,
            http_client=httpx2.Client(
                timeout=self._piece,
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE),
                # What is not compressed can't be more than its bytes.
                headers={"Accept-Encoding": "identity"},
                event_hooks={"response": [_bound]},
                follow_redirects=False,
            ),
        )

    def _ask(self, question: Question, send: Callable[[dict[str, Any]], Any], more: dict[str, Any]) -> Any:
        """Send a request, and again without the options that a refusal names, each once."""
        asked = {**self._asked(question), **more}
        known = self._refused.of(question.model)
        refused, lasting = known, known
        while True:
            sent = without(asked, refused)
            try:
                answer = _once_more(partial(send, sent))
            except openai.APIStatusError as error:
                named = named_in(error, sent, refused)
                if named == refused:
                    raise
                if not is_about_a_value(error):
                    lasting = {**lasting, **named}
                error.response.close()
                refused = named
            else:
                if lasting != known:
                    _log.info("the AI service is asked without, or by another name: %s", ", ".join(sorted(lasting)))
                    self._refused.remember(question.model, lasting)
                return answer

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


def _read(response: httpx2.Response) -> Iterator[Piece]:
    half, finished = "", False
    if response.headers.get("content-type", "").startswith("application/json"):
        # Some servers can't stream, and give the whole answer.
        with errors_named():
            yield read_whole(json.loads(response.read()))
        return
    with errors_named():
        for event in read_events(response.iter_bytes()):
            if event is None:
                yield Piece()
                continue
            if event.strip() == b"[DONE]":
                # Some servers give no reason.
                finished = True
                break
            part = json.loads(event)
            if part.get("error"):
                raise Unavailable("The AI service failed while it answered")
            text, finish_reason = read_choice(part, "delta")
            text, half = whole_characters(text, half)
            finished = finished or finish_reason is not None
            piece = Piece(text, read_usage(part), finish_reason)
            if piece != Piece():
                yield piece
    if half:
        yield Piece("\ufffd")
    if not finished:
        # A connection that closes without a length looks like a proper end.
        raise Unavailable("The AI service ended its answer before it was finished")


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
