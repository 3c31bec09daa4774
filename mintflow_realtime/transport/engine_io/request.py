"""Reading an Engine.IO request from its WSGI environ, before anything is done about it."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs

from mintflow_realtime.transport.http.environ import Environ, asks_for_upgrade
from mintflow_realtime.transport.websocket import handshake

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


def is_websocket_handshake(environ: Environ) -> bool:
    """Tell whether a request asks for a WebSocket that can be opened (RFC 6455, section 4.2.1)."""
    return asks_for_upgrade(environ) and handshake.is_valid(environ)


def requested_headers(environ: Environ) -> str | None:
    """Return the header names that a preflight asks for, if they are names."""
    names = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").strip()
    return names if _header_names(names) else None
