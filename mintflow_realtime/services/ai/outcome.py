"""What an answer is worth that the AI service has ended: whole, cut, filtered, or none."""

from mintflow_realtime.protocol.errors import InvalidPayload, Unavailable

# As backends name them.
CUT, FILTERED, FAILED = "length", "content_filter", "error"
# The model reads it when the conversation goes on, and so may be asked to go on itself.
CUT_MARK = "\n\n[The answer was cut off here: it had reached its longest length.]"


def check_answer(said: bool, finish_reason: str | None) -> None:
    """Raise where nothing was said (but blanks), or the AI service failed in the middle.

    Raises InvalidPayload for what would end the same way again, Unavailable for the rest.
    """
    if finish_reason == FAILED:
        raise Unavailable("The AI service failed while it answered", finishReason=FAILED)
    if said:
        return
    if finish_reason == FILTERED:
        raise InvalidPayload("The AI service's content filter gave no answer to this", finishReason=FILTERED)
    if finish_reason == CUT:
        raise InvalidPayload(
            "The model reached its longest length before it said anything: allow more",
            "$.options.maxTokens",
            finishReason=CUT,
        )
    told = {"finishReason": finish_reason} if finish_reason else {}
    raise Unavailable("The AI service gave an empty answer", **told)


def remembered(text: str, finish_reason: str | None) -> str | None:
    """Return what joins the conversation: a cut answer says so, and of a filtered one nothing does."""
    if finish_reason == FILTERED:
        return None
    return text + CUT_MARK if finish_reason == CUT else text
