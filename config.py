"""Settings from the environment: the only reader of os.environ.

Standard library only, since gunicorn's master imports it before it forks.
`python -m config` prints the table of all settings in Markdown.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

# A UNIX socket's path has at most 107 bytes (unix(7)); this many are left for the names inside DATA_DIR.
UNIX_PATH_BYTES = 107
NAME_BYTES = 40

# As protocol.ids has it, which needs msgspec.
ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z"
_SCOPES = "logs:read logs:write logs:clear flows:read flows:write workspaces:read workspaces:write ai:use"
SCOPES = tuple(_SCOPES.split())
SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
KEY_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512", "EdDSA")
SECRET_BYTES = 32
YEARS = 10 * 365 * 86400


class SettingError(ValueError):
    """A setting can't be used; the text is a sentence that begins with its name and never shows a secret."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name} {fault}.")
        self.name = name


class Setting(NamedTuple):
    """One row of the table of settings."""

    name: str
    type: str
    default: str
    meaning: str


# fmt: off
SETTINGS: tuple[Setting, ...] = (
    Setting("PORT", "integer", "3000", "The TCP port; 0 takes a free one."),
    Setting("WEB_CONCURRENCY", "integer", "2", "Worker processes; each is a node."),
    Setting("DATA_DIR", "path", "./data", "Where the embedded Redis keeps its files; at most 67 bytes long."),
    Setting("LOG_LEVEL", "name", "info", "`debug`, `info`, `warning`, `error` or `critical`."),
    Setting("REDIS_URL", "URL", "", "`redis://`, `rediss://`, `unix://` or `redis+sentinel://`. Without it and the next four, a Redis runs in `DATA_DIR`."),  # noqa: E501
    Setting("REDIS_HOST", "name", "", "Instead of `REDIS_URL`; `127.0.0.1` when only the others are set."),
    Setting("REDIS_PORT", "integer", "", "With `REDIS_HOST`; 6379 by default."),
    Setting("REDIS_PASSWORD", "secret", "", "With `REDIS_HOST`."),
    Setting("REDIS_DB", "integer", "", "With `REDIS_HOST`; 0 by default."),
    Setting("REDIS_PREFIX", "name", "", "What all keys and channels begin with: letters, digits, `.`, `_`, `-`. Default: `mf` and the number of the database."),  # noqa: E501
    Setting("SOCKET_AUTH_REQUIRED", "boolean", "false", "Refuse clients without a token."),
    Setting("SOCKET_PATH", "path", "/socket.io", "Where clients connect."),
    Setting("SOCKET_CORS_ORIGIN", "list or *", "*", "Origins of pages that may connect, such as `https://app.example.com`."),
    Setting("SOCKET_CORS_METHODS", "list", "GET,POST,PUT,DELETE", "Methods that such pages may use."),
    Setting("SOCKET_CORS_CREDENTIALS", "boolean", "false", "Let such pages send cookies; needs a list of origins."),
    Setting("SOCKET_ANONYMOUS_TENANTS", "list", "default", "Tenants of clients without a token."),
    Setting("SOCKET_ANONYMOUS_SCOPE", "list", "logs:read,logs:write,flows:read,flows:write,workspaces:read,workspaces:write", "What clients without a token may do; `none` for nothing."),  # noqa: E501
    Setting("SOCKET_PING_INTERVAL", "seconds", "25", "Time between two heartbeats; fractions allowed."),
    Setting("SOCKET_PING_TIMEOUT", "seconds", "20", "How long a heartbeat may go unanswered; fractions allowed."),
    Setting("SOCKET_MAX_PAYLOAD", "bytes", "1000000", "Largest message of a client."),
    Setting("SOCKET_TRANSPORTS", "list", "polling,websocket", "One of them, or both."),
    Setting("SOCKET_MAX_CONNECTIONS", "integer", "20000", "Connections of a node; further ones get 503."),
    Setting("SOCKET_MAX_SUBSCRIPTIONS", "integer", "1000", "Subscriptions of a client in one namespace."),
    Setting("SOCKET_CONNECT_TIMEOUT", "seconds", "10", "How long a connection may be in no namespace."),
    Setting("SOCKET_RATE_LIMIT", "integer", "50", "Commands a second that a connection may send; 0 for no limit."),
    Setting("SOCKET_RATE_BURST", "integer", "100", "Commands that it may send at once."),
    Setting("JWT_SECRET", "secret", "", "Signs HS256, HS384, HS512 tokens; 32, 48, 64 bytes at least."),
    Setting("JWT_PUBLIC_KEY", "PEM", "", "Checks RS, PS, ES and EdDSA tokens; `\\n` may stand for a new line."),
    Setting("JWT_ALGORITHMS", "list", "HS256", "Algorithms that tokens may be signed with."),
    Setting("JWT_ISSUER", "text", "", "The `iss` that tokens must have."),
    Setting("JWT_AUDIENCE", "text", "", "The `aud` that tokens must have."),
    Setting("JWT_MAX_LIFETIME", "seconds", "2592000", "Tokens that live longer are refused; revocations last so long."),
    Setting("TICKET_SECRET", "secret", "", "Signs tickets; 32 bytes at least. Default: derived from `JWT_SECRET`."),
    Setting("API_KEYS", "list", "", "`key:tenant` pairs for the HTTP API; a key has 32 bytes at least."),
    Setting("LOGS_MAX", "integer", "100000", "Log records kept of a tenant."),
    Setting("LOGS_TTL", "seconds", "604800", "How long they are kept."),
    Setting("RUNS_TTL", "seconds", "86400", "How long the state of a run is kept after its last event."),
    Setting("RECOVERY_WINDOW", "seconds", "600", "How long after a disconnection a client gets what it missed."),
    Setting("RECOVERY_MAX_EVENTS", "integer", "10000", "Events kept for that, of a tenant and namespace."),
    Setting("RECOVERY_MAX_BYTES", "bytes", "67108864", "Their size at most."),
)
# fmt: on
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked. Times in seconds, sizes in bytes; `embedded` means that `redis_url` is DATA_DIR's own."""

    port: int
    web_concurrency: int
    data_dir: str
    log_level: str
    redis_url: str = field(repr=False)
    redis_prefix: str
    embedded: bool
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
    recovery_window: int
    recovery_max_events: int
    recovery_max_bytes: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check all settings; an empty one counts as unset. Raises SettingError for the first bad one."""
        read = _Reader(env)
        data_dir = read.data_dir()
        redis_url, database, embedded = read.redis(data_dir)
        secret, public_key, algorithms = read.keys()
        settings = cls(
            port=read.integer("PORT", 0, 65535),
            web_concurrency=read.integer("WEB_CONCURRENCY", 1, 1024),
            data_dir=data_dir,
            log_level=read.one_of("LOG_LEVEL", ("debug", "info", "warning", "error", "critical")),
            redis_url=redis_url,
            redis_prefix=read.matching("REDIS_PREFIX", r"[A-Za-z0-9._-]{1,64}", f"mf{database}"),
            embedded=embedded,
            auth_required=read.boolean("SOCKET_AUTH_REQUIRED"),
            socket_path="/" + read.matching("SOCKET_PATH", r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]/?").strip("/"),
            cors_origin=read.origins(),
            cors_methods=read.listed("SOCKET_CORS_METHODS", re.compile(r"[A-Z]+")),
            cors_credentials=read.boolean("SOCKET_CORS_CREDENTIALS"),
            anonymous_tenants=read.listed("SOCKET_ANONYMOUS_TENANTS", re.compile(ID_PATTERN)),
            anonymous_scope=read.scope("SOCKET_ANONYMOUS_SCOPE"),
            ping_interval=read.number("SOCKET_PING_INTERVAL", 0.05, 3600),
            ping_timeout=read.number("SOCKET_PING_TIMEOUT", 0.05, 3600),
            max_payload=read.integer("SOCKET_MAX_PAYLOAD", 1024, 100_000_000),
            transports=read.listed("SOCKET_TRANSPORTS", re.compile("polling|websocket")),
            max_connections=read.integer("SOCKET_MAX_CONNECTIONS", 1, 1_000_000),
            max_subscriptions=read.integer("SOCKET_MAX_SUBSCRIPTIONS", 1, 1_000_000),
            connect_timeout=read.number("SOCKET_CONNECT_TIMEOUT", 0.05, 3600),
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


class _Reader:
    """Reads single settings, each by its kind; every method raises SettingError."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        return self._env.get(name, "").strip() or _DEFAULTS[name]

    def integer(self, name: str, low: int, high: int, default: str = "") -> int:
        text = self.text(name) or default
        # The length first: int() refuses thousands of digits with an error of its own.
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise SettingError(name, f"must be a whole number from {low} to {high}, not {text[:40]!r}")
        return int(text)

    def number(self, name: str, low: float, high: float) -> float:
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise SettingError(name, f"must be a number from {low:g} to {high:g}, not {text[:40]!r}")
        return value

    def boolean(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
            raise SettingError(name, f"must be true or false, not {text[:40]!r}")
        return text in ("true", "1", "yes", "on")

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        text = self.text(name).lower()
        if text not in known:
            raise SettingError(name, f"must be one of {', '.join(known)}, not {text[:40]!r}")
        return text

    def matching(self, name: str, pattern: str, default: str = "") -> str:
        text = self.text(name) or default
        if not re.fullmatch(pattern, text):
            raise SettingError(name, f"must match {pattern}, not be {text[:40]!r}")
        return text

    def listed(self, name: str, member: re.Pattern[str]) -> tuple[str, ...]:
        """Return the members of a comma-separated list, each once."""
        members = tuple(dict.fromkeys(part.strip() for part in self.text(name).split(",") if part.strip()))
        for part in members:
            if not member.fullmatch(part):
                raise SettingError(name, f"has the member {part[:40]!r}, which does not match {member.pattern}")
        if not members:
            raise SettingError(name, "must have a member")
        return members

    def scope(self, name: str) -> tuple[str, ...]:
        """Return a list of scopes, which may be separated by spaces too, as in a token."""
        members = tuple(dict.fromkeys(re.split(r"[,\s]+", self.text(name).strip(", "))))
        if members == ("none",):
            return ()
        for part in members:
            if part not in SCOPES:
                raise SettingError(name, f"has the scope {part[:40]!r}; known are {', '.join(SCOPES)}")
        return members

    def origins(self) -> tuple[str, ...] | str:
        if self.text("SOCKET_CORS_ORIGIN") == "*":
            return "*"
        # As browsers send it: no path, no slash at the end.
        return self.listed("SOCKET_CORS_ORIGIN", re.compile(r"[a-z][a-z0-9+.-]*://[^\s/,*?#@]+"))

    def data_dir(self) -> str:
        path = os.path.abspath(self.text("DATA_DIR"))
        longest = UNIX_PATH_BYTES - NAME_BYTES
        if len(os.fsencode(path)) > longest:
            raise SettingError("DATA_DIR", f"must be at most {longest} bytes long for the sockets in it; it is {path}")
        return path

    def redis(self, data_dir: str) -> tuple[str, int, bool]:
        """Return Redis's URL, the number of its database, and whether it is the embedded one."""
        url = self.text("REDIS_URL")
        if url:
            return url, _database(url), False
        if not any(self.text(f"REDIS_{part}") for part in ("HOST", "PORT", "PASSWORD", "DB")):
            return f"unix://{quote(os.path.join(data_dir, 'redis.sock'))}", 0, True
        host = self.matching("REDIS_HOST", r"[A-Za-z0-9._:-]+", "127.0.0.1")
        host = f"[{host}]" if ":" in host else host
        port = self.integer("REDIS_PORT", 1, 65535, "6379")
        database = self.integer("REDIS_DB", 0, 100_000, "0")
        password = self._env.get("REDIS_PASSWORD", "")
        login = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{login}{host}:{port}/{database}", database, False

    def keys(self) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Return JWT_SECRET, JWT_PUBLIC_KEY and the algorithms, each of which has its key where any is set."""
        algorithms = self.listed("JWT_ALGORITHMS", re.compile(".*"))
        for algorithm in algorithms:
            if algorithm not in SECRET_ALGORITHMS + KEY_ALGORITHMS:
                known = ", ".join(SECRET_ALGORITHMS + KEY_ALGORITHMS)
                raise SettingError("JWT_ALGORITHMS", f"has {algorithm[:40]!r}; known are {known}")
        # RFC 7518, 3.2: a secret is at least as long as the hash.
        longest = max((int(name[2:]) // 8 for name in algorithms if name in SECRET_ALGORITHMS), default=SECRET_BYTES)
        secret, public_key = self.secret("JWT_SECRET", longest), self._public_key()
        if secret or public_key or self._env.get("JWT_ALGORITHMS", "").strip():
            for algorithm in algorithms:
                if algorithm in SECRET_ALGORITHMS and not secret:
                    raise SettingError("JWT_ALGORITHMS", f"has {algorithm}, which needs JWT_SECRET")
                if algorithm in KEY_ALGORITHMS and not public_key:
                    raise SettingError("JWT_ALGORITHMS", f"has {algorithm}, which needs JWT_PUBLIC_KEY")
        return secret, public_key, algorithms

    def _public_key(self) -> str | None:
        text = self.text("JWT_PUBLIC_KEY").replace("\\n", "\n")
        if not text:
            return None
        if "PRIVATE KEY" in text:
            raise SettingError("JWT_PUBLIC_KEY", "holds a private key, which belongs to the issuer alone")
        if not text.startswith("-----BEGIN "):
            raise SettingError("JWT_PUBLIC_KEY", "must be a key in PEM form, which starts with -----BEGIN")
        return text

    def secret(self, name: str, length: int) -> str | None:
        text = self._env.get(name, "")  # as it is: the issuer signs with its spaces too
        if not text.strip():
            return None
        _check_secret(name, text, length)
        return text

    def api_keys(self) -> dict[str, str]:
        keys: dict[str, str] = {}
        for number, pair in enumerate(filter(None, map(str.strip, self.text("API_KEYS").split(","))), 1):
            key, colon, tenant = pair.rpartition(":")
            if not colon or not re.fullmatch(ID_PATTERN, tenant):
                raise SettingError("API_KEYS", f"must be key:tenant pairs; pair {number} has no valid tenant")
            if not re.fullmatch(r"[!-~]+", key):
                raise SettingError("API_KEYS", f"must have keys of visible ASCII characters; pair {number} has not")
            if key in keys:
                raise SettingError("API_KEYS", f"has the key of pair {number} twice")
            _check_secret("API_KEYS", key, SECRET_BYTES)
            keys[key] = tenant
        return keys


def _database(url: str) -> int:
    """Return the number of the database that `url` means. Never shows the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingError("REDIS_URL", f"is no URL ({error})") from None
    if parts.scheme == "redis+cluster":
        raise SettingError("REDIS_URL", "is of redis+cluster://, which isn't supported yet")
    if parts.scheme not in ("redis", "rediss", "unix", "redis+sentinel"):
        raise SettingError("REDIS_URL", "must be of redis://, rediss://, unix:// or redis+sentinel://")
    named = parse_qs(parts.query).get("db", [])
    if not named and parts.scheme != "unix":
        named = parts.path.strip("/").split("/")[:1]
    number = (named or [""])[0] or "0"
    if not re.fullmatch("[0-9]{1,6}", number):
        raise SettingError("REDIS_URL", "must name its database by a number, as in redis://host:6379/0")
    return int(number)


# Secrets of documentation and templates, often put together to be long enough.
_WORDS = r"""secret|change|replace|this|your|jwt|json|web|token|key|pass|word|phrase|default|example|sample|test|demo
|develop|ment|dev|prod|uction|super|very|really|long|please|some|random|string|value|here|insert|with|and|for|use|only
|sign|ing|auth|entication|application|app|server|socket|io|flask|mintflow|supersafe|secure|safe|strong|private
|minimum|least|must|characters|chars|char|bytes|byte|bit|hs256|256|512|admin|root|letmein|qwerty|asdf
|abcdefghijklmnopqrstuvwxyz|abcdef|0123456789|1234567890|123456789|12345678|123456|1234|123"""


def _check_secret(name: str, secret: str, length: int) -> None:
    if secret.lstrip().startswith("-----BEGIN"):
        raise SettingError(name, "holds a PEM key, which anyone may know; a public key belongs in JWT_PUBLIC_KEY")
    size = len(secret.encode("utf-8", "surrogateescape"))
    if size < length:
        raise SettingError(
            name, f"must have at least {length} bytes, such as `openssl rand -hex {length}`; it has {size}"
        )
    left = re.sub(rf"[^a-z0-9]|{_WORDS}", "", secret.lower(), flags=re.VERBOSE)
    if len(set(secret)) < 6 or len(left) < 8 or _starts_over(secret):
        raise SettingError(name, f"is too well known or too regular; take one from `openssl rand -hex {length}`")


def _starts_over(secret: str) -> bool:
    """Tell whether `secret` is a piece of at most 8 characters over and over, the last one perhaps cut off."""
    return any(secret[piece:] == secret[:-piece] for piece in range(1, 9))


def table() -> str:
    """Return the table of all settings in Markdown."""
    rows = ["| Setting | Type | Default | Meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "–"
        rows.append(f"| `{setting.name}` | {setting.type} | {default} | {setting.meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
