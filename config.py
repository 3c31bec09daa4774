"""Settings from the environment: the only reader of os.environ.

Standard library only, since gunicorn's master imports it before it forks.
`python -m config` prints the table of all settings in Markdown.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from setting_reader import (
    ID_PATTERN,
    SCOPES,
    SECRET_BYTES,
    YEARS,
    Reader,
    SettingError,
)
from setting_table import SETTINGS, Setting, table

__all__ = ["ID_PATTERN", "SCOPES", "SETTINGS", "Setting", "SettingError", "Settings", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked. Times in seconds, sizes in bytes; `embedded` means that `redis_url` is DATA_DIR's own."""

    port: int
    web_concurrency: int
    data_dir: str
    host_id: int | None
    log_level: str
    drain_seconds: float
    redis_url: str = field(repr=False)
    redis_prefix: str
    embedded: bool
    publish_wait_replicas: int
    auth_required: bool
    socket_path: str
    cors_origin: tuple[str, ...] | str
    cors_methods: tuple[str, ...]
    cors_credentials: bool
    anonymous_tenants: tuple[str, ...]
    anonymous_scope: tuple[str, ...]
    ping_interval: float
    ping_timeout: float
    max_payload: int
    transports: tuple[str, ...]
    max_connections: int
    max_subscriptions: int
    connect_timeout: float
    outbox_bytes: int
    rate_limit: int
    rate_burst: int
    jwt_secret: str | None = field(repr=False)
    jwt_public_key: str | None = field(repr=False)
    jwt_algorithms: tuple[str, ...]
    jwt_issuer: str | None
    jwt_audience: str | None
    jwt_max_lifetime: int
    ticket_secret: str | None = field(repr=False)
    api_keys: Mapping[str, str] = field(repr=False)
    logs_max: int
    logs_ttl: int
    runs_ttl: int
    workspace_ttl: int
    workspace_max_bytes: int
    ai_backend: str
    ai_max_concurrent: int
    openai_api_key: str | None = field(repr=False)
    openai_base_url: str | None
    openai_default_model: str
    openai_system_prompt: str
    recovery_window: int
    recovery_max_events: int
    recovery_max_bytes: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check all settings; an empty one counts as unset. Raises SettingError for the first bad one."""
        read = Reader(env)
        data_dir = read.data_dir()
        redis_url, database, embedded = read.redis(data_dir)
        secret, public_key, algorithms = read.keys()
        settings = cls(
            port=read.integer("PORT", 0, 65535),
            web_concurrency=read.integer("WEB_CONCURRENCY", 1, 1024),
            data_dir=data_dir,
            # Two hexadecimal digits of each session id.
            host_id=read.integer("HOST_ID", 0, 255) if read.text("HOST_ID") else None,
            log_level=read.one_of("LOG_LEVEL", ("debug", "info", "warning", "error", "critical")),
            drain_seconds=read.number("DRAIN_SECONDS", 0, 600),
            redis_url=redis_url,
            redis_prefix=read.matching("REDIS_PREFIX", r"[A-Za-z0-9._-]{1,64}", f"mf{database}"),
            embedded=embedded,
            publish_wait_replicas=read.integer("PUBLISH_WAIT_REPLICAS", 0, 16),
            auth_required=read.boolean("SOCKET_AUTH_REQUIRED"),
            socket_path="/" + read.matching("SOCKET_PATH", r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]/?").strip("/"),
            cors_origin=read.origins(),
            cors_methods=read.listed("SOCKET_CORS_METHODS", re.compile(r"[A-Z]+")),
            cors_credentials=read.boolean("SOCKET_CORS_CREDENTIALS"),
            anonymous_tenants=read.listed("SOCKET_ANONYMOUS_TENANTS", re.compile(ID_PATTERN)),
            anonymous_scope=read.anonymous_scope(),
            ping_interval=read.number("SOCKET_PING_INTERVAL", 0.05, 3600),
            ping_timeout=read.number("SOCKET_PING_TIMEOUT", 0.05, 3600),
            max_payload=read.integer("SOCKET_MAX_PAYLOAD", 1024, 100_000_000),
            transports=read.listed("SOCKET_TRANSPORTS", re.compile("polling|websocket")),
            max_connections=read.integer("SOCKET_MAX_CONNECTIONS", 1, 1_000_000),
            max_subscriptions=read.integer("SOCKET_MAX_SUBSCRIPTIONS", 1, 1_000_000),
            connect_timeout=read.number("SOCKET_CONNECT_TIMEOUT", 0.05, 3600),
            outbox_bytes=read.integer("SOCKET_OUTBOX_BYTES", 1024, 1_000_000_000),
            rate_limit=read.integer("SOCKET_RATE_LIMIT", 0, 1_000_000),
            rate_burst=read.integer("SOCKET_RATE_BURST", 1, 1_000_000),
            jwt_secret=secret,
            jwt_public_key=public_key,
            jwt_algorithms=algorithms,
            jwt_issuer=read.text("JWT_ISSUER") or None,
            jwt_audience=read.text("JWT_AUDIENCE") or None,
            jwt_max_lifetime=read.integer("JWT_MAX_LIFETIME", 60, YEARS),
            ticket_secret=read.secret("TICKET_SECRET", SECRET_BYTES),
            api_keys=read.api_keys(),
            logs_max=read.integer("LOGS_MAX", 1, 100_000_000),
            logs_ttl=read.integer("LOGS_TTL", 1, YEARS),
            runs_ttl=read.integer("RUNS_TTL", 1, YEARS),
            # Users in it refresh its life every 8 s.
            workspace_ttl=read.integer("WORKSPACE_TTL", 60, YEARS),
            # An event is at most 1 MB, and a state is one.
            workspace_max_bytes=read.integer("WORKSPACE_MAX_BYTES", 1024, 1_000_000),
            ai_backend=read.one_of("AI_BACKEND", ("", "openai", "echo")),
            ai_max_concurrent=read.integer("AI_MAX_CONCURRENT", 1, 1000),
            openai_api_key=read.text("OPENAI_API_KEY") or None,
            openai_base_url=read.text("OPENAI_BASE_URL") or None,
            openai_default_model=read.text("OPENAI_DEFAULT_MODEL"),
            openai_system_prompt=read.text("OPENAI_SYSTEM_PROMPT"),
            recovery_window=read.integer("RECOVERY_WINDOW", 1, 7 * 86400),
            recovery_max_events=read.integer("RECOVERY_MAX_EVENTS", 1, 10_000_000),
            recovery_max_bytes=read.integer("RECOVERY_MAX_BYTES", 1024, 1 << 36),
        )
        if settings.auth_required and not (secret or public_key):
            raise SettingError("SOCKET_AUTH_REQUIRED", "needs a key: set JWT_SECRET or JWT_PUBLIC_KEY")
        if settings.cors_credentials and settings.cors_origin == "*":
            raise SettingError("SOCKET_CORS_CREDENTIALS", "needs a list of origins in SOCKET_CORS_ORIGIN, not *")
        return settings

    @classmethod
    def with_redis(cls, url: str) -> "Settings":
        """Read all settings but those of Redis, which is at `url`. Raises SettingError."""
        return cls.from_env({**os.environ, "REDIS_URL": url})


if __name__ == "__main__":
    print(table())
