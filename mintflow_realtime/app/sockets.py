"""What a node speaks by, made of its settings: the Socket.IO server, and the subscriber to Redis."""

import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from mintflow_realtime.app.handler_context import ApplicationServer
from mintflow_realtime.auth.origins import OriginPolicy
from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.fanout.subscribe.cluster_subscriber import ClusterSubscriber
from mintflow_realtime.fanout.subscribe.subscriber import RedisSubscriber, Subscriber
from mintflow_realtime.protocol import wire_json
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.connect import connect

# Descriptors for Redis, the log and what else isn't a client.
SPARE_DESCRIPTORS = 256

MakeSubscriber = Callable[[Callable[[str, bytes], None], Callable[[str], None]], Subscriber]


def socket_server_of(
    settings: Settings, manager: Manager, origins: OriginPolicy, tag: str, accepting: Callable[[], bool]
) -> ApplicationServer:
    """Return the server; `accepting` is asked before a session is begun."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ApplicationServer(
        client_manager=manager,
        json=wire_json,
        cors_allowed_origins="*" if origins.any else origins.allows,
        cors_credentials=settings.cors_credentials,
        cors_methods=",".join(settings.cors_methods),
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
        max_http_buffer_size=settings.max_payload,
        transports=[*settings.transports],
        node_tag=tag,
        connect_timeout=settings.connect_timeout,
        max_connections=min(settings.max_connections, soft_limit - SPARE_DESCRIPTORS),
        outbox_bytes=settings.outbox_bytes,
        accepting=accepting,
    )


def subscriber_of(
    settings: Settings, redis: RedisClient | ClusterClient, cork: AbstractContextManager[None]
) -> MakeSubscriber:
    """Return what makes the subscriber of one Redis, or of a cluster; `cork` holds back writes while it delivers."""
    if isinstance(redis, ClusterClient):
        return partial(ClusterSubscriber, redis, cork=cork)
    return partial(RedisSubscriber, connect(settings.redis_url), cork=cork)
