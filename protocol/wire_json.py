"""JSON by msgspec, in the shape that python-socketio asks of its `json` module: text out, text or bytes in."""

import re
from typing import Any

import msgspec

# A backslash with what it escapes, or a whole surrogate pair, or a surrogate on its own.
_SURROGATES = re.compile(
    r"\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def dumps(value: Any, **_: Any) -> str:
    """Return `value` as compact JSON text. Raises TypeError for what JSON can't say."""
    return _encoder.encode(value).decode()


def loads(text: str | bytes) -> Any:
    """Return the value of JSON text. Raises ValueError, also for nesting that the parser refuses.

    Half a surrogate pair, which JavaScript sends of an emoji that was cut in two, becomes U+FFFD.
    """
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        mended = _mended(text)
        if mended is None:
            raise ValueError(str(error)) from None
    except RecursionError as error:
        raise ValueError(str(error)) from None
    try:
        return _decoder.decode(mended)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _mended(text: str | bytes) -> str | None:
    """Return `text` without lone surrogates, or None where there is none."""
    try:
        whole = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        return None
    mended = _SURROGATES.sub(lambda found: "\\ufffd" if found["lone"] else found[0], whole)
    return mended if mended != whole else None
