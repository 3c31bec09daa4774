"""Settings: the only reader of app.config's and the environment's.

Standard library only, since gunicorn's master imports it before it forks.
`python -m mintflow_realtime.settings.settings` prints the table of all settings in Markdown.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mintflow_realtime.settings.credentials import read_api_keys, read_jwt_keys, read_secret
from mintflow_realtime.settings.names import check_names
from mintflow_realtime.settings.publisher import PublisherSettings, read_publishing
from mintflow_realtime.settings.reader import ID_PATTERN, SCOPES, YEARS, Reader
from mintflow_realtime.settings.sources import Row, SettingError, Sources, origins, overview, shown
from mintflow_realtime.settings.table import SETTINGS, Setting, table

__all__ = [
    "ID_PATTERN",
    "SCOPES",
    "SETTINGS",
    "PublisherSettings",
    "Row",
    "Setting",
    "SettingError",
    "Settings",
    "origins",
    "overview",
    "shown",
    "table",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PublisherSettings):
    """Every setting, checked. Times in seconds, sizes in bytes; `host` is "" for all addresses."""

    host: str
    port: int
    web_concurrency: int
    forwarded_allow_ips: tuple[str, ...]
    host_id: int | None
    log_level: str
    drain_seconds: float
    auth_required: bool
    socket_path: str
    channel: str
    cors_origin: tuple[str, ...] | str | Callable[[str], bool]
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
    ai_backend: str
    ai_max_concurrent: int
    ai_timeout: float
    ai_keep: float
    openai_api_key: str | None = field(repr=False)
    openai_base_url: str | None
    openai_default_model: str
    openai_system_prompt: str
    metrics_token: str | None = field(repr=False)
    internal_bind: tuple[str, int] | None
    console: bool

    @property
    def shows_metrics(self) -> bool:
        """Tell whether anybody may read what is counted."""
        return self.metrics_token is not None or self.internal_bind is not None

    @classmethod
    def load(
        cls, config: Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ, url: str | None = None
    ) -> "Settings":
        """Read and check all settings: each from `config` (app.config) as MINTFLOW_<NAME>, else from the environment
        under that name, else under its plain name. An empty one counts as unset; `url` goes before every Redis there.

        Raises SettingError for the first bad one, and for a name of our families that isn't in the table.
        """
        check_names(config, env)
        read = Reader(Sources(config, env, url))
        secret, public_key, algorithms = read_jwt_keys(read)
        settings = cls(
            **read_publishing(read),
            host=read.host(),
            port=read.integer("PORT", 0, 65535),
            web_concurrency=read.web_concurrency(),
            forwarded_allow_ips=read.proxies(),
            # Two hexadecimal digits of each session id.
            host_id=read.integer("HOST_ID", 0, 255) if read.find("HOST_ID") else None,
            log_level=read.log_level(),
            drain_seconds=read.number("DRAIN_SECONDS", 0, 600),
            auth_required=read.boolean("SOCKET_AUTH_REQUIRED"),
            socket_path="/" + read.matching("SOCKET_PATH", r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]/?").strip("/"),
            channel=read.matching("SOCKET_CHANNEL", r"[!-~]{1,128}"),
            cors_origin=read.cors_origin(),
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
            ticket_secret=read_secret(read, "TICKET_SECRET"),
            api_keys=read_api_keys(read),
            ai_backend=read.one_of("AI_BACKEND", ("", "openai", "echo")),
            ai_max_concurrent=read.integer("AI_MAX_CONCURRENT", 1, 1000),
            ai_timeout=read.number("AI_TIMEOUT", 0.1, 3600),
            ai_keep=read.number("AI_KEEP", 1, 86400),
            openai_api_key=read.text("OPENAI_API_KEY") or None,
            openai_base_url=read.text("OPENAI_BASE_URL") or None,
            openai_default_model=read.text("OPENAI_DEFAULT_MODEL"),
            openai_system_prompt=read.text("OPENAI_SYSTEM_PROMPT"),
            metrics_token=read_secret(read, "METRICS_TOKEN"),
            internal_bind=read.address("INTERNAL_BIND"),
            console=read.boolean("CONSOLE"),
        )
        if settings.auth_required and not (secret or public_key or settings.ticket_secret):
            raise read.fault("SOCKET_AUTH_REQUIRED", "needs a key: set JWT_SECRET, JWT_PUBLIC_KEY or TICKET_SECRET")
        if settings.cors_credentials and settings.cors_origin == "*":
            raise read.fault("SOCKET_CORS_CREDENTIALS", "needs a list of origins in SOCKET_CORS_ORIGIN, not *")
        if settings.cors_credentials and isinstance(settings.cors_origin, tuple) and "null" in settings.cors_origin:
            raise read.fault(
                "SOCKET_CORS_CREDENTIALS", "does not go with null in SOCKET_CORS_ORIGIN, which any page can be"
            )
        return settings


if __name__ == "__main__":
    print(table())
