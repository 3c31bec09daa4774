"""What a request says outside its body: path, query and headers. What is wrong with them is `Malformed`."""

from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from flask import request

from mintflow_realtime.fanout.publish.publisher import MAX_IDEMPOTENCY_KEY
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import check_id
from mintflow_realtime.protocol.validation import mistyped
from mintflow_realtime.routes.errors import Malformed
from mintflow_realtime.routes.paths import id_in_path

MAX_QUERY_FIELDS = 64
# 2**53 has 16 digits.
_MAX_DIGITS = 16

Message = TypeVar("Message", bound=msgspec.Struct)


def path_id(value: str, path: str) -> str:
    """Return an id of the URL. Raises Malformed that names `path`."""
    try:
        return check_id(id_in_path(value, request.environ), path)
    except InvalidPayload as error:
        raise Malformed(error.message, path) from None


def read_query(message: type[Message], *, numbers: Collection[str] = (), lists: Collection[str] = ()) -> Message:
    """Return the query as one `message`.

    A field of `numbers` is decimal; one of `lists` may be repeated, or hold several values with commas. An empty value
    is refused, not ignored: without its criterion a query would match more. Raises Malformed with the field's path.
    """
    fields: dict[str, Any] = {}
    for name, text in _pairs():
        if name in lists:
            fields.setdefault(name, []).extend(text.split(","))
        elif name in fields:
            raise Malformed("Expected one value", f"$.{name[:64]}")
        else:
            decimal = name in numbers and text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
            fields[name] = int(text) if decimal else text
    try:
        return msgspec.convert(fields, message)
    except msgspec.ValidationError as error:
        raise mistyped(error, Malformed) from None


def idempotency_key() -> str | None:
    """Return the Idempotency-Key header. Raises Malformed unless it has 1 to 255 characters."""
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        raise Malformed(f"Expected an Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} characters", "$.idempotencyKey")
    return key


def _pairs() -> list[tuple[str, str]]:
    try:
        # Not request.args, which puts U+FFFD for what is not UTF-8 and then searches for that.
        text = request.query_string.decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise Malformed("Expected a query in UTF-8") from None
    except ValueError:
        raise Malformed(f"Expected a query of at most {MAX_QUERY_FIELDS} fields") from None
