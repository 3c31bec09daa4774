"""The settings of a process that publishes: a bad JWT_SECRET beside them is no matter of its."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mintflow_realtime.settings.names import check_names
from mintflow_realtime.settings.reader import YEARS, Reader
from mintflow_realtime.settings.redis_url import read_redis, warnings
from mintflow_realtime.settings.sources import Sources

NAMES = frozenset(
    {
        "DATA_DIR", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB", "REDIS_PREFIX",
        "PUBLISH_WAIT_REPLICAS", "LOGS_MAX", "LOGS_TTL", "RUNS_TTL", "RUNS_MAX", "WORKSPACE_TTL", "WORKSPACE_MAX_BYTES",
        "RECOVERY_WINDOW", "RECOVERY_MAX_EVENTS", "RECOVERY_MAX_BYTES",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """What a publisher needs, checked. Times in seconds, sizes in bytes; `embedded`: `redis_url` is DATA_DIR's own."""

    data_dir: str
    redis_url: str = field(repr=False)
    # What names that Redis, for messages.
    redis_called: str = field(compare=False)
    redis_prefix: str
    embedded: bool
    publish_wait_replicas: int
    logs_max: int
    logs_ttl: int
    runs_ttl: int
    runs_max: int
    workspace_ttl: int
    workspace_max_bytes: int
    recovery_window: int
    recovery_max_events: int
    recovery_max_bytes: int
    # Sentences to log at the start.
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def load(
        cls, config: Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ, url: str | None = None
    ) -> Self:
        """Read and check them from app.config, then the environment; `url` goes before every Redis there.

        Raises SettingError for the first bad one, and for a name that is a slip in one of these.
        """
        check_names(config, env, NAMES)
        return cls(**read_publishing(Reader(Sources(config, env, url))))

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read and check them from the environment alone. Raises SettingError."""
        return cls.load(None, env)

    @classmethod
    def with_redis(cls, url: str) -> Self:
        """Read all but those of Redis, which is at `url`. Raises SettingError."""
        return cls.load(url=url)


def read_publishing(read: Reader) -> dict[str, Any]:
    """Return the fields of PublisherSettings. Raises SettingError."""
    data_dir = read.data_dir()
    chosen = read_redis(read, data_dir)
    return {
        "data_dir": data_dir,
        "redis_url": chosen.url,
        "redis_called": chosen.called,
        "redis_prefix": read.matching("REDIS_PREFIX", r"[A-Za-z0-9._-]{1,64}", f"mf{chosen.database}"),
        "embedded": chosen.embedded,
        "publish_wait_replicas": read.integer("PUBLISH_WAIT_REPLICAS", 0, 16),
        "logs_max": read.integer("LOGS_MAX", 1, 100_000_000),
        "logs_ttl": read.integer("LOGS_TTL", 1, YEARS),
        "runs_ttl": read.integer("RUNS_TTL", 1, YEARS),
        "runs_max": read.integer("RUNS_MAX", 1, 1_000_000),
        # Users in it refresh its life every 8 s.
        "workspace_ttl": read.integer("WORKSPACE_TTL", 60, YEARS),
        # An event is at most 1 MB, and a state is one.
        "workspace_max_bytes": read.integer("WORKSPACE_MAX_BYTES", 1024, 1_000_000),
        "recovery_window": read.integer("RECOVERY_WINDOW", 1, 7 * 86400),
        "recovery_max_events": read.integer("RECOVERY_MAX_EVENTS", 1, 10_000_000),
        "recovery_max_bytes": read.integer("RECOVERY_MAX_BYTES", 1024, 1 << 36),
        "warnings": warnings(read, chosen),
    }
