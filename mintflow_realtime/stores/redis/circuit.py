"""The breaker: while Redis doesn't answer, calls fail at once, and one probe asks whether it is back."""

import logging
import threading
import time
import weakref
from collections.abc import Callable

import redis
from redis.exceptions import RedisError

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.stores.redis.outage import not_sent, place, reason, unknown

# Calls fail at once for so long at least after one that had to wait: a hung Redis must not queue up a greenlet for
# each emit. Then, and again after each probe, it is asked whether it is back.
PROBE_SECONDS = 0.25
# What fails faster than this holds nobody up, and needs no breaker: a refused connection.
SLOW_SECONDS = 0.25
# A probe takes two seconds at most; one that has said nothing for so long is gone, as where threads don't run (uWSGI
# without --enable-threads), and a call is let through in its place.
PROBE_LOST_SECONDS = 3.0
# One line in the log for an outage, and no more of them than this.
LOG_SECONDS = 10.0

_log = logging.getLogger("mintflow.redis")


class Circuit:
    """What is known of one Redis's answers. `client` is asked by the probe."""

    def __init__(self, client: "redis.Redis", called: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._called = called
        self._clock = clock
        self.since: float | None = None
        """When the first call of this outage failed; None while Redis answers."""
        self.open = False
        """Whether calls fail at once."""
        self._why = ("", "")
        self._probe_at = 0.0
        self._logged_at = -LOG_SECONDS
        self._ended = False

    @property
    def place(self) -> str:
        """Where this Redis is, and what says so."""
        return place(self._client, self._called)

    def check(self) -> None:
        """Raise Unavailable where a call would wait for nothing."""
        if self.open:
            now = self._clock()
            if now - self._probe_at > PROBE_LOST_SECONDS:
                self._probe_at = now
                return
            raise not_sent(self.place, now - (self.since or now), self._why)

    def answered(self) -> None:
        """Note an answer, an error of Redis's included."""
        if self.since is not None:
            since, self.since, self.open = self.since, None, False
            if self._logged_at >= since:
                _log.info("%s answers again after %.1f s", self.place, self._clock() - since)

    def failed(self, error: RedisError, seconds: float) -> Unavailable:
        """Note that a call got no answer after so long, and return what to raise."""
        now = self._clock()
        since = self.since = now - seconds if self.since is None else self.since
        self._why = reason(error)
        found = unknown(self.place, now - since, self._why)
        if now - self._logged_at >= LOG_SECONDS and self._logged_at < since:
            self._logged_at = now
            _log.warning("%s", found)
        if not self.open and (isinstance(error, redis.TimeoutError) or seconds >= SLOW_SECONDS):
            self.open, self._probe_at = True, now
            self._start_probe()
        return found

    def end(self) -> None:
        """Let the probe end, if there is one."""
        self._ended = True

    def _start_probe(self) -> None:
        thread = threading.Thread(target=_probe, args=(weakref.ref(self),), name="mintflow-redis-probe", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            pass  # no thread to be had, or the interpreter ends: calls are let through now and then

    def _ask(self) -> bool:
        """Ask Redis once, on a connection of its own. Tell whether the probe is done."""
        if self._ended or not self.open:
            return True
        self._probe_at = self._clock()
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
            connection.send_command("PING")
            connection.read_response()
        except redis.ResponseError:
            pass  # LOADING and the like: that is an answer
        except (RedisError, OSError) as error:
            self._why = reason(error)
            return self._ended
        finally:
            connection.disconnect()
        self.answered()
        return True


def _probe(circuit: "weakref.ref[Circuit]") -> None:
    while True:
        time.sleep(PROBE_SECONDS)
        found = circuit()
        if found is None or found._ask():
            return
        del found
