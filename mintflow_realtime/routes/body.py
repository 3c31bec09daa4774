"""A request's body: read up to a bound, decoded straight into its type. Nothing of it is used unless all of it fits."""

from typing import Any, TypeVar

import msgspec
from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from mintflow_realtime.protocol.envelope import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.validation import mistyped
from mintflow_realtime.protocol.wire_json import mended
from mintflow_realtime.routes.errors import Malformed

# Bodies that carry no events.
MAX_SMALL_BYTES = 16_384
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

Message = TypeVar("Message", bound=msgspec.Struct)


def read_message(message: type[Message], most: int = MAX_SMALL_BYTES) -> Message:
    """Return the body as one `message`. Raises Malformed, InvalidPayload with the field's path, TooLarge (16 KB)."""
    decoded: Message = _decode(msgspec.json.Decoder(message).decode, _bytes(most))
    return decoded


def read_object() -> dict[str, Any]:
    """Return the body, an object of at most 1 MB, its values as text. Raises Malformed, InvalidPayload, TooLarge."""
    body = _bytes(MAX_EVENT_BYTES)
    # Values stay text, so that nothing else would see half a character in them.
    decoded: dict[str, Any] = _decode(_object.decode, _mended(body) if _escapes_half(body) else body)
    return decoded


class Batches:
    """Reads one message, a JSON array or NDJSON of them: 1 to 1,000, in at most 4 MB."""

    def __init__(self, message: type[msgspec.Struct]) -> None:
        self._lines = msgspec.json.Decoder(message)
        # The length is checked here below, with one sentence for arrays and lines.
        self._document: msgspec.json.Decoder[Any] = msgspec.json.Decoder(message | list[message])  # type: ignore[valid-type]

    def read(self) -> list[Any]:
        """Return the messages. Raises Malformed, InvalidPayload with the path (`$[3].message`), TooLarge."""
        body = _bytes(MAX_BATCH_BYTES)
        if request.mimetype in _LINES:
            batch = _decode(self._lines.decode_lines, body)
        else:
            batch = _decode(self._document.decode, body)
        if not isinstance(batch, list):
            return [batch]
        if not 1 <= len(batch) <= MAX_BATCH_EVENTS:
            raise InvalidPayload(f"Expected 1 to {MAX_BATCH_EVENTS} of them, not {len(batch)}")
        return batch


def _bytes(limit: int) -> bytes:
    # One more than the limit: Werkzeug ends a longer chunked body silently where its maximum is, and what is cut
    # behind a line of NDJSON would look whole.
    request.max_content_length = limit + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        body = None
    except ClientDisconnected:
        raise Malformed("The body could not be read to its end") from None
    if body is None or len(body) > limit:
        raise TooLarge(f"A body is at most {limit} bytes here", limit=limit)
    return body


def _escapes_half(body: bytes) -> bool:
    return b"\\ud" in body or b"\\uD" in body


def _mended(body: bytes) -> bytes:
    repaired = mended(body)
    return body if repaired is None else repaired.encode()


def _decode(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise mistyped(error) from None
    except msgspec.DecodeError as error:
        repaired = _mended(body)
        if repaired != body:
            return _decode(decode, repaired)
        raise Malformed(f"Expected JSON: {error}") from None
    except UnicodeDecodeError:
        raise Malformed("Expected JSON in UTF-8") from None
    except RecursionError:
        raise InvalidPayload("The JSON is nested too deeply") from None
