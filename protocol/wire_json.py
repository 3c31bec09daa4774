"""JSON by msgspec, in the shape that python-socketio asks of its `json` module: text out, text or bytes in."""

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def dumps(value: Any, **_: Any) -> str:
    """Return `value` as compact JSON text. Raises TypeError for what JSON can't say."""
    return _encoder.encode(value).decode()


def loads(text: str | bytes) -> Any:
    """Return the value of JSON text. Raises ValueError, also for nesting that the parser refuses."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
