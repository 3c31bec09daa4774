"""What an Engine.IO request is answered with: the codes of Node's engine.io, and a body that tells whether it was sent.

Source of the codes: socketio/engine.io, `Server.errors` and `Server.errorMessages`.
"""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

TEXT = ("Content-Type", "text/plain; charset=UTF-8")
JSON = ("Content-Type", "application/json")


class Answer(NamedTuple):
    """One HTTP response. `sent` is called with True once the whole body was written, with False where it was not."""

    status: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (TEXT,)
    sent: Callable[[bool], object] | None = None


def _refusal(status: str, code: int, message: str, *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"code": code, "message": message}, separators=(",", ":")).encode()
    return Answer(status, body, (JSON, *headers))


TRANSPORT_UNKNOWN = _refusal("400 Bad Request", 0, "Transport unknown")
SESSION_UNKNOWN = _refusal("400 Bad Request", 1, "Session ID unknown")
BAD_METHOD = _refusal("400 Bad Request", 2, "Bad handshake method")
BAD_REQUEST = _refusal("400 Bad Request", 3, "Bad request")
FORBIDDEN = _refusal("403 Forbidden", 4, "Forbidden")
UNSUPPORTED_VERSION = _refusal("400 Bad Request", 5, "Unsupported protocol version")
# RFC 6455, section 4.4.
UPGRADE_REQUIRED = _refusal("426 Upgrade Required", 3, "Bad request", ("Sec-WebSocket-Version", "13"))
TOO_LARGE = _refusal("413 Content Too Large", 3, "Payload too large")
# Clients of every language come back by themselves after a 503: a full or draining node is never a final refusal.
UNAVAILABLE = Answer("503 Service Unavailable", b'{"message":"Service unavailable"}', (JSON, ("Retry-After", "1")))
NO_CONTENT = Answer("204 No Content", b"", ())
OK = Answer("200 OK", b"ok")


class Body:
    """A WSGI result of one piece that reports how writing it ended, when the server closes it."""

    def __init__(self, body: bytes, sent: Callable[[bool], object]) -> None:
        self._body = body
        self._sent = sent
        self._written = False

    # No __len__ on purpose: pywsgi would iterate over it to learn its size, before anything is written.
    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        self._written = True

    def close(self) -> None:
        self._sent(self._written)
