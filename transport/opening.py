"""Opening a WebSocket: reading the request's head without pywsgi, the 101, and taking the socket out of gevent's hands.

The rules are RFC 6455, sections 4.2.1 and 4.2.2. A head that is not plainly such a request is left to pywsgi.
"""

import _socket
import base64
import hashlib
import os
import re
import socket
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from transport.requests import Environ

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*?)[ \t]*").fullmatch
_ASKS = re.compile(rb"\nupgrade:[ \t]*websocket[ \t]*\r?\n", re.IGNORECASE).search

# What a request must not ask for to be read here.
_BEYOND = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_TRAILER"})


def asks_for_websocket(head: bytes) -> bool:
    """Tell whether a request head may be that of a WebSocket; cheap, for every request."""
    return head.startswith(b"GET ") and _ASKS(head) is not None


def environ_of(head: bytes, address: Any, base: Environ) -> Environ | None:
    """Return the WSGI environ of a request head on top of `base`; None where pywsgi is to judge it.

    A body has a length, which is then in `CONTENT_LENGTH`; a chunked one is pywsgi's.
    """
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or lines[-2:] != ["", ""] or not words[1].startswith("/"):
        return None
    path, _, query = words[1].partition("?")
    environ = base | {
        "REQUEST_METHOD": words[0],
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": words[2],
    }
    if isinstance(address, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(address[0]), str(address[1])
    for line in lines[1:-2]:
        field = _FIELD(line)
        if field is None:
            return None
        name = _key(field[1])
        if not name:
            continue
        if name in environ:
            environ[name] += ("; " if name == "HTTP_COOKIE" else ",") + field[2]
        else:
            environ[name] = field[2]
    length = environ.get("CONTENT_LENGTH", "0")
    plain = length.isascii() and length.isdecimal() and len(length) < 19 and "HTTP_HOST" in environ
    return environ if plain and environ["SERVER_PROTOCOL"] == "HTTP/1.1" and not _BEYOND & environ.keys() else None


@lru_cache(maxsize=256)
def _key(name: str) -> str:
    # With an underscore it could pass for another header, such as one that a proxy sets.
    if "_" in name:
        return ""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key


def switching(key: str) -> bytes:
    """Return the 101 for a `Sec-WebSocket-Key`."""
    accept = base64.b64encode(hashlib.sha1(key.strip().encode() + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


def kernel_socket(descriptor: int, family: int) -> Any:
    """Return a non-blocking socket that gevent knows nothing of; it owns `descriptor` from now on."""
    sock = _socket.socket(family, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return sock


def duplicate(sock: Any) -> Any:
    """Return gevent's socket `sock` as one that it knows nothing of; its own is then closed without a shutdown."""
    return kernel_socket(os.dup(sock.fileno()), sock.family)
