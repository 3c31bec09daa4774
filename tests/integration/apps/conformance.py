"""An app of stock namespaces that answer what they are told, open to everyone: what the corpora of packets talk to."""

from typing import Any

from flask import Flask

from mintflow_realtime.app.socket_manager import SocketManager
from tests.integration.apps import measures
from tests.integration.apps.echo import Echo, Leaving

app = Flask(__name__)
realtime = SocketManager(app)


class Auth(Echo):
    """Tells what came with CONNECT."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("auth", auth or {}, to=sid)


class Refusing(Echo):
    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> bool:
        return False


for namespace in (Echo("/"), Echo("/chat"), Auth("/auth"), Refusing("/refusing"), Leaving("/leaving")):
    realtime.register_namespace(namespace, authenticate=False)
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app
