"""Which Redis the settings mean: REDIS_URL, or its parts, or the embedded one."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, quote

from mintflow_realtime.settings.reader import Reader
from mintflow_realtime.settings.sources import SettingError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
# What may stand behind the `?`. All else of redis-py's would break a promise: times, retries, the form of replies.
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_TLS_FILES, "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_password")
_LOGIN = ("username", "password")
_QUERY: dict[str, tuple[str, ...]] = {
    "redis": ("db", *_LOGIN, "client_name"),
    "rediss": ("db", *_LOGIN, "client_name", *_TLS),
    "unix": ("db", *_LOGIN, "client_name"),
    "redis+sentinel": ("sentinel_username", "sentinel_password"),
    "rediss+sentinel": ("sentinel_username", "sentinel_password", *_TLS),
    "redis+cluster": (*_LOGIN, "client_name"),
    "rediss+cluster": (*_LOGIN, "client_name", *_TLS),
}
_PARTS = ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB")


class RedisChoice(NamedTuple):
    """Redis's URL, the number of its database, whether it is the embedded one, and what says so."""

    url: str
    database: int
    embedded: bool
    called: str


def read_redis(read: Reader, data_dir: str) -> RedisChoice:
    """Return which Redis is meant. Raises SettingError."""
    url, host = read.find("REDIS_URL"), read.find("REDIS_HOST")
    # REDIS_HOST of the application goes before a REDIS_URL that merely stands in the environment.
    if url and not (host and host.rank < url.rank):
        text = read.text("REDIS_URL")
        return RedisChoice(text, _database(read, text), False, url.spelled)
    if not any(read.find(part) for part in _PARTS):
        return RedisChoice(
            f"unix://{quote(os.path.join(data_dir, 'redis.sock'))}",
            0,
            True,
            "the embedded one of DATA_DIR; REDIS_URL is not set",
        )
    name = read.matching("REDIS_HOST", r"[A-Za-z0-9._:-]+", "127.0.0.1")
    name = f"[{name}]" if ":" in name else name
    port = read.integer("REDIS_PORT", 1, 65535, "6379")
    database = read.integer("REDIS_DB", 0, 100_000, "0")
    found = read.find("REDIS_PASSWORD")
    password = found.value if found else ""  # as it is, with its spaces
    if not isinstance(password, str):
        raise read.fault("REDIS_PASSWORD", "must be text")
    login = f":{quote(password, safe='')}@" if password else ""
    return RedisChoice(f"redis://{login}{name}:{port}/{database}", database, False, "REDIS_HOST")


def warnings(read: Reader, chosen: RedisChoice) -> tuple[str, ...]:
    """Return what to say of a REDIS_PORT that Kubernetes sets and that was ignored, where it could have counted."""
    spelled = read.injected("REDIS_PORT")
    if spelled is None or read.find("REDIS_URL"):
        return ()
    taken = "the embedded Redis" if chosen.embedded else "port 6379 of REDIS_HOST"
    return (
        f"{spelled} is what Kubernetes sets for a service called redis, and is ignored: {taken} is used. "
        "To use that service set REDIS_URL=redis://redis:6379/0.",
    )


def _database(read: Reader, url: str) -> int:
    """Return the number of the database that `url` means. Never shows the URL, which may hold a password."""

    def fault(text: str) -> SettingError:
        return read.fault("REDIS_URL", text)

    # Some Pythons' urlsplit refuses what lists several IPv6 addresses.
    scheme, colon, rest = url.partition("://")
    rest, _, query = rest.partition("#")[0].partition("?")
    netloc, _, path = rest.partition("/")
    if not colon or scheme.lower() not in SCHEMES:
        raise fault("must be of redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if netloc.count("[") != netloc.count("]"):
        raise fault("is no URL (half a bracket)")
    _check_query(scheme.lower(), query, fault)
    named = parse_qs(query).get("db", [])
    if not named and scheme.lower() != "unix":
        named = path.strip("/").split("/")[:1]
    number = (named or [""])[0] or "0"
    if not re.fullmatch("[0-9]{1,6}", number):
        raise fault("must name its database by a number, as in redis://host:6379/0")
    if scheme.lower().endswith("+cluster") and int(number):
        raise fault("must not name a database: a cluster has number 0 alone")
    return int(number)


def _check_query(scheme: str, query: str, fault: Callable[[str], SettingError]) -> None:
    """Raise for what may not stand behind the `?`. Names what stands there, and no value of it but a file's path."""
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in _QUERY[scheme]:
            if name in _TLS or name == "ssl":
                safe = "rediss" + scheme.removeprefix("rediss").removeprefix("redis")
                raise fault(f"must begin with {safe}:// for TLS, and needs no {name} otherwise")
            raise fault(f"may have {', '.join(_QUERY[scheme])} behind its '?', not {name[:40]!r}")
        if len(values) > 1 or not values[0]:
            raise fault(f"must give {name} once, with a value")
        if name == "ssl_cert_reqs" and values[0] not in ("none", "optional", "required"):
            raise fault("must have none, optional or required as ssl_cert_reqs")
        if name in _TLS_FILES and not os.access(values[0], os.R_OK):
            raise fault(f"names as {name} a file that can't be read here: {values[0]}")
