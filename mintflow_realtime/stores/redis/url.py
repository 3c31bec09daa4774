"""What REDIS_URL asks for: one server, or a master that Sentinel knows, or a cluster."""

from functools import partial

import redis

from mintflow_realtime.protocol.urls import split_url
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.cluster import Address, ClusterClient
from mintflow_realtime.stores.redis.connect import connect, hosts_of

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_FORM = "redis+cluster://[user:password@]host:port,host:port"


def open_redis(url: str, wait_replicas: int = 0, called: str = "") -> RedisClient | ClusterClient:
    """Return the door to the Redis at `url`; it connects with its first command.

    A publish waits until `wait_replicas` replicas have it. `called` is what names this Redis, such as REDIS_URL.
    Raises ValueError for a URL of another form.
    """
    parts = split_url(url)
    scheme = CLUSTER_SCHEMES.get(parts.scheme)
    if scheme is None:
        return RedisClient(connect(url), wait_replicas, called=called, again=partial(connect, url))
    if parts.path not in ("", "/", "/0"):
        raise ValueError(f"Expected {_FORM}: a cluster has database 0 alone")
    seeds = hosts_of(url, _FORM)
    login = parts.netloc.rpartition("@")[0]
    before, after = login and f"{login}@", f"?{parts.query}" if parts.query else ""

    def node(address: Address) -> "redis.Redis":
        host, port = address
        return connect(f"{scheme}://{before}{f'[{host}]' if ':' in host else host}:{port}/0{after}")

    return ClusterClient(seeds, node, wait_replicas, called=called)
