"""One AI request, from its acceptance to its one terminal event.

Two greenlets: one reads from the backend and may be killed at any moment, which closes the connection; the other
publishes what was read, and nothing ever interrupts it within a publish.
"""

import logging
import queue
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from msgspec import UNSET

from mintflow_realtime.ai_backends.base import Backend, Completion, Piece, Question
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.metrics.series import AI_FIRST_TOKEN, AI_REQUESTS, AI_STREAMS, FAILURES
from mintflow_realtime.protocol.ai import (
    MAX_ANSWER_BYTES,
    MAX_CHUNK_CHARACTERS,
    MAX_CHUNKS,
    AiResponse,
    AiStreamChunk,
    AiStreamStart,
    Usage,
)
from mintflow_realtime.protocol.envelope import Event
from mintflow_realtime.protocol.errors import Conflict, Internal, NotFound, RealtimeError, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Change
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.ai.events import NAMESPACE, completed, failed, request_event
from mintflow_realtime.services.ai.limits import Limits, Spawn, Stopped, Task
from mintflow_realtime.services.ai.outcome import check_answer, remembered
from mintflow_realtime.stores.ai.store import AiStore, Ending, RequestKey

# Pieces that were read and are not published yet; beyond, the backend is not read, and so has to wait.
MAX_UNPUBLISHED = 64
RETRY_SECONDS = 0.5

_log = logging.getLogger("mintflow.ai")
Result = TypeVar("Result")


class Run:
    """A request at work. `key` says whose it is, `owner` which node's."""

    def __init__(
        self,
        key: RequestKey,
        owner: str,
        question: Question,
        *,
        streamed: bool,
        conversation_id: str,
        backend: Backend,
        publisher: Publisher,
        store: AiStore,
        spawn: Spawn,
        limits: Limits,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.key, self.owner = key, owner
        self._question = question
        self._streamed = streamed
        self._conversation_id = conversation_id
        self._backend, self._publisher, self._store = backend, publisher, store
        self._spawn, self._limits, self._clock_ms = spawn, limits, clock_ms
        self._pipe: queue.Queue[Any] = queue.Queue(MAX_UNPUBLISHED)
        self._reader: Task | None = None
        self._stopped: Stopped | None = None
        self._ending = False
        self._bytes = self._chunks = 0
        self._said = False
        self._began = time.monotonic()

    def stop(self, stopped: Stopped) -> None:
        """Close the backend's connection and end the request; does nothing once it is ending. Never blocks."""
        if self._ending or self._stopped is not None:
            return
        self._stopped = stopped
        if self._reader is not None:
            self._reader.kill(block=False)
        try:
            self._pipe.put_nowait(None)
        except queue.Full:
            pass  # nobody waits for a full pipe

    def work(self) -> None:
        """Do it all. Never raises."""
        began = self._began = time.monotonic()
        AI_STREAMS.add(1)
        try:
            ending, event = self._answer(began + self._limits.total_seconds)
        except Stopped as stopped:
            ending, event = self._failed(stopped.error)
        except RealtimeError as error:
            ending, event = self._failed(error)
        except Exception:
            correlation_id = secrets.token_hex(8)
            FAILURES.add("ai")
            _log.exception("an AI request failed", extra={"correlation_id": correlation_id})
            ending, event = self._failed(Internal("Something went wrong here", correlationId=correlation_id))
        finally:
            self._ending = True
            if self._reader is not None:
                self._reader.kill(block=False)
        AI_STREAMS.add(-1)
        outcome = ending.error.code if ending.error else ending.status
        AI_REQUESTS.add("stream" if self._streamed else "request", outcome)
        self._end(ending, event)
        _log.info(
            "%s: %s, %d prompt bytes, %d answer bytes, %d chunks, %.2f s",
            "stream" if self._streamed else "request",
            outcome,
            len(self._question.messages[-1].content.encode()),
            self._bytes,
            self._chunks,
            time.monotonic() - began,
            extra={"tenant": self.key.tenant},
        )

    # Reading

    def _read(self) -> None:
        try:
            if self._streamed:
                with self._backend.stream(self._question) as pieces:
                    for piece in pieces:
                        self._pipe.put(piece)
                self._pipe.put(None)
            else:
                self._pipe.put(self._backend.complete(self._question))
        except Exception as error:
            self._pipe.put(error)

    def _next(self, deadline: float, patience: float) -> Any:
        try:
            found = self._pipe.get(timeout=max(0.0, min(patience, deadline - time.monotonic())))
        except queue.Empty:
            raise Unavailable("The AI service did not answer in time") from None
        self._check()
        if isinstance(found, Exception):
            raise found
        return found

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    # Publishing

    def _answer(self, deadline: float) -> tuple[Ending, Event]:
        self._check()
        if self._streamed:
            start = AiStreamStart(request_id=self.key.request_id, model=self._question.model, timestamp=self._now())
            self._persist(lambda: self._publish(self._event("ai_stream_start", start, volatile=True)))
        self._reader = self._spawn(self._read)
        if not self._streamed:
            return self._completed(self._next(deadline, self._limits.total_seconds))
        texts: list[str] = []
        usage: Usage | None = None
        finish_reason: str | None = None
        while (piece := self._next(deadline, self._limits.piece_seconds)) is not None:
            assert isinstance(piece, Piece)
            usage, finish_reason = piece.usage or usage, piece.finish_reason or finish_reason
            for start_at in range(0, len(piece.text), MAX_CHUNK_CHARACTERS):
                text = piece.text[start_at : start_at + MAX_CHUNK_CHARACTERS]
                self._count(text)
                self._tell(text)
                if self._conversation_id:
                    texts.append(text)
        check_answer(self._said, finish_reason)
        return self._ended(usage, "".join(texts), finish_reason), self._event(
            "ai_stream_end", completed(self.key, usage, finish_reason, self._now())
        )

    def _tell(self, text: str) -> None:
        index = self._chunks - 1
        chunk = AiStreamChunk(request_id=self.key.request_id, chunk=text, index=index, timestamp=self._now())
        event = self._event("ai_stream_chunk", chunk, volatile=True)
        change = self._store.chunk(self.key, self.owner, index, text)
        try:
            self._persist(lambda: self._publish(event, change))
        except Conflict:
            pass  # an earlier attempt, whose outcome was unknown, had kept and announced it
        except NotFound:
            raise Unavailable("The request was lost here; try again") from None

    def _count(self, text: str) -> None:
        self._bytes += len(dumps(text)) - 2 if text.isascii() else len(dumps(text).encode()) - 2
        self._chunks += 1
        if self._chunks == 1:
            AI_FIRST_TOKEN.observe(time.monotonic() - self._began)
        self._said = self._said or not text.isspace() and text != ""
        if self._bytes > MAX_ANSWER_BYTES or self._chunks > MAX_CHUNKS:
            raise TooLarge(f"An answer is at most {MAX_ANSWER_BYTES} bytes and {MAX_CHUNKS} chunks")

    def _completed(self, completion: Completion) -> tuple[Ending, Event]:
        self._count(completion.text)
        check_answer(self._said, completion.finish_reason)
        response = AiResponse(
            request_id=self.key.request_id,
            response=completion.text,
            model=completion.model,
            timestamp=self._now(),
            usage=completion.usage or UNSET,
            finish_reason=completion.finish_reason or UNSET,
        )
        ending = self._ended(completion.usage, completion.text, completion.finish_reason)
        whole = replace(ending, answer=dumps(completion.text), model=completion.model)
        return whole, self._event("ai_response", response)

    def _ended(self, usage: Usage | None, text: str, finish_reason: str | None) -> Ending:
        joins = remembered(text, finish_reason) if self._conversation_id else None
        return Ending(
            "completed",
            usage=dumps(usage) if usage else "",
            finish_reason=finish_reason or "",
            conversation_id=self._conversation_id,
            exchange=None if joins is None else (self._question.messages[-1].content, joins),
        )

    def _failed(self, error: RealtimeError | None) -> tuple[Ending, Event]:
        return failed(self.key, self._streamed, error, self._now())

    def _end(self, ending: Ending, event: Event) -> None:
        self._stopped = None
        try:
            self._persist(lambda: self._publish(event, self._store.end(self.key, self.owner, ending)))
        except NotFound:
            pass  # it has its terminal event: an attempt whose outcome was unknown, or a node that thought us gone
        except RealtimeError as error:
            # Whoever watches the tenant ends it once its lease is over.
            _log.warning("could not end an AI request: %s", error, extra={"tenant": self.key.tenant})

    def _persist(self, act: Callable[[], Result]) -> Result:
        """Repeat `act`, which is safe to repeat, while Redis doesn't answer."""
        deadline = time.monotonic() + self._limits.redis_seconds
        while True:
            try:
                return act()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)
            self._check()

    def _publish(self, event: Event, change: Change | None = None) -> None:
        self._publisher.publish(self.key.tenant, NAMESPACE, [event], change)

    def _event(self, name: str, payload: Any, *, volatile: bool = False) -> Event:
        return request_event(self.key, name, payload, volatile=volatile)

    def _now(self) -> str:
        return iso(self._clock_ms())
