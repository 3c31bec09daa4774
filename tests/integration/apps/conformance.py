"""An app of stock namespaces that answer what they are told, open to everyone: what the corpora of packets talk to."""

from typing import Any

import socketio
from flask import Flask

from namespaces.base import Namespace, handles
from namespaces.clients import Client
from server import SocketManager
from tests.integration.apps import measures

app = Flask(__name__)
realtime = SocketManager(app)


class Echo(socketio.Namespace):  # type: ignore[misc]
    def on_echo(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    def on_message(self, sid: str, *args: Any) -> None:
        self.emit("message-back", args, to=sid)

    def on_ask_me(self, sid: str, *args: Any) -> Any:
        try:
            # A tuple, or the library would take None for no arguments.
            return (self.call("question", args, to=sid, timeout=5),)
        except socketio.exceptions.TimeoutError:
            return "no answer"

    def on_kick_me(self, sid: str) -> None:
        self.disconnect(sid)

    def on_cut_me(self, sid: str) -> None:
        realtime.server.close_transport(self.server.manager.eio_sid_from_sid(sid, self.namespace), "cut")

    def on_room(self, sid: str, room: str) -> None:
        self.enter_room(sid, room)

    def on_room_bytes(self, sid: str, room: str, size: int, count: int) -> None:
        for _ in range(count):
            self.emit("bytes", "x" * size, room=room)


class Auth(Echo):
    """Tells what came with CONNECT."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("auth", auth or {}, to=sid)


class Refusing(Echo):
    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> bool:
        return False


class Typed(Namespace):
    """In order, and acked; `echo` has a payload like a command of ours."""

    @handles(dict)
    def echo(self, client: Client, command: dict[str, Any]) -> dict[str, Any]:
        return command


for namespace in (Echo("/"), Echo("/chat"), Auth("/auth"), Refusing("/refusing")):
    realtime.register_namespace(namespace, authenticate=False)
realtime.register_namespace(Typed("/typed"))
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app
