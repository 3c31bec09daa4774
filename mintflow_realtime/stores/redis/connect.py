"""Clients of redis-py for every form of URL: one second of patience, and no retries."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

import redis

from mintflow_realtime.protocol.urls import split_url
from mintflow_realtime.stores.redis.names import NamedConnection, NamedSSLConnection
from mintflow_realtime.unix_paths import too_long

# One hung step (connect, or read) ends a call after a second. Two could follow each other on a new
# connection, so connecting, which is quick or refused on every sane network, gets less.
CONNECT_TIMEOUT = 0.7
READ_TIMEOUT = 1.0
MAX_CONNECTIONS = 256
_BY_NAME: dict[Any, Any] = {redis.Connection: NamedConnection, redis.SSLConnection: NamedSSLConnection}


def connect(url: str) -> "redis.Redis":
    """Return a client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://h:p,h:p/db/name`,
    `rediss+sentinel://` where all of them speak TLS.

    It connects with its first command. Retries are off: redis-py 8 repeats a command up to 10 times by
    default, and a script would then run twice.
    Raises ValueError for any other URL.
    """
    # What the first connection imports: a child that is forked while another thread does so waits for it for ever.
    import email.parser  # noqa: F401
    import encodings.idna  # noqa: F401

    options: dict[str, Any] = {
        "socket_timeout": READ_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": None,
        "retry_on_error": [],
        "protocol": 2,
        "max_connections": MAX_CONNECTIONS,
    }
    scheme = split_url(url).scheme
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _connect_sentinel(url, options, tls=scheme == "rediss+sentinel")
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"Expected a URL of redis://, rediss://, unix:// or redis+sentinel://, not {scheme!r}")
    if scheme == "unix" and too_long(unquote(split_url(url).path)):
        from mintflow_realtime.stores.redis.unix_connection import LongPathConnection

        options["connection_class"] = LongPathConnection
    pool = redis.ConnectionPool.from_url(url, **options)
    if pool.connection_class in _BY_NAME:
        pool.connection_class = _BY_NAME[pool.connection_class]
    return redis.Redis.from_pool(pool)


def _connect_sentinel(url: str, options: dict[str, Any], *, tls: bool) -> "redis.Redis":
    from redis.sentinel import Sentinel  # most publishers have none

    parts = split_url(url)
    hosts = hosts_of(url, "redis+sentinel://[user:password@]host:port,host:port/db/service")
    path = parts.path.strip("/").split("/")
    if len(path) != 2 or not path[0].isdigit() or not path[1]:
        raise ValueError("Expected redis+sentinel://…/db/service, with the database's number and the service's name")
    login = {name: unquote(value) for name, value in zip(("username", "password"), parts.login, strict=True) if value}
    query = dict(parse_qsl(parts.query))
    sentinel_login = {
        name: query[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in query
    }
    patience = {"socket_timeout": READ_TIMEOUT / 2, "socket_connect_timeout": READ_TIMEOUT / 2, "retry": None}
    ssl: dict[str, Any] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in ssl:
        ssl["ssl_check_hostname"] = ssl["ssl_check_hostname"].lower() in ("1", "true", "yes")
    safe = {"ssl": True, **ssl} if tls else {}
    sentinel = Sentinel(hosts, sentinel_kwargs={**patience, **sentinel_login, **safe})  # type: ignore[no-untyped-call]
    master: redis.Redis = sentinel.master_for(path[1], db=int(path[0]), **login, **options, **safe)  # type: ignore[no-untyped-call]
    return master


def hosts_of(url: str, form: str) -> list[tuple[str, int]]:
    """Return the hosts and ports that a URL lists by commas; `form` is how it should look. Raises ValueError."""
    hosts = []
    for host_port in split_url(url).netloc.rpartition("@")[2].split(","):
        host, colon, port = host_port.rpartition(":")
        if not colon or not host or not re.fullmatch("[0-9]{1,5}", port):
            raise ValueError(f"Expected {form}")
        hosts.append((host.strip("[]"), int(port)))
    return hosts
