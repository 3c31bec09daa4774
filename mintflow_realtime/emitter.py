"""The door for other processes: publish from a Celery task, a script, anywhere, without Flask, gevent or socketio."""

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mintflow_realtime import tracing
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.ids import check_id, check_tenant
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.events import Events
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.services.run_scopes.scopes import RunScope
from mintflow_realtime.services.workspaces.presence import Presence
from mintflow_realtime.services.workspaces.service import Workspaces
from mintflow_realtime.settings.publisher import PublisherSettings
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.presence.store import PresenceStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.url import open_redis
from mintflow_realtime.stores.runs.store import RunStore
from mintflow_realtime.stores.workspaces.store import WorkspaceStore

_log = logging.getLogger("mintflow.emitter")
# What is logged of an outage is raised too; a process that configures no logging is told once.
logging.getLogger("mintflow.redis").addHandler(logging.NullHandler())


class Emitter:
    """Publishes through Redis at `url`; without one, through the settings', else the embedded server of DATA_DIR.

    It reads the settings that it uses, and no others: from `config`, a mapping such as Flask's app.config, then the
    environment. Raises SettingError for a bad one.

    `flows`, `logs` and `workspaces` are the services; `publish` is the door for namespaces of one's own; `control`
    yields what is asked of a flow's runs. Every method raises from `protocol.errors`, `Unavailable` within 2 s where
    Redis doesn't answer. Use it as a context manager, or `close` it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        settings: PublisherSettings | None = None,
        redis: RedisClient | ClusterClient | None = None,
        feeds: Feeds | None = None,
        max_subscriptions: int = 1000,
    ) -> None:
        if settings is None:
            settings = PublisherSettings.load(config, url=url)
            for sentence in (*settings.warnings, tracing.begin()):
                if sentence is not None:
                    _log.warning(sentence)
        self._redis = redis or open_redis(settings.redis_url, settings.publish_wait_replicas, settings.redis_called)
        keys = Keys(settings.redis_prefix)
        caps = Caps(settings.recovery_window, settings.recovery_max_events, settings.recovery_max_bytes)
        self.publisher = Publisher(self._redis, keys, caps)
        log_store = LogStore(self._redis, keys, max_records=settings.logs_max, ttl_seconds=settings.logs_ttl)
        self.logs = Logs(self.publisher, log_store, feeds)
        run_store = RunStore(self._redis, keys, settings.runs_ttl, settings.runs_max)
        self.flows = Flows(self.publisher, run_store, feeds, max_subscriptions)
        self.control = self.flows.control.follow
        workspace_store = WorkspaceStore(self._redis, keys, settings.workspace_ttl, settings.workspace_max_bytes)
        presence_store = PresenceStore(self._redis, keys, settings.workspace_ttl)
        presence = Presence(self.publisher, presence_store, max_subscriptions)
        self.workspaces = Workspaces(self.publisher, workspace_store, presence, feeds)
        self.publish = Events(self.publisher).publish

    def run(
        self, tenant: str, flow_id: str, run_id: str | None = None, *, lease: float | None = 30, **of_run: Any
    ) -> RunScope:
        """Return a run as a `with` block, or a decorator each of whose calls is one; without `run_id`, of a new id.

        `of_run`: name, tags, parent, total, data. With `lease` (seconds), which a thread renews, a run whose process
        dies is told to be lost. Raises InvalidPayload here, and nothing later: the job never fails for being told of.
        """
        check_tenant(tenant, "$.tenant")
        for value, path in ((flow_id, "$.flowId"), (run_id or "-", "$.runId")):
            check_id(value, path)
        return RunScope(self.flows, tenant, flow_id, run_id, lease=lease, **of_run)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def __enter__(self) -> "Emitter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
