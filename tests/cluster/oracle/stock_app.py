"""The control: stock python-socketio with its RedisManager, under the same load from inside each worker."""

import os
from pathlib import Path
from typing import Any

import gevent
import jwt
import socketio

from tests.cluster.oracle.ledger import Draft
from tests.cluster.oracle.publishers import BOARD, ROOMS, publish_steadily
from tests.servers import SECRET

TENANTS = os.environ["ORACLE_TENANTS"].split(",")
NAMESPACES = ("/logs", "/flows", BOARD)

server = socketio.Server(
    async_mode="gevent",
    client_manager=socketio.RedisManager(os.environ["REDIS_URL"]),
    cors_allowed_origins="*",
    namespaces=NAMESPACES,
)


class Follow(socketio.Namespace):  # type: ignore[misc]
    """Puts a client into its tenant's room, and into a flow's when it asks."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        (tenant,) = jwt.decode(auth["token"], SECRET, ["HS256"])["tenants"]
        self.save_session(sid, {"tenant": tenant})
        self.enter_room(sid, f"{tenant}:")

    def on_subscribe_flow(self, sid: str, command: dict[str, str]) -> dict[str, bool]:
        assert command["flowId"] in ROOMS
        self.enter_room(sid, f"{self.get_session(sid)['tenant']}:{command['flowId']}")
        return {"ok": True}


for namespace in NAMESPACES:
    server.register_namespace(Follow(namespace))


def emit(draft: Draft) -> str:
    """Emit as a stock application does; that it returns is all the acknowledgement there is."""
    server.emit("card", draft.payload, room=f"{draft.tenant}:{draft.room}", namespace=draft.namespace)
    return ""


application = socketio.WSGIApp(server)

gevent.spawn(
    publish_steadily,
    emit,
    Path(os.environ["ORACLE_DIR"]),
    "worker",
    TENANTS,
    NAMESPACES,
    float(os.environ["ORACLE_RATE"]),
    repeats=False,
)
