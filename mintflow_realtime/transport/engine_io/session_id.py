"""Session ids: the tag of the worker that owns the session, then 120 random bits."""

import re
import secrets

TAG_PATTERN = r"[0-9a-f]{8}"
SID_PATTERN = rf"\A({TAG_PATTERN})[A-Za-z0-9_-]{{20}}\Z"

_sid_matches = re.compile(SID_PATTERN).match


def make_node_tag(host: int | None = None) -> str:
    """Return a new tag for this process: 8 lowercase hexadecimal digits. Call it after the fork.

    With a host's number, 0 to 255, the first two are that, so that what stands before several hosts can route by it.
    """
    return secrets.token_hex(4) if host is None else f"{host:02x}{secrets.token_hex(3)}"


def new_session_id(node_tag: str) -> str:
    """Return an id that matches `SID_PATTERN`."""
    return node_tag + secrets.token_urlsafe(15)


def tag_of(sid: str) -> str | None:
    """Return the tag of the worker that owns a session; None for what is no session id."""
    match = _sid_matches(sid)
    return match.group(1) if match else None
