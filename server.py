"""The composition root: the Flask app, the Socket.IO server and everything between, put together.

`application` is what gunicorn serves. Importing this module connects to nothing; the first request does.
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import itertools
import logging
import os
import resource
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import gevent
import socketio
from flask import Flask
from gevent.lock import RLock as Lock

import routes.api
import routes.health
from auth.principal import Principal
from auth.tickets import Tickets, ticket_key
from auth.tokens import TokenVerifier
from config import Settings
from emitter import Emitter
from fanout.channels import Channels
from fanout.listener import Listener
from fanout.manager import Manager
from json_logs import log_as_json
from namespaces.base import Namespace, RootNamespace
from namespaces.clients import Clients
from namespaces.flows import FlowsNamespace
from namespaces.gate import Gate
from namespaces.logs import LogsNamespace
from protocol import wire_json
from protocol.errors import NotFound, RealtimeError, Unavailable
from protocol.scripts import Keys
from services.access import Access
from services.events import BUILT_IN
from stores import embedded
from stores.access import AccessStore
from stores.client import RedisClient, connect
from transport.engine import make_node_tag
from transport.options import TransportOptions
from transport.single import serve
from transport.sockets import NotNow, Refusal, SocketServer

TICK_SECONDS = 0.5
# Acks that never come are forgotten after two minutes; looking for them twice a minute is soon enough.
TICKS_A_SWEEP = 60
# Descriptors for Redis, the log and what else isn't a client.
SPARE_DESCRIPTORS = 256

_log = logging.getLogger("mintflow.server")


class SocketManager:
    """Realtime for a Flask app: `SocketManager(app)`, or `init_app(app)` later; then serve `wsgi_app`.

    `flows` and `logs` publish, as `publish` does for namespaces of one's own; `server` is the python-socketio
    `Server`. Raises `config.SettingError` where the environment has a bad setting.
    """

    wsgi_app: "RealtimeApp"

    def __init__(self, app: Flask | None = None, settings: Settings | None = None) -> None:
        self.settings = settings = settings or Settings.from_env()
        self._started = False
        self._starting = Lock()
        self._ticker: gevent.Greenlet[..., None] | None = None
        redis, keys = RedisClient(connect(settings.redis_url)), Keys(settings.redis_prefix)
        self._redis = redis
        self._manager = Manager(redis, BUILT_IN)
        emitter = Emitter(settings=settings, redis=redis, feeds=self._manager)
        self.flows, self.logs, self.publish = emitter.flows, emitter.logs, emitter.publish
        self._access = _access(settings, AccessStore(redis, keys))
        self.issue_ticket = self._access.issue_ticket_for
        self._tag = make_node_tag()
        self.server = _socket_server(settings, self._manager, self._tag, self._accepting)
        self._channels = Channels(
            redis,
            keys,
            emitter.publisher,
            partial(Listener, connect(settings.redis_url)),
            node=self._tag,
            outside_channel=self._manager.channel,
            outside=self._manager.heard_outside,
            deliver=self._manager.deliver,
            lost=self._manager.tell_lost,
            said=lambda tenant: self._gate.doubt(tenant),
        )
        self._gate = Gate(
            self._access,
            Clients(settings.rate_limit, settings.rate_burst),
            self._manager,
            self._channels,
            self.server.namespace_handlers.get,
            self.server.close_transport,
        )
        self.server.gate = SocketGate(self._gate)
        for namespace in (RootNamespace("/"), LogsNamespace(self.logs), FlowsNamespace(self.flows)):
            self.register_namespace(namespace)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the HTTP API and the health checks to `app`; `wsgi_app` then serves it with the sockets in front."""
        app.register_blueprint(routes.api.blueprint(self.logs, self.flows, self._access))
        app.register_blueprint(routes.health.blueprint(self._redis, lambda: self._channels.hears, lambda: True))
        app.extensions["mintflow"] = self
        self.wsgi_app = RealtimeApp(self, app)

    def register_namespace(self, namespace: socketio.Namespace, *, authenticate: bool = True) -> None:
        """Serve a namespace: one of ours (typed, acked, limited) or any stock `socketio.Namespace`.

        One registered later under the same name replaces the earlier. Clients are authenticated first, but where
        `authenticate` is False, which only a stock namespace can have. Raises RuntimeError after the first request.
        """
        if self._started:
            raise RuntimeError("Register namespaces before the first request")
        if isinstance(namespace, Namespace):
            if not authenticate:
                raise ValueError("A typed namespace acts for a principal, so its clients are authenticated")
            namespace.desk = self._gate
        self.server.register(namespace, authenticate=authenticate)

    def principal(self, sid: str, namespace: str) -> Principal:
        """Return who a client of this node acts as, for a stock namespace's handlers. Raises NotFound."""
        client = self._gate.clients.get(sid, namespace)
        if client is None:
            raise NotFound("There is no such client on this node")
        return client.principal

    def start(self) -> None:
        """Begin to hear events; the first request does this. Waits at most 2 s for Redis."""
        with self._starting:
            if not self._started:
                self._started = True
                log_as_json(self.settings.log_level)
                self._channels.start()
                self._ticker = gevent.spawn(self._tick)
                self._channels.wait_until_heard(2.0)

    def close(self) -> None:
        """Stop hearing events and close the connections to Redis. Clients' connections are the server's to close."""
        if self._ticker is not None:
            self._ticker.kill()
        self._channels.stop()
        self._redis.close()

    @property
    def transport(self) -> TransportOptions:
        """What the worker must know of this application."""
        directory = os.path.join(self.settings.data_dir, "workers")
        origin = self.settings.cors_origin
        return TransportOptions(
            self.settings.socket_path,
            "*" if isinstance(origin, str) else origin,
            directory if self.settings.web_concurrency > 1 else None,
            self._tag,
            self.server.eio,
        )

    def _accepting(self) -> bool:
        return self._channels.hears

    def _tick(self) -> None:
        for ticks in itertools.count(1):
            gevent.sleep(TICK_SECONDS)
            try:
                self._gate.tick()
                if ticks % TICKS_A_SWEEP == 0:
                    self._manager.forget_unanswered()
            except Exception:
                _log.exception("a tick failed")


class RealtimeApp:
    """The WSGI application: Socket.IO at its path, the Flask app everywhere else."""

    def __init__(self, realtime: SocketManager, app: Flask) -> None:
        self.transport = realtime.transport
        self._realtime = realtime
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._realtime.start()
        if self.transport.is_socket_path(environ.get("PATH_INFO", "")):
            answer: Iterable[bytes] = self._realtime.server.handle_request(environ, start_response)
            return answer
        return self._app(environ, start_response)


class SocketGate:
    """Says in the transport's words what the gate decides."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.joined = gate.joined
        self.left = gate.left

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> None:
        try:
            self._gate.admit(eio_sid, sid, namespace, environ, auth)
        except Unavailable as error:
            raise NotNow(error.message) from None
        except RealtimeError as error:
            raise Refusal(error.message, error.code) from None


def create_app(settings: Settings | None = None) -> Flask:
    """Return a Flask app with everything in it; `app.extensions["mintflow"]` is its SocketManager."""
    app = Flask("mintflow")
    SocketManager(app, settings)
    return app


def _access(settings: Settings, store: AccessStore) -> Access:
    return Access(
        verifier=TokenVerifier(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            public_key=settings.jwt_public_key,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            max_lifetime=settings.jwt_max_lifetime,
        ),
        tickets=Tickets(ticket_key(settings.ticket_secret, settings.jwt_secret)),
        store=store,
        auth_required=settings.auth_required,
        anonymous_tenants=settings.anonymous_tenants,
        anonymous_scope=" ".join(settings.anonymous_scope),
        api_keys=settings.api_keys,
    )


def _socket_server(settings: Settings, manager: Manager, tag: str, accepting: Callable[[], bool]) -> SocketServer:
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SocketServer(
        client_manager=manager,
        json=wire_json,
        cors_allowed_origins=settings.cors_origin if isinstance(settings.cors_origin, str) else [*settings.cors_origin],
        cors_credentials=settings.cors_credentials,
        cors_methods=",".join(settings.cors_methods),
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
        max_http_buffer_size=settings.max_payload,
        transports=[*settings.transports],
        node_tag=tag,
        connect_timeout=settings.connect_timeout,
        max_connections=min(settings.max_connections, soft_limit - SPARE_DESCRIPTORS),
        accepting=accepting,
    )


def main() -> None:
    """Serve in this one process, for a debugger: `python server.py`."""
    settings = replace(Settings.from_env(), web_concurrency=1)
    if settings.embedded:
        embedded.hold_users_lock(settings.data_dir)
        embedded.ensure_running(settings.data_dir)
    realtime: SocketManager = create_app(settings).extensions["mintflow"]
    serve(realtime.wsgi_app, "0.0.0.0", settings.port)


if __name__ == "__main__":
    main()
else:
    application = create_app().extensions["mintflow"].wsgi_app
