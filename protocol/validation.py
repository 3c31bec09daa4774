"""What msgspec says of a message of the wrong type, as an error of ours: short, and with the field's path."""

import re

import msgspec

from protocol.errors import InvalidPayload

# msgspec names the offending value or field in full, which is as long as the client made it.
MAX_TEXT = 300
_PATH = re.compile(r" - at (?:`key` in )?`(\$.*)`\Z", re.DOTALL)
_FIELD = re.compile(r"\AObject (?:contains unknown|missing required) field `(.*)`\Z", re.DOTALL)


def mistyped(error: msgspec.ValidationError, kind: type[InvalidPayload] = InvalidPayload) -> InvalidPayload:
    """Return `error` as `kind`, with a path that names an unknown or missing field too (`$.nodeId`)."""
    text, path = str(error), "$"
    found = _PATH.search(text)
    if found:
        text, path = text[: found.start()], found.group(1)
    field = _FIELD.match(text)
    if field:
        path += f".{field.group(1)}"
    return kind(text[:MAX_TEXT], path[:MAX_TEXT])
