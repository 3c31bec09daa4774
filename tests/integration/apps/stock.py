"""The library's own server, with the namespaces of `echo`: what our server must do better than.

Environment: `SOCKET_PING_INTERVAL`, `SOCKET_PING_TIMEOUT`.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
from typing import Any  # noqa: E402

import socketio  # noqa: E402

from tests.integration.apps.echo import Echo, Leaving  # noqa: E402


def home(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"stock"]


server = socketio.Server(
    async_mode="gevent",
    ping_interval=float(os.environ.get("SOCKET_PING_INTERVAL", "25")),
    ping_timeout=float(os.environ.get("SOCKET_PING_TIMEOUT", "20")),
)
for namespace in (Echo("/"), Echo("/chat"), Leaving("/leaving")):
    server.register_namespace(namespace)
application = socketio.WSGIApp(server, home)
