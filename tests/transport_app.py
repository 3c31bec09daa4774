"""A Socket.IO application of the transport alone, for gunicorn and for one process; `STOCK=1` is the library's own.

Environment: `AFFINITY_DIR`, `STOCK`. GET /node tells which worker answers.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import socketio  # noqa: E402

from mintflow_realtime.transport.engine_io.session_id import make_node_tag  # noqa: E402
from mintflow_realtime.transport.socket_io.server import SocketServer  # noqa: E402
from mintflow_realtime.transport.worker.options import TransportOptions  # noqa: E402
from mintflow_realtime.transport.worker.single_process import serve  # noqa: E402


class Application:
    def __init__(self, affinity_dir: str | None, stock: bool) -> None:
        self.tag = make_node_tag()
        if stock:
            self.sio = socketio.Server(async_mode="gevent", cors_allowed_origins="*")
        else:
            self.sio = SocketServer(cors_allowed_origins="*", node_tag=self.tag, connect_timeout=0)
            self.transport = TransportOptions("/socket.io", "*", affinity_dir, self.tag, self.sio.eio)
        self.sockets = socketio.WSGIApp(self.sio, self.plain)
        self.sio.on("echo", self.echo)
        self.sio.on("cut", self.cut)

    def echo(self, sid: str, *arguments: Any) -> tuple[Any, ...]:
        self.sio.emit("echoed", arguments, to=sid)
        return arguments

    def cut(self, sid: str) -> None:
        self.sio.eio.close_transport(self.sio.manager.eio_sid_from_sid(sid, "/"), "cut")

    def plain(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"tag": self.tag, "pid": os.getpid()}).encode()]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.sockets(environ, start_response)


application = Application(os.environ.get("AFFINITY_DIR"), bool(os.environ.get("STOCK")))
bare = application.plain

if __name__ == "__main__":
    serve(application, "127.0.0.1", int(sys.argv[1]))
