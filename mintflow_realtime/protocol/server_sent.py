"""Server-sent events as text (HTML standard, 9.2.6). An id comes only with data: npm's client forgets one without."""

import random
from typing import NamedTuple

import msgspec

from mintflow_realtime.protocol.envelope import Announcement

COMMENT = b":\n\n"
# When clients come back, each after another while.
RETRY_MS = (1000, 4000)


class Shown(NamedTuple):
    """An event's name, and its text."""

    name: str
    text: bytes


_arguments = msgspec.json.Decoder(tuple[str, msgspec.Raw])


def event(name: str, data: bytes, id: str = "") -> bytes:
    """Return one event; `data` is JSON."""
    if b"\n" in data or b"\r" in data:
        # White space between two tokens: within a JSON text it is escaped.
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    head = f"id: {id}\nevent: {name}\ndata: " if id else f"event: {name}\ndata: "
    return b"%b%b\n\n" % (head.encode(), data)


def retry() -> bytes:
    """Return what tells a client when to come back after the stream's end."""
    return b"retry: %d\n\n" % random.randint(*RETRY_MS)


def resync(reason: str, id: str) -> bytes:
    """Return the event that says that some may have been missed, and why."""
    return event("resync", msgspec.json.encode({"reason": reason}), id)


def shown(announcement: Announcement) -> Shown | None:
    """Return an announced event; None for one that has no name and one payload."""
    try:
        name, payload = _arguments.decode(announcement.arguments)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    if not name.isprintable():
        return None
    offset = announcement.offset
    return Shown(name, event(name, bytes(payload), announcement.mark or ("" if offset is None else str(offset))))
