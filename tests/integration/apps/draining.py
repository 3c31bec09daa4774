"""An app that writes down who left it and why, one line each, and has a view that takes its time.

Environment: `LEFT`, the file. `STOCK=1` is the library's own server, for gunicorn's gevent-websocket worker.
"""

import os
import time
from typing import Any

import socketio
from flask import Flask

app = Flask(__name__)


class Mine(socketio.Namespace):  # type: ignore[misc]
    def on_disconnect(self, sid: str, reason: str) -> None:
        time.sleep(0.05)
        with open(os.environ["LEFT"], "a") as file:
            file.write(reason + "\n")

    def on_pid(self, sid: str) -> int:
        return os.getpid()


@app.get("/slow/<float:seconds>")
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.get("/pid")
def pid() -> str:
    return str(os.getpid())


application: Any
if os.environ.get("STOCK"):
    server = socketio.Server(async_mode="gevent")
    server.register_namespace(Mine("/mine"))
    application = socketio.WSGIApp(server, app)
else:
    from mintflow_realtime.app.socket_manager import SocketManager

    realtime = SocketManager(app)
    realtime.register_namespace(Mine("/mine"), authenticate=False)
    application = realtime.wsgi_app
