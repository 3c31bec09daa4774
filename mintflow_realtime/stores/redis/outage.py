"""What is said of a Redis that doesn't answer: which one, since when, why, and what to look at.

The detail is for the Python caller and the log. Clients of sockets and of HTTP are told the general sentence.
"""

import re
import socket
from typing import Any

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError

from mintflow_realtime.protocol.errors import Unavailable

UNKNOWN = "Redis did not answer; whether it happened is unknown"
NOT_SENT = "Redis did not answer a moment ago; try again shortly"
REFUSES = "Redis refuses this at the moment; nothing of it happened"
# What Redis answers while it can't serve, or to whom it doesn't; nothing was written then, since a script is refused
# before it begins. 6.2 and 8 have sentences of their own for a script's command that the user may not give.
_REFUSALS = re.compile(
    r"\b(OOM|READONLY|LOADING|MISCONF|NOREPLICAS|MASTERDOWN|BUSY|NOAUTH|WRONGPASS|NOPERM)\b"
    r"|executing the script can't|ACL failure"
)
_REACH = "Is it running, and reachable from here?"


def place(client: "redis.Redis", called: str) -> str:
    """Return where a client's Redis is, and what says so, as in `Redis at redis:6379 (REDIS_URL)`. No password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    pool: Any = client.connection_pool
    if hasattr(pool, "sentinel_manager"):
        where = f"Redis's master {pool.service_name!r}"
    elif "path" in options:
        where = f"Redis at {options['path']}"
    else:
        host = options.get("host", "localhost")
        where = f"Redis at {f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
    return f"{where} ({called})" if called else where


def reason(error: BaseException) -> tuple[str, str]:
    """Return why there was no answer, and what to look at. Never redis-py's or Redis's own words."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, socket.gaierror):
            return "its host's name is not known here", "Is the name right, and the network up?"
        if isinstance(found, ConnectionRefusedError):
            return "the connection is refused", "Is it running, on that port?"
        if isinstance(found, FileNotFoundError):
            return "there is no such socket", "Is it running, and does it keep its socket there?"
        if isinstance(found, PermissionError):
            return "permission is denied", "May this user open its socket?"
        if isinstance(found, AuthenticationError):
            return "it does not take this user and password", "Are they right, and is the user allowed to connect?"
        if type(found).__module__ == "ssl":
            return "TLS could not be agreed on", "Does it speak TLS there, with a certificate that is trusted here?"
        found = found.__cause__ or found.__context__
    if isinstance(error, redis.TimeoutError):
        return "timed out", _REACH
    if type(error).__name__ in ("MasterNotFoundError", "SlaveNotFoundError"):
        return "no Sentinel knows it", "Are the Sentinels reachable, and is the service's name right?"
    return "the connection was closed", _REACH


def unknown(where: str, seconds: float, why: tuple[str, str]) -> Unavailable:
    """Return the error of a call that was sent and not answered."""
    return Unavailable(UNKNOWN, detail=f"{_outage(where, seconds, why)} Whether this happened is unknown. {why[1]}")


def not_sent(where: str, seconds: float, why: tuple[str, str]) -> Unavailable:
    """Return the error of a call that was not sent, since earlier ones were not answered."""
    return Unavailable(NOT_SENT, detail=f"{_outage(where, seconds, why)} This was not sent. {why[1]}")


def is_refusal(error: BaseException) -> bool:
    """Tell whether Redis refused a call for what it, or the user, lacks at the moment, and not for what was asked."""
    kinds = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
    return isinstance(error, kinds) or _REFUSALS.search(str(error)) is not None


def is_replica(error: BaseException) -> bool:
    """Tell whether a call was refused since the server is a replica; 6.2 wraps what a script was told."""
    return isinstance(error, ReadOnlyError) or "READONLY" in str(error)


def refuses(where: str, error: RedisError) -> Unavailable:
    """Return the error of a call that Redis answered with a refusal: out of memory, read only, loading, a right."""
    if isinstance(error, NoPermissionError):
        detail = f"{where} refuses this: {error}. docs/redis.md has the line that gives its user all rights needed."
        return Unavailable(REFUSES, detail=detail)
    return Unavailable(REFUSES, detail=f"{where} refuses this at the moment: {error}")


def in_cluster(where: str, error: RedisError) -> Unavailable:
    """Return the error of a call that a node of a cluster answered, where the URL is that of a single server."""
    detail = f"{where} is a node of a Redis Cluster: write redis+cluster:// in place of redis://. ({error})"
    return Unavailable(REFUSES, detail=detail)


def _outage(where: str, seconds: float, why: tuple[str, str]) -> str:
    if seconds < 2:
        return f"{where} does not answer: {why[0]}."
    return f"{where} has not answered for {seconds:.0f} s: {why[0]}."
