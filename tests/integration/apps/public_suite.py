"""The application that the public test suite of Socket.IO v5 asks for: `docs/protocol-suites.md`."""

from typing import Any

import socketio
from flask import Flask

from mintflow_realtime import SocketManager

app = Flask(__name__)
realtime = SocketManager(app)


class Echo(socketio.Namespace):  # type: ignore[misc]
    """Tells what came with CONNECT, sends messages back, and returns them to who asks for an ack."""

    def on_connect(self, sid: str, environ: Any, auth: Any = None) -> None:
        self.emit("auth", auth or {}, to=sid)

    def trigger_event(self, event: str, sid: str, *arguments: Any) -> Any:
        if event == "message":
            return self.emit("message-back", arguments, to=sid)
        if event == "message-with-ack":
            return arguments
        return super().trigger_event(event, sid, *arguments)


for name in ("/", "/custom"):
    realtime.register_namespace(Echo(name), authenticate=False)
application = realtime.wsgi_app
