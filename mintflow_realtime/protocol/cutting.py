"""Cutting what is too long, so that who tells what went wrong is never told in turn that it was too much."""

from collections.abc import Mapping
from typing import Any

from mintflow_realtime.protocol.wire_json import encode


def cut_text(text: bytes, most: int) -> bytes:
    """Return the JSON text of a string, as `encode` writes it, in at most `most` bytes (2 or more): its beginning."""
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    # Half an escape: an odd number of backslashes begins one.
    escape = kept.rfind(b"\\", -6)
    if escape >= 0 and (len(kept[: escape + 1]) - len(kept[: escape + 1].rstrip(b"\\"))) % 2:
        if len(kept) - escape < (6 if kept[escape + 1 : escape + 2] == b"u" else 2):
            kept = kept[:escape]
    # Half of a character's bytes.
    return kept.decode(errors="ignore").encode() + b'"'


def cut_object(value: Mapping[Any, Any], most: int) -> bytes:
    """Return the JSON text of an object in at most `most` bytes: its short members whole, of long texts the beginning,
    other long ones left out.
    """
    keys = [encode({name: 0})[1:-2] for name in value]
    members = list(value.values())
    texts = [encode(member) for member in members]
    kept: dict[int, bytes] = {}
    room = most - 2
    for place in sorted(range(len(members)), key=lambda one: len(texts[one])):
        text, left = texts[place], room - len(keys[place]) - 1
        if len(text) > left:
            # Too little to say anything is left out.
            if not isinstance(members[place], str) or left < 16:
                continue
            text = cut_text(text, left)
        kept[place] = keys[place] + text
        room -= len(kept[place]) + 1
    return b"{" + b",".join(kept[place] for place in sorted(kept)) + b"}"


def cut_value(value: Any, text: bytes, most: int) -> bytes:
    """Return JSON text of at most `most` bytes for `value`, whose whole text is `text`: an object as `cut_object` does
    it, a string's beginning, and of anything else the beginning of its text as a string.
    """
    if len(text) <= most:
        return text
    if isinstance(value, Mapping):
        return cut_object(value, most)
    if isinstance(value, str):
        return cut_text(text, most)
    return cut_text(encode(text.decode()), most)
