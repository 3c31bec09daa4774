"""An application that says what reached it through a proxy, for polls, WebSockets and views alike."""

from typing import Any

import socketio
from flask import Flask, jsonify, request

from mintflow_realtime.app.socket_manager import SocketManager

_SEEN = (
    "REMOTE_ADDR",
    "HTTP_HOST",
    "wsgi.url_scheme",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
)

app = Flask(__name__)
realtime = SocketManager(app)


def seen(environ: dict[str, Any]) -> dict[str, Any]:
    return {name: environ.get(name) for name in _SEEN}


@app.get("/seen")
def view() -> Any:
    return jsonify(seen(request.environ))


class Probe(socketio.Namespace):  # type: ignore[misc]
    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("seen", seen(environ), to=sid)

    def on_echo(self, sid: str, text: str) -> str:
        return text


realtime.register_namespace(Probe("/probe"), authenticate=False)
application = realtime.wsgi_app
