"""Whether a Redis is what a server needs: reachable, new enough, a master, with every right, nothing evicted, near."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
from redis.exceptions import NoPermissionError, ResponseError

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.urls import split_url
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.cluster import ClusterClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.redis.rights import missing_channels, missing_rights, setuser_line
from mintflow_realtime.stores.redis.url import CLUSTER_SCHEMES, open_redis

OLDEST = (6, 2)
PINGS = 20
# A publish is one round trip, and a command of a client one or two.
SLOW_MS = 5.0
FULL = 0.9


class Outcome(StrEnum):
    """How a check ended: a warning is worth a look, what failed keeps the server from its promises."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, and what to do about it ('' where nothing is to be done). Never holds a secret."""

    name: str
    outcome: Outcome
    found: str
    advice: str = ""


def check_redis(url: str, prefix: str, socket_channel: str = "socketio") -> Iterator[CheckResult]:
    """Yield what is found at `url`, one result after the other; after a failure to connect, nothing more.

    Writes only below `{prefix}:{-}:`, and removes it. Each step ends within 2 s.
    """
    try:
        door = open_redis(url)
    except ValueError as error:
        yield CheckResult("redis", Outcome.FAILED, f"REDIS_URL can't be used: {error}", "Correct REDIS_URL.")
        return
    try:
        yield from _checks(door, url, prefix, socket_channel)
    except Unavailable as error:
        yield CheckResult("redis", Outcome.FAILED, f"it stopped answering: {error}", "Look at Redis' own log.")
    finally:
        door.close()


def _checks(door: RedisClient | ClusterClient, url: str, prefix: str, socket_channel: str) -> Iterator[CheckResult]:
    rights = setuser_line(split_url(url).login[0] or "default", prefix, socket_channel)
    connection = _reached(door, url, rights)
    yield connection
    if connection.outcome is Outcome.FAILED:
        return
    info = _info(door)
    if info is None:
        yield CheckResult("version", Outcome.WARNING, "INFO is not allowed: version, role and memory are unknown")
    else:
        is_cluster_url = split_url(url).scheme in CLUSTER_SCHEMES
        yield _version(info)
        yield _role(info)
        yield _cluster(info, is_cluster_url, url)
        yield _eviction(info)
    yield _rights(door, url, Keys(prefix), socket_channel, rights)
    yield _latency(door)


def _reached(door: RedisClient | ClusterClient, url: str, rights: str) -> CheckResult:
    where = address_of(url)
    try:
        door.command("PING")
    except (Unavailable, ResponseError) as error:
        cause = error if isinstance(error, ResponseError) else error.__cause__
        if isinstance(cause, NoPermissionError):
            return CheckResult("redis", Outcome.FAILED, f"{where} answers, but {cause}", rights)
        if cause is None and isinstance(door, ClusterClient):
            cause = _fault_of_first(door)
            if cause is None:
                found = f"{where} is a single server, under the URL of a cluster, or a cluster without slots"
                return CheckResult("redis", Outcome.FAILED, found, "Write redis://, or see CLUSTER INFO there.")
        found, advice = _unreached(cause, where)
        return CheckResult("redis", Outcome.FAILED, found, advice)
    return CheckResult("redis", Outcome.OK, f"{where} answers")


def _fault_of_first(door: ClusterClient) -> BaseException | None:
    """Return why the first node that the URL names doesn't answer; None where it does."""
    node = RedisClient(door.connect(door.seeds[0]))
    try:
        node.command("PING")
    except (Unavailable, ResponseError) as error:
        return error.__cause__ or error
    finally:
        node.close()
    return None


def _unreached(cause: BaseException | None, where: str) -> tuple[str, str]:
    text = str(cause or "")
    if isinstance(cause, redis.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return f"{where} refuses the password", "Correct user and password in REDIS_URL, or REDIS_PASSWORD."
    if isinstance(cause, redis.TimeoutError):
        return f"{where} does not answer within a second", "Is the address right, and does a firewall let it through?"
    if "refused" in text or "No such file" in text:
        return f"nothing listens at {where}", "Start Redis there, or correct REDIS_URL."
    if "Name or service" in text or "name resolution" in text or "nodename" in text:
        return f"the name in {where} is not known", "Correct the host in REDIS_URL."
    if "DB index" in text:
        return (
            f"{where}: there is no such database",
            "Take a lower number in REDIS_URL, or raise `databases` in redis.conf.",
        )
    if "LOADING" in text:
        return f"{where} still loads its data", "Wait; /readyz says when it is there."
    kind = type(cause).__name__ if cause else "no node of the cluster"
    return f"{where} can't be reached ({kind})", "Correct REDIS_URL, or look at Redis' own log."


def address_of(url: str) -> str:
    """Return where a Redis URL leads, without its login."""
    parts = split_url(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _info(door: RedisClient | ClusterClient) -> dict[str, Any] | None:
    with suppress(ResponseError, Unavailable):
        found = door.command("INFO")
        if isinstance(found, dict):
            return found
    return None


def _version(info: dict[str, Any]) -> CheckResult:
    name, text = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    number = tuple(int(part) for part in str(text).split(".")[:2] if part.isdigit())
    if number < OLDEST:
        return CheckResult("version", Outcome.FAILED, f"{name} {text}", "At least 6.2 is needed.")
    return CheckResult("version", Outcome.OK, f"{name} {text}")


def _role(info: dict[str, Any]) -> CheckResult:
    if info.get("role") in ("slave", "replica"):
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        advice = f"Name its master, {master}, or the service by redis+sentinel://."
        return CheckResult("role", Outcome.FAILED, "a replica, which takes no writes", advice)
    return CheckResult("role", Outcome.OK, f"a master with {info.get('connected_slaves', 0)} replicas")


def _cluster(info: dict[str, Any], by_cluster_url: bool, url: str) -> CheckResult:
    is_cluster = bool(info.get("cluster_enabled"))
    if is_cluster and not by_cluster_url:
        host = split_url(url).netloc.rpartition("@")[2] or "HOST:PORT"
        advice = f"Write redis+cluster://{host} (with login, if any), and more than one node of it."
        return CheckResult("cluster", Outcome.FAILED, "a node of a cluster, under the URL of a single server", advice)
    if by_cluster_url and not is_cluster:
        return CheckResult("cluster", Outcome.FAILED, "a single server, under the URL of a cluster", "Write redis://.")
    return CheckResult("cluster", Outcome.OK, "a cluster, as the URL says" if is_cluster else "a single server")


def _eviction(info: dict[str, Any]) -> CheckResult:
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    if policy != "noeviction":
        advice = "redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf: else events vanish unseen."
        return CheckResult("memory", Outcome.WARNING, f"maxmemory-policy is {policy}", advice)
    if most and used > most * FULL:
        advice = "Raise maxmemory, or lower LOGS_MAX and RECOVERY_MAX_BYTES: when it is full, publishes are refused."
        return CheckResult("memory", Outcome.WARNING, f"{used / most:.0%} of maxmemory are used", advice)
    limit = f"of {most / 1e6:.0f} MB" if most else "and no limit"
    return CheckResult("memory", Outcome.OK, f"noeviction, {used / 1e6:.1f} MB used {limit}")


def _rights(door: RedisClient | ClusterClient, url: str, keys: Keys, socket_channel: str, advice: str) -> CheckResult:
    missing = missing_rights(door.command, keys)
    client = door.connect(door.seeds[0]) if isinstance(door, ClusterClient) else connect(url)
    try:
        missing = list(dict.fromkeys([*missing, *missing_channels(client, keys, socket_channel)]))
    finally:
        client.close()
    if not missing:
        return CheckResult("rights", Outcome.OK, "all that a server needs")
    return CheckResult("rights", Outcome.FAILED, f"not allowed: {' '.join(missing)}", advice)


def _latency(door: RedisClient | ClusterClient) -> CheckResult:
    taken = sorted(_timed(lambda: door.command("PING")) for _ in range(PINGS))
    middle, worst = taken[PINGS // 2], taken[-1]
    found = f"{middle:.2f} ms a round trip, at worst {worst:.2f} ms of {PINGS}"
    if middle > SLOW_MS:
        return CheckResult("latency", Outcome.WARNING, found, "Each publish takes one: put Redis nearer to the server.")
    return CheckResult("latency", Outcome.OK, found)


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000
