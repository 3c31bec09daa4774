"""This project's server for the fan-out bench: durable, numbered events of a namespace of one's own."""

from typing import Any

import socketio

from bench.servers.feed import ControlNamespace
from mintflow_realtime.app.socket_manager import SocketManager
from server import create_app

TENANT = "default"  # where clients without a token are
ROOM = "all"

realtime: SocketManager = create_app().extensions["mintflow"]


class FeedNamespace(socketio.Namespace):  # type: ignore[misc]
    """Lets everybody into one room of the tenant."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        realtime.enter_room(sid, "/feed", ROOM)


realtime.register_namespace(FeedNamespace("/feed"))
realtime.register_namespace(
    ControlNamespace(lambda payload: realtime.publish(TENANT, "/feed", "event", payload, room=ROOM)),
    authenticate=False,
)
application = realtime.wsgi_app
