"""Ids as types of their own: what is one, and how it stands in a key, a room or a path.

Ids of flows, runs, nodes, workspaces, users and requests are other systems' text; tenants' are a pattern.
"""

import hashlib
import re
from typing import Annotated, NewType
from urllib.parse import quote

from msgspec import Meta, UnsetType

from mintflow_realtime.protocol.errors import InvalidPayload

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
Sid = NewType("Sid", str)

TENANT_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z"
# No control character (C0, DEL, C1) and no half of a surrogate pair, nor what stands in its place once text was mended.
ID_PATTERN = r"\A[^\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]{1,255}\Z"
Id = Annotated[str, Meta(pattern=ID_PATTERN)]

# What makes a repeat of a command harmless. Requests over HTTP and from Python may have longer ones.
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=128)] | None | UnsetType

NOT_AN_ID = "Expected an id: text of 1 to 255 characters, without control characters and halves of characters"
NOT_A_TENANT = "Expected a tenant: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ @ -"

# How long an encoded id may be; the digest of a longer one takes its place.
MAX_ENCODED = 128

_is_plain = re.compile(TENANT_PATTERN).match
_matches = re.compile(ID_PATTERN).match


def is_id(value: object) -> bool:
    """Tell whether `value` is an id: text of 1 to 255 characters without control characters."""
    return isinstance(value, str) and _matches(value) is not None


def check_id(value: object, path: str) -> str:
    """Return `value` as an id, or raise `InvalidPayload` that names `path`."""
    if isinstance(value, str) and _matches(value):
        return value
    raise InvalidPayload(NOT_AN_ID, path)


def is_tenant(value: object) -> bool:
    """Tell whether `value` is a tenant: a letter or digit, then at most 127 letters, digits, `.`, `_`, `@`, `-`."""
    return isinstance(value, str) and _is_plain(value) is not None


def check_tenant(value: object, path: str) -> str:
    """Return `value` as a tenant, or raise `InvalidPayload` that names `path`."""
    if isinstance(value, str) and _is_plain(value):
        return value
    raise InvalidPayload(NOT_A_TENANT, path)


def encode_id(text: str) -> str:
    """Return an id as it stands in keys, rooms and their parts: at most 128 of `A-Z a-z 0-9 . _ @ - ~ % =`.

    No two ids have the same, but by a collision of SHA-256. One that looks like a tenant's stands for itself; another
    begins with `~`, where every byte of UTF-8 beyond these characters is `%XX`; a long one is `=` and a digest.
    """
    if _is_plain(text):
        return text
    # `quote` leaves `~` alone, which is no harm: only the first one has a meaning.
    encoded = "~" + quote(text, safe="@")
    if len(encoded) <= MAX_ENCODED:
        return encoded
    return "=" + hashlib.sha256(text.encode()).hexdigest()
