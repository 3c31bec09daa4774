"""What settings alone decide: which Redis a node talks to, whom it admits, and whether it has a console."""

from flask import Blueprint

from mintflow_realtime import __version__
from mintflow_realtime.app.keys import verifier_of
from mintflow_realtime.auth.console_sessions import ConsoleSessions
from mintflow_realtime.auth.tickets import Tickets, ticket_key
from mintflow_realtime.console import blueprint as console
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog
from mintflow_realtime.services.console_access import ConsoleAccess
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.access.store import AccessStore
from mintflow_realtime.stores.embedded.client import EmbeddedClient
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.url import open_redis


def redis_of(settings: Settings) -> RedisClient | ClusterClient:
    """Return the door to Redis; the embedded one is started with its first command."""
    if settings.embedded:
        return EmbeddedClient(settings.data_dir, settings.publish_wait_replicas, settings.redis_called)
    return open_redis(settings.redis_url, settings.publish_wait_replicas, settings.redis_called)


def access_of(settings: Settings, store: AccessStore) -> Access:
    """Return the door by which principals are admitted."""
    return Access(
        verifier=verifier_of(settings),
        tickets=Tickets(ticket_key(settings.ticket_secret, settings.jwt_secret)),
        store=store,
        auth_required=settings.auth_required,
        anonymous_tenants=settings.anonymous_tenants,
        anonymous_scope=" ".join(settings.anonymous_scope),
        api_keys=settings.api_keys,
    )


def console_of(
    settings: Settings, access: Access, log: AccessLog, url_prefix: str, api: str
) -> list[tuple[Blueprint, str]]:
    """Return the console's blueprint with its prefix, where the settings want it; `api` is the HTTP API's path."""
    if not settings.console:
        return []
    sessions = ConsoleSessions(ticket_key(settings.ticket_secret, settings.jwt_secret))
    places = console.Places(settings.socket_path, api, __version__)
    return [(console.blueprint(ConsoleAccess(access, sessions), places, log), url_prefix + console.URL_PREFIX)]
