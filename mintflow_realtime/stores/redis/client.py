"""The connection to Redis: one second of patience, no second try, a breaker; safe in threads and over a fork."""

import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis.exceptions import AskError, ClusterDownError, MaxConnectionsError, NoScriptError, RedisError, ResponseError

from mintflow_realtime.metrics.series import POOL_WAIT_SECONDS, POOL_WAITS, REDIS_CALLS, REDIS_SECONDS
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Arg, Script
from mintflow_realtime.stores.redis.circuit import Circuit
from mintflow_realtime.stores.redis.exchange import Exchange
from mintflow_realtime.stores.redis.outage import in_cluster, is_refusal, is_replica, refuses

# What a durable script and its replicas may take together, and how long Redis's answer to WAIT may be under way.
CONFIRM_SECONDS = 1.1
WAIT_SLACK = 0.1
# Who finds all connections in use waits so long for one. It is connected, so that only the answer's second follows.
TURN_SECONDS = 0.9
# Threads, beside the first, that may publish at once where gevent has patched; its own pool has ten.
MAX_THREADS = 64
_clients: "weakref.WeakSet[RedisClient]" = weakref.WeakSet()


class RedisClient:
    """Runs commands and scripts; every failure to get an answer is `Unavailable`, within 2 s.

    A durable script's answer is given once `wait_replicas` replicas have what it wrote. `called` is what names this
    Redis, such as REDIS_URL. `again` makes another client like the first: for a forked child, and for each further
    thread where gevent has made sockets belong to one thread. `in_cluster`: redirections are for the caller.
    """

    def __init__(
        self,
        client: "redis.Redis",
        wait_replicas: int = 0,
        clock: Callable[[], float] = time.monotonic,
        *,
        called: str = "",
        again: Callable[[], "redis.Redis"] | None = None,
        in_cluster: bool = False,
    ) -> None:
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._called = called
        self._again = again
        self._in_cluster = in_cluster
        self._begin(client)
        _clients.add(self)

    def _begin(self, client: "redis.Redis") -> None:
        self._redis = client
        self._circuit = Circuit(client, self._called, self._clock)
        # Who waits for a connection, in order; a lock each, let go when it is that one's turn.
        self._waiting: deque[threading.Lock] = deque()
        self._settling = threading.Lock()
        self._hub_of: Callable[[], Any] | None = None
        self._hub: Any = None
        self._elsewhere: dict[Any, RedisClient] = {}

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        """Run `script` by its SHA1, sending the text once where the server doesn't know it.

        `asking`: the keys' slot is on its way to this server of a cluster, and another one sent us here.
        """
        if (here := self._here()) is not self:
            return here.run(script, keys, args, asking=asking)
        began = self._clock()
        with self._answered("script"), self._connection(asking) as execute:
            if script.told_run:
                args = [*args, execute.run_id()]
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
        if (here := self._here()) is not self:
            return here.command(*args, asking=asking)
        with self._answered("command"), self._connection(asking) as execute:
            return execute(*args)

    def close(self) -> None:
        """Close every connection of the pool."""
        for client in (self, *self._elsewhere.values()):
            client._circuit.end()
            client._redis.close()
            client._redis.connection_pool.disconnect()

    def close_idle(self) -> None:
        """Close the connections that nobody uses; the others end with what they are used for."""
        self._circuit.end()
        self._redis.connection_pool.disconnect(inuse_connections=False)

    def _here(self) -> "RedisClient":
        """Return the client for this thread: one for all, but where sockets belong to the hub of a thread."""
        hub_of = self._hub_of or self._settle()
        hub = hub_of()
        if hub == self._hub:
            return self
        found = self._elsewhere.get(hub)
        if found is None:
            if self._again is None:
                raise RuntimeError("This client belongs to another thread; make one for each where gevent has patched")
            if len(self._elsewhere) >= MAX_THREADS:
                del self._elsewhere[next(iter(self._elsewhere))]
            found = RedisClient(
                self._again(), self._wait_replicas, self._clock, called=self._called, in_cluster=self._in_cluster
            )
            self._elsewhere[hub] = found
        return found

    def _settle(self) -> Callable[[], Any]:
        with self._settling:
            if self._hub_of is None:
                found = _hub_of_a_thread()
                self._hub = found()
                self._hub_of = found
            return self._hub_of

    def _after_fork(self) -> None:
        """Begin anew in a child: another thread may have held any lock in here, and the sockets are the parent's."""
        old = self._redis
        if self._again is not None:
            # Its finalizer would take one of the locks.
            for client in (self, *self._elsewhere.values()):
                client._redis.auto_close_connection_pool = False
            self._begin(self._again())
        else:
            self._begin(old)

    @contextmanager
    def _connection(self, asking: bool) -> Iterator[Exchange]:
        """Give what sends a command and returns its reply, on one connection.

        redis-py's own way would, by Sentinel, put a connection back whose caller was killed before the answer came.
        """
        connection = self._take()

        try:
            yield Exchange(connection, self._redis.response_callbacks, asking)
        except BaseException as error:
            # An error is a whole reply; anything else may leave one half read, which the next would take for its own.
            if not isinstance(error, (ResponseError, Unavailable)):
                connection.disconnect()
            elif is_replica(error):
                # A master of before: whatever is connected to it asks anew who is master now.
                connection.disconnect()
                self._redis.connection_pool.disconnect(inuse_connections=False)
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
                try:
                    return pool.get_connection()
                except MaxConnectionsError:
                    pass
                except ResponseError as error:
                    # What is said of a new connection: no such database, no right to select one.
                    raise refuses(self._circuit.place, error) from error
            first = True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
            began = self._clock()
            POOL_WAITS.value += 1
            taken = turn.acquire(timeout=max(0.0, deadline - began))
            POOL_WAIT_SECONDS.value += self._clock() - began
            if taken:
                self._circuit.check()
                continue
            try:
                self._waiting.remove(turn)
            except ValueError:
                self._next()  # its turn had come in this moment
            sentence = "Too much is asked of Redis at once; nothing of this happened"
            raise Unavailable(sentence, detail=sentence)

    def _next(self) -> None:
        with suppress(IndexError):
            self._waiting.popleft().release()

    @contextmanager
    def _answered(self, kind: str) -> Iterator[None]:
        """Turn every failure to get an answer into Unavailable, and count calls of a `kind`."""
        circuit, outcome = self._circuit, "unavailable"
        began = self._clock()
        try:
            if circuit.open:
                circuit.check()
            yield
            outcome = "ok"
        except ResponseError as error:
            outcome = "error"
            circuit.answered()
            if not self._in_cluster and isinstance(error, (AskError, ClusterDownError)):
                raise in_cluster(circuit.place, error) from error
            if is_refusal(error):
                raise refuses(circuit.place, error) from error
            raise
        except RedisError as error:
            raise circuit.failed(error, self._clock() - began) from error
        finally:
            REDIS_CALLS.add(kind, outcome)
            REDIS_SECONDS.observe(self._clock() - began, kind)
        if circuit.since is not None:
            circuit.answered()


def _hub_of_a_thread() -> Callable[[], Any]:
    """Return what tells hubs of threads apart: gevent's, where it has patched; else all threads are alike, as 0 is."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return int
    found: Callable[[], Any] = sys.modules["gevent"].get_hub
    return found


def _after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork)
