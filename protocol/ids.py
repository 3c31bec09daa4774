"""Ids as types of their own, and the one pattern that all of them match."""

import re
from typing import Annotated, NewType

from msgspec import Meta

from protocol.errors import InvalidPayload

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
Sid = NewType("Sid", str)

ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z"
Id = Annotated[str, Meta(pattern=ID_PATTERN)]

_matches = re.compile(ID_PATTERN).match


def is_id(value: object) -> bool:
    """Tell whether `value` is an id: a letter or digit, then at most 127 letters, digits, `.`, `_`, `@`, `-`."""
    return isinstance(value, str) and _matches(value) is not None


def check_id(value: object, path: str) -> str:
    """Return `value` as an id, or raise `InvalidPayload` that names `path`."""
    if isinstance(value, str) and _matches(value):
        return value
    raise InvalidPayload("Expected an id: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ @ -", path)
