"""The events of AI requests: to whom they go, and how a request ends without an answer."""

from typing import Any

from msgspec import UNSET

from fanout.rooms import ai_room
from protocol.ai import AiError, AiStreamEnd
from protocol.envelope import Event, Header, Policy
from protocol.errors import Conflict, RealtimeError
from protocol.wire_json import dumps
from stores.ai import Ending, RequestKey

NAMESPACE = "/ai"


def request_event(key: RequestKey, name: str, payload: Any, *, volatile: bool = False) -> Event:
    """Return an event to the clients that follow a request. Chunks of one stream merge for a slow reader."""
    policy = Policy.MERGE if name == "ai_stream_chunk" else Policy.CLOSE
    return Event(Header((ai_room(*key),), policy, key.request_id), (dumps([name, payload]),), volatile)


def failed(key: RequestKey, streamed: bool, error: RealtimeError | None, timestamp: str) -> tuple[Ending, Event]:
    """Return how a request ends without an answer, and its terminal event; `error` None is a cancellation."""
    if not streamed:
        told = error or Conflict("The request was cancelled")
        event = request_event(key, "ai_error", AiError.of(key.request_id, told, timestamp))
    else:
        end = AiStreamEnd(
            request_id=key.request_id,
            status="error" if error else "cancelled",
            timestamp=timestamp,
            error=error.message if error else UNSET,
            code=error.code if error else UNSET,
            retryable=error.retryable if error else UNSET,
        )
        event = request_event(key, "ai_stream_end", end)
    return Ending("error" if error else "cancelled", error=error), event
