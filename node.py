"""One node, put together: what hears the tenants' events, who is connected and who may be, and its tick."""

import logging
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import socketio
from gevent.lock import RLock

from ai_backends.choice import choose
from auth.tickets import Tickets, ticket_key
from auth.tokens import TokenVerifier
from config import Settings
from emitter import Emitter
from fanout.channels import Channels
from fanout.cluster_listener import ClusterListener
from fanout.listener import Ear, Listener
from fanout.manager import Manager
from fanout.recovery import Recovery
from fanout.sessions import SessionStore
from json_logs import log_as_json
from namespaces.base import Namespace
from namespaces.clients import Clients
from namespaces.gate import Gate
from namespaces.returns import Returns
from protocol import wire_json
from protocol.ai import merged_packets
from protocol.errors import Unavailable
from protocol.scripts import Keys
from services.access import Access
from services.ai import Ai
from services.events import BUILT_IN
from socket_gate import SocketGate
from stores import embedded
from stores.access import AccessStore
from stores.ai import AiStore
from stores.client import connect
from stores.cluster import ClusterClient
from stores.redis_url import open_redis
from transport.engine import make_node_tag
from transport.sockets import SocketServer

# Tokens end, and revocations close connections, within this time.
GATE_SECONDS = 0.5
# Rooms that were entered otherwise than by a command are in Redis within this time.
SESSIONS_SECONDS = 0.1
# Users of a killed node leave their workspaces when their leases end; who looks often, tells it soon.
WORKSPACES_SECONDS = 1.0
# A killed supervisor takes its Redis along; whichever worker misses it first starts both again.
REVIVE_SECONDS = 1.0
# Acks that never come are forgotten after two minutes; looking for them twice a minute is soon enough.
ACKS_SECONDS = 30.0
# What a killed publisher left half done is done by any node, three seconds later or little more.
BATCHES_SECONDS = 1.0
# Descriptors for Redis, the log and what else isn't a client.
SPARE_DESCRIPTORS = 256
# How long the first request waits for the node to hear; until then it would be answered 503.
FIRST_SECONDS = 2.0

_log = logging.getLogger("mintflow.node")


class Node:
    """What one process needs to serve sockets; `start` begins it, and connects to Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = False
        self._starting = RLock()
        self._tickers: list[gevent.Greenlet[..., None]] = []
        self.tag = make_node_tag(settings.host_id)
        self.redis = open_redis(settings.redis_url, settings.publish_wait_replicas)
        keys = Keys(settings.redis_prefix)
        self.manager = Manager(self.redis, BUILT_IN)
        self.emitter = Emitter(settings=settings, redis=self.redis, feeds=self.manager)
        self.ai = Ai(
            self.emitter.publisher,
            AiStore(self.redis, keys),
            self.manager,
            choose(
                settings.ai_backend,
                api_key=settings.openai_api_key,
                base_url=settings.openai_base_url,
                default_model=settings.openai_default_model,
                system_prompt=settings.openai_system_prompt,
            ),
            gevent.spawn,
            max_concurrent=settings.ai_max_concurrent,
        )
        self.access = _access(settings, AccessStore(self.redis, keys))
        self.sockets = self._socket_server()
        self.channels = Channels(
            self.redis,
            keys,
            self.emitter.publisher,
            self._ear(),
            node=self.tag,
            outside_channel=self.manager.channel,
            outside=self.manager.heard_outside,
            deliver=self.manager.deliver,
            lost=self.manager.tell_lost,
            said=lambda tenant: self.gate.doubt(tenant),
            ordered=lambda message: self.returns.heard(message),
            volatile=("/workspaces", "/ai"),
        )
        self.sockets.eio.tell_dropped = self.manager.tell_dropped
        self.sockets.eio.merge = merged_packets
        self.manager.wait_until_passed = self.channels.wait_until_passed
        self.manager.position = self.channels.position
        clients = Clients(settings.rate_limit, settings.rate_burst)
        self.returns = Returns(
            SessionStore(self.redis, keys, self.tag, settings.recovery_window),
            Recovery(self.emitter.publisher, self.channels, self.manager),
            self.manager,
            clients,
            self.channels.order,
        )
        self.gate = Gate(
            self.access,
            clients,
            self.manager,
            self.channels,
            self.sockets.namespace_handlers.get,
            self.sockets.close_transport,
            self.returns,
        )
        self.sockets.gate = SocketGate(self.gate, self.returns.passed_on)

    def register(self, namespace: socketio.Namespace, *, authenticate: bool) -> None:
        """Serve a namespace. Raises RuntimeError after the start, ValueError for an unauthenticated typed one."""
        if self._started:
            raise RuntimeError("Register namespaces before the first request")
        if isinstance(namespace, Namespace):
            if not authenticate:
                raise ValueError("A typed namespace acts for a principal, so its clients are authenticated")
            namespace.desk = self.gate
        self.sockets.register(namespace, authenticate=authenticate)

    def start(self) -> None:
        """Begin to hear events, once; wait at most 2 s for Redis."""
        if self._started:
            return
        with self._starting:
            if not self._started:
                log_as_json(self._settings.log_level)
                self.channels.start()
                self._tickers = [gevent.spawn(_every, seconds, act) for seconds, act in self._ticks()]
                self.ai.start()
                self.channels.wait_until_heard(FIRST_SECONDS)
                self._started = True

    def close(self) -> None:
        """Stop hearing events and close the connections to Redis."""
        self.ai.close()
        gevent.killall(self._tickers)
        self.channels.stop()
        self.redis.close()

    def _ticks(self) -> list[tuple[float, Callable[[], Any]]]:
        # Each in a greenlet of its own: one that waits for Redis holds up no other.
        ticks: list[tuple[float, Callable[[], Any]]] = [
            (GATE_SECONDS, self.gate.tick),
            (SESSIONS_SECONDS, self.returns.tick),
            (WORKSPACES_SECONDS, self.emitter.workspaces.tick),
            (ACKS_SECONDS, self.manager.forget_unanswered),
            (BATCHES_SECONDS, self.emitter.publisher.batches.finish_abandoned),
        ]
        return [*ticks, (REVIVE_SECONDS, self._revive)] if self._settings.embedded else ticks

    def _revive(self) -> None:
        try:
            embedded.revive(self._settings.data_dir)
        except embedded.EmbeddedRedisError as error:
            _log.warning("%s", error)

    def accepts_new(self) -> bool:
        """Tell whether this node isn't draining."""
        return not self.sockets.eio.draining

    def _accepts(self) -> bool:
        # A WebSocket handshake is looked at before the application is called.
        self.start()
        return self.channels.hears

    def _ear(self) -> Callable[[Callable[[str, bytes], None], Callable[[str], None]], Ear]:
        if isinstance(self.redis, ClusterClient):
            return partial(ClusterListener, self.redis, together=self.sockets.together)
        return partial(Listener, connect(self._settings.redis_url), together=self.sockets.together)

    def _socket_server(self) -> SocketServer:
        settings = self._settings
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        origin = settings.cors_origin
        return SocketServer(
            client_manager=self.manager,
            json=wire_json,
            cors_allowed_origins=origin if isinstance(origin, str) else [*origin],
            cors_credentials=settings.cors_credentials,
            cors_methods=",".join(settings.cors_methods),
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            max_http_buffer_size=settings.max_payload,
            transports=[*settings.transports],
            node_tag=self.tag,
            connect_timeout=settings.connect_timeout,
            max_connections=min(settings.max_connections, soft_limit - SPARE_DESCRIPTORS),
            outbox_bytes=settings.outbox_bytes,
            accepting=self._accepts,
        )


def _every(seconds: float, act: Callable[[], Any]) -> None:
    while True:
        gevent.sleep(seconds)
        try:
            act()
        except Unavailable:
            pass  # `/readyz` tells of it
        except Exception:
            _log.exception("a tick failed")


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
