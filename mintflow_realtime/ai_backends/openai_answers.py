"""What a chat-completions server says, of which servers have many dialects; all raise what `errors_named` names."""

from typing import Any

from mintflow_realtime.ai_backends.base import Piece
from mintflow_realtime.protocol.ai import Usage, whole_characters

# In OpenAI's words, whatever the server calls it.
CUT, FILTERED = "length", "content_filter"
_REASONS = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens"), CUT),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii",
         "refusal", "sensitive"),
        FILTERED,
    ),
}  # fmt: skip
MAX_REASON_CHARACTERS = 64


def read_choice(answer: Any, place: str) -> tuple[str, str | None]:
    """Return text and finish reason of the first choice; `place` is where its text is: `message` or `delta`."""
    choices = answer.get("choices") or ()
    if not choices:
        return "", None
    choice = choices[0]
    said = choice.get(place) or {}
    text = said.get("content") or ""
    if isinstance(text, list):
        # Reasoning models of some servers: parts, of which only text is the answer.
        text = "".join(part["text"] for part in text if part.get("type") == "text")
    if not isinstance(text, str):
        raise TypeError("content is not text")
    reason = choice.get("finish_reason") or None
    if reason is not None:
        reason = str(reason)[:MAX_REASON_CHARACTERS].encode("utf-8", "replace").decode()
        reason = _REASONS.get(reason.lower(), reason)
        if said.get("refusal") and not text:
            reason = FILTERED
    return text, reason


def read_whole(answer: Any) -> Piece:
    """Return what an answer says that came whole."""
    text, finish_reason = read_choice(answer, "message")
    text, half = whole_characters(text)
    return Piece(text + "\ufffd" * bool(half), read_usage(answer), finish_reason)


def read_usage(answer: Any) -> Usage | None:
    """Return what an answer cost, or None where the server doesn't say it in whole numbers."""
    usage = answer.get("usage") or {}
    prompt, completion, total = (usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
    if not (isinstance(prompt, int) and isinstance(completion, int) and isinstance(total, int)):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
