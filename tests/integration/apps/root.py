"""An app whose own stock namespace replaces ours at `/`."""

from typing import Any

import socketio
from flask import Flask

from mintflow_realtime.app.socket_manager import SocketManager
from tests.integration.apps import measures

app = Flask(__name__)
realtime = SocketManager(app)


class Root(socketio.Namespace):  # type: ignore[misc]
    def on_hello(self, sid: str, name: str) -> Any:
        return f"hello {name}", realtime.principal(sid, "/").user_id


realtime.register_namespace(Root("/"))
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app
