"""The composition root: realtime for a Flask app. `application` is what gunicorn serves.

Importing this module connects to nothing; serving does.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import socketio
from flask import Flask

import routes.api
import routes.health
from auth.principal import Principal
from config import Settings
from fanout.rooms import own_room
from namespaces.ai import AiNamespace
from namespaces.base import RootNamespace
from namespaces.flows import FlowsNamespace
from namespaces.logs import LogsNamespace
from namespaces.workspaces import WorkspacesNamespace
from node import Node
from protocol.errors import NotFound
from stores import embedded
from transport.options import TransportOptions
from transport.single import serve


class SocketManager:
    """Realtime for a Flask app: `SocketManager(app)`, or `init_app(app)` later; then serve `wsgi_app`.

    `flows`, `logs` and `workspaces` publish, as `publish` does for namespaces of one's own; `issue_ticket` gives
    a user of the app a ticket; `server` is the python-socketio `Server`. Raises `config.SettingError`.
    """

    wsgi_app: "RealtimeApp"

    def __init__(self, app: Flask | None = None, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_env()
        self._node = node = Node(self.settings)
        self.flows, self.logs, self.publish = node.emitter.flows, node.emitter.logs, node.emitter.publish
        self.workspaces = node.emitter.workspaces
        self.issue_ticket = node.access.issue_ticket_for
        self.server: socketio.Server = node.sockets
        for namespace in (
            RootNamespace("/"),
            LogsNamespace(self.logs),
            FlowsNamespace(self.flows),
            WorkspacesNamespace(self.workspaces),
            AiNamespace(node.ai),
        ):
            self.register_namespace(namespace)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the HTTP API and the health checks to `app`; `wsgi_app` then serves it with the sockets in front."""
        node = self._node
        app.register_blueprint(routes.api.blueprint(self.logs, self.flows, self.workspaces, node.access))
        app.register_blueprint(routes.health.blueprint(node.redis, lambda: node.channels.hears, node.accepts_new))
        app.extensions["mintflow"] = self
        self.wsgi_app = RealtimeApp(self, app)

    def register_namespace(self, namespace: socketio.Namespace, *, authenticate: bool = True) -> None:
        """Serve a namespace: one of ours (typed, acked, limited) or any stock `socketio.Namespace`.

        One registered later under the same name replaces the earlier. Clients are authenticated first, but where
        `authenticate` is False, which only a stock namespace can have. Raises RuntimeError after the first request.
        """
        self._node.register(namespace, authenticate=authenticate)

    def principal(self, sid: str, namespace: str) -> Principal:
        """Return who a client of this node acts as, for a stock namespace's handlers. Raises NotFound."""
        client = self._node.gate.clients.get(sid, namespace)
        if client is None:
            raise NotFound("There is no such client on this node")
        return client.principal

    def enter_room(self, sid: str, namespace: str, room: str) -> None:
        """Let a client of this node into its tenant's room `room`, which `publish(…, room=room)` reaches.

        Raises Unavailable where the client recovers and Redis doesn't answer.
        """
        principal = self.principal(sid, namespace)
        self._node.manager.enter(sid, namespace, own_room(principal.tenant, room))
        self._settle(sid, namespace)

    def leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Take a client of this node out of its tenant's room `room`."""
        principal = self.principal(sid, namespace)
        self._node.manager.leave(sid, namespace, own_room(principal.tenant, room))
        self._settle(sid, namespace)

    def _settle(self, sid: str, namespace: str) -> None:
        client = self._node.gate.clients.get(sid, namespace)
        if client is not None:
            self._node.gate.settle(client)

    @property
    def dropped(self) -> dict[str, int]:
        """What came over Redis and was ignored since the start, by reason: malformed, oversized, unaddressed."""
        return dict(self._node.manager.dropped + self._node.channels.dropped)

    def start(self) -> None:
        """Begin to hear events; a worker does this, or the first request. Waits at most 2 s for Redis."""
        self._node.start()

    def close(self) -> None:
        """Stop hearing events and close the connections to Redis. Clients' connections are the server's to close."""
        self._node.close()

    @property
    def transport(self) -> TransportOptions:
        """What the worker must know of this application."""
        origin = self.settings.cors_origin
        return TransportOptions(
            self.settings.socket_path,
            "*" if isinstance(origin, str) else origin,
            os.path.join(self.settings.data_dir, "workers") if self.settings.web_concurrency > 1 else None,
            self._node.tag,
            self._node.sockets.eio,
            self.settings.drain_seconds,
            self.start,
            self.close,
        )


class RealtimeApp:
    """The WSGI application: Socket.IO at its path, the Flask app everywhere else."""

    def __init__(self, realtime: SocketManager, app: Flask) -> None:
        self.transport = realtime.transport
        self._realtime = realtime
        # As it is now: who assigns `app.wsgi_app = realtime.wsgi_app`, the usual way to wrap one, gets no loop.
        self._app = app.wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._realtime.start()
        if self.transport.is_socket_path(environ.get("PATH_INFO", "")):
            answer: Iterable[bytes] = self._realtime.server.handle_request(environ, start_response)
            return answer
        return self._app(environ, start_response)


def create_app(settings: Settings | None = None) -> Flask:
    """Return a Flask app with everything in it; `app.extensions["mintflow"]` is its SocketManager."""
    app = Flask("mintflow")
    SocketManager(app, settings)
    return app


def main() -> None:
    """Serve in this one process, for a debugger: `python server.py`."""
    settings = replace(Settings.from_env(), web_concurrency=1)
    if settings.embedded:
        embedded.hold_users_lock(settings.data_dir)
        embedded.ensure_running(settings.data_dir)
    realtime: SocketManager = create_app(settings).extensions["mintflow"]
    print(f"http://127.0.0.1:{settings.port}{settings.socket_path}", flush=True)
    serve(realtime.wsgi_app, "0.0.0.0", settings.port)


if __name__ == "__main__":
    main()
else:
    application = create_app().extensions["mintflow"].wsgi_app
