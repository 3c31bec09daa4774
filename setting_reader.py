"""How single settings are read: each kind with its own check, each fault a sentence. Standard library only."""

import math
import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, quote

from protocol.urls import split_url
from setting_table import DEFAULTS

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


class Reader:
    """Reads single settings, each by its kind; every method raises SettingError."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        return self._env.get(name, "").strip() or DEFAULTS[name]

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
            raise SettingError(name, f"must be one of {', '.join(filter(None, known))}, not {text[:40]!r}")
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

    def anonymous_scope(self) -> tuple[str, ...]:
        """Return what anonymous clients may do: with the echo backend, which costs nothing, AI too by default."""
        scope = self.scope("SOCKET_ANONYMOUS_SCOPE")
        is_default = not self._env.get("SOCKET_ANONYMOUS_SCOPE", "").strip()
        return (*scope, "ai:use") if is_default and self.text("AI_BACKEND").lower() == "echo" else scope

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
        parts = split_url(url)
    except ValueError as error:
        raise SettingError("REDIS_URL", f"is no URL ({error})") from None
    if parts.scheme not in ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster"):
        raise SettingError(
            "REDIS_URL", "must be of redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    named = parse_qs(parts.query).get("db", [])
    if not named and parts.scheme != "unix":
        named = parts.path.strip("/").split("/")[:1]
    number = (named or [""])[0] or "0"
    if not re.fullmatch("[0-9]{1,6}", number):
        raise SettingError("REDIS_URL", "must name its database by a number, as in redis://host:6379/0")
    if parts.scheme.endswith("+cluster") and int(number):
        raise SettingError("REDIS_URL", "must not name a database: a cluster has number 0 alone")
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
