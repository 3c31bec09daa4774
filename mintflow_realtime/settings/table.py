"""The table of settings: what the README shows and the reader takes its defaults from. Standard library only."""

from typing import NamedTuple


class Setting(NamedTuple):
    """One row of the table of settings."""

    name: str
    type: str
    default: str
    meaning: str

    @property
    def secret(self) -> bool:
        """Tell whether the value may never be shown; where a public key belongs, a private one may stand."""
        return "secret" in self.type or self.type == "PEM"


# fmt: off
SETTINGS: tuple[Setting, ...] = (
    Setting("HOST", "name", "", "The address to listen on; without it all, IPv6 and IPv4."),
    Setting("PORT", "integer", "3000", "The TCP port; 0 takes a free one."),
    Setting("WEB_CONCURRENCY", "integer or `auto`", "2", "Worker processes; each is a node. `auto`: one for each core."),  # noqa: E501
    Setting("FORWARDED_ALLOW_IPS", "list or *", "127.0.0.1,::1", "Addresses and networks of the proxies whose `X-Forwarded-*` headers count; gunicorn's."),  # noqa: E501
    Setting("DATA_DIR", "path", "./data", "Where the embedded Redis keeps its files."),
    Setting("HOST_ID", "integer", "", "This host's number, 0 to 255, by which a proxy finds it among several: `docs/proxies.md`."),  # noqa: E501
    Setting("LOG_LEVEL", "name", "info", "`debug`, `info`, `warning`, `error` or `critical`, or Python's number for one."),  # noqa: E501
    Setting("DRAIN_SECONDS", "seconds", "5", "Over how long a worker that stops closes its connections, so that clients come back one after the other."),  # noqa: E501
    Setting("REDIS_URL", "URL", "", "`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`, and these two with `rediss`. Without it and the next four, a Redis runs in `DATA_DIR`."),  # noqa: E501
    Setting("REDIS_HOST", "name", "", "Instead of `REDIS_URL`; `127.0.0.1` when only the others are set."),
    Setting("REDIS_PORT", "integer", "", "With `REDIS_HOST`; 6379 by default."),
    Setting("REDIS_PASSWORD", "secret", "", "With `REDIS_HOST`."),
    Setting("REDIS_DB", "integer", "", "With `REDIS_HOST`; 0 by default."),
    Setting("REDIS_PREFIX", "name", "", "What all keys and channels begin with: letters, digits, `.`, `_`, `-`. Default: `mf` and the number of the database."),  # noqa: E501
    Setting("PUBLISH_WAIT_REPLICAS", "integer", "0", "Replicas of Redis that must have an event before its publish returns."),  # noqa: E501
    Setting("SOCKET_AUTH_REQUIRED", "boolean", "false", "Refuse clients without a token."),
    Setting("SOCKET_PATH", "path", "/socket.io", "Where clients connect."),
    Setting("SOCKET_CHANNEL", "name", "socketio", "The Redis channel of python-socketio's `RedisManager`; another for each installation on one Redis."),  # noqa: E501
    Setting("SOCKET_CORS_ORIGIN", "list or *", "*", "Origins of pages that may connect and use the HTTP API, such as `https://app.example.com`, or `https://*.example.com` for all below it; in `app.config` also a function of the origin. The server's own always may."),  # noqa: E501
    Setting("SOCKET_CORS_METHODS", "list", "GET,POST,PUT,DELETE", "Methods that such pages may use; PATCH goes with PUT."),  # noqa: E501
    Setting("SOCKET_CORS_CREDENTIALS", "boolean", "false", "Let such pages send cookies; needs a list of origins."),
    Setting("SOCKET_ANONYMOUS_TENANTS", "list", "default", "Tenants of clients without a token."),
    Setting("SOCKET_ANONYMOUS_SCOPE", "list", "logs:read,logs:write,flows:read,flows:write,workspaces:read,workspaces:write", "What clients without a token may do; `none` for nothing. With `AI_BACKEND=echo` the default has `ai:use` too."),  # noqa: E501
    Setting("SOCKET_PING_INTERVAL", "seconds", "25", "Time between two heartbeats; fractions allowed."),
    Setting("SOCKET_PING_TIMEOUT", "seconds", "20", "How long a heartbeat may go unanswered; fractions allowed."),
    Setting("SOCKET_MAX_PAYLOAD", "bytes", "1000000", "Largest message of a client."),
    Setting("SOCKET_TRANSPORTS", "list", "polling,websocket", "One of them, or both."),
    Setting("SOCKET_MAX_CONNECTIONS", "integer", "20000", "Connections of a node; further ones get 503."),
    Setting("SOCKET_MAX_SUBSCRIPTIONS", "integer", "1000", "Subscriptions of a client in one namespace."),
    Setting("SOCKET_CONNECT_TIMEOUT", "seconds", "10", "How long a connection may be in no namespace."),
    Setting("SOCKET_OUTBOX_BYTES", "bytes", "1048576", "What may wait for a client that reads slowly."),
    Setting("SOCKET_RATE_LIMIT", "integer", "50", "Commands a second that are read of a connection; 0 for no limit."),
    Setting("SOCKET_RATE_BURST", "integer", "100", "Commands of it that are read at once."),
    Setting("JWT_SECRET", "secret", "", "Signs HS256, HS384, HS512 tokens; 32, 48, 64 bytes at least."),
    Setting("JWT_PUBLIC_KEY", "PEM", "", "Checks RS, PS, ES and EdDSA tokens; `\\n` may stand for a new line."),
    Setting("JWT_ALGORITHMS", "list", "HS256", "Algorithms that tokens may be signed with."),
    Setting("JWT_ISSUER", "text", "", "The `iss` that tokens must have."),
    Setting("JWT_AUDIENCE", "text", "", "The `aud` that tokens must have."),
    Setting("JWT_MAX_LIFETIME", "seconds", "2592000", "Tokens that live longer are refused; revocations last so long."),
    Setting("TICKET_SECRET", "secret", "", "Signs tickets; 32 bytes at least. Default: derived from `JWT_SECRET`."),
    Setting("API_KEYS", "secret list", "", "`key:tenant` pairs for the HTTP API; a key has 32 bytes at least."),
    Setting("LOGS_MAX", "integer", "100000", "Log records kept of a tenant."),
    Setting("LOGS_TTL", "seconds", "604800", "How long they are kept."),
    Setting("RUNS_TTL", "seconds", "86400", "How long the state of a run is kept after its last event."),
    Setting("RUNS_MAX", "integer", "10000", "Runs kept of a tenant; those that ended first go first."),
    Setting("WORKSPACE_TTL", "seconds", "86400", "How long a workspace is kept after its last update and user."),
    Setting("WORKSPACE_MAX_BYTES", "bytes", "1000000", "Size of a workspace's state as JSON; 1000000 at most."),
    Setting("AI_BACKEND", "name", "", "`openai` or `echo`; without it there is no AI service."),
    Setting("AI_MAX_CONCURRENT", "integer", "3", "AI requests of one user at once."),
    Setting("AI_TIMEOUT", "seconds", "300", "How long the AI service may send nothing, not one byte; a request takes ten minutes at most, or twice this."),  # noqa: E501
    Setting("AI_KEEP", "seconds", "600", "How long an AI request runs on when none of its user's clients follows it any more."),  # noqa: E501
    Setting("OPENAI_API_KEY", "secret", "", "For `AI_BACKEND=openai`."),
    Setting("OPENAI_BASE_URL", "URL", "", "Another server of the same protocol, such as `http://127.0.0.1:11434/v1`."),
    Setting("OPENAI_DEFAULT_MODEL", "text", "", "The model of requests that name none."),
    Setting("OPENAI_SYSTEM_PROMPT", "text", "", "What every conversation begins with."),
    Setting("METRICS_TOKEN", "secret", "", "Shows `/metrics` on the public port to who has it as a bearer token; 32 bytes at least."),  # noqa: E501
    Setting("INTERNAL_BIND", "address", "", "Shows `/metrics` to everybody at an address of its own, such as `127.0.0.1:9464`."),  # noqa: E501
    Setting("CONSOLE", "boolean", "true", "Serve the console at `/console`."),
    Setting("RECOVERY_WINDOW", "seconds", "600", "How long events are kept for clients that come back."),
    Setting("RECOVERY_MAX_EVENTS", "integer", "10000", "Events kept for that, of a tenant and namespace."),
    Setting("RECOVERY_MAX_BYTES", "bytes", "67108864", "Their size at most."),
)
# fmt: on
BY_NAME = {setting.name: setting for setting in SETTINGS}


def table() -> str:
    """Return the table of all settings in Markdown."""
    rows = ["| Setting | Type | Default | Meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "–"
        rows.append(f"| `{setting.name}` | {setting.type} | {default} | {setting.meaning} |")
    return "\n".join(rows)
