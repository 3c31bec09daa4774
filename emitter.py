"""The door for other processes: publish from a Celery task, a script, anywhere, without Flask, gevent or socketio."""

from types import TracebackType

from config import Settings
from fanout.publisher import Caps, Publisher
from protocol.scripts import Keys
from services.events import Events
from services.feeds import Feeds
from services.flows import Flows
from services.logs import Logs
from services.presence import Presence
from services.workspaces import Workspaces
from stores.client import RedisClient
from stores.cluster import ClusterClient
from stores.logs import LogStore
from stores.presence import PresenceStore
from stores.redis_url import open_redis
from stores.runs import RunStore
from stores.workspaces import WorkspaceStore


class Emitter:
    """Publishes through Redis at `url`; without one, through the settings', else the embedded server of DATA_DIR.

    `flows`, `logs` and `workspaces` are the services; `publish` is the door for namespaces of one's own. Every
    method raises from `protocol.errors`, `Unavailable` within 2 s where Redis doesn't answer. Use it as a context
    manager, or `close` it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        redis: RedisClient | ClusterClient | None = None,
        feeds: Feeds | None = None,
    ) -> None:
        settings = settings or (Settings.from_env() if url is None else Settings.with_redis(url))
        self._redis = redis or open_redis(settings.redis_url, settings.publish_wait_replicas)
        keys = Keys(settings.redis_prefix)
        caps = Caps(settings.recovery_window, settings.recovery_max_events, settings.recovery_max_bytes)
        self.publisher = Publisher(self._redis, keys, caps)
        log_store = LogStore(self._redis, keys, max_records=settings.logs_max, ttl_seconds=settings.logs_ttl)
        self.logs = Logs(self.publisher, log_store, feeds)
        run_store = RunStore(self._redis, keys, settings.runs_ttl)
        self.flows = Flows(self.publisher, run_store, feeds, settings.max_subscriptions)
        workspace_store = WorkspaceStore(self._redis, keys, settings.workspace_ttl, settings.workspace_max_bytes)
        presence_store = PresenceStore(self._redis, keys, settings.workspace_ttl)
        presence = Presence(self.publisher, presence_store, settings.max_subscriptions)
        self.workspaces = Workspaces(self.publisher, workspace_store, presence, feeds)
        self.publish = Events(self.publisher).publish

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def __enter__(self) -> "Emitter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
