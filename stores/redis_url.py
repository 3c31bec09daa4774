"""What REDIS_URL asks for: one server, or a master that Sentinel knows, or a cluster."""

import redis

from protocol.urls import split_url
from stores.client import RedisClient, connect, hosts_of
from stores.cluster import Address, ClusterClient

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_FORM = "redis+cluster://[user:password@]host:port,host:port"


def open_redis(url: str, wait_replicas: int = 0) -> RedisClient | ClusterClient:
    """Return the door to the Redis at `url`; it connects with its first command.

    A publish waits until `wait_replicas` replicas have it. Raises ValueError for a URL of another form.
    """
    parts = split_url(url)
    scheme = CLUSTER_SCHEMES.get(parts.scheme)
    if scheme is None:
        return RedisClient(connect(url), wait_replicas)
    if parts.path not in ("", "/", "/0"):
        raise ValueError(f"Expected {_FORM}: a cluster has database 0 alone")
    seeds = hosts_of(url, _FORM)
    login = parts.netloc.rpartition("@")[0]
    before, after = login and f"{login}@", f"?{parts.query}" if parts.query else ""

    def node(address: Address) -> "redis.Redis":
        host, port = address
        return connect(f"{scheme}://{before}{f'[{host}]' if ':' in host else host}:{port}/0{after}")

    return ClusterClient(seeds, node, wait_replicas)
