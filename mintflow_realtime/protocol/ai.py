"""The messages of /ai: commands, answers, events, and what a request costs. Prompts and answers are never logged."""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mintflow_realtime.protocol.errors import RealtimeError
from mintflow_realtime.protocol.ids import Id, IdempotencyKey
from mintflow_realtime.protocol.wire_json import dumps, loads

# As JSON text. An event is at most 1 MB, and a whole answer must fit into one: `ai_response`, or what a resume tells.
MAX_ANSWER_BYTES = 900_000
# Characters of one chunk: six bytes each at most as JSON, so an event with it is far below 1 MB.
MAX_CHUNK_CHARACTERS = 100_000
MAX_CHUNKS = 50_000

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
RunStatus = Literal["running", "completed", "cancelled", "error"]
EndStatus = Literal["completed", "cancelled", "error"]


class AiUnavailable(RealtimeError):
    """There is no AI service behind this server, or it does not let this server in."""

    code = "ai_unavailable"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """How the model answers."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class AiRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`ai_request`. With a `conversationId`, what was said in it comes first, and this exchange joins it."""

    request_id: Id
    prompt: Annotated[str, Meta(min_length=1)]
    model: ModelName | None = None
    stream: bool = False
    options: Options = Options()
    conversation_id: Id | None = None


class CancelStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`cancel_stream`: the request ends now, streamed or not. A repeat has the same answer by itself."""

    request_id: Id
    idempotency_key: IdempotencyKey = UNSET


class ResumeStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`resume_stream`: all chunks after index `after` (all there are without it), and the stream goes on."""

    request_id: Id
    after: Annotated[int, Meta(ge=-1, le=2**53)] = -1


class ClearHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`clear_history`: of one conversation, or of all that the user has."""

    conversation_id: Id | None = None
    idempotency_key: IdempotencyKey = UNSET


class AiAccepted(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `ai_request`: one terminal event will follow."""

    request_id: str
    accepted: bool = True


class StreamCancelled(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `cancel_stream`, also where the request had ended by itself."""

    request_id: str


class Chunk(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A piece of the answer, or several that follow one another; the index is then that of the last."""

    chunk: Raw
    index: int


class StreamResumed(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `resume_stream`. Only while `status` is `running` does anything follow it."""

    request_id: str
    status: RunStatus
    chunks: list[Chunk]
    usage: Raw | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET


class HistoryCleared(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The answer to `clear_history`, and its event."""

    timestamp: str
    success: bool = True


class Usage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Tokens, as the AI service counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AiResponse(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`ai_response`: the whole answer, the end of a request without `stream`.

    `finishReason` says why the model ended: `stop`, or `length` and `content_filter` for an answer that isn't whole.
    """

    request_id: str
    response: str
    model: str
    timestamp: str
    usage: Usage | Raw | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET


class AiStreamStart(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`ai_stream_start`: the request was sent to the AI service."""

    request_id: str
    model: str
    timestamp: str


class AiStreamChunk(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`ai_stream_chunk`: a piece of the answer; indices begin with 0."""

    request_id: str
    chunk: str
    index: int
    timestamp: str


def merged_packets(older: str, newer: str) -> str | None:
    """Return one Socket.IO packet's text for two consecutive `ai_stream_chunk`s of one stream.

    The text is whole; index, time and what else follows the payload (an offset) are the newer one's. None where the two
    are not what they should be.
    """
    place = older.find("[")
    if place < 0 or newer[:place] != older[:place]:
        return None
    (name, first, *_), (_, second, *rest) = loads(older[place:]), loads(newer[place:])
    if name != "ai_stream_chunk":
        return None
    return older[:place] + dumps([name, {**second, "chunk": first["chunk"] + second["chunk"]}, *rest])


class AiStreamEnd(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`ai_stream_end`: the end of a streamed request. With `error` come its code and whether to try again.

    `finishReason` is that of `ai_response`.
    """

    request_id: str
    status: EndStatus
    timestamp: str
    usage: Usage | Raw | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET


class AiError(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`ai_error`: a request without `stream` ended without an answer, or there is no AI service."""

    request_id: str
    error: str
    code: str
    retryable: bool
    timestamp: str
    finish_reason: str | UnsetType = UNSET

    @classmethod
    def of(cls, request_id: str, error: RealtimeError, timestamp: str) -> "AiError":
        """Say what `error` says."""
        return cls(
            request_id=request_id,
            error=error.message,
            code=error.code,
            retryable=error.retryable,
            timestamp=timestamp,
            finish_reason=error.details.get("finishReason", UNSET),
        )


def whole_characters(text: str, pending: str = "") -> tuple[str, str]:
    """Return `pending + text` as UTF-8 can say it, and the half of a character at its end that waits for the next.

    JSON may write a character beyond U+FFFF as two escapes, and some servers cut between them. Half a character that
    stays alone becomes U+FFFD.
    """
    text = pending + text
    rest = ""
    if text and "\ud800" <= text[-1] <= "\udbff":
        text, rest = text[:-1], text[-1]
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text, rest
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), rest


def told_up_to(index: int) -> Callable[[str], bool]:
    """Return a test whether an announced event, its arguments as JSON text, is a chunk up to `index`, or before it."""

    def told(arguments: str) -> bool:
        name, payload = _announced.decode(arguments)
        return name in ("ai_stream_start", "ai_stream_chunk") and payload.index <= index

    return told


class _Indexed(msgspec.Struct):
    # What begins a stream has none; it is before the first chunk, and told once any chunk was.
    index: int = 0


_announced = msgspec.json.Decoder(tuple[str, _Indexed])
