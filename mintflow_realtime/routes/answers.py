"""What the API answers with: JSON by msgspec, since records and events are text already; no cache keeps it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Response


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a publish: how many events were stored, and where each stands in its log."""

    accepted: int
    offsets: tuple[str, ...]


class Deleted(msgspec.Struct, frozen=True):
    """The answer to `DELETE /logs`."""

    deleted: int


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `value` as a JSON response. Raises TypeError for what JSON can't say."""
    response = Response(msgspec.json.encode(value), status, headers, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
