"""The opening handshake (RFC 6455, sections 4.2.1 and 4.2.2)."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def is_valid(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request that asks for a WebSocket may have one: GET, no body, version 13, a key of 16 bytes.

    Over HTTP/1.0 too, which RFC 6455 doesn't allow: nginx asks so unless it is told otherwise, and passes the 101 on.
    """
    if (
        environ["REQUEST_METHOD"] != "GET"
        or environ.get("CONTENT_LENGTH", "0").strip("0")
        or "HTTP_TRANSFER_ENCODING" in environ
        or not environ.get("HTTP_HOST")
        or environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13"
    ):
        return False
    try:
        key = base64.b64decode(environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) == 16


def switching(key: str, protocols: str = "") -> bytes:
    """Return the 101 for a `Sec-WebSocket-Key`. Of the subprotocols that are offered the first is chosen, as by Node's.

    A browser whose offer is not taken up fails the connection without a word.
    """
    protocol = protocols.partition(",")[0].strip(" \t")
    chosen = f"\r\nSec-WebSocket-Protocol: {protocol}".encode("latin-1") if _is_token(protocol) else b""
    accept = base64.b64encode(hashlib.sha1(key.strip().encode() + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + chosen
        + b"\r\n\r\n"
    )
