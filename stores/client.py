"""The connection to Redis: URL forms, one second of patience, no retries, and a breaker."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote

import redis
from redis.exceptions import (
    MaxConnectionsError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.sentinel import Sentinel

from protocol.errors import Unavailable
from protocol.scripts import Arg, Script
from protocol.urls import split_url

# One hung step (connect, or read) ends a call after a second. Two could follow each other on a new
# connection, so connecting, which is quick or refused on every sane network, gets less.
CONNECT_TIMEOUT = 0.7
READ_TIMEOUT = 1.0
# After a timeout, calls fail at once for this long: a hung Redis must not queue up a greenlet for each emit.
BREAKER_SECONDS = 0.5
# What a durable script and its replicas may take together, and how long Redis's answer to WAIT may be under way.
CONFIRM_SECONDS = 1.1
WAIT_SLACK = 0.1
MAX_CONNECTIONS = 256
# Who finds all of them in use waits so long for one. It is connected, so that only the answer's second follows.
TURN_SECONDS = 0.9
# What Redis answers while it can't serve; nothing was written then, since a script is refused before it begins.
_REFUSES = re.compile(r"\b(OOM|READONLY|LOADING|MISCONF|NOREPLICAS|MASTERDOWN|BUSY|NOAUTH|WRONGPASS)\b")


def connect(url: str) -> "redis.Redis":
    """Return a client for `redis://`, `rediss://`, `unix://` or `redis+sentinel://h:p,h:p/db/name`.

    It connects with its first command. Retries are off: redis-py 8 repeats a command up to 10 times by
    default, and a script would then run twice.
    Raises ValueError for any other URL.
    """
    options: dict[str, Any] = {
        "socket_timeout": READ_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": None,
        "retry_on_error": [],
        "protocol": 2,
        "max_connections": MAX_CONNECTIONS,
    }
    scheme = split_url(url).scheme
    if scheme == "redis+sentinel":
        return _connect_sentinel(url, options)
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"Expected a URL of redis://, rediss://, unix:// or redis+sentinel://, not {scheme!r}")
    return redis.Redis.from_url(url, **options)


def _connect_sentinel(url: str, options: dict[str, Any]) -> "redis.Redis":
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
    sentinel = Sentinel(hosts, sentinel_kwargs={**patience, **sentinel_login})  # type: ignore[no-untyped-call]
    master: redis.Redis = sentinel.master_for(path[1], db=int(path[0]), **login, **options)  # type: ignore[no-untyped-call]
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


class RedisClient:
    """Runs commands and scripts; every failure to get an answer is `Unavailable`, within 2 s.

    A durable script's answer is given once `wait_replicas` replicas have what it wrote.
    """

    def __init__(
        self, client: "redis.Redis", wait_replicas: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = client
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._closed_until = 0.0
        # Who waits for a connection, in order; a lock each, let go when it is that one's turn.
        self._waiting: deque[threading.Lock] = deque()

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        """Run `script` by its SHA1, sending the text once where the server doesn't know it.

        `asking`: the keys' slot is on its way to this server of a cluster, and another one sent us here.
        """
        began = self._clock()
        with self._answered(), self._connection(asking) as execute:
            try:
                reply = execute("EVALSHA", script.sha, len(keys), *keys, *args)
            except NoScriptError:
                reply = execute("EVAL", script.text, len(keys), *keys, *args)
            if script.durable and self._wait_replicas:
                left = max(WAIT_SLACK, CONFIRM_SECONDS - WAIT_SLACK - (self._clock() - began))
                confirmed = execute("WAIT", self._wait_replicas, round(left * 1000), timeout=left + WAIT_SLACK)
                if confirmed < self._wait_replicas:
                    raise Unavailable("Too few replicas confirmed it; whether it survives a failover is unknown")
            return reply

    def command(self, *args: Arg, asking: bool = False) -> Any:
        """Send one command and return its reply."""
        with self._answered(), self._connection(asking) as execute:
            return execute(*args)

    def close(self) -> None:
        """Close every connection of the pool."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def close_idle(self) -> None:
        """Close the connections that nobody uses; the others end with what they are used for."""
        self._redis.connection_pool.disconnect(inuse_connections=False)

    @contextmanager
    def _connection(self, asking: bool) -> Iterator[Callable[..., Any]]:
        """Give what sends a command and returns its reply, on one connection.

        redis-py's own way would, by Sentinel, put a connection back whose caller was killed before the answer came.
        """
        connection = self._take()

        def execute(*args: Arg, **reading: float) -> Any:
            if asking:
                # It holds for the next command alone; WAIT, which has no key, ignores it.
                connection.send_command("ASKING")
                connection.read_response()
            connection.send_command(*args)
            reply = connection.read_response(**reading)
            callback = self._redis.response_callbacks.get(args[0])  # type: ignore[no-untyped-call]
            return callback(reply) if callback else reply

        try:
            yield execute
        except BaseException as error:
            # An error is a whole reply; anything else may leave one half read, which the next would take for its own.
            if not isinstance(error, (ResponseError, Unavailable)):
                connection.disconnect()
            raise
        finally:
            self._redis.connection_pool.release(connection)
            if self._waiting:
                self._next()

    def _take(self) -> Any:
        """Return a connection; wait for one where all are in use. Raises Unavailable after 0.9 s."""
        pool, deadline = self._redis.connection_pool, self._clock() + TURN_SECONDS
        first = not self._waiting
        while True:
            if first:
                with suppress(MaxConnectionsError):
                    return pool.get_connection()
            first = True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
            if turn.acquire(timeout=max(0.0, deadline - self._clock())):
                self._check_breaker()
                continue
            try:
                self._waiting.remove(turn)
            except ValueError:
                self._next()  # its turn had come in this moment
            raise Unavailable("Too much is asked of Redis at once; nothing of this happened")

    def _next(self) -> None:
        with suppress(IndexError):
            self._waiting.popleft().release()

    @contextmanager
    def _answered(self) -> Iterator[None]:
        self._check_breaker()
        try:
            yield
        except ResponseError as error:
            if isinstance(error, (OutOfMemoryError, ReadOnlyError)) or _REFUSES.search(str(error)):
                raise Unavailable(f"Redis refuses this at the moment: {error}") from error
            raise
        except RedisError as error:
            if isinstance(error, redis.TimeoutError):
                self._closed_until = self._clock() + BREAKER_SECONDS
            raise Unavailable("Redis did not answer; whether it happened is unknown") from error

    def _check_breaker(self) -> None:
        if self._clock() < self._closed_until:
            raise Unavailable("Redis did not answer a moment ago; try again shortly")
