"""What is told of a request from what was kept of it: to those who resume it, and to those who ask for it twice."""

from typing import Any

from msgspec import UNSET, Raw

from mintflow_realtime.protocol.ai import AiError, AiResponse, AiStreamEnd, Chunk, StreamResumed
from mintflow_realtime.protocol.wire_json import loads
from mintflow_realtime.services.ai.events import CANCELLED
from mintflow_realtime.stores.ai.store import Kept, RequestKey

# What an answer lists one by one; more chunks than that come several in one, the index that of the last.
MAX_LISTED = 500


def resumed(key: RequestKey, kept: Kept) -> StreamResumed:
    """Return the answer to `resume_stream`."""
    group = -(-len(kept.chunks) // MAX_LISTED) or 1
    chunks = []
    for start in range(0, len(kept.chunks), group):
        part = kept.chunks[start : start + group]
        # JSON strings side by side, without the quotes between them.
        chunks.append(Chunk(chunk=Raw(b'"' + b"".join(one[1:-1] for _, one in part) + b'"'), index=part[-1][0]))
    return StreamResumed(
        request_id=key.request_id,
        status=_text(kept, "status"),
        chunks=chunks,
        usage=_usage(kept),
        error=_text(kept, "error"),
        code=_text(kept, "code"),
        retryable=_retryable(kept),
        finish_reason=_text(kept, "finish"),
    )


def ended(key: RequestKey, kept: Kept, timestamp: str) -> tuple[str, Any]:
    """Return the terminal event of a request that has ended: its name and payload."""
    status = _text(kept, "status")
    if kept.fields["stream"] == b"1":
        return "ai_stream_end", AiStreamEnd(
            request_id=key.request_id,
            status=status,
            timestamp=timestamp,
            usage=_usage(kept),
            error=_text(kept, "error"),
            code=_text(kept, "code"),
            retryable=_retryable(kept),
            finish_reason=_text(kept, "finish"),
        )
    if status == "completed":
        return "ai_response", AiResponse(
            request_id=key.request_id,
            response="".join(loads(chunk) for _, chunk in kept.chunks),
            model=_text(kept, "model"),
            timestamp=timestamp,
            usage=_usage(kept),
            finish_reason=_text(kept, "finish"),
        )
    cancelled = status == "cancelled"
    return "ai_error", AiError(
        request_id=key.request_id,
        error=CANCELLED.message if cancelled else _text(kept, "error"),
        code=CANCELLED.code if cancelled else _text(kept, "code"),
        retryable=not cancelled and _retryable(kept) is True,
        timestamp=timestamp,
        finish_reason=_text(kept, "finish"),
    )


def _text(kept: Kept, name: str) -> Any:
    return kept.fields[name].decode() if name in kept.fields else UNSET


def _usage(kept: Kept) -> Any:
    return Raw(kept.fields["usage"]) if "usage" in kept.fields else UNSET


def _retryable(kept: Kept) -> Any:
    return kept.fields["retryable"] == b"1" if "retryable" in kept.fields else UNSET
