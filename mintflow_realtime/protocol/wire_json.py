"""JSON by msgspec, in the shape that python-socketio asks of its `json` module: text out, text or bytes in."""

import re
from typing import Any

import msgspec

from mintflow_realtime.protocol.json_in_turns import JsonReader, finite
from mintflow_realtime.protocol.json_in_turns import let_go as let_go
from mintflow_realtime.protocol.turns import Pause

# A text of so many bytes takes under 5 ms, whatever stands in it.
AT_ONCE = 65_536
# Beyond, so do so many containers, members and elements.
FEW = 16_000
# msgspec needs 10 µs for some numbers; beyond so many bytes Python reads them, which takes half a microsecond.
_SHORT = 2048

# Elements of a list that are written at once. Each may be a list of many more.
_PART = 512

_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Other text, escapes and whole pairs, and the half that may follow. It always matches, so that it never goes back; a
# possessive group, which would say so, matches too little in Python 3.11.2, which is Debian's.
_UP_TO_HALF = re.compile(
    rf"((?:[^\\]+|\\[^u]|{_PAIR}|\\u(?![dD][89a-fA-F])){{0,2048}})((?!{_PAIR})\\u[dD][89a-fA-F][0-9a-fA-F]{{2}})?",
    re.DOTALL,
).match

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
_long_decoder = msgspec.json.Decoder(float_hook=finite)


def dumps(value: Any, **_: Any) -> str:
    """Return `value` as compact JSON text. Raises TypeError for what JSON can't say.

    Half a surrogate pair, which Python has of a file's name that is no UTF-8, becomes U+FFFD.
    """
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return _encoder.encode(whole(value)).decode()


def encode(value: Any) -> bytes:
    """Return what `dumps` returns, in UTF-8."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(whole(value))


def whole(value: Any) -> Any:
    """Return `value` with U+FFFD for halves of surrogate pairs, in all text of it, names of members too."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {whole(name): whole(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [whole(member) for member in value]
    if isinstance(value, msgspec.Struct):
        return whole(msgspec.to_builtins(value))
    return value


def dumps_in_turns(value: Any, pause: Pause) -> str:
    """Return `value` as `dumps` does; a long list of plain values is written a part at a time."""
    if type(value) is not list:
        return dumps(value)
    if len(value) == 1:
        return (
            f"[{dumps_in_turns(value[0], pause)}]" if type(value[0]) is list and len(value[0]) > _PART else dumps(value)
        )
    parts = []
    for first in range(0, len(value), _PART):
        parts.append(dumps(value[first : first + _PART])[1:-1])
        pause()
    return f"[{','.join(parts)}]"


def loads(text: str | bytes) -> Any:
    """Return the value of JSON text. Raises ValueError, also for nesting that the parser refuses.

    Half a surrogate pair, which JavaScript sends of an emoji that was cut in two, becomes U+FFFD.
    """
    try:
        return (_decoder if len(text) <= _SHORT else _long_decoder).decode(text)
    except msgspec.DecodeError as error:
        repaired = mended(text)
        if repaired is None:
            raise ValueError(str(error)) from None
    except RecursionError as error:
        raise ValueError(str(error)) from None
    try:
        return _long_decoder.decode(repaired)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def loads_in_turns(text: str, pause: Pause, made: list[Any] | None = None) -> Any:
    """Return the value of JSON text of any length, with pauses while it is read. Raises ValueError.

    `made` then has what `let_go` takes, once the value is of no use any more.
    """
    if len(text) <= AT_ONCE:
        return loads(text)
    if text.count("[") + text.count("{") + text.count(",") + text.count(":") <= FEW:
        try:
            return _long_decoder.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            # Perhaps half a surrogate pair, which takes longer.
            pause()
    reader = JsonReader(text, loads, pause)
    try:
        return reader.read()
    finally:
        if made is not None:
            made += reader.made


def mended(text: str | bytes) -> str | None:
    """Return JSON text without lone surrogates, or None where there is none."""
    try:
        given = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        return None
    parts, at, halves = [], 0, 0
    while (found := _UP_TO_HALF(given, at)) is not None and found.end() > at:
        parts.append(found[1])
        if found[2]:
            parts.append("\\ufffd")
            halves += 1
        at = found.end()
    return "".join([*parts, given[at:]]) if halves else None
