"""Stock python-socketio on its RedisManager, for the fan-out bench."""

import os
from typing import Any

import socketio

from bench.servers.feed import ControlNamespace

server = socketio.Server(
    async_mode="gevent", cors_allowed_origins="*", client_manager=socketio.RedisManager(os.environ["REDIS_URL"])
)


class FeedNamespace(socketio.Namespace):  # type: ignore[misc]
    """Lets everybody into one room."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        self.enter_room(sid, "all")


server.register_namespace(FeedNamespace("/feed"))
server.register_namespace(
    ControlNamespace(lambda payload: server.emit("event", payload, room="all", namespace="/feed"))
)
application = socketio.WSGIApp(server)
