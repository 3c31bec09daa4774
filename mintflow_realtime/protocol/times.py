"""Times on the wire: ISO 8601 UTC with milliseconds, always the same width, so that text order is time order."""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def iso(milliseconds: int) -> str:
    """Return milliseconds since 1970 as `2026-01-31T08:15:30.123Z`."""
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{at.isoformat()[:19]}.{milliseconds % 1000:03d}Z"


def moment(given: object) -> str:
    """Return a publisher's time as the wire shows times: ISO 8601, by UTC without a zone, or milliseconds since 1970.

    Raises ValueError for anything else, and for years that have not four digits.
    """
    try:
        if isinstance(given, str):
            found = datetime.fromisoformat(given.strip())
            found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
            return iso((found - _EPOCH) // timedelta(milliseconds=1))
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return iso(int(given // 1))
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError("Expected a time as ISO 8601 or milliseconds since 1970")


def milliseconds_of(text: str) -> int:
    """Return an ISO time with a zone in milliseconds since 1970. Raises ValueError for anything else."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return (found - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass
    raise ValueError("Expected a time as ISO 8601 with a zone")
