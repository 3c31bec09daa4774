"""The events of AI requests: to whom they go, and how a request ends without an answer."""

from typing import Any

from msgspec import UNSET

from mintflow_realtime.fanout.rooms import ai_room
from mintflow_realtime.protocol.ai import AiError, AiStreamEnd, Usage
from mintflow_realtime.protocol.envelope import Event, Header, Policy, event_pieces
from mintflow_realtime.protocol.errors import Conflict, RealtimeError
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.stores.ai.store import Ending, RequestKey

NAMESPACE = "/ai"
# How a request without `stream` ends that was cancelled.
CANCELLED = Conflict("The request was cancelled")


def request_event(key: RequestKey, name: str, payload: Any, *, volatile: bool = False) -> Event:
    """Return an event to the clients that follow a request. Chunks of one stream merge for a slow reader."""
    policy = Policy.MERGE if name == "ai_stream_chunk" else Policy.CLOSE
    return Event(Header((ai_room(*key),), policy, key.request_id), (dumps([name, payload]),), volatile)


def cleared_event() -> Event:
    """Return the event of a `clear_history` around its time. Nobody hears it: who asked is answered."""
    pieces = event_pieces("history_cleared", ('{"success":true,"timestamp":"', '"}'))
    return Event(Header(()), pieces, volatile=True)


def completed(key: RequestKey, usage: Usage | None, finish_reason: str | None, timestamp: str) -> AiStreamEnd:
    """Return what a stream ends with that the AI service has ended."""
    return AiStreamEnd(
        request_id=key.request_id,
        status="completed",
        timestamp=timestamp,
        usage=usage or UNSET,
        finish_reason=finish_reason or UNSET,
    )


def failed(key: RequestKey, streamed: bool, error: RealtimeError | None, timestamp: str) -> tuple[Ending, Event]:
    """Return how a request ends without an answer, and its terminal event; `error` None is a cancellation."""
    if not streamed:
        told = error or CANCELLED
        event = request_event(key, "ai_error", AiError.of(key.request_id, told, timestamp))
    else:
        end = AiStreamEnd(
            request_id=key.request_id,
            status="error" if error else "cancelled",
            timestamp=timestamp,
            error=error.message if error else UNSET,
            code=error.code if error else UNSET,
            retryable=error.retryable if error else UNSET,
            finish_reason=error.details.get("finishReason", UNSET) if error else UNSET,
        )
        event = request_event(key, "ai_stream_end", end)
    return Ending("error" if error else "cancelled", error=error), event
