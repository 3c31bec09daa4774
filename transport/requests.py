"""Reading an Engine.IO request from its WSGI environ, before anything is done about it."""

import base64
import binascii
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs

Environ = dict[str, Any]

_PARSED_KEY = "transport.request"
_header_names = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*").fullmatch


class EngineRequest(NamedTuple):
    """The query of a request; `sid` is None in a handshake. `jsonp`: it asked for the transport that we refuse."""

    method: str
    transport: str | None
    sid: str | None
    version: str | None
    jsonp: bool


def engine_request(environ: Environ) -> EngineRequest:
    """Return the request of `environ`, parsed once."""
    request = environ.get(_PARSED_KEY)
    if not isinstance(request, EngineRequest):
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)

        def first(name: str) -> str | None:
            return query[name][0] or None if name in query else None

        request = EngineRequest(
            environ["REQUEST_METHOD"], first("transport"), first("sid"), first("EIO"), jsonp="j" in query
        )
        environ[_PARSED_KEY] = request
    return request


def asks_for_upgrade(environ: Environ) -> bool:
    """Tell whether the headers ask for a WebSocket (RFC 6455, section 4.2.1)."""
    connection = environ.get("HTTP_CONNECTION", "").lower().split(",")
    return "upgrade" in (option.strip() for option in connection) and (
        environ.get("HTTP_UPGRADE", "").strip().lower() == "websocket"
    )


def is_websocket_handshake(environ: Environ) -> bool:
    """Tell whether a WebSocket can be opened: GET, HTTP/1.1, version 13 and a key of 16 bytes (RFC 6455, 4.2.1)."""
    if not asks_for_upgrade(environ) or environ["REQUEST_METHOD"] != "GET":
        return False
    if (
        environ.get("SERVER_PROTOCOL") != "HTTP/1.1"
        or not environ.get("HTTP_HOST")
        or environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13"
    ):
        return False
    try:
        key = base64.b64decode(environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) == 16


def requested_headers(environ: Environ) -> str | None:
    """Return the header names that a preflight asks for, if they are names."""
    names = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").strip()
    return names if _header_names(names) else None
