"""The WSGI application of one Flask app: Socket.IO at its path, the Flask app everywhere else."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import socketio
from flask import Flask
from gevent import monkey

from mintflow_realtime.app.csrf import exempt_from_csrf
from mintflow_realtime.app.from_settings import console_of
from mintflow_realtime.app.handler_context import HandlerContext, run_in_context
from mintflow_realtime.app.node import Node
from mintflow_realtime.app.unserved import Unserved
from mintflow_realtime.console.files import client_blueprint
from mintflow_realtime.namespaces.ai import AiNamespace
from mintflow_realtime.namespaces.base import RootNamespace
from mintflow_realtime.namespaces.flows import FlowsNamespace
from mintflow_realtime.namespaces.logs import LogsNamespace
from mintflow_realtime.namespaces.workspaces import WorkspacesNamespace
from mintflow_realtime.routes import api, health, metrics
from mintflow_realtime.routes.cors import Cors
from mintflow_realtime.routes.nodes import NodeViews
from mintflow_realtime.routes.paths import keep_encoded_slashes
from mintflow_realtime.routes.streams import StreamViews
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.embedded.client import EmbeddedClient
from mintflow_realtime.stores.embedded.data_dir import make_workers_directory
from mintflow_realtime.stores.embedded.embedded import EmbeddedRedisError
from mintflow_realtime.stores.redis.outage import is_replica
from mintflow_realtime.transport.worker.options import CannotServe, TransportOptions, is_at

# In the environ of a request that has passed here, and comes again from within `app.wsgi_app`.
_PASSED = "mintflow.passed"


class RealtimeApp:
    """Serves a Flask app, and its sockets where a worker of ours has asked for `transport`.

    In any other process views publish and read as ever, nothing is started, and sockets are answered 503.
    """

    def __init__(self, app: Flask, settings: Settings, url_prefix: str) -> None:
        self.settings = settings
        self.node = Node(settings)
        self.flask_app = app
        # What is called in the end, also where `app.wsgi_app` is us, or middleware around us, by then.
        self._inner = app.wsgi_app
        self._api_prefix = url_prefix + api.URL_PREFIX
        self._context = self.node.sockets.context = HandlerContext(app)
        self._transport: TransportOptions | None = None
        self._unserved = Unserved(app)
        self._add_namespaces()
        self._add_blueprints(url_prefix)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes]
        if environ.get(_PASSED) is self:
            answer = self._inner(keep_encoded_slashes(environ, self._api_prefix), start_response)
            return answer
        if self._transport is not None:
            self.node.start()
        if is_at(self.settings.socket_path, environ.get("PATH_INFO", "")):
            sockets = self._unserved if self._transport is None else self.node.sockets.handle_request
            answer = sockets(environ, start_response)
            return answer
        outer = self.flask_app.wsgi_app
        if outer is self or outer == self._inner or _is_calling(self.flask_app):
            return self._inner(keep_encoded_slashes(environ, self._api_prefix), start_response)
        environ[_PASSED] = self
        answer = outer(environ, start_response)
        return answer

    @property
    def serves_sockets(self) -> bool:
        """Whether this process serves sockets: a worker of ours has asked for what it needs."""
        return self._transport is not None

    @property
    def transport(self) -> TransportOptions:
        """What a worker must know of this application; who asks serves its sockets. Raises CannotServe."""
        if self._transport is None:
            self._transport = self._prepared()
        return self._transport

    def register(self, namespace: socketio.Namespace, *, authenticate: bool) -> None:
        """Serve a namespace of the application's own, in its context."""
        self.node.register(namespace, authenticate=authenticate)
        run_in_context(namespace, self._context, self.node.sockets)

    def _prepared(self) -> TransportOptions:
        settings, node = self.settings, self.node
        if not monkey.is_module_patched("socket"):
            raise CannotServe("Sockets are served by a process that gevent has patched: let our worker load the app.")
        try:
            workers = make_workers_directory(settings.data_dir)
            if isinstance(node.redis, EmbeddedClient):
                node.redis.adopt()
        except EmbeddedRedisError as error:
            raise CannotServe(str(error)) from None
        origin = settings.cors_origin
        return TransportOptions(
            settings.socket_path,
            origin if isinstance(origin, tuple) else "*",
            workers,
            node.tag,
            node.sockets.eio,
            settings.drain_seconds,
            node.start,
            node.close,
        )

    def _add_namespaces(self) -> None:
        emitter = self.node.emitter
        for namespace in (
            RootNamespace("/"),
            LogsNamespace(emitter.logs),
            FlowsNamespace(emitter.flows),
            WorkspacesNamespace(emitter.workspaces),
            AiNamespace(self.node.ai),
        ):
            self.node.register(namespace, authenticate=True)

    def _add_blueprints(self, url_prefix: str) -> None:
        node, emitter = self.node, self.node.emitter
        receiving, serves = (lambda: node.channels.receiving), (lambda: self.serves_sockets)
        cors = Cors(node.origins, self.settings.cors_methods, self.settings.cors_credentials)
        of_nodes = NodeViews(node.cluster.connections, node.cluster.reasons)
        of_streams = StreamViews(node.streams, emitter.flows)
        of_api = api.blueprint(
            emitter.logs, emitter.flows, emitter.workspaces, node.access, cors, node.access_log, of_nodes, of_streams
        )
        of_health = health.blueprint(
            node.redis,
            receiving,
            node.accepts_new,
            serves,
            keys=node.keys,
            is_replica=is_replica,
            faults=node.health.faults,
            warnings=node.health.warnings,
        )
        blueprints = [
            (of_api, self._api_prefix),
            (of_health, url_prefix),
            (self._unserved.blueprint(self.settings.socket_path), ""),
            (client_blueprint(self.settings.socket_path), ""),
            *console_of(self.settings, node.access, node.access_log, url_prefix, self._api_prefix),
        ]
        if self.settings.metrics_token is not None:
            blueprints.append((metrics.blueprint(self.settings.metrics_token, node.metrics.render), url_prefix))
        for blueprint, prefix in blueprints:
            exempt_from_csrf(blueprint)
            self.flask_app.register_blueprint(blueprint, url_prefix=prefix or None)


def _is_calling(app: Flask) -> bool:
    """Tell whether `app` itself was called: its middleware, whatever is put around us by now, has seen the request."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is app:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
