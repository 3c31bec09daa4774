"""The messages of /ai: what is refused and where, and characters that came in halves."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.ai import (
    AiRequest,
    AiStreamChunk,
    ClearHistory,
    ResumeStream,
    told_up_to,
    whole_characters,
)
from mintflow_realtime.protocol.wire_json import dumps

WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (AiRequest, {"prompt": "p"}, "requestId"),
    (AiRequest, {"requestId": "r"}, "prompt"),
    (AiRequest, {"requestId": "r", "prompt": ""}, "$.prompt"),
    (AiRequest, {"requestId": "r\n", "prompt": "p"}, "$.requestId"),
    (AiRequest, {"requestId": "r", "prompt": 5}, "$.prompt"),
    (AiRequest, {"requestId": "r", "prompt": "p", "stream": "yes"}, "$.stream"),
    (AiRequest, {"requestId": "r", "prompt": "p", "options": {"temperature": 3}}, "$.options.temperature"),
    (AiRequest, {"requestId": "r", "prompt": "p", "options": {"maxTokens": 0}}, "$.options.maxTokens"),
    (AiRequest, {"requestId": "r", "prompt": "p", "options": {"topP": 1}}, "topP"),
    (AiRequest, {"requestId": "r", "prompt": "p", "conversationId": ""}, "$.conversationId"),
    (AiRequest, {"requestId": "r", "prompt": "p", "userId": "bob"}, "userId"),
    (ResumeStream, {"requestId": "r", "after": -2}, "$.after"),
    (ResumeStream, {"requestId": "r", "after": "1"}, "$.after"),
    (ClearHistory, {"conversationId": 1}, "$.conversationId"),
]


@pytest.mark.parametrize(("message", "payload", "named"), WRONG)
def test_what_is_wrong_is_refused_and_named(message: Any, payload: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(payload, message)
    assert named in str(refused.value)


def test_optional_fields_have_their_defaults() -> None:
    command = msgspec.convert({"requestId": "r", "prompt": "p", "options": {"temperature": 1}}, AiRequest)
    assert (command.stream, command.model, command.conversation_id) == (False, None, None)
    assert (command.options.temperature, command.options.max_tokens) == (1.0, None)
    assert msgspec.convert({"requestId": "r"}, ResumeStream).after == -1
    assert msgspec.convert({}, ClearHistory).conversation_id is None


@given(st.text(), st.lists(st.integers(0, 60)))
def test_text_cut_between_the_halves_of_characters_comes_whole(text: str, cuts: list[int]) -> None:
    raw = text.encode("utf-16-le")
    places = sorted({0, len(raw), *(2 * cut for cut in cuts if 2 * cut < len(raw))})
    pieces = [
        raw[start:end].decode("utf-16-le", "surrogatepass") for start, end in zip(places, places[1:], strict=False)
    ]
    joined, half = "", ""
    for piece in pieces:
        told, half = whole_characters(piece, half)
        told.encode()
        joined += told
    assert (joined, half) == (text, "")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ud83c", "b"], ["a", "\ufffdb"]),
        (["\udf89x"], ["\ufffdx"]),
        (["\ud83c", "\ud83c", "\udf89"], ["", "\ufffd", "🎉"]),
    ],
)
def test_half_a_character_alone_is_replaced(pieces: list[str], expected: list[str]) -> None:
    half, told = "", []
    for piece in pieces:
        text, half = whole_characters(piece, half)
        told.append(text)
    assert told == expected


def test_only_chunks_up_to_the_index_were_told() -> None:
    told = told_up_to(4)

    def event(name: str, payload: Any) -> str:
        return dumps([name, payload])

    for index in range(10):
        chunk = AiStreamChunk(request_id="r", chunk='"index":1', index=index, timestamp="t")
        assert told(event("ai_stream_chunk", chunk)) == (index <= 4)
    assert not told(event("ai_stream_end", {"requestId": "r", "status": "completed"}))
    assert told(event("ai_stream_start", {"requestId": "r", "model": "m"}))
    assert not told_up_to(-1)(event("ai_stream_start", {"requestId": "r", "model": "m"}))
