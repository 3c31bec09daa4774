"""One node, put together: what receives the tenants' events, who is connected and who may be, and its tick."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import socketio
from gevent import monkey
from gevent.lock import RLock

from mintflow_realtime import __version__, tracing
from mintflow_realtime.admission.clients import Clients
from mintflow_realtime.admission.event_streams import EventStreams
from mintflow_realtime.admission.gate import Gate
from mintflow_realtime.admission.recovery import SessionRecovery
from mintflow_realtime.app.access_watch import AccessWatch
from mintflow_realtime.app.ai import make_ai
from mintflow_realtime.app.audience import Audience
from mintflow_realtime.app.cluster_view import ROSTER_SECONDS, ClusterView
from mintflow_realtime.app.from_settings import access_of, redis_of
from mintflow_realtime.app.internal_server import InternalServer
from mintflow_realtime.app.json_logs import log_as_json, write_lines
from mintflow_realtime.app.metrics import NodeMetrics, page_app
from mintflow_realtime.app.redis_health import RedisHealth
from mintflow_realtime.app.registration import REGISTER_SECONDS
from mintflow_realtime.app.socket_gate import SocketGate
from mintflow_realtime.app.sockets import socket_server_of, subscriber_of
from mintflow_realtime.auth.origins import OriginPolicy
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.fanout.deliver.followers import Followers
from mintflow_realtime.fanout.deliver.foreign import FLASK_SOCKETIO
from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.fanout.heard import HeardTimes
from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.fanout.recover.follower_replay import FollowerReplay
from mintflow_realtime.fanout.recover.replay import Replay
from mintflow_realtime.fanout.recover.sessions import SessionStore
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.namespaces.base import Namespace
from mintflow_realtime.protocol.ai import merged_packets
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.services.access_log import AccessLog
from mintflow_realtime.services.events import BUILT_IN
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.access.store import AccessStore
from mintflow_realtime.stores.ai.store import AiStore
from mintflow_realtime.stores.embedded import embedded
from mintflow_realtime.stores.redis.self_check import check_redis
from mintflow_realtime.transport.engine_io.session_id import make_node_tag

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
# A run is told to be lost within two seconds of its lease's end.
LEASES_SECONDS = 0.5
# Lines of the access log are written together.
ACCESS_LOG_SECONDS = 0.25
# How long the first request waits for the node to receive; until then it would be answered 503.
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
        self.redis = redis_of(settings)
        self.keys = keys = Keys(settings.redis_prefix)
        self.health = RedisHealth(partial(check_redis, settings.redis_url, settings.redis_prefix, settings.channel))
        self.manager = Manager(self.redis, BUILT_IN, settings.channel, settings.redis_prefix)
        self.emitter = Emitter(
            settings=settings, redis=self.redis, feeds=self.manager, max_subscriptions=settings.max_subscriptions
        )
        self.ai = make_ai(settings, self.emitter.publisher, AiStore(self.redis, keys), self.manager)
        self.access_log = AccessLog(write_lines)
        self.access = access_of(settings, AccessStore(self.redis, keys))
        self.origins = OriginPolicy(settings.cors_origin)
        self.sockets = socket_server_of(settings, self.manager, self.origins, self.tag, self._accepts)
        heard, self.followers = HeardTimes(), Followers()
        audience = Audience(self.manager, self.followers)
        self.channels = Channels(
            self.redis,
            keys,
            self.emitter.publisher,
            subscriber_of(settings, self.redis, self.sockets.cork),
            node=self.tag,
            outside_channel=self.manager.channel,
            outside=self.manager.heard_outside,
            deliver=audience.deliver,
            lost=audience.tell_lost,
            on_control=self._recheck_revocations,
            on_node_message=self._on_node_message,
            volatile=("/workspaces", "/ai"),
            optional={FLASK_SOCKETIO: self.manager.heard_flask_socketio},
            heard=heard.note,
        )
        self.sockets.eio.tell_dropped = self.manager.tell_dropped
        self.sockets.eio.merge = merged_packets
        self.manager.wait_until_passed = self.channels.wait_until_passed
        self.manager.position = self.channels.position
        clients = Clients(settings.rate_limit, settings.rate_burst)
        self.sockets.pace, self.sockets.turns = clients.spend, turns
        self.recovery = SessionRecovery(
            SessionStore(self.redis, keys, self.tag, settings.recovery_window),
            Replay(self.emitter.publisher, self.channels, self.manager),
            self.manager,
            clients,
            self.channels.send_to_node,
        )
        self.gate = Gate(
            self.access,
            clients,
            self.manager,
            self.channels,
            self._typed_namespace,
            self.sockets.close_transport,
            self.recovery,
            self.access_log,
        )
        self.gate.close_when_heard = self.sockets.close_when_heard
        self.sockets.gate = SocketGate(self.gate, self.recovery.replay_confirmed)
        self.sockets.watch = watch = AccessWatch(self.access_log, clients, self.sockets)
        self.sockets.eio.upgraded = watch.upgraded

        # Beside the workers' sockets.
        directory = str(Path(settings.data_dir).absolute() / "metrics")
        self.metrics = NodeMetrics(directory, self.sockets.eio, self.channels, __version__)
        self.internal: InternalServer | None = None
        if settings.internal_bind is not None:
            self.internal = InternalServer(settings.internal_bind, directory, page_app(self.metrics.render))
        self.streams = EventStreams(
            self.access,
            self.channels,
            self.followers,
            FollowerReplay(self.emitter.publisher, self.channels, self.followers),
            self.sockets.eio.streams,
            self.access_log,
            self.sockets.eio.has_room,
        )
        parts = self.redis, keys, self.tag, clients, self.manager, self.channels, self.sockets, watch
        self.cluster = ClusterView(*parts, self.emitter.publisher, heard)
        self.gate.on_taken = watch.taken

    def register(self, namespace: socketio.Namespace, *, authenticate: bool) -> None:
        """Serve a namespace. Raises RuntimeError after the start, ValueError for an unauthenticated typed one."""
        if self._started:
            raise RuntimeError("Register namespaces before the first request")
        if isinstance(namespace, Namespace):
            if not authenticate:
                raise ValueError("A typed namespace acts for a principal, so its clients are authenticated")
            namespace.context = self.gate
        self.sockets.register(namespace, authenticate=authenticate)

    def _typed_namespace(self, name: str) -> Namespace | None:
        handler = self.sockets.namespace_handlers.get(name)
        return handler if isinstance(handler, Namespace) else None

    def start(self) -> None:
        """Begin to receive events, once; wait at most 2 s for Redis. Raises RuntimeError without gevent."""
        if self._started:
            return
        if not monkey.is_module_patched("socket"):
            raise RuntimeError("Events are received in a process that gevent has patched; this one publishes alone.")
        with self._starting:
            if not self._started:
                log_as_json(self._settings.log_level)
                for sentence in (*self._settings.warnings, tracing.begin(exports=True)):
                    if sentence is not None:
                        _log.warning(sentence)
                self.access_log.begin()
                self.channels.start()
                self._tickers = [
                    start_loop(f"the tick {act.__qualname__}", act, seconds) for seconds, act in self._ticks()
                ]
                self._tickers.append(self.health.start())
                self.ai.start()
                if self._settings.shows_metrics:
                    self.metrics.start()
                if self.internal is not None:
                    self.internal.start()
                self.channels.wait_until_receiving(FIRST_SECONDS)
                # At once, as a rule: both have waited for the same Redis.
                self.health.looked.wait(FIRST_SECONDS / 4)
                self._started = True

    def close(self) -> None:
        """Stop receiving events and close the connections to Redis."""
        self.ai.close()
        if self.internal is not None:
            self.internal.close()
        self.metrics.close()
        gevent.killall(self._tickers)
        self.access_log.write()
        if self._started:
            self.cluster.end()
        self.channels.stop()
        self.redis.close()

    def _ticks(self) -> list[tuple[float, Callable[[], Any]]]:
        # Each in a greenlet of its own: one that waits for Redis holds up no other.
        ticks: list[tuple[float, Callable[[], Any]]] = [
            (GATE_SECONDS, self.gate.tick),
            (GATE_SECONDS, self.streams.tick),
            (SESSIONS_SECONDS, self.recovery.tick),
            (WORKSPACES_SECONDS, self.emitter.workspaces.tick),
            (ACKS_SECONDS, self.manager.forget_unanswered),
            (ACCESS_LOG_SECONDS, self.access_log.write),
            (BATCHES_SECONDS, self.emitter.publisher.batches.finish_abandoned),
            (LEASES_SECONDS, self.emitter.flows.tick),
            (REGISTER_SECONDS, self.cluster.registration.tick),
            (ROSTER_SECONDS, self.cluster.write_roster),
        ]
        return [*ticks, (REVIVE_SECONDS, self._revive)] if self._settings.embedded else ticks

    def _revive(self) -> None:
        try:
            embedded.revive(self._settings.data_dir)
        except embedded.EmbeddedRedisError as error:
            _log.warning("%s", error)

    def _recheck_revocations(self, tenant: str) -> None:
        self.gate.recheck_revocations(tenant)
        self.streams.recheck(tenant)

    def _on_node_message(self, message: bytes) -> None:
        if not self.cluster.takes(message):
            self.recovery.on_node_message(message)

    def accepts_new(self) -> bool:
        """Tell whether this node isn't draining."""
        return not self.sockets.eio.draining

    def _accepts(self) -> bool:
        # A WebSocket handshake is looked at before the application is called.
        self.start()
        return self.channels.receiving
