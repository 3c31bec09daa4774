"""What msgspec says of a message of the wrong type, as an error of ours: short, and with the field's path."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.ids import ID_PATTERN, NOT_AN_ID
from mintflow_realtime.protocol.turns import Pause, at_once

# Of an object within a payload: msgspec takes 20 ms for 90,000, and the text of a state of 10,000 blocks Redis for some
# 10 ms.
MAX_MEMBERS = 10_000
# No message has so many fields; what follows is refused by its name.
MAX_FIELDS = 64
# Values that are looked at between two pauses.
STEP = 512
# msgspec names the offending value or field in full, which is as long as the client made it.
MAX_TEXT = 300
_PATH = re.compile(r" - at (?:`key` in )?`(\$.*)`\Z", re.DOTALL)
_NOT_AN_ID = f"Expected `str` matching regex {ID_PATTERN!r}"
_FIELD = re.compile(r"\AObject (?:contains unknown|missing required) field `(.*)`\Z", re.DOTALL)

_CHECKED = re.compile(r"\A.* \(in `(\w+)`\)\Z", re.DOTALL)


def field_error(name: str, sentence: object) -> ValueError:
    """Return what a message's `__post_init__` raises about one of its fields, for `mistyped` to name."""
    return ValueError(f"{sentence}{_in(name)}")


def _in(name: str) -> str:
    return f" (in `{name}`)"


def mistyped(error: msgspec.ValidationError, kind: type[InvalidPayload] = InvalidPayload) -> InvalidPayload:
    """Return `error` as `kind`, with a path that names an unknown or missing field too (`$.nodeId`)."""
    text, path = str(error), "$"
    found = _PATH.search(text)
    if found:
        text, path = text[: found.start()], found.group(1)
    if text == _NOT_AN_ID:
        text = NOT_AN_ID
    field = _FIELD.match(text) or _CHECKED.match(text)
    if field:
        path += f".{field.group(1)}"
        text = text.removesuffix(_in(field.group(1)))
    return kind(text[:MAX_TEXT], path[:MAX_TEXT])


def refuse_many_members(payload: Any) -> None:
    """Raise TooLarge where an object in one of a payload's fields has more than MAX_MEMBERS members."""
    if isinstance(payload, dict):
        for name, value in islice(payload.items(), MAX_FIELDS):
            if isinstance(value, dict) and len(value) > MAX_MEMBERS:
                raise TooLarge(f"Expected at most {MAX_MEMBERS} members", path=f"$.{name}"[:MAX_TEXT])


def refuse_bytes(payload: Any, pause: Pause = at_once) -> None:
    """Raise InvalidPayload with the path of the first bytes in a payload of lists and dictionaries, however deep.

    As JSON they would become base64 text, which nobody who reads it would know from text. `pause` is called now and
    then.
    """
    steps = 0
    above: list[tuple[Iterator[tuple[Any, Any]], Any]] = [(iter([("$", payload)]), None)]
    while above:
        here, _ = above[-1]
        for place, value in here:
            steps += 1
            if steps % STEP == 0:
                pause()
            if isinstance(value, (bytes, bytearray)):
                places = [at for _, at in above[1:]] + [place]
                path = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in places[1:])
                raise InvalidPayload("Expected JSON, got bytes", ("$" + path)[:MAX_TEXT])
            if isinstance(value, (dict, list)) and value:
                inner = value.items() if isinstance(value, dict) else enumerate(value)
                above.append((iter(inner), place))
                break
        else:
            above.pop()
