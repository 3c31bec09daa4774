"""The WSGI environ of a request, from a head that was read strictly."""

from typing import Any
from urllib.parse import unquote

from mintflow_realtime.transport.http.request_head import RequestHead, lists

Environ = dict[str, Any]


def environ_of(head: RequestHead, address: Any, base: Environ) -> Environ:
    """Return the environ of a request on top of `base`; `address` is the peer's."""
    environ = base | {
        "REQUEST_METHOD": head.method,
        "PATH_INFO": unquote(head.path, "latin-1"),
        "QUERY_STRING": head.query,
        "SERVER_PROTOCOL": head.protocol,
    }
    if isinstance(address, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(address[0]), str(address[1])
    environ |= head.fields
    return environ


def asks_for_upgrade(environ: Environ) -> bool:
    """Tell whether the headers ask for a WebSocket (RFC 6455, section 4.2.1)."""
    upgrade = environ.get("HTTP_UPGRADE")
    return upgrade is not None and lists(upgrade, "websocket") and lists(environ.get("HTTP_CONNECTION", ""), "upgrade")


def asks_to_close(environ: Environ) -> bool:
    """Tell whether the client wants the connection to end with this request (RFC 9112, 9.3)."""
    connection = environ.get("HTTP_CONNECTION", "")
    if lists(connection, "close"):
        return True
    return environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and not lists(connection, "keep-alive")
